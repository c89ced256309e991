#include "syscalls/fs_async.h"

#include <fcntl.h>
#include <signal.h>

#include "ukernel/kernel.h"
#include "ukernel/vfs/anon_inode.h"
#include "ukernel/vfs/file_locks.h"
#include "ukernel/vfs/inotify.h"

namespace uk {
namespace {

constexpr uint32_t kReadEvents = POLLIN | POLLRDNORM | POLLPRI | POLLHUP | POLLERR | POLLRDHUP;
constexpr uint32_t kWriteEvents = POLLOUT | POLLWRNORM | POLLERR;

// As kill(2) by whoever made itself the owner.
bool may_reach(const Cred& from, const Task& to) {
  const Cred& b = to.cred();
  return from.euid == 0 || from.euid == b.suid || from.euid == b.uid || from.uid == b.suid ||
         from.uid == b.uid;
}

// Sends `info` to whoever owns the file, if that was allowed to signal it when it became the owner.
void signal_owner(Kernel& kernel, const File& file, const SigInfo& info) {
  auto allowed = [&](const Task& to) {
    return file.owner_cred != nullptr && may_reach(*file.owner_cred, to);
  };
  auto send_group = [&](ThreadGroup* g) {
    if (g != nullptr && g->leader != nullptr && allowed(*g->leader)) {
      (void)send_signal_group(*g, info);
    }
  };
  if (file.owner_id == 0) return;
  if (file.owner_type == 0) {
    Task* t = kernel.pids.task(file.owner_id);
    if (t != nullptr && allowed(*t)) (void)send_signal(*t, info);
  } else if (file.owner_type == 1) {
    send_group(kernel.pids.group(file.owner_id));
  } else if (Ref<ProcessGroup> group = kernel.pids.pgrp(file.owner_id)) {
    for (ThreadGroup* m : std::vector<ThreadGroup*>(group->members)) send_group(m);
  }
}

SigInfo owner_info(const File& file, int fd, int code, uint32_t band) {
  if (file.owner_signal == 0) return siginfo_kernel(SIGIO);
  SigInfo info;
  info.signo = file.owner_signal;
  info.code = code;
  constexpr size_t kBandAt = 16, kFdAt = 24;
  siginfo_set_u64(info, kBandAt, band);
  siginfo_set_u32(info, kFdAt, static_cast<uint32_t>(fd));
  return info;
}

class AsyncWatch final : public FileAsync, public Waiter {
 public:
  AsyncWatch(Kernel& kernel, File& file, int fd) : kernel_(kernel), file_(file), fd_(fd) {}

  void on_wake(uint32_t events) override {
    uint32_t wanted =
        (file_.can_read() ? kReadEvents : 0u) | (file_.can_write() ? kWriteEvents : 0u);
    // A waker that does not say: what is true now.
    uint32_t true_now = (events == ~0u ? file_.ready() : events) & wanted;
    if (true_now == 0) return;
    int code = (true_now & POLLHUP) != 0   ? POLL_HUP
               : (true_now & POLLERR) != 0 ? POLL_ERR
               : (true_now & POLLIN) != 0  ? POLL_IN
                                           : POLL_OUT;
    signal_owner(kernel_, file_, owner_info(file_, fd_, code, true_now));
  }

