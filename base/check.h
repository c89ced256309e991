// CHECK asserts our own invariants, in release builds too; guest input never reaches one. On
// failure the registered dump hook (the kernel's: task, fiber backtrace, last events) runs once,
// then the process aborts.
#pragma once

#include <string>
#include <string_view>

namespace uk {

// Called once on the first failed CHECK, before abort. The hook must not CHECK. Process-wide by
// nature: it serves the one abort a process can have, and holds no state of an instance.
using CheckHook = void (*)(void* arg);
void set_check_hook(CheckHook hook, void* arg);

[[noreturn]] void check_failed(const char* file, int line, const char* what,
                               std::string_view detail = {});

}  // namespace uk

#define CHECK(cond)                                               \
  do {                                                            \
    if (!(cond)) [[unlikely]]                                     \
      ::uk::check_failed(__FILE__, __LINE__, "CHECK(" #cond ")"); \
  } while (0)

#define CHECK_OK(...)                                              \
  ({                                                               \
    auto check_result_ = (__VA_ARGS__);                            \
    if (!check_result_) [[unlikely]]                               \
      ::uk::check_failed(__FILE__, __LINE__, #__VA_ARGS__,         \
                         ::uk::errno_name(check_result_.error())); \
    ::uk::internal::take(std::move(check_result_));                \
  })

#define UNREACHABLE() ::uk::check_failed(__FILE__, __LINE__, "unreachable")

#ifdef NDEBUG
#define DCHECK(cond) \
  do {               \
  } while (0)
#else
#define DCHECK(cond) CHECK(cond)
#endif
