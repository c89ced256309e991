#include "syscalls/fanotify.h"

#include <sys/stat.h>

#include "syscalls/fs_common.h"
#include "ukernel/task/current.h"
#include "ukernel/vfs/anon_inode.h"
#include "ukernel/vfs/fanotify.h"

namespace uk {
namespace {

constexpr uint32_t kIds = FAN_REPORT_FID | FAN_REPORT_DIR_FID | FAN_REPORT_NAME;
constexpr uint32_t kPrivileged = FAN_CLASS_CONTENT | FAN_CLASS_PRE_CONTENT | FAN_UNLIMITED_QUEUE |
                                 FAN_UNLIMITED_MARKS | FAN_REPORT_TID;
constexpr uint32_t kInitFlags = FAN_CLOEXEC | FAN_NONBLOCK | kPrivileged | kIds;
constexpr uint32_t kEventFlags = FAN_ONDIR | FAN_EVENT_ON_CHILD;
// With a path that can be opened; the others need a group that reports ids.
constexpr uint32_t kPathEvents = FAN_ACCESS | FAN_MODIFY | FAN_CLOSE | FAN_OPEN | FAN_OPEN_EXEC;
constexpr uint32_t kDirEvents = FAN_CREATE | FAN_DELETE | FAN_MOVE;
constexpr uint32_t kEvents =
    kPathEvents | kDirEvents | FAN_ATTRIB | FAN_MOVE_SELF | FAN_DELETE_SELF;
constexpr uint32_t kMarkTypes = FAN_MARK_MOUNT | FAN_MARK_FILESYSTEM;
constexpr uint32_t kIgnore = FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORE;
constexpr uint32_t kMarkFlags = FAN_MARK_ADD | FAN_MARK_REMOVE | FAN_MARK_FLUSH | kMarkTypes |
                                FAN_MARK_DONT_FOLLOW | FAN_MARK_ONLYDIR | kIgnore |
                                FAN_MARK_IGNORED_SURV_MODIFY | FAN_MARK_EVICTABLE;

// Opens what an event is about for the task that reads it.
Result<int> open_for_reader(Kernel& kernel, Park& park, const Path& path, int flags) {
  Task* task = current_task(kernel.reactor);
  if (task == nullptr) return Err(Errno::kBADF);
  Ref<File> file = TRY(kernel.vfs.open_path(park, path, flags & ~O_CLOEXEC, task->cred()));
  file->quiet = true;
  return static_cast<int>(TRY(install_fd(*task, std::move(file), (flags & O_CLOEXEC) != 0)));
}

std::shared_ptr<Fanotify> fanotify(Kernel& kernel) {
  std::shared_ptr<Fanotify> all = fanotify_of(kernel.vfs);
  if (!all->current) {
    all->current = [&reactor = kernel.reactor]() -> Fanotify::Caller {
      const Task* t = current_task(reactor);
      return t == nullptr ? Fanotify::Caller{} : Fanotify::Caller{t->tgid(), t->tid};
    };
    all->open_fd = [&kernel](Park& park, const Path& path, int flags) {
      return open_for_reader(kernel, park, path, flags);
    };
  }
  return all;
}

// What the mark is to be on: the path, or (no path given) what `dirfd` is open on.
Result<Path> marked(Task& task, Fd dirfd, UserStr user, uint32_t flags) {
  Path path;
  if (user.addr == 0) {
    path = TRY(task.fds().get_io(dirfd))->path();
  } else {
    path = TRY(walk_at(task, dirfd, user, 0, (flags & FAN_MARK_DONT_FOLLOW) == 0));
  }
  if (path.inode() == nullptr) return Err(Errno::kNOENT);
  if ((flags & FAN_MARK_ONLYDIR) != 0 && path.inode()->type() != S_IFDIR)
    return Err(Errno::kNOTDIR);
  TRY(task.kernel.vfs.check_permission(task.park(), *path.dentry->inode_ref(), task.cred(),
                                       kMayRead));
  return path;
}

// What the flags and the mask say by themselves.
Result<> check(const FanotifyFile& group, FanotifyFile::On on, uint32_t flags, uint32_t mask) {
  if (!group.privileged() && on != FanotifyFile::On::kInode) return Err(Errno::kPERM);
  if ((flags & FAN_MARK_EVICTABLE) != 0 && on != FanotifyFile::On::kInode)
    return Err(Errno::kINVAL);
  const bool needs_ids = (mask & ~(kPathEvents | kEventFlags)) != 0;
  if (needs_ids && (!group.reports_ids() || on == FanotifyFile::On::kMount))
    return Err(Errno::kINVAL);
  return {};
}

Result<> check_add(const FanotifyFile& group, const Path& path,
                   const FanotifyFile::Change& change) {
  const bool whole = change.on != FanotifyFile::On::kInode;
  const bool is_dir = path.inode()->type() == S_IFDIR;
  if (whole && path.mount == nullptr) return Err(Errno::kINVAL);
  if (whole && group.reports_ids() && !path.inode()->sb().keeps_names())
    return Err(Errno::kOPNOTSUPP);
  if ((change.flags & FAN_MARK_IGNORE) == 0) return {};
  if (!whole && !is_dir && (change.mask & (kDirEvents | kEventFlags)) != 0)
    return Err(Errno::kNOTDIR);
  if ((change.flags & FAN_MARK_IGNORED_SURV_MODIFY) == 0 && (whole || is_dir))
    return Err(whole ? Errno::kINVAL : Errno::kISDIR);
  return {};
}

Result<FanotifyFile::On> mark_type(uint32_t flags) {
  switch (flags & kMarkTypes) {
    case FAN_MARK_INODE:
      return FanotifyFile::On::kInode;
    case FAN_MARK_MOUNT:
      return FanotifyFile::On::kMount;
    case FAN_MARK_FILESYSTEM:
      return FanotifyFile::On::kFilesystem;
    default:
      return Err(Errno::kINVAL);
  }
}

}  // namespace

Result<int64_t> sys_fanotify_init(Task& task, Hex raw, Hex raw_event_flags) {
  const auto flags = static_cast<uint32_t>(raw.value);
  const auto event_flags = static_cast<int>(raw_event_flags.value);
  const bool privileged = task.cred().has(Cap::kSysAdmin);
  if (!privileged && ((flags & kPrivileged) != 0 || (flags & kIds) == 0)) return Err(Errno::kPERM);
  if ((flags & ~kInitFlags) != 0) return Err(Errno::kINVAL);
  constexpr int kOpenFlags = O_ACCMODE | O_APPEND | O_NONBLOCK | O_SYNC | O_DSYNC | O_CLOEXEC |
                             O_LARGEFILE | 0100000 | O_NOATIME;
  if ((event_flags & ~kOpenFlags) != 0) return Err(Errno::kINVAL);
  if ((event_flags & O_ACCMODE) == O_ACCMODE) return Err(Errno::kINVAL);
  constexpr uint32_t kClass = FAN_CLASS_CONTENT | FAN_CLASS_PRE_CONTENT;
  if ((flags & kClass) == kClass) return Err(Errno::kINVAL);
  if ((flags & kIds) != 0 && (flags & kClass) != 0) return Err(Errno::kINVAL);
  if ((flags & FAN_REPORT_NAME) != 0 && (flags & FAN_REPORT_DIR_FID) == 0)
    return Err(Errno::kINVAL);
  if (fanotify(task.kernel)->groups_of(task.cred().uid) >= FanotifyFile::kMaxGroups)
    return Err(Errno::kMFILE);
  auto file = make_ref<FanotifyFile>(task.kernel.vfs, make_anon_path("[fanotify]"), flags,
                                     event_flags, privileged, task.cred().uid);
  return install_fd(task, std::move(file), (flags & FAN_CLOEXEC) != 0);
}

Result<int64_t> sys_fanotify_mark(Task& task, Fd fd, Hex raw_flags, Hex raw_mask, Fd dirfd,
                                  UserStr user) {
  const auto flags = static_cast<uint32_t>(raw_flags.value);
  uint64_t mask = raw_mask.value;
  constexpr uint32_t kCommands = FAN_MARK_ADD | FAN_MARK_REMOVE | FAN_MARK_FLUSH;
  const uint32_t command = flags & kCommands;
  if ((flags & ~kMarkFlags) != 0) return Err(Errno::kINVAL);
  const FanotifyFile::On on = TRY(mark_type(flags));
  if (command == FAN_MARK_FLUSH) {
    if ((flags & ~(kMarkTypes | FAN_MARK_FLUSH)) != 0) return Err(Errno::kINVAL);
  } else if ((command != FAN_MARK_ADD && command != FAN_MARK_REMOVE) || mask == 0) {
    return Err(Errno::kINVAL);
  }
  if ((mask & ~static_cast<uint64_t>(kEvents | kEventFlags)) != 0) return Err(Errno::kINVAL);
  if ((flags & kIgnore) == kIgnore) return Err(Errno::kINVAL);
  FanotifyFile::Change change{.on = on, .flags = flags, .mask = static_cast<uint32_t>(mask)};
  if ((flags & kIgnore) == FAN_MARK_IGNORED_MASK) {
    change.mask &= ~kEventFlags;  // of no effect there
    change.unseen = kEventFlags;
  }
  Ref<File> file = TRY(task.fds().get_io(fd));
  auto* group = dynamic_cast<FanotifyFile*>(file.get());
  if (group == nullptr) return Err(Errno::kINVAL);
  TRY(check(*group, on, flags, change.mask));
  if (command == FAN_MARK_FLUSH) {
    group->flush(on);
    return 0;
  }
  const Path path = TRY(marked(task, dirfd, user, flags));
  if (command == FAN_MARK_ADD) TRY(check_add(*group, path, change));
  if (on != FanotifyFile::On::kInode || path.inode()->type() != S_IFDIR) {
    change.mask &= ~static_cast<uint32_t>(FAN_EVENT_ON_CHILD);
    change.unseen |= FAN_EVENT_ON_CHILD;
  }
  if (command == FAN_MARK_REMOVE) return zero(group->remove(path, change));
  // What is being written would not be ignored for long.
  if ((flags & FAN_MARK_IGNORED_MASK) != 0 && (flags & FAN_MARK_IGNORED_SURV_MODIFY) == 0 &&
      on == FanotifyFile::On::kInode && path.inode()->writers > 0)
    return 0;
  const uint64_t ino = TRY(path.dentry->inode_ref()->getattr(task.park())).ino;
  return zero(group->add(path, ino, change));
}

}  // namespace uk
