#include "syscalls/async/rw.h"

#include <sys/uio.h>

#include "syscalls/fs_io.h"

namespace uk {
namespace {
constexpr int kRwfHipri = 0x1, kRwfDsync = 0x2, kRwfSync = 0x4, kRwfNowait = 0x8, kRwfAppend = 0x10;

Result<size_t> write(Task& worker, File& file, const AsyncRw& rw, std::optional<uint64_t> offset) {
  const bool append = (rw.flags & kRwfAppend) != 0 && file.seekable();
  if (append) {
    const uint64_t end = TRY(file.getattr(worker.park())).size;
    UserSource from(worker.mm(), rw.iov);
    const size_t n = TRY(write_file(worker, file, from, end));
    if (!offset) file.pos = end + n;
    return n;
  }
  UserSource from(worker.mm(), rw.iov);
  return write_file(worker, file, from, offset);
}
}  // namespace

Result<> check_rw_flags(int flags) {
  constexpr int kKnown = kRwfHipri | kRwfDsync | kRwfSync | kRwfNowait | kRwfAppend;
  if ((flags & ~kKnown) != 0) return Err(Errno::kOPNOTSUPP);
  return {};
}

Result<size_t> async_rw(Task& worker, File& file, const AsyncRw& rw) {
  const std::optional<uint64_t> offset = file.seekable() ? rw.offset : std::nullopt;
  if (!rw.write) {
    UserSink to(worker.mm(), rw.iov);
    return read_file(worker, file, to, offset);
  }
  const size_t n = TRY(write(worker, file, rw, offset));
  if ((rw.flags & (kRwfDsync | kRwfSync)) != 0)
    TRY(file.fsync(worker.park(), (rw.flags & kRwfSync) == 0));
  return n;
}

}  // namespace uk
