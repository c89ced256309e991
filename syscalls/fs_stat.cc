#include "syscalls/fs_stat.h"

#include <fcntl.h>

#include <array>

#include "syscalls/fs_common.h"
#include "ukernel/task/pidfd.h"
#include "ukernel/vfs/acl.h"
namespace uk {
namespace {

constexpr uint32_t kMntIdUnique = 0x4000;  // STATX_MNT_ID_UNIQUE

UserStat to_stat(const Task& task, const FileAttr& a) {
  UserStat s{};
  s.st_dev = a.dev;
  s.st_ino = a.ino;
  s.st_nlink = a.nlink;
  s.st_mode = a.mode;
  s.st_uid = shown_uid(task.cred().user_ns.get(), a.uid);
  s.st_gid = shown_gid(task.cred().user_ns.get(), a.gid);
  s.st_rdev = a.rdev;
  s.st_size = static_cast<int64_t>(a.size);
  s.st_blksize = a.block_size;
  s.st_blocks = static_cast<int64_t>(a.blocks);
  s.st_atim = {a.atime.sec, a.atime.nsec};
  s.st_mtim = {a.mtime.sec, a.mtime.nsec};
  s.st_ctim = {a.ctime.sec, a.ctime.nsec};
  return s;
}

struct statx_timestamp to_statx_time(const FileTime& t) {
  struct statx_timestamp s {};
  s.tv_sec = t.sec;
  s.tv_nsec = t.nsec;
  return s;
}

Result<int64_t> put_stat(Task& task, UserOut<UserStat> out, const FileAttr& attr) {
  return zero(out.put(task.park(), task.mm(), to_stat(task, attr)));
}

Result<FileAttr> attr_of(Task& task, const Path& path) {
  if (path.mount) return task.kernel.vfs.stat(task.park(), path);
  return path.inode()->getattr(task.park());
}

Result<int64_t> put_statfs(Task& task, const Path& path, UserOut<UserStatfs> out) {
  Ref<SuperBlock> sb(&path.inode()->sb());
  FsStat f = TRY(sb->statfs(task.park()));
  UserStatfs s{};
  s.f_type = static_cast<decltype(s.f_type)>(f.type);
  s.f_bsize = static_cast<decltype(s.f_bsize)>(f.block_size);
  s.f_frsize = s.f_bsize;
  s.f_blocks = f.blocks;
  s.f_bfree = f.blocks_free;
  s.f_bavail = f.blocks_avail;
  s.f_files = f.files;
  s.f_ffree = f.files_free;
  s.f_namelen = static_cast<decltype(s.f_namelen)>(f.name_max);
  const uint64_t id = f.fsid != 0 ? f.fsid : sb->dev;
  s.f_fsid.__val[0] = static_cast<int>(id);
  s.f_fsid.__val[1] = static_cast<int>(id >> 32);
  constexpr uint64_t kValid = 0x20;  // ST_VALID
  if (sb->read_only) f.flags |= 1;   // ST_RDONLY
  s.f_flags = static_cast<decltype(s.f_flags)>(f.flags | kValid |
                                               (path.mount ? path.mount->flags & 0xf : 0));
  return zero(out.put(task.park(), task.mm(), s));
}

// access(2) asks for the real user and group.
Ref<Cred> real_cred(const Cred& cred) {
  Ref<Cred> c = cred.copy();
  c->fsuid = cred.uid;
  c->fsgid = cred.gid;
  c->cap_effective = cred.uid == 0 ? cred.cap_permitted : 0;
  return c;
}

Result<int64_t> do_access(Task& task, Fd dirfd, UserStr path, int mode, int flags) {
  if ((mode & ~7) != 0) return Err(Errno::kINVAL);
  if ((flags & ~(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0) return Err(Errno::kINVAL);
  Ref<Cred> cred = (flags & AT_EACCESS) != 0 ? task.cred().copy() : real_cred(task.cred());
  const bool empty_ok = (flags & AT_EMPTY_PATH) != 0;
  std::string name = TRY(fetch_path(task, path, empty_ok));
  DirFd dir = TRY(DirFd::get(task, dirfd, name));
  FsContext ctx = task.fs_context();
  ctx.cred = cred.get();
  uint32_t walk =
      ((flags & AT_SYMLINK_NOFOLLOW) == 0 ? kWalkFollow : 0u) | (empty_ok ? kWalkEmptyOk : 0u);
  Path p = TRY(task.kernel.vfs.walk(task.park(), ctx, dir.from(), name, walk));
  return zero(task.kernel.vfs.access(task.park(), p, *cred, static_cast<uint32_t>(mode)));
}

Result<int64_t> do_chmod(Task& task, const Path& path, Mode mode) {
  return zero(task.kernel.vfs.chmod(task.park(), task.fs_context(), path, mode & 07777));
}

Result<int64_t> do_chown(Task& task, const Path& path, uint32_t uid, uint32_t gid) {
  const UserNamespace* ns = task.cred().user_ns.get();
  if (uid != kNoId) {
    const auto id = kernel_uid(ns, uid);
    if (!id) return Err(Errno::kINVAL);
    uid = *id;
  }
  if (gid != kNoId) {
    const auto id = kernel_gid(ns, gid);
    if (!id) return Err(Errno::kINVAL);
    gid = *id;
  }
  return zero(task.kernel.vfs.chown(task.park(), task.fs_context(), path, uid, gid));
}

// The path of a descriptor for a change through it (not O_PATH).
Result<Ref<File>> changeable(Task& task, Fd fd) { return task.fds().get_io(fd); }

Result<Vfs::SetTimes> times_from_timespec(const std::array<struct timespec, 2>& ts) {
  Vfs::SetTimes set;
  auto one = [](const struct timespec& t, std::optional<FileTime>& to, bool& now) -> Result<> {
    if (t.tv_nsec == UTIME_OMIT) return {};
    if (t.tv_nsec == UTIME_NOW) {
      now = true;
      return {};
    }
    if (t.tv_nsec < 0 || t.tv_nsec > 999'999'999) return Err(Errno::kINVAL);
    to = FileTime{t.tv_sec, static_cast<uint32_t>(t.tv_nsec)};
    return {};
  };
  TRY(one(ts[0], set.atime, set.atime_now));
  TRY(one(ts[1], set.mtime, set.mtime_now));
  return set;
}

Vfs::SetTimes times_now() {
  Vfs::SetTimes set;
  set.atime_now = set.mtime_now = true;
  return set;
}

Result<Vfs::SetTimes> fetch_timevals(Task& task, UserAddr times) {
  if (!times) return times_now();
  auto tv = TRY((UserIn<std::array<struct timeval, 2>>{times}.get(task.park(), task.mm())));
  Vfs::SetTimes set;
  for (const auto& t : tv) {
    if (t.tv_usec < 0 || t.tv_usec >= 1'000'000) return Err(Errno::kINVAL);
  }
  set.atime = FileTime{tv[0].tv_sec, static_cast<uint32_t>(tv[0].tv_usec * 1000)};
  set.mtime = FileTime{tv[1].tv_sec, static_cast<uint32_t>(tv[1].tv_usec * 1000)};
  return set;
}

Result<int64_t> do_readlink(Task& task, Fd dirfd, UserStr user, UserOut<char> buf, int size) {
  if (size <= 0) return Err(Errno::kINVAL);
  std::string name = TRY(fetch_path(task, user, true));
  if (name.empty() && dirfd == AT_FDCWD) return Err(Errno::kNOENT);
  DirFd dir = TRY(DirFd::get(task, dirfd, name));
  Path p =
      TRY(task.kernel.vfs.walk(task.park(), task.fs_context(), dir.from(), name, kWalkEmptyOk));
  if (!is_type(p.inode()->type(), S_IFLNK))
    return Err(name.empty() ? Errno::kNOENT : Errno::kINVAL);
  std::string target = TRY(task.kernel.vfs.readlink(task.park(), p));
  size_t n = std::min(target.size(), static_cast<size_t>(size));
  TRY(buf.put_array(task.park(), task.mm(), std::span<const char>(target.data(), n)));
  return static_cast<int64_t>(n);
}

// RLIMIT_FSIZE, for a file that becomes longer.
Result<> check_file_size(Task& task, Inode& inode, int64_t size) {
  if (static_cast<uint64_t>(size) <= task.rlimit(RLIMIT_FSIZE).cur) return {};
  if (static_cast<uint64_t>(size) <= TRY(inode.getattr(task.park())).size) return {};
  (void)send_signal(task, siginfo_from(task, task, SIGXFSZ, SI_USER));
  return Err(Errno::kFBIG);
}

}  // namespace

Result<int64_t> sys_stat(Task& task, UserStr path, UserOut<UserStat> out) {
  return sys_newfstatat(task, Fd{AT_FDCWD}, path, out, 0);
}
Result<int64_t> sys_lstat(Task& task, UserStr path, UserOut<UserStat> out) {
  return sys_newfstatat(task, Fd{AT_FDCWD}, path, out, AT_SYMLINK_NOFOLLOW);
}

Result<int64_t> sys_fstat(Task& task, Fd fd, UserOut<UserStat> out) {
  Ref<File> file = TRY(task.fds().get(fd));
  return put_stat(task, out, TRY(file->getattr(task.park())));
}

Result<int64_t> sys_newfstatat(Task& task, Fd dirfd, UserStr path, UserOut<UserStat> out,
                               int flags) {
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH)) != 0)
    return Err(Errno::kINVAL);
  if ((flags & AT_EMPTY_PATH) != 0 && dirfd >= 0) {  // fstat(3) of today's glibc
    std::string name = TRY(fetch_path(task, path, true));
    if (name.empty()) return sys_fstat(task, dirfd, out);
  }
  Path p = TRY(walk_at(task, dirfd, path, flags));
  return put_stat(task, out, TRY(attr_of(task, p)));
}

