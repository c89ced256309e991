// fcntl(2) and flock(2).
#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>

#include "syscalls/fs_async.h"
#include "syscalls/fs_common.h"
#include "syscalls/fs_open.h"
#include "ukernel/fs/pipefs/pipe.h"
#include "ukernel/task/pid_ns.h"
#include "ukernel/vfs/anon_inode.h"
#include "ukernel/vfs/file_locks.h"

namespace uk {
namespace {

constexpr int kCreatedQuery = 1024 + 4;  // F_CREATED_QUERY: was the file made by this open?

struct UserFlock {
  int16_t type;
  int16_t whence;
  int32_t pad;
  int64_t start;
  int64_t len;
  int32_t pid;
  int32_t pad2;
};
static_assert(sizeof(UserFlock) == 32);

struct UserOwner {
  int32_t type;
  int32_t pid;
};

FileLocks& locks_of(Inode& inode) {
  if (!inode.locks) inode.locks = std::make_unique<FileLocks>();
  return *inode.locks;
}

// The byte range of a struct flock (fcntl(2)): kINVAL, kOVERFLOW.
Result<FileLock> lock_range(Task& task, File& file, const UserFlock& f) {
  int64_t base = 0;
  if (f.whence == SEEK_CUR) {
    base = static_cast<int64_t>(file.pos);
  } else if (f.whence == SEEK_END) {
    base = static_cast<int64_t>(TRY(file.getattr(task.park())).size);
  } else if (f.whence != SEEK_SET) {
    return Err(Errno::kINVAL);
  }
  int64_t start = 0, end = 0;
  if (__builtin_add_overflow(base, f.start, &start)) return Err(Errno::kOVERFLOW);
  if (start < 0) return Err(Errno::kINVAL);
  FileLock lock;
  if (f.len > 0) {
    if (__builtin_add_overflow(start, f.len - 1, &end)) return Err(Errno::kOVERFLOW);
    lock.end = static_cast<uint64_t>(end);
  } else if (f.len < 0) {
    if (start + f.len < 0) return Err(Errno::kINVAL);
    lock.end = static_cast<uint64_t>(start - 1);
    start += f.len;
  }
  lock.start = static_cast<uint64_t>(start);
  if (lock.end == INT64_MAX) lock.end = UINT64_MAX;  // to the last possible byte: to the end
  return lock;
}

Result<int64_t> record_lock(Task& task, File& file, int cmd, UserInOut<UserFlock> user) {
  UserFlock f = TRY(user.get(task.park(), task.mm()));
  const bool ofd = cmd == F_OFD_GETLK || cmd == F_OFD_SETLK || cmd == F_OFD_SETLKW;
  Inode* inode = file.inode();
  if (inode == nullptr) return Err(Errno::kINVAL);
  // In Linux's order: a type that cannot be asked about, the range, the type, the rest.
  if (cmd == F_GETLK && f.type != F_RDLCK && f.type != F_WRLCK) return Err(Errno::kINVAL);
  FileLock lock = TRY(lock_range(task, file, f));
  lock.kind = ofd ? LockKind::kOfd : LockKind::kPosix;
  lock.owner = ofd ? static_cast<const void*>(&file) : static_cast<const void*>(&task.fds());
  lock.pid = ofd ? -1 : task.tgid();
  lock.exclusive = f.type == F_WRLCK;
  if (f.type != F_RDLCK && f.type != F_WRLCK && f.type != F_UNLCK) return Err(Errno::kINVAL);
  if (cmd == F_GETLK || cmd == F_OFD_GETLK) {
    if (ofd && f.pid != 0) return Err(Errno::kINVAL);
    const FileLocks& locks = locks_of(*inode);
    // F_OFD_GETLK with F_UNLCK asks for one's own (since Linux 6.6).
    auto blocker = f.type == F_UNLCK ? locks.owned(lock) : locks.conflict(lock);
    if (!blocker) {
      f.type = F_UNLCK;
    } else {
      f.type = blocker->exclusive ? F_WRLCK : F_RDLCK;
      f.whence = SEEK_SET;
      f.start = static_cast<int64_t>(blocker->start);
      f.len =
          blocker->end == UINT64_MAX ? 0 : static_cast<int64_t>(blocker->end - blocker->start + 1);
      f.pid = blocker->pid == -1 ? -1 : shown_pid(task, blocker->pid);
    }
    return zero(user.put(task.park(), task.mm(), f));
  }
  if (f.type != F_UNLCK && (lock.exclusive ? !file.can_write() : !file.can_read())) {
    return Err(Errno::kBADF);
  }
  if (ofd && f.pid != 0) return Err(Errno::kINVAL);
  if (f.type == F_UNLCK) {
    if (inode->locks) inode->locks->unlock(lock.kind, lock.owner, lock.start, lock.end);
    return 0;
  }
  const bool wait = cmd == F_SETLKW || cmd == F_OFD_SETLKW;
  Ref<Inode> hold(inode);
  return zero(locks_of(*inode).set(task.park(), lock, wait, task.kernel.vfs.lock_graph()));
}

Result<int64_t> set_flags(Task& task, File& file, int fd, int wanted) {
  constexpr int kChangeable = O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME;
  if ((wanted & ~file.flags & O_NOATIME) != 0 && file.inode() != nullptr &&
      !task.cred().has(Cap::kFowner) && TRY(file.getattr(task.park())).uid != task.cred().fsuid) {
    return Err(Errno::kPERM);
  }
  if ((~wanted & file.flags & O_APPEND) != 0 && file.inode() != nullptr &&
      (file.inode()->inode_flags() & kInodeAppend) != 0) {
    return Err(Errno::kPERM);
  }
  // Only what open(2) found to be fit for it, and pipes, where it means packets.
  if ((wanted & ~file.flags & O_DIRECT) != 0 && pipe_of(file) == nullptr) {
    const uint32_t type = file.path().mount != nullptr ? file.inode()->type() : 0;
    if (type != S_IFREG && type != S_IFBLK) return Err(Errno::kINVAL);
  }
  file.flags = (file.flags & ~kChangeable) | (wanted & kChangeable);
  if (((file.flags ^ wanted) & O_ASYNC) != 0) set_async(task, file, fd, (wanted & O_ASYNC) != 0);
  return 0;
}

// F_OWNER_TID 0, F_OWNER_PID 1, F_OWNER_PGRP 2.
Result<int64_t> set_owner(Task& task, File& file, int type, int id) {
  if (id < 0) return Err(Errno::kINVAL);
  if (id != 0) {
    id = kernel_pid(task, id);
    const PidTable& pids = task.kernel.pids;
    bool found = type == 0   ? pids.task(id) != nullptr
                 : type == 1 ? pids.group(id) != nullptr
                             : static_cast<bool>(pids.pgrp(id));
    if (!found) return Err(Errno::kSRCH);
  }
  file.owner_type = type;
  file.owner_id = id;
  file.owner_cred = task.cred_;
  return 0;
}

Result<int64_t> pipe_size(Task& task, File& file, bool set, uint64_t wanted) {
  Pipe* pipe = pipe_of(file);
  if (pipe == nullptr) return Err(Errno::kBADF);
  if (!set) return static_cast<int64_t>(pipe->capacity());
  constexpr uint64_t kBeyondAll = uint64_t{1} << 31;
  wanted = std::max<uint64_t>(static_cast<uint32_t>(wanted), kPageSize);
  if (wanted > kBeyondAll) return Err(Errno::kINVAL);
  if (wanted > task.kernel.settings.pipe_max_size && !task.cred().has(Cap::kSysResource))
    return Err(Errno::kPERM);
  return static_cast<int64_t>(TRY(pipe->set_capacity(static_cast<uint32_t>(wanted))));
}

}  // namespace

Result<int64_t> sys_fcntl(Task& task, Fd fd, int cmd, uint64_t arg) {
  Ref<File> file = TRY(task.fds().get(fd));
  switch (cmd) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC: {
      if (arg >= task.rlimit(RLIMIT_NOFILE).cur) return Err(Errno::kINVAL);
      return install_fd(task, std::move(file), cmd == F_DUPFD_CLOEXEC, static_cast<int>(arg));
    }
    case F_GETFD:
      return TRY(task.fds().cloexec(fd)) ? FD_CLOEXEC : 0;
    case F_SETFD:
      return zero(task.fds().set_cloexec(fd, (arg & FD_CLOEXEC) != 0));
    case kCreatedQuery:
      return file->created;
    case F_GETFL:
      return shown_flags(*file);
    default:
      break;
  }
  if ((file->flags & O_PATH) != 0) return Err(Errno::kBADF);
  switch (cmd) {
    case F_SETFL:
      return set_flags(task, *file, fd, static_cast<int>(arg));
    case F_GETLK:
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_GETLK:
    case F_OFD_SETLK:
    case F_OFD_SETLKW: {
      UserInOut<UserFlock> user;
      user.addr = arg;
      return record_lock(task, *file, cmd, user);
    }
    case F_SETOWN: {
      int id = static_cast<int>(arg);
      if (id == INT32_MIN) return Err(Errno::kINVAL);
      return id < 0 ? set_owner(task, *file, 2, -id) : set_owner(task, *file, 1, id);
    }
    case F_GETOWN:
      return file->owner_type == 2 ? -shown_pid(task, file->owner_id)
                                   : shown_pid(task, file->owner_id);
    case F_SETOWN_EX: {
      UserOwner o = TRY((UserIn<UserOwner>{{arg}}.get(task.park(), task.mm())));
      if (o.type < 0 || o.type > 2) return Err(Errno::kINVAL);
      return set_owner(task, *file, o.type, o.pid);
    }
    case F_GETOWN_EX:
      return zero(UserOut<UserOwner>{{arg}}.put(
          task.park(), task.mm(), {file->owner_type, shown_pid(task, file->owner_id)}));
    case F_SETSIG:
      if (arg > kSignals) return Err(Errno::kINVAL);
      file->owner_signal = static_cast<int>(arg);
      return 0;
    case F_GETSIG:
      return file->owner_signal;
    case F_SETPIPE_SZ:
      return pipe_size(task, *file, true, arg);
    case F_GETPIPE_SZ:
      return pipe_size(task, *file, false, 0);
    case F_SETLEASE:
      return zero(set_lease(task, *file, fd, static_cast<int>(arg)));
    case F_GETLEASE:
      return file->inode() != nullptr && file->inode()->locks != nullptr
                 ? file->inode()->locks->leases.get(*file)
                 : F_UNLCK;
    case F_NOTIFY:
      return zero(set_dnotify(task, *file, fd, static_cast<uint32_t>(arg)));
    case F_ADD_SEALS:
      if (file->inode() == nullptr) return Err(Errno::kINVAL);
      if (!file->can_write()) return Err(Errno::kPERM);
      return zero(file->inode()->add_seals(static_cast<uint32_t>(arg)));
    case F_GET_SEALS:
      if (file->inode() == nullptr) return Err(Errno::kINVAL);
      return TRY(file->inode()->seals());
    default:
      return Err(Errno::kINVAL);
  }
}

Result<int64_t> sys_flock(Task& task, Fd fd, int operation) {
  const int what = operation & ~LOCK_NB;
  if (what != LOCK_SH && what != LOCK_EX && what != LOCK_UN) return Err(Errno::kINVAL);
  Ref<File> file = TRY(task.fds().get_io(fd));
  Inode* inode = file->inode();
  if (inode == nullptr) return Err(Errno::kBADF);
  if (what == LOCK_UN) {
    if (inode->locks) inode->locks->drop_owner(LockKind::kFlock, file.get());
    return 0;
  }
  FileLock lock;
  lock.kind = LockKind::kFlock;
  lock.exclusive = what == LOCK_EX;
  lock.owner = file.get();
  lock.pid = task.tgid();
  return zero(locks_of(*inode).set(task.park(), lock, (operation & LOCK_NB) == 0,
                                   task.kernel.vfs.lock_graph()));
}

}  // namespace uk
