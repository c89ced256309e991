#include "syscalls/fs_names.h"

#include <fcntl.h>

#include "syscalls/fs_common.h"

namespace uk {
namespace {

Result<> may_enter(Task& task, const Path& dir) {
  return task.kernel.vfs.access(task.park(), dir, task.cred(), kMayExec);
}

}  // namespace

Result<int64_t> sys_mkdir(Task& task, UserStr path, Mode mode) {
  return sys_mkdirat(task, Fd{AT_FDCWD}, path, mode);
}

Result<int64_t> sys_mkdirat(Task& task, Fd dirfd, UserStr user, Mode mode) {
  std::string path = TRY(fetch_path(task, user));
  DirFd dir = TRY(DirFd::get(task, dirfd, path));
  return zero(
      task.kernel.vfs.mkdir(task.park(), task.fs_context(), dir.from(), path, mode & 01777));
}

Result<int64_t> sys_mknod(Task& task, UserStr path, Mode mode, uint64_t dev) {
  return sys_mknodat(task, Fd{AT_FDCWD}, path, mode, dev);
}

Result<int64_t> sys_mknodat(Task& task, Fd dirfd, UserStr user, Mode mode, uint64_t dev) {
  switch (mode & S_IFMT) {  // before the name
    case 0:
    case S_IFREG:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
      break;
    case S_IFDIR:
      return Err(Errno::kPERM);
    default:
      return Err(Errno::kINVAL);
  }
  std::string path = TRY(fetch_path(task, user));
  DirFd dir = TRY(DirFd::get(task, dirfd, path));
  return zero(task.kernel.vfs.mknod(task.park(), task.fs_context(), dir.from(), path, mode,
                                    static_cast<uint32_t>(dev)));
}

Result<int64_t> sys_rmdir(Task& task, UserStr path) {
  return sys_unlinkat(task, Fd{AT_FDCWD}, path, AT_REMOVEDIR);
}
Result<int64_t> sys_unlink(Task& task, UserStr path) {
  return sys_unlinkat(task, Fd{AT_FDCWD}, path, 0);
}

Result<int64_t> sys_unlinkat(Task& task, Fd dirfd, UserStr user, int flags) {
  if ((flags & ~AT_REMOVEDIR) != 0) return Err(Errno::kINVAL);
  std::string path = TRY(fetch_path(task, user));
  DirFd dir = TRY(DirFd::get(task, dirfd, path));
  FsContext ctx = task.fs_context();
  if ((flags & AT_REMOVEDIR) != 0)
    return zero(task.kernel.vfs.rmdir(task.park(), ctx, dir.from(), path));
  return zero(task.kernel.vfs.unlink(task.park(), ctx, dir.from(), path));
}

Result<int64_t> sys_symlink(Task& task, UserStr target, UserStr path) {
  return sys_symlinkat(task, target, Fd{AT_FDCWD}, path);
}

Result<int64_t> sys_symlinkat(Task& task, UserStr user_target, Fd dirfd, UserStr user) {
  std::string target = TRY(fetch_path(task, user_target));
  std::string path = TRY(fetch_path(task, user));
  DirFd dir = TRY(DirFd::get(task, dirfd, path));
  return zero(task.kernel.vfs.symlink(task.park(), task.fs_context(), target, dir.from(), path));
}

Result<int64_t> sys_link(Task& task, UserStr from, UserStr to) {
  return sys_linkat(task, Fd{AT_FDCWD}, from, Fd{AT_FDCWD}, to, 0);
}

Result<int64_t> sys_linkat(Task& task, Fd from_dir, UserStr from, Fd to_dir, UserStr to,
                           int flags) {
  if ((flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)) != 0) return Err(Errno::kINVAL);
  if ((flags & AT_EMPTY_PATH) != 0 && !task.cred().has(Cap::kDacReadSearch)) {
    // The descriptor itself: of whoever opened it, as it was then.
    std::string name = TRY(fetch_path(task, from, true));
    if (name.empty() && from_dir != AT_FDCWD &&
        TRY(task.fds().get(from_dir))->cred.get() != &task.cred()) {
      return Err(Errno::kNOENT);
    }
  }
  Path target =
      TRY(walk_at(task, from_dir, from, flags & AT_EMPTY_PATH, (flags & AT_SYMLINK_FOLLOW) != 0));
  std::string path = TRY(fetch_path(task, to));
  DirFd dir = TRY(DirFd::get(task, to_dir, path));
  return zero(task.kernel.vfs.link(task.park(), task.fs_context(), target, dir.from(), path));
}