Result<int64_t> sys_statx(Task& task, Fd dirfd, UserStr path, int flags, uint32_t mask,
                          UserOut<UserStatx> out) {
  constexpr int kSync = 0x6000;  // AT_STATX_SYNC_TYPE
  constexpr int kKnown = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | kSync;
  if ((mask & 0x80000000u) != 0 || (flags & ~kKnown) != 0 || (flags & kSync) == kSync)
    return Err(Errno::kINVAL);
  FileAttr a;
  std::string name = TRY(fetch_path(task, path, true));
  if (name.empty() && (flags & AT_EMPTY_PATH) != 0 && dirfd >= 0) {
    a = TRY(TRY(task.fds().get(dirfd))->getattr(task.park()));
  } else {
    Path p = TRY(walk_at(task, dirfd, path, flags));
    a = TRY(attr_of(task, p));
    if (p.mount) a.mount_id = (mask & kMntIdUnique) != 0 ? p.mount->unique_id() : p.mount->id;
    if (p.mount && p.dentry == p.mount->root) a.attributes |= 0x2000;  // STATX_ATTR_MOUNT_ROOT
  }
  UserStatx s{};
  s.stx_mask = STATX_BASIC_STATS | (a.btime == FileTime{} ? 0u : mask & STATX_BTIME) |
               ((mask & kMntIdUnique) != 0 ? kMntIdUnique : mask & 0x1000 /* STATX_MNT_ID */);
  s.stx_blksize = a.block_size;
  s.stx_attributes = a.attributes & ~kAttrHasAcl;
  s.stx_attributes_mask = 0x2000 | STATX_ATTR_APPEND | STATX_ATTR_IMMUTABLE;
  s.stx_nlink = a.nlink;
  s.stx_uid = shown_uid(task.cred().user_ns.get(), a.uid);
  s.stx_gid = shown_gid(task.cred().user_ns.get(), a.gid);
  s.stx_mode = static_cast<uint16_t>(a.mode);
  s.stx_ino = a.ino;
  s.stx_size = a.size;
  s.stx_blocks = a.blocks;
  s.stx_atime = to_statx_time(a.atime);
  s.stx_mtime = to_statx_time(a.mtime);
  s.stx_ctime = to_statx_time(a.ctime);
  s.stx_btime = to_statx_time(a.btime);
  s.stx_rdev_major = dev_major(a.rdev);
  s.stx_rdev_minor = dev_minor(a.rdev);
  s.stx_dev_major = dev_major(a.dev);
  s.stx_dev_minor = dev_minor(a.dev);
  s.stx_mnt_id = a.mount_id;
  return zero(out.put(task.park(), task.mm(), s));
}

