#include "syscalls/fs_sync.h"

#include <fcntl.h>

#include <vector>

#include "syscalls/fs_common.h"
#include "ukernel/dev/block/registry.h"
#include "ukernel/kernel.h"

namespace uk {
namespace {

Result<int64_t> do_fsync(Task& task, Fd fd, bool data_only) {
  Ref<File> file = TRY(task.fds().get_io(fd));
  return zero(file->fsync(task.park(), data_only));
}

}  // namespace

Result<int64_t> sys_fsync(Task& task, Fd fd) { return do_fsync(task, fd, false); }
Result<int64_t> sys_fdatasync(Task& task, Fd fd) { return do_fsync(task, fd, true); }

Result<int64_t> sys_sync(Task& task) {
  std::vector<Ref<SuperBlock>> all;
  for (const auto& [id, m] : task.mounts().mounts) all.push_back(m->sb);
  for (const Ref<SuperBlock>& sb : all) (void)sb->sync(task.park());
  if (task.kernel.disks != nullptr) (void)task.kernel.disks->sync(task.park());
  return 0;
}

Result<int64_t> sys_syncfs(Task& task, Fd fd) {
  Ref<File> file = TRY(task.fds().get_io(fd));
  if (file->inode() == nullptr) return 0;
  Ref<SuperBlock> sb(&file->inode()->sb());
  return zero(sb->sync(task.park()));
}

Result<int64_t> sys_sync_file_range(Task& task, Fd fd, int64_t offset, int64_t len,
                                    uint32_t flags) {
  Ref<File> file = TRY(task.fds().get_io(fd));
  return zero(sync_range(task, *file, offset, len, flags));
}

Result<> sync_range(Task& task, File& file, int64_t offset, int64_t len, uint32_t flags) {
  constexpr uint32_t kKnown = 7;  // SYNC_FILE_RANGE_WAIT_BEFORE, WRITE, WAIT_AFTER
  if ((flags & ~kKnown) != 0 || offset < 0 || len < 0) return Err(Errno::kINVAL);
  int64_t end = 0;
  if (__builtin_add_overflow(offset, len, &end)) return Err(Errno::kINVAL);
  if (file.inode() == nullptr) return Err(Errno::kSPIPE);
  uint32_t type = file.inode()->type();
  if (type != S_IFREG && type != S_IFBLK && type != S_IFDIR && type != S_IFLNK) {
    return Err(Errno::kSPIPE);
  }
  return flags == 0 ? Result<>() : file.fsync(task.park(), true);
}

// Advice only: everything is cached as it is used, so checking the arguments is all there is to do.
Result<> advise_file(File& file, int64_t len, int advice) {
  if (file.inode() != nullptr && is_type(file.inode()->type(), S_IFIFO)) return Err(Errno::kSPIPE);
  if (len < 0 || advice < 0 || advice > POSIX_FADV_NOREUSE) return Err(Errno::kINVAL);
  return {};
}

Result<int64_t> sys_fadvise64(Task& task, Fd fd, int64_t, int64_t len, int advice) {
  Ref<File> file = TRY(task.fds().get_io(fd));
  return zero(advise_file(*file, len, advice));
}

Result<int64_t> sys_readahead(Task& task, Fd fd, int64_t, size_t count) {
  Ref<File> file = TRY(task.fds().get_io(fd));
  if (!file->can_read()) return Err(Errno::kBADF);
  if (file->inode() == nullptr || !is_type(file->inode()->type(), S_IFREG))
    return Err(Errno::kINVAL);
  // The count is a length for posix_fadvise(2), which knows negative ones.
  return static_cast<int64_t>(count) < 0 ? Result<int64_t>(Err(Errno::kINVAL)) : 0;
}

}  // namespace uk
