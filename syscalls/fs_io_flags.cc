// preadv2(2) and pwritev2(2): reading and writing with flags.
#include <fcntl.h>

#include "syscalls/fs_common.h"
#include "syscalls/fs_io.h"
#include "syscalls/fs_sync.h"

namespace uk {
namespace {

// RWF_APPEND: at the end; the position moves only if it was to be used.
Result<int64_t> append(Task& task, Fd fd, UserAddr iov, uint64_t count, bool move_pos) {
  Ref<File> file = TRY(task.fds().get_io(fd));
  if (!file->seekable()) return sys_writev(task, fd, iov, count);
  uint64_t end = TRY(file->getattr(task.park())).size;
  int64_t n = TRY(sys_pwritev(task, fd, iov, count, static_cast<int64_t>(end), 0));
  if (move_pos) file->pos = end + static_cast<uint64_t>(n);
  return n;
}

constexpr int kKnownRwf = 0x1f;  // HIPRI DSYNC SYNC NOWAIT APPEND

// Nothing at all can be transferred in any way.
Result<> check_rwf(Task& task, int flags, UserAddr iov, uint64_t count) {
  constexpr int kNowait = 0x8;
  if ((flags & ~kKnownRwf) == 0 && (flags & kNowait) == 0) return {};
  for (const UserIovec& v : TRY(fetch_iovec(task.park(), task.mm(), iov, count))) {
    if (v.len != 0) return Err(Errno::kOPNOTSUPP);
  }
  return {};
}

}  // namespace

Result<int64_t> sys_preadv2(Task& task, Fd fd, UserAddr iov, uint64_t count, int64_t offset,
                            int64_t high, int flags) {
  Ref<File> file = TRY(task.fds().get_io(fd));
  // In Linux's order: the offset, the rights, the flags.
  if (offset < -1) return Err(Errno::kINVAL);
  if (offset != -1) TRY(takes_offset(*file));
  if (!file->can_read()) return Err(Errno::kBADF);
  // Directories are read in a way that knows no flags.
  TRY(check_rwf(task, is_directory(*file) && flags > 1 ? ~0 : flags, iov, count));
  return offset == -1 ? sys_readv(task, fd, iov, count)
                      : sys_preadv(task, fd, iov, count, offset, high);
}

Result<int64_t> sys_pwritev2(Task& task, Fd fd, UserAddr iov, uint64_t count, int64_t offset,
                             int64_t high, int flags) {
  Ref<File> file = TRY(task.fds().get_io(fd));
  if (offset < -1) return Err(Errno::kINVAL);
  if (offset != -1) TRY(takes_offset(*file));
  if (!file->can_write()) return Err(Errno::kBADF);
  // Nor do files that are written a piece at a time.
  TRY(check_rwf(task, file->writes_by_pieces() && flags > 1 ? ~0 : flags, iov, count));
  constexpr int kAppend = 0x10, kSync = 0x6;
  Result<int64_t> n = 0;
  if ((flags & kAppend) != 0) {
    n = append(task, fd, iov, count, offset == -1);
  } else {
    n = offset == -1 ? sys_writev(task, fd, iov, count)
                     : sys_pwritev(task, fd, iov, count, offset, high);
  }
  if (n && *n > 0 && (flags & kSync) != 0)
    TRY((flags & 0x4) != 0 ? sys_fsync(task, fd) : sys_fdatasync(task, fd));
  return n;
}

}  // namespace uk