Result<int64_t> sys_access(Task& task, UserStr path, int mode) {
  return do_access(task, Fd{AT_FDCWD}, path, mode, 0);
}
Result<int64_t> sys_faccessat(Task& task, Fd dirfd, UserStr path, int mode) {
  return do_access(task, dirfd, path, mode, 0);
}
Result<int64_t> sys_faccessat2(Task& task, Fd dirfd, UserStr path, int mode, int flags) {
  return do_access(task, dirfd, path, mode, flags);
}

Result<int64_t> sys_statfs(Task& task, UserStr path, UserOut<UserStatfs> out) {
  return put_statfs(task, TRY(walk_at(task, Fd{AT_FDCWD}, path, 0)), out);
}

Result<int64_t> sys_fstatfs(Task& task, Fd fd, UserOut<UserStatfs> out) {
  Ref<File> file = TRY(task.fds().get(fd));
  if (file->inode() == nullptr) return Err(Errno::kNOSYS);
  return put_statfs(task, file->path(), out);
}

Result<int64_t> sys_readlink(Task& task, UserStr path, UserOut<char> buf, int size) {
  return do_readlink(task, Fd{AT_FDCWD}, path, buf, size);
}
Result<int64_t> sys_readlinkat(Task& task, Fd dirfd, UserStr path, UserOut<char> buf, int size) {
  return do_readlink(task, dirfd, path, buf, size);
}

