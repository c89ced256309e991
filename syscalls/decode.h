// Typed decoding of system call arguments. A handler is an ordinary function
//     Result<int64_t> sys_read(Task& task, Fd fd, UserOut<std::byte> buf, size_t count);
// and call<sys_read> makes of it the row's untyped entry and its --strace formatter, from the
// argument types alone. Types: Fd, int, unsigned, long, size_t, int64_t, uint64_t, UserAddr,
// UserStr, UserIn/Out/InOut<T>, enums in Flags<...>.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "syscalls/table.h"
#include "ukernel/mm/user_ptr.h"
#include "ukernel/task/task.h"

namespace uk {

// A descriptor argument; AT_FDCWD prints by name.
struct Fd {
  int value;
  operator int() const { return value; }  // NOLINT
};
// A flags argument printed in hexadecimal (or by a FormatFlags overload for its tag).
struct Hex {
  uint64_t value;
  operator uint64_t() const { return value; }  // NOLINT
};
struct OpenFlags {
  int value;
  operator int() const { return value; }  // NOLINT
};
struct Mode {  // printed in octal
  uint32_t value;
  operator uint32_t() const { return value; }  // NOLINT
};
struct Signo {
  int value;
  operator int() const { return value; }  // NOLINT
};

struct Call {
  Result<int64_t> (*run)(Task&, const RawArgs&);
  void (*format)(Task&, const RawArgs&, bool, std::string&);
};

namespace internal {

template <class T>
T decode_arg(uint64_t raw) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(raw);
  } else if constexpr (std::is_same_v<T, Fd> || std::is_same_v<T, OpenFlags> ||
                       std::is_same_v<T, Signo>) {
    return T{static_cast<int>(raw)};
  } else if constexpr (std::is_same_v<T, Mode>) {
    return T{static_cast<uint32_t>(raw)};
  } else if constexpr (std::is_same_v<T, Hex>) {
    return T{raw};
  } else {
    static_assert(std::is_base_of_v<UserAddr, T>, "unknown argument type");
    T t;
    t.addr = raw;
    return t;
  }
}

void format_signed(int64_t v, std::string& out);
void format_unsigned(uint64_t v, std::string& out);
void format_hex(uint64_t v, std::string& out);
void format_octal(uint32_t v, std::string& out);
void format_fd(int fd, std::string& out);
void format_open_flags(int flags, std::string& out);
void format_signo(int signo, std::string& out);
void format_string(Task& task, uint64_t addr, std::string& out);

template <class T>
void format_arg(Task& task, uint64_t raw, std::string& out) {
  if constexpr (std::is_same_v<T, Fd>) {
    format_fd(static_cast<int>(raw), out);
  } else if constexpr (std::is_same_v<T, OpenFlags>) {
    format_open_flags(static_cast<int>(raw), out);
  } else if constexpr (std::is_same_v<T, Mode>) {
    format_octal(static_cast<uint32_t>(raw), out);
  } else if constexpr (std::is_same_v<T, Signo>) {
    format_signo(static_cast<int>(raw), out);
  } else if constexpr (std::is_same_v<T, UserStr>) {
    format_string(task, raw, out);
  } else if constexpr (std::is_integral_v<T> && std::is_signed_v<T>) {
    format_signed(static_cast<T>(raw), out);
  } else if constexpr (std::is_integral_v<T>) {
    format_unsigned(static_cast<T>(raw), out);
  } else {
    format_hex(raw, out);
  }
}

template <auto F>
struct Caller;

template <class... A, Result<int64_t> (*F)(Task&, A...)>
struct Caller<F> {
  static_assert(sizeof...(A) <= 6);
  static Result<int64_t> run(Task& task, const RawArgs& args) {
    return run_with(task, args, std::index_sequence_for<A...>());
  }
  template <size_t... I>
  static Result<int64_t> run_with(Task& task, [[maybe_unused]] const RawArgs& args,
                                  std::index_sequence<I...>) {
    return F(task, decode_arg<A>(args[I])...);
  }
  static void format(Task& task, const RawArgs& args, bool, std::string& out) {
    format_with(task, args, out, std::index_sequence_for<A...>());
  }
  template <size_t... I>
  static void format_with([[maybe_unused]] Task& task, [[maybe_unused]] const RawArgs& args,
                          [[maybe_unused]] std::string& out, std::index_sequence<I...>) {
    ((I != 0 ? (void)(out += ", ") : (void)0, format_arg<A>(task, args[I], out)), ...);
  }
};

}  // namespace internal

template <auto F>
inline constexpr Call call{&internal::Caller<F>::run, &internal::Caller<F>::format};

// Rows of the table; table.cc says what each kind promises.
constexpr Row none(uint16_t nr, const char* name) {
  return Row{nr, name, Support::kNone, nullptr, nullptr, ""};
}
constexpr Row full(uint16_t nr, const char* name, Call c, const char* test) {
  return Row{nr, name, Support::kFull, c.run, c.format, test};
}
constexpr Row partial(uint16_t nr, const char* name, Call c, const char* note) {
  return Row{nr, name, Support::kPartial, c.run, c.format, note};
}

}  // namespace uk