 private:
  Kernel& kernel_;
  File& file_;
  int fd_;
};

// DN_* as the events of inotify.
uint32_t dnotify_mask(uint32_t dn) {
  uint32_t in = 0;
  if ((dn & DN_ACCESS) != 0) in |= IN_ACCESS;
  if ((dn & DN_MODIFY) != 0) in |= IN_MODIFY;
  if ((dn & DN_CREATE) != 0) in |= IN_CREATE | IN_MOVED_TO;
  if ((dn & DN_DELETE) != 0) in |= IN_DELETE | IN_MOVED_FROM;
  if ((dn & DN_RENAME) != 0) in |= kRenamedWithin;
  if ((dn & DN_ATTRIB) != 0) in |= IN_ATTRIB;
  return in;
}

class DnotifyWatch final : public FileAsync, public InodeWatch {
 public:
  DnotifyWatch(Kernel& kernel, File& file, int fd, uint32_t events)
      : kernel_(kernel), file_(file), fd_(fd), many_((events & DN_MULTISHOT) != 0) {
    mask = dnotify_mask(events);
  }
  void event(uint32_t, uint32_t, std::string_view) override {
    if (!many_) unlink();
    signal_owner(kernel_, file_, owner_info(file_, fd_, POLL_MSG, POLLIN | POLLRDNORM | POLLMSG));
  }
  void gone(uint32_t) override {}

 private:
  Kernel& kernel_;
  File& file_;
  int fd_;
  bool many_;
};

}  // namespace

void signal_urgent(Kernel& kernel, const File& file) {
  signal_owner(kernel, file, siginfo_kernel(SIGURG));
}

Result<> set_dnotify(Task& task, File& file, int fd, uint32_t events) {
  Inode* dir = file.inode();
  if (dir == nullptr || !is_type(dir->type(), S_IFDIR)) return Err(Errno::kNOTDIR);
  if ((events & ~static_cast<uint32_t>(DN_MULTISHOT)) == 0) {
    file.dnotify.reset();
    return {};
  }
  file.owner_type = 1;
  file.owner_id = task.tgid();
  file.owner_cred = task.cred_;
  auto watch = std::make_unique<DnotifyWatch>(task.kernel, file, fd, events);
  if (dir->watches == nullptr) dir->watches = std::make_unique<InodeWatches>();
  dir->watches->add(*watch);
  file.dnotify = std::move(watch);
  return {};
}

Result<> set_lease(Task& task, File& file, int fd, int type) {
  Inode* inode = file.inode();
  if (type != F_RDLCK && type != F_WRLCK && type != F_UNLCK) return Err(Errno::kINVAL);
  if (inode == nullptr) return Err(Errno::kINVAL);
  const uint32_t owner = TRY(file.getattr(task.park())).uid;
  if (owner != task.cred().fsuid && !task.cred().has(Cap::kLease)) return Err(Errno::kACCES);
  if (!is_type(inode->type(), S_IFREG)) return Err(Errno::kINVAL);
  if (inode->locks == nullptr) inode->locks = std::make_unique<FileLocks>();
  FileLeases& leases = inode->locks->leases;
  // A lease has its owner told by the means of O_ASYNC, and so it shows.
  if (type == F_UNLCK) {
    TRY(leases.remove(file));
    file.flags &= ~O_ASYNC;
    return {};
  }
  Kernel& kernel = task.kernel;
  TRY(leases.set(file, *inode, type, [&kernel, &file, fd] {
    signal_owner(kernel, file, owner_info(file, fd, POLL_MSG, POLLIN | POLLRDNORM | POLLMSG));
  }));
  file.flags |= O_ASYNC;
  if (file.owner_id == 0) {  // whoever takes the lease hears of it
    file.owner_type = 1;
    file.owner_id = task.tgid();
    file.owner_cred = task.cred_;
  }
  return {};
}

bool has_async(const File& file) {
  const bool tells = !is_anonymous(file) || dynamic_cast<const InotifyFile*>(&file) != nullptr;
  return tells && const_cast<File&>(file).poll_queue() != nullptr;
}

void set_async(Task& task, File& file, int fd, bool on) {
  if (!has_async(file)) return;  // what open(2) said stays, and means nothing
  WaitQueue* queue = file.poll_queue();
  if (!on) {
    file.flags &= ~O_ASYNC;
    file.async.reset();
    return;
  }
  file.flags |= O_ASYNC;
  auto watch = std::make_unique<AsyncWatch>(task.kernel, file, fd);
  queue->add(*watch);
  file.async = std::move(watch);
}

}  // namespace uk
