// Printing of system call arguments for --strace.
#include <fcntl.h>
#include <signal.h>

#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "syscalls/decode.h"

namespace uk::internal {

void format_signed(int64_t v, std::string& out) { absl::StrAppend(&out, v); }
void format_unsigned(uint64_t v, std::string& out) {
  if (v > 0x10000000) {
    absl::StrAppendFormat(&out, "%#x", v);
  } else {
    absl::StrAppend(&out, v);
  }
}
void format_hex(uint64_t v, std::string& out) {
  if (v == 0) {
    out += "NULL";
  } else {
    absl::StrAppendFormat(&out, "%#x", v);
  }
}
void format_octal(uint32_t v, std::string& out) { absl::StrAppendFormat(&out, "%#o", v); }

void format_fd(int fd, std::string& out) {
  if (fd == AT_FDCWD) {
    out += "AT_FDCWD";
  } else {
    absl::StrAppend(&out, fd);
  }
}

void format_open_flags(int flags, std::string& out) {
  static constexpr const char* kAccess[] = {"O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"};
  static constexpr struct {
    int bits;
    const char* name;
  } kFlags[] = {
      {O_CREAT, "O_CREAT"},     {O_EXCL, "O_EXCL"},           {O_NOCTTY, "O_NOCTTY"},
      {O_TRUNC, "O_TRUNC"},     {O_APPEND, "O_APPEND"},       {O_NONBLOCK, "O_NONBLOCK"},
      {O_SYNC, "O_SYNC"},       {O_DSYNC, "O_DSYNC"},         {O_DIRECT, "O_DIRECT"},
      {O_TMPFILE, "O_TMPFILE"}, {O_DIRECTORY, "O_DIRECTORY"}, {O_NOFOLLOW, "O_NOFOLLOW"},
      {O_NOATIME, "O_NOATIME"}, {O_CLOEXEC, "O_CLOEXEC"},     {O_PATH, "O_PATH"},
  };
  out += kAccess[flags & O_ACCMODE];
  int rest = flags & ~O_ACCMODE;
  for (const auto& f : kFlags) {
    if ((rest & f.bits) != f.bits) continue;
    absl::StrAppend(&out, "|", f.name);
    rest &= ~f.bits;
  }
  if (rest != 0) absl::StrAppendFormat(&out, "|%#x", rest);
}

void format_signo(int signo, std::string& out) {
  const char* name = signo > 0 && signo < 65 ? sigabbrev_np(signo) : nullptr;
  if (name != nullptr) {
    absl::StrAppend(&out, "SIG", name);
  } else {
    absl::StrAppend(&out, signo);
  }
}

void format_string(Task& task, uint64_t addr, std::string& out) {
  constexpr size_t kMaxShown = 64;
  if (addr == 0) {
    out += "NULL";
    return;
  }
  auto text = task.mm().copy_in_string(task.park(), addr, kPathMax);
  if (!text) {
    format_hex(addr, out);
    return;
  }
  bool cut = text->size() > kMaxShown;
  absl::StrAppend(&out, "\"", absl::CEscape(text->substr(0, kMaxShown)), cut ? "\"..." : "\"");
}

}  // namespace uk::internal
