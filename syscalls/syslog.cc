// syslog(2): the kernel's log, as dmesg(1) and log daemons read it.
#include "syscalls/fs_common.h"
#include "syscalls/limits.h"
#include "ukernel/kernel.h"
#include "ukernel/vfs/kernel_log.h"

namespace uk {
namespace {

enum Action : int {
  kClose = 0,
  kOpen = 1,
  kRead = 2,
  kReadAll = 3,
  kReadClear = 4,
  kClear = 5,
  kConsoleOff = 6,
  kConsoleOn = 7,
  kConsoleLevel = 8,
  kSizeUnread = 9,
  kSizeBuffer = 10,
};
constexpr int kLowestConsoleLevel = 1, kHighestConsoleLevel = 8;
constexpr size_t kPiece = 64 << 10;

Result<int64_t> put(Task& task, UserAddr buf, const std::string& text) {
  if (TRY(task.mm().copy_out(task.park(), buf.addr, std::as_bytes(std::span(text)))) != text.size())
    return Err(Errno::kFAULT);
  return static_cast<int64_t>(text.size());
}

}  // namespace

Result<int64_t> sys_syslog(Task& task, int action, UserAddr buf, int len) {
  // As with kernel.dmesg_restrict = 1: every action, reading included.
  if (!task.cred().has(Cap::kSyslog)) return Err(Errno::kPERM);
  KernelLog& log = *task.kernel.guest_log;
  Log& lines = log.log();
  switch (action) {
    case kClose:
    case kOpen:
      return 0;
    case kRead:
    case kReadAll:
    case kReadClear: {
      if (!buf || len < 0) return Err(Errno::kINVAL);
      if (len == 0) return 0;
      const auto size = static_cast<size_t>(len);
      if (action == kRead)
        return put(task, buf, TRY(log.take(task.park(), std::min(size, kPiece), true)));
      Result<int64_t> r = put(task, buf, log.newest(size));
      if (r && action == kReadClear) log.clear();
      return r;
    }
    case kClear:
      log.clear();
      return 0;
    case kConsoleOff:
      if (!task.kernel.settings.saved_console_level)
        task.kernel.settings.saved_console_level = lines.console_level;
      lines.console_level = kLowestConsoleLevel;
      return 0;
    case kConsoleOn:
      if (auto saved = std::exchange(task.kernel.settings.saved_console_level, std::nullopt))
        lines.console_level = *saved;
      return 0;
    case kConsoleLevel:
      if (len < kLowestConsoleLevel || len > kHighestConsoleLevel) return Err(Errno::kINVAL);
      lines.console_level = len;
      task.kernel.settings.saved_console_level.reset();
      return 0;
    case kSizeUnread:
      return static_cast<int64_t>(log.unread_bytes());
    case kSizeBuffer:
      return static_cast<int64_t>(log.capacity_bytes());
    default:
      return Err(Errno::kINVAL);
  }
}

}  // namespace uk