Result<int64_t> sys_chmod(Task& task, UserStr path, Mode mode) {
  return do_chmod(task, TRY(walk_at(task, Fd{AT_FDCWD}, path, 0)), mode);
}
Result<int64_t> sys_fchmod(Task& task, Fd fd, Mode mode) {
  Ref<File> file = TRY(changeable(task, fd));
  return do_chmod(task, file->path(), mode);
}
Result<int64_t> sys_fchmodat(Task& task, Fd dirfd, UserStr path, Mode mode) {
  return do_chmod(task, TRY(walk_at(task, dirfd, path, 0)), mode);
}
Result<int64_t> sys_fchmodat2(Task& task, Fd dirfd, UserStr path, Mode mode, int flags) {
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0) return Err(Errno::kINVAL);
  return do_chmod(task, TRY(walk_at(task, dirfd, path, flags)), mode);
}

Result<int64_t> sys_chown(Task& task, UserStr path, uint32_t uid, uint32_t gid) {
  return do_chown(task, TRY(walk_at(task, Fd{AT_FDCWD}, path, 0)), uid, gid);
}
Result<int64_t> sys_lchown(Task& task, UserStr path, uint32_t uid, uint32_t gid) {
  return do_chown(task, TRY(walk_at(task, Fd{AT_FDCWD}, path, AT_SYMLINK_NOFOLLOW)), uid, gid);
}
Result<int64_t> sys_fchown(Task& task, Fd fd, uint32_t uid, uint32_t gid) {
  Ref<File> file = TRY(changeable(task, fd));
  return do_chown(task, file->path(), uid, gid);
}
Result<int64_t> sys_fchownat(Task& task, Fd dirfd, UserStr path, uint32_t uid, uint32_t gid,
                             int flags) {
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0) return Err(Errno::kINVAL);
  return do_chown(task, TRY(walk_at(task, dirfd, path, flags)), uid, gid);
}

