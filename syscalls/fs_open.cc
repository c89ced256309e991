#include "syscalls/fs_open.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <algorithm>

#include "syscalls/extensible.h"
#include "syscalls/fs_async.h"
#include "syscalls/fs_attr.h"
#include "syscalls/fs_common.h"

namespace uk {

Result<Path> walk_at(Task& task, Fd dirfd, UserStr user, int at_flags, bool follow) {
  const bool empty_ok = (at_flags & AT_EMPTY_PATH) != 0;
  std::string path = TRY(fetch_path(task, user, empty_ok));
  DirFd dir = TRY(DirFd::get(task, dirfd, path));
  FsContext ctx = task.fs_context();
  return task.kernel.vfs.walk(task.park(), ctx, dir.from(), path,
                              (follow ? kWalkFollow : 0u) | (empty_ok ? kWalkEmptyOk : 0u));
}

Result<Path> walk_at_or_fd(Task& task, Fd dirfd, UserStr user, int at_flags) {
  if ((at_flags & AT_EMPTY_PATH) == 0) return walk_at(task, dirfd, user, at_flags);
  std::string path = user ? TRY(fetch_path(task, user, true)) : "";
  if (path.empty() && dirfd >= 0) return TRY(task.fds().get_io(dirfd))->path();
  DirFd dir = TRY(DirFd::get(task, dirfd, path));
  const uint32_t follow = (at_flags & AT_SYMLINK_NOFOLLOW) == 0 ? kWalkFollow : 0u;
  return task.kernel.vfs.walk(task.park(), task.fs_context(), dir.from(), path,
                              follow | kWalkEmptyOk);
}

namespace {

constexpr int kKnownFlags = O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND |
                            O_NONBLOCK | O_DSYNC | O_SYNC | O_ASYNC | O_DIRECT | O_LARGEFILE |
                            O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC | O_PATH | O_TMPFILE |
                            0100000;
constexpr uint64_t kCreateMode = 07777;

Result<int64_t> do_open(Task& task, Fd dirfd, UserStr user, OpenRequest req) {
  // What is made without a name cannot be made by name too, and is to be written to.
  if ((req.flags & O_TMPFILE) == O_TMPFILE &&
      ((req.flags & O_CREAT) != 0 || (req.flags & O_ACCMODE) == O_RDONLY)) {
    return Err(Errno::kINVAL);
  }
  if ((req.flags & (O_DIRECTORY | O_CREAT)) == (O_DIRECTORY | O_CREAT)) return Err(Errno::kINVAL);
  std::string path = TRY(fetch_path(task, user, false));
  // Linux takes the number first: EMFILE before the path is looked at, and no file is created then.
  if (task.fds().full(task.rlimit(RLIMIT_NOFILE).cur)) return Err(Errno::kMFILE);
  DirFd dir = TRY(DirFd::get(task, dirfd, path, (req.walk & kWalkInRoot) != 0));
  FsContext ctx = task.fs_context();
  Ref<File> file = TRY(task.kernel.vfs.open(task.park(), ctx, dir.from(), path, req));
  return install_fd(task, std::move(file), (req.flags & O_CLOEXEC) != 0);
}

uint32_t create_mode(int flags, Mode mode) {
  return (flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) != 0
             ? static_cast<uint32_t>(mode & kCreateMode)
             : 0;
}

class TaskIoctl final : public IoctlUser {
 public:
  explicit TaskIoctl(Task& task) : task_(task) {}
  Result<> copy_in(Park& park, std::span<std::byte> to, uint64_t from) override {
    if (TRY(task_.mm().copy_in(park, to, from)) != to.size()) return Err(Errno::kFAULT);
    return {};
  }
  Result<> copy_out(Park& park, uint64_t to, std::span<const std::byte> from) override {
    if (TRY(task_.mm().copy_out(park, to, from)) != from.size()) return Err(Errno::kFAULT);
    return {};
  }
  const Cred& cred() const override { return task_.cred(); }
  Task* task() const override { return &task_; }

