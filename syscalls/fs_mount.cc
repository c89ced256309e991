#include "syscalls/fs_mount.h"

#include <fcntl.h>
#include <sys/mount.h>

#include <cstring>

#include "syscalls/fs_common.h"
#include "ukernel/vfs/anon_inode.h"
#include "ukernel/vfs/inotify.h"
#include "ukernel/vfs/landlock.h"

namespace uk {
namespace {

constexpr uint64_t kMagicMask = 0xffff0000, kMagic = 0xC0ED0000;
constexpr uint64_t kPropagation = MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE;
constexpr uint64_t kStrictAtime = MS_STRICTATIME;

// mount(2)'s data: at most a page, up to its NUL; the page need not be readable to its end.
Result<std::string> fetch_data(Task& task, UserAddr data) {
  if (!data) return std::string();
  std::string text(kPageSize - 1, '\0');
  size_t n = TRY(task.mm().copy_in(
      task.park(), std::as_writable_bytes(std::span(text.data(), text.size())), data.addr));
  text.resize(std::min(n, strlen(text.c_str())));
  return text;
}

Result<std::string> fetch_optional(Task& task, UserStr user) {
  if (!user) return std::string();
  return user.get(task.park(), task.mm(), kPathMax - 1);
}

uint32_t mount_flags(uint64_t flags) {
  auto kept = static_cast<uint32_t>(flags & kMntKept & ~uint64_t{kMntRelatime});
  if ((flags & (MS_NOATIME | kStrictAtime)) == 0) kept |= kMntRelatime;
  return kept;
}

// MS_REMOUNT without a word about access times keeps what there is.
uint32_t remount_flags(uint64_t flags, const Mount& m) {
  constexpr uint64_t kAtime = MS_NOATIME | MS_NODIRATIME | MS_RELATIME | kStrictAtime;
  const uint32_t wanted = mount_flags(flags);
  if ((flags & kAtime) != 0) return wanted;
  return (wanted & ~kMntAtime) | (m.flags & kMntAtime);
}

Result<> change_propagation(Vfs& vfs, const FsContext& ctx, const Path& at, uint64_t flags) {
  if ((flags & ~(kPropagation | MS_REC | MS_SILENT)) != 0) return Err(Errno::kINVAL);
  const bool recursive = (flags & MS_REC) != 0;
  switch (flags & kPropagation) {
    case MS_SHARED:
      return vfs.set_propagation(ctx, at, Propagation::kShared, recursive);
    case MS_PRIVATE:
      return vfs.set_propagation(ctx, at, Propagation::kPrivate, recursive);
    case MS_SLAVE:
      return vfs.set_propagation(ctx, at, Propagation::kSlave, recursive);
    case MS_UNBINDABLE:
      return vfs.set_propagation(ctx, at, Propagation::kUnbindable, recursive);
    default:
      return Err(Errno::kINVAL);
  }
}

}  // namespace

bool may_mount(const Task& task) {
  return task.cred().has_in(task.mounts().owner.get(), Cap::kSysAdmin) &&
         !landlock_forbids_mounts(task.cred());
}

Result<int64_t> sys_mount(Task& task, UserStr user_source, UserStr user_target, UserStr user_type,
                          Hex raw_flags, UserAddr data) {
  Vfs& vfs = task.kernel.vfs;
  std::string type = TRY(fetch_optional(task, user_type));
  std::string source = TRY(fetch_optional(task, user_source));
  std::string options = TRY(fetch_data(task, data));
  std::string target = TRY(fetch_path(task, user_target));
  FsContext ctx = task.fs_context();
  Path at = TRY(vfs.walk(task.park(), ctx, {}, target, kWalkFollow));
  if (!may_mount(task)) return Err(Errno::kPERM);
  uint64_t flags = raw_flags;
  if ((flags & kMagicMask) == kMagic) flags &= ~kMagicMask;
  if ((flags & MS_REMOUNT) != 0) {
    if (at.mount == nullptr || at.dentry != at.mount->root) return Err(Errno::kINVAL);
    return zero(vfs.remount(task.park(), ctx, at, remount_flags(flags, *at.mount),
                            (flags & MS_BIND) != 0, options));
  }
  if ((flags & MS_BIND) != 0) {
    if (source.empty()) return Err(user_source ? Errno::kNOENT : Errno::kINVAL);
    Path from = TRY(vfs.walk(task.park(), ctx, {}, source, kWalkFollow));
    TRY(vfs.bind(ctx, from, at, (flags & MS_REC) != 0));
    return 0;
  }
  if ((flags & kPropagation) != 0) return zero(change_propagation(vfs, ctx, at, flags));
  if ((flags & MS_MOVE) != 0) {
    if (source.empty()) return Err(user_source ? Errno::kNOENT : Errno::kINVAL);
    Path from = TRY(vfs.walk(task.park(), ctx, {}, source, kWalkFollow));
    return zero(vfs.move_mount(ctx, from, at));
  }
  if (!user_type) return Err(Errno::kINVAL);
  TRY(vfs.mount(task.park(), ctx, at, type, source.empty() ? "none" : source, options,
                mount_flags(flags)));
  return 0;
}

Result<int64_t> sys_umount2(Task& task, UserStr user, int flags) {
  if ((flags & ~(MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW)) != 0) {
    return Err(Errno::kINVAL);
  }
  std::string path = TRY(fetch_path(task, user));
  FsContext ctx = task.fs_context();
  Path at = TRY(task.kernel.vfs.walk(task.park(), ctx, {}, path,
                                     (flags & UMOUNT_NOFOLLOW) != 0 ? 0u : kWalkFollow));
  if (!may_mount(task)) return Err(Errno::kPERM);
  if (at.dentry != at.mount->root) return Err(Errno::kINVAL);
  if ((flags & MNT_EXPIRE) != 0 && (flags & (MNT_FORCE | MNT_DETACH)) != 0) {
    return Err(Errno::kINVAL);
  }
  return zero(task.kernel.vfs.umount(task.park(), ctx, at, flags));
}

Result<int64_t> sys_pivot_root(Task& task, UserStr user_new, UserStr user_old) {
  if (!may_mount(task)) return Err(Errno::kPERM);
  std::string new_name = TRY(fetch_path(task, user_new));
  std::string old_name = TRY(fetch_path(task, user_old));
  FsContext ctx = task.fs_context();
  Vfs& vfs = task.kernel.vfs;
  constexpr uint32_t kDir = kWalkFollow | kWalkDirectory;
  Path to = TRY(vfs.walk(task.park(), ctx, {}, new_name, kDir));
  Path put_old = TRY(vfs.walk(task.park(), ctx, {}, old_name, kDir));
  TRY(vfs.pivot_root(ctx, to, put_old));
  // Everybody who stood on the old root stands on the new one.
  task.kernel.pids.each_task([&](Task& t) {
    if (!t.fs_) return;
    if (t.fs_->root == ctx.root) t.fs_->root = to;
    if (t.fs_->cwd == ctx.root) t.fs_->cwd = to;
  });
  return 0;
}

Result<int64_t> sys_inotify_init(Task& task) { return sys_inotify_init1(task, OpenFlags{0}); }

Result<int64_t> sys_inotify_init1(Task& task, OpenFlags flags) {
  if ((flags & ~(IN_NONBLOCK | IN_CLOEXEC)) != 0) return Err(Errno::kINVAL);
  auto file = make_ref<InotifyFile>(make_anon_path("inotify"), flags & O_NONBLOCK);
  return install_fd(task, std::move(file), (flags & IN_CLOEXEC) != 0);
}

Result<int64_t> sys_inotify_add_watch(Task& task, Fd fd, UserStr user, Hex mask) {
  constexpr uint32_t kKnown = IN_ALL_EVENTS | IN_ONLYDIR | IN_DONT_FOLLOW | IN_EXCL_UNLINK |
                              IN_MASK_CREATE | IN_MASK_ADD | IN_ISDIR | IN_ONESHOT | IN_UNMOUNT |
                              IN_Q_OVERFLOW | IN_IGNORED;
  auto want = static_cast<uint32_t>(mask.value);
  if ((want & ~kKnown) != 0 || want == 0) return Err(Errno::kINVAL);
  Ref<File> file = TRY(task.fds().get_io(fd));
  if ((want & IN_MASK_ADD) != 0 && (want & IN_MASK_CREATE) != 0) return Err(Errno::kINVAL);
  auto* inotify = dynamic_cast<InotifyFile*>(file.get());
  if (inotify == nullptr) return Err(Errno::kINVAL);
  std::string path = TRY(fetch_path(task, user));
  FsContext ctx = task.fs_context();
  Path p = TRY(task.kernel.vfs.walk(
      task.park(), ctx, {}, path,
      ((want & IN_DONT_FOLLOW) != 0 ? 0u : kWalkFollow) |
          ((want & IN_ONLYDIR) != 0 ? static_cast<uint32_t>(kWalkDirectory) : 0u)));
  Ref<Inode> inode = p.dentry->inode_ref();
  TRY(task.kernel.vfs.check_permission(task.park(), *inode, task.cred(), kMayRead));
  const uint64_t ino = TRY(inode->getattr(task.park())).ino;
  return TRY(inotify->add_watch(std::move(inode), want, ino));
}

Result<int64_t> sys_inotify_rm_watch(Task& task, Fd fd, int wd) {
  Ref<File> file = TRY(task.fds().get_io(fd));
  auto* inotify = dynamic_cast<InotifyFile*>(file.get());
  if (inotify == nullptr) return Err(Errno::kINVAL);
  return zero(inotify->remove_watch(wd));
}

}  // namespace uk