Result<int64_t> sys_utimensat(Task& task, Fd dirfd, UserStr path, UserAddr times, int flags) {
  Result<Vfs::SetTimes> set = times_now();
  if (times) {
    auto ts = TRY((UserIn<std::array<struct timespec, 2>>{times}.get(task.park(), task.mm())));
    if (ts[0].tv_nsec == UTIME_OMIT && ts[1].tv_nsec == UTIME_OMIT) return 0;
    set = times_from_timespec(ts);  // wrong ones are told when the file has been found
  }
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0) return Err(Errno::kINVAL);
  if (!path) {  // futimens(3)
    if (dirfd == AT_FDCWD) return Err(Errno::kFAULT);
    if (flags != 0) return Err(Errno::kINVAL);
    Ref<File> file = TRY(changeable(task, dirfd));
    return zero(
        task.kernel.vfs.utimens(task.park(), task.fs_context(), file->path(), TRY(std::move(set))));
  }
  Path p = TRY(walk_at(task, dirfd, path, flags));
  return zero(task.kernel.vfs.utimens(task.park(), task.fs_context(), p, TRY(std::move(set))));
}

Result<int64_t> sys_futimesat(Task& task, Fd dirfd, UserStr path, UserAddr times) {
  Vfs::SetTimes set = TRY(fetch_timevals(task, times));
  Path p = TRY(walk_at(task, dirfd, path, 0));
  return zero(task.kernel.vfs.utimens(task.park(), task.fs_context(), p, set));
}

Result<int64_t> sys_utimes(Task& task, UserStr path, UserAddr times) {
  return sys_futimesat(task, Fd{AT_FDCWD}, path, times);
}

Result<int64_t> sys_utime(Task& task, UserStr path, UserAddr times) {
  Vfs::SetTimes set = times_now();
  if (times) {
    auto t = TRY((UserIn<std::array<int64_t, 2>>{times}.get(task.park(), task.mm())));
    set = {};
    set.atime = FileTime{t[0], 0};
    set.mtime = FileTime{t[1], 0};
  }
  Path p = TRY(walk_at(task, Fd{AT_FDCWD}, path, 0));
  return zero(task.kernel.vfs.utimens(task.park(), task.fs_context(), p, set));
}

Result<int64_t> sys_truncate(Task& task, UserStr path, int64_t size) {
  if (size < 0) return Err(Errno::kINVAL);
  Path p = TRY(walk_at(task, Fd{AT_FDCWD}, path, 0));
  // What it is and who asks comes before how long it may become.
  Ref<Inode> inode(p.inode());
  if (is_type(inode->type(), S_IFDIR)) return Err(Errno::kISDIR);
  if (!is_type(inode->type(), S_IFREG)) return Err(Errno::kINVAL);
  TRY(task.kernel.vfs.check_permission(task.park(), *inode, task.cred(), kMayWrite));
  TRY(check_file_size(task, *inode, size));
  return zero(
      task.kernel.vfs.truncate(task.park(), task.fs_context(), p, static_cast<uint64_t>(size)));
}

Result<int64_t> sys_ftruncate(Task& task, Fd fd, int64_t size) {
  if (size < 0) return Err(Errno::kINVAL);
  Ref<File> file = TRY(task.fds().get_io(fd));
  // Pidfds are not open for large sizes (O_LARGEFILE).
  if (pidfd_group(*file)) return Err(size > INT32_MAX ? Errno::kINVAL : Errno::kOPNOTSUPP);
  if (!file->can_write() || file->inode() == nullptr || !is_type(file->inode()->type(), S_IFREG))
    return Err(Errno::kINVAL);
  TRY(check_file_size(task, *file->inode(), size));
  if (file->no_truncate) return Err(Errno::kACCES);
  return zero(file->truncate(task.park(), static_cast<uint64_t>(size)));
}

}  // namespace uk