Result<int64_t> sys_rename(Task& task, UserStr from, UserStr to) {
  return sys_renameat2(task, Fd{AT_FDCWD}, from, Fd{AT_FDCWD}, to, 0);
}

Result<int64_t> sys_renameat(Task& task, Fd from_dir, UserStr from, Fd to_dir, UserStr to) {
  return sys_renameat2(task, from_dir, from, to_dir, to, 0);
}

Result<int64_t> sys_renameat2(Task& task, Fd from_dir, UserStr from, Fd to_dir, UserStr to,
                              uint32_t flags) {
  constexpr uint32_t kNoReplace = 1, kExchange = 2, kWhiteout = 4;  // RENAME_*
  if ((flags & ~(kNoReplace | kExchange | kWhiteout)) != 0) return Err(Errno::kINVAL);
  if ((flags & kExchange) != 0 && (flags & (kNoReplace | kWhiteout)) != 0)
    return Err(Errno::kINVAL);
  if ((flags & kWhiteout) != 0 && !task.cred().has(Cap::kMknod)) return Err(Errno::kPERM);
  std::string path1 = TRY(fetch_path(task, from));
  DirFd dir1 = TRY(DirFd::get(task, from_dir, path1));
  auto path2 = fetch_path(task, to);
  auto dir2 = path2 ? DirFd::get(task, to_dir, *path2) : Result<DirFd>(Err(path2.error()));
  if (!dir2) {
    // The first name is walked before the second is looked at.
    (void)TRY(task.kernel.vfs.walk_parent(task.park(), task.fs_context(), dir1.from(), path1));
    return Err(dir2.error());
  }
  return zero(task.kernel.vfs.rename(task.park(), task.fs_context(), dir1.from(), path1,
                                     dir2->from(), *path2, flags));
}

Result<int64_t> sys_chdir(Task& task, UserStr user) {
  std::string path = TRY(fetch_path(task, user));
  Path dir = TRY(
      task.kernel.vfs.walk(task.park(), task.fs_context(), {}, path, kWalkFollow | kWalkDirectory));
  TRY(may_enter(task, dir));
  task.fs().cwd = dir;
  return 0;
}

Result<int64_t> sys_fchdir(Task& task, Fd fd) {
  Ref<File> file = TRY(task.fds().get(fd));
  if (file->inode() == nullptr || !is_type(file->inode()->type(), S_IFDIR))
    return Err(Errno::kNOTDIR);
  TRY(may_enter(task, file->path()));
  task.fs().cwd = file->path();
  return 0;
}

Result<int64_t> sys_chroot(Task& task, UserStr user) {
  std::string path = TRY(fetch_path(task, user));
  Path dir = TRY(
      task.kernel.vfs.walk(task.park(), task.fs_context(), {}, path, kWalkFollow | kWalkDirectory));
  TRY(may_enter(task, dir));
  if (!task.cred().raised(Cap::kSysChroot)) return Err(Errno::kPERM);
  task.fs().root = dir;
  return 0;
}

Result<int64_t> sys_getcwd(Task& task, UserOut<char> buf, size_t size) {
  if (task.fs().cwd.dentry->unlinked()) return Err(Errno::kNOENT);
  std::string name = task.kernel.vfs.path_name(task.fs().cwd, task.fs().root, true);
  if (name.size() + 1 > size) return Err(Errno::kRANGE);
  TRY(buf.put_array(task.park(), task.mm(), std::span<const char>(name.c_str(), name.size() + 1)));
  return static_cast<int64_t>(name.size() + 1);
}

Result<int64_t> sys_umask(Task& task, Mode mask) {
  uint32_t old = task.fs().umask;
  task.fs().umask = mask & 0777;
  return old;
}

}  // namespace uk