 private:
  Task& task_;
};

void set_flag(File& file, int flag, bool on) {
  if (on) {
    file.flags |= flag;
  } else {
    file.flags &= ~flag;
  }
}

}  // namespace

Result<int64_t> sys_open(Task& task, UserStr path, OpenFlags flags, Mode mode) {
  return sys_openat(task, Fd{AT_FDCWD}, path, flags, mode);
}

Result<int64_t> sys_creat(Task& task, UserStr path, Mode mode) {
  return sys_openat(task, Fd{AT_FDCWD}, path, OpenFlags{O_CREAT | O_WRONLY | O_TRUNC}, mode);
}

Result<int64_t> sys_openat(Task& task, Fd dirfd, UserStr path, OpenFlags flags, Mode mode) {
  int known = flags & kKnownFlags;  // open(2) ignores unknown flags
  if ((known & O_PATH) != 0) known &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  return do_open(task, dirfd, path, {known, create_mode(known, mode), 0});
}

Result<int64_t> sys_openat2(Task& task, Fd dirfd, UserStr path, UserIn<UserOpenHow> user,
                            size_t size) {
  const UserOpenHow how = TRY(fetch_extensible<UserOpenHow>(task, user, size, sizeof(UserOpenHow)));
  return open_how(task, dirfd, path, how);
}

Result<int64_t> open_how(Task& task, Fd dirfd, UserStr path, const UserOpenHow& how) {
  constexpr uint64_t kResolve = RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS |
                                RESOLVE_BENEATH | RESOLVE_IN_ROOT;
  if ((how.flags & ~static_cast<uint64_t>(kKnownFlags)) != 0 ||
      (how.resolve & ~(kResolve | RESOLVE_CACHED)) != 0)
    return Err(Errno::kINVAL);
  // Nothing is promised to be found without waiting.
  if ((how.resolve & RESOLVE_CACHED) != 0) return Err(Errno::kAGAIN);
  if ((how.resolve & RESOLVE_BENEATH) != 0 && (how.resolve & RESOLVE_IN_ROOT) != 0)
    return Err(Errno::kINVAL);
  const int flags = static_cast<int>(how.flags);
  const bool creates = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
  if (creates ? (how.mode & ~kCreateMode) != 0 : how.mode != 0) return Err(Errno::kINVAL);
  if ((flags & O_PATH) != 0 && (flags & ~(O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) != 0)
    return Err(Errno::kINVAL);
  uint32_t walk = 0;
  if (how.resolve & RESOLVE_NO_XDEV) walk |= kWalkNoXdev;
  if (how.resolve & RESOLVE_NO_MAGICLINKS) walk |= kWalkNoMagiclinks;
  if (how.resolve & RESOLVE_NO_SYMLINKS) walk |= kWalkNoSymlinks;
  if (how.resolve & RESOLVE_BENEATH) walk |= kWalkBeneath;
  if (how.resolve & RESOLVE_IN_ROOT) walk |= kWalkInRoot;
  return do_open(task, dirfd, path, {flags, static_cast<uint32_t>(how.mode), walk});
}

Result<int64_t> sys_close(Task& task, Fd fd) { return zero(task.fds().close(task.park(), fd)); }

Result<int64_t> sys_close_range(Task& task, uint32_t first, uint32_t last, uint32_t flags) {
  constexpr uint32_t kUnshare = 2, kCloexec = 4;  // CLOSE_RANGE_*
  if ((flags & ~(kUnshare | kCloexec)) != 0 || first > last) return Err(Errno::kINVAL);
  if ((flags & kUnshare) != 0 && task.fds_->users > 1) {
    Ref<FdTable> own = task.fds_->copy();
    --task.fds_->users;
    task.fds_ = own;
  }
  const int top = task.fds().highest();
  if (top < 0) return 0;
  const uint32_t end = std::min(last, static_cast<uint32_t>(top));
  for (uint32_t fd = first; fd <= end; ++fd) {
    if ((flags & kCloexec) != 0) {
      (void)task.fds().set_cloexec(static_cast<int>(fd), true);
    } else {
      (void)task.fds().close(task.park(), static_cast<int>(fd));
    }
  }
  return 0;
}

Result<int64_t> sys_dup(Task& task, Fd fd) {
  Ref<File> file = TRY(task.fds().get(fd));
  return install_fd(task, std::move(file), false);
}

Result<int64_t> sys_dup2(Task& task, Fd from, Fd to) {
  Ref<File> file = TRY(task.fds().get(from));
  if (from == to) return to;
  Ref<File> old =
      TRY(task.fds().replace(to, std::move(file), false, task.rlimit(RLIMIT_NOFILE).cur));
  if (old) task.fds().close_file(task.park(), std::move(old));
  return to;
}

Result<int64_t> sys_dup3(Task& task, Fd from, Fd to, OpenFlags flags) {
  if ((flags & ~O_CLOEXEC) != 0 || from == to) return Err(Errno::kINVAL);
  Ref<File> file = TRY(task.fds().get(from));
  Ref<File> old = TRY(task.fds().replace(to, std::move(file), (flags & O_CLOEXEC) != 0,
                                         task.rlimit(RLIMIT_NOFILE).cur));
  if (old) task.fds().close_file(task.park(), std::move(old));
  return to;
}

Result<int64_t> sys_ioctl(Task& task, Fd fd, uint32_t cmd, UserAddr arg) {
  Ref<File> file = TRY(task.fds().get_io(fd));
  switch (cmd) {
    case FIOCLEX:
      return zero(task.fds().set_cloexec(fd, true));
    case FIONCLEX:
      return zero(task.fds().set_cloexec(fd, false));
    case FIONBIO:
    case FIOASYNC: {
      int on = TRY(UserIn<int>{arg}.get(task.park(), task.mm()));
      if (cmd == FIONBIO) {
        set_flag(*file, O_NONBLOCK, on != 0);
      } else {
        if ((on != 0) == ((file->flags & O_ASYNC) != 0)) return 0;
        if (!has_async(*file)) return Err(Errno::kNOTTY);
        set_async(task, *file, fd, on != 0);
      }
      return 0;
    }
    case FS_IOC_GETFLAGS:
    case FS_IOC_SETFLAGS:
    case FS_IOC_FSGETXATTR:
    case FS_IOC_FSSETXATTR: {
      Result<int64_t> done = file_attr_ioctl(task, *file, cmd, arg);
      if (done || done.error() != Errno::kNOTTY || (file->flags & O_PATH) != 0) return done;
      TaskIoctl user(task);
      return file->ioctl(task.park(), user, cmd, arg.addr);  // which has its own word for it
    }
    case FIGETBSZ: {
      // Every file is on some filesystem, a page a block where it has none.
      if ((file->flags & O_PATH) != 0) return Err(Errno::kBADF);
      const uint32_t size = static_cast<uint32_t>(TRY(file->getattr(task.park())).block_size);
      return zero(UserOut<int>{arg}.put(task.park(), task.mm(), static_cast<int>(size)));
    }
    case FIONREAD:
      if (file->inode() != nullptr && is_type(file->inode()->type(), S_IFREG)) {
        uint64_t size = TRY(file->getattr(task.park())).size;
        const int left = static_cast<int>(size - file->pos);  // beyond the end: negative
        return zero(UserOut<int>{arg}.put(task.park(), task.mm(), left));
      }
      [[fallthrough]];
    default: {
      if (file->no_ioctl) return Err(Errno::kACCES);
      TaskIoctl user(task);
      return file->ioctl(task.park(), user, cmd, arg.addr);
    }
  }
}

Result<int64_t> sys_memfd_create(Task& task, UserStr user, uint32_t flags) {
  constexpr uint32_t kKnown =
      MFD_CLOEXEC | MFD_ALLOW_SEALING | 0x8u /* MFD_NOEXEC_SEAL */ | 0x10u /* MFD_EXEC */;
  if ((flags & ~kKnown) != 0 || (flags & 0x18u) == 0x18u) return Err(Errno::kINVAL);
  constexpr size_t kMaxName = 249;
  auto name = user.get(task.park(), task.mm(), kMaxName);
  if (!name) return Err(name.error() == Errno::kNAMETOOLONG ? Errno::kINVAL : name.error());
  const bool noexec = (flags & 0x8u) != 0;
  Ref<File> file = TRY(task.kernel.vfs.memory_file(task.park(), task.cred(), "/memfd:" + *name,
                                                   noexec ? 0666 : 0777));
  constexpr uint32_t kSealExec = 0x20;
  if (noexec || (flags & MFD_ALLOW_SEALING) != 0) file->inode()->allow_sealing();
  if (noexec) TRY(file->inode()->add_seals(kSealExec));
  return install_fd(task, std::move(file), (flags & MFD_CLOEXEC) != 0);
}

}  // namespace uk
