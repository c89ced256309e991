#include "syscalls/mqueue.h"

#include <mqueue.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>

#include "syscalls/fs_common.h"
#include "ukernel/fs/mqueue/namespace_queues.h"
#include "ukernel/net/netlink/netlink_socket.h"
#include "ukernel/task/identity.h"

namespace uk {
namespace {

constexpr int64_t kHardMessages = 65536, kHardBytes = 16 << 20;
constexpr uint32_t kMaxPriority = 32768;

struct Queue {
  Ref<File> file;
  MqInode* inode;
};

Result<Queue> queue_of(Task& task, Fd fd) {
  Queue q{TRY(task.fds().get_io(fd)), nullptr};
  auto* mq = dynamic_cast<MqFile*>(q.file.get());
  if (mq == nullptr) return Err(Errno::kBADF);
  q.inode = &mq->queue();
  return q;
}

Result<std::string> fetch_name(Task& task, UserStr name) {
  std::string text = TRY(fetch_path(task, name));
  if (text.size() > kNameMax) return Err(Errno::kNAMETOOLONG);
  if (text == "." || text == ".." || text.find('/') != std::string::npos) return Err(Errno::kACCES);
  return text;
}

// An absolute time on the wall clock.
Result<Deadline> fetch_deadline(Task& task, UserIn<UserTimespec> at) {
  if (!at) return kNever;
  const UserTimespec t = TRY(at.get(task.park(), task.mm()));
  if (t.sec < 0 || t.nsec < 0 || t.nsec >= static_cast<int64_t>(kNsPerSec))
    return Err(Errno::kINVAL);
  constexpr uint64_t kMaxSec = 1ull << 33;
  const uint64_t ns =
      std::min(static_cast<uint64_t>(t.sec), kMaxSec) * kNsPerSec + static_cast<uint64_t>(t.nsec);
  const uint64_t now = task.kernel.clock.realtime_ns();
  return Deadline{task.kernel.clock.monotonic_ns() + (ns > now ? ns - now : 0)};
}

Result<MqAttr> attr_for_new(Task& task, UserIn<MqAttr> attr) {
  const IpcNamespace& ns = task.ipc();
  MqAttr a = {};
  if (!attr) {
    a.max_messages = std::min(ns.mq_msg_default, ns.mq_msg_max);
    a.message_bytes = std::min(ns.mq_msgsize_default, ns.mq_msgsize_max);
    return a;
  }
  a = TRY(attr.get(task.park(), task.mm()));
  const bool privileged = task.cred().has(Cap::kSysResource);
  const int64_t messages = privileged ? kHardMessages : ns.mq_msg_max;
  const int64_t bytes = privileged ? kHardBytes : ns.mq_msgsize_max;
  if (a.max_messages <= 0 || a.message_bytes <= 0 || a.max_messages > messages ||
      a.message_bytes > bytes)
    return Err(Errno::kINVAL);
  return a;
}

uint32_t access_of(int flags) {
  switch (flags & O_ACCMODE) {
    case O_RDONLY:
      return kMayRead;
    case O_WRONLY:
      return kMayWrite;
    default:
      return kMayRead | kMayWrite;
  }
}

Result<Ref<MqInode>> create(Task& task, MqSuper& queues, const std::string& name, uint32_t mode,
                            UserIn<MqAttr> attr) {
  const MqAttr a = TRY(attr_for_new(task, attr));
  if (queues.queues.size() >= static_cast<size_t>(task.ipc().mq_queues_max) &&
      !task.cred().has(Cap::kSysResource))
    return Err(Errno::kNOSPC);
  if (queues.find(name)) return Err(Errno::kEXIST);  // made while we suspended
  FileAttr owner;
  owner.mode = S_IFREG | (mode & 07777 & ~task.fs().umask);
  owner.uid = task.cred().fsuid;
  owner.gid = task.cred().fsgid;
  return queues.create(name, owner, a, task.rlimit(RLIMIT_MSGQUEUE).cur);
}

// SIGEV_THREAD: the C library's thread reads 32 bytes of its own from a netlink socket, of which
// the last says why. `sigev_signo` is the socket, `sigev_value` points to the bytes (mq_notify(2)).
struct CookieSocket {
  static constexpr std::byte kWokenUp{1}, kRemoved{2};
  Ref<Socket> socket;
  std::array<std::byte, 32> bytes{};
  void tell(std::byte why) const {
    std::vector<std::byte> message(bytes.begin(), bytes.end());
    message.back() = why;
    (void)static_cast<NetlinkSocket&>(*socket).deliver(std::move(message));
  }
};

Result<CookieSocket> fetch_cookie(Task& task, const UserSigevent& e) {
  CookieSocket c;
  if (TRY(task.mm().copy_in(task.park(), c.bytes, e.value)) != c.bytes.size())
    return Err(Errno::kFAULT);
  Ref<File> file = TRY(task.fds().get_io(e.signo));
  Socket* socket = socket_of(*file);
  if (socket == nullptr) return Err(Errno::kNOTSOCK);
  if (dynamic_cast<NetlinkSocket*>(socket) == nullptr) return Err(Errno::kINVAL);
  c.socket = Ref<Socket>(socket);
  return c;
}

}  // namespace

Result<int64_t> sys_mq_open(Task& task, UserStr name, OpenFlags flags, Mode mode,
                            UserIn<MqAttr> attr) {
  const std::string text = TRY(fetch_name(task, name));
  Ref<MqSuper> queues = message_queues(task.kernel.vfs, task.ipc());
  Ref<MqInode> inode = queues->find(text);
  if (inode) {
    if ((flags & O_CREAT) != 0 && (flags & O_EXCL) != 0) return Err(Errno::kEXIST);
    if ((flags & O_ACCMODE) == O_ACCMODE) return Err(Errno::kINVAL);
    TRY(task.kernel.vfs.check_permission(task.park(), *inode, task.cred(), access_of(flags)));
  } else {
    if ((flags & O_CREAT) == 0) return Err(Errno::kNOENT);
    inode = TRY(create(task, *queues, text, mode, attr));
  }
  Path path(nullptr, make_ref<Dentry>(nullptr, "/" + text, inode));
  auto file = make_ref<MqFile>(path, flags & (O_ACCMODE | O_NONBLOCK), inode);
  file->cred = task.cred_;
  return install_fd(task, file, true);
}

Result<int64_t> sys_mq_unlink(Task& task, UserStr name) {
  const std::string text = TRY(fetch_name(task, name));
  Ref<MqSuper> queues = message_queues(task.kernel.vfs, task.ipc());
  Ref<MqInode> inode = queues->find(text);
  if (!inode) return Err(Errno::kNOENT);
  // The directory is sticky.
  const FileAttr attr = TRY(inode->getattr(task.park()));
  const Cred& c = task.cred();
  if (attr.uid != c.fsuid && queues->root_attr.uid != c.fsuid && !c.has(Cap::kFowner))
    return Err(Errno::kPERM);
  return zero(queues->unlink(text));
}

Result<int64_t> sys_mq_timedsend(Task& task, Fd fd, UserAddr text, size_t size, uint32_t priority,
                                 UserIn<UserTimespec> at) {
  const Deadline deadline = TRY(fetch_deadline(task, at));
  if (priority >= kMaxPriority) return Err(Errno::kINVAL);
  Queue q = TRY(queue_of(task, fd));
  if (!q.file->can_write()) return Err(Errno::kBADF);
  if (size > static_cast<uint64_t>(q.inode->attr().message_bytes)) return Err(Errno::kMSGSIZE);
  std::string message(size, '\0');
  if (size != 0 && TRY(task.mm().copy_in(task.park(), std::as_writable_bytes(std::span(message)),
                                         text.addr)) != size)
    return Err(Errno::kFAULT);
  return zero(q.inode->send(task.park(), std::move(message), priority, q.file->nonblock(), deadline,
                            {task.tgid(), task.cred().uid}));
}

Result<int64_t> sys_mq_timedreceive(Task& task, Fd fd, UserAddr text, size_t size,
                                    UserOut<uint32_t> priority, UserIn<UserTimespec> at) {
  const Deadline deadline = TRY(fetch_deadline(task, at));
  Queue q = TRY(queue_of(task, fd));
  if (!q.file->can_read()) return Err(Errno::kBADF);
  if (size < static_cast<uint64_t>(q.inode->attr().message_bytes)) return Err(Errno::kMSGSIZE);
  MqInode::Message m = TRY(q.inode->receive(task.park(), q.file->nonblock(), deadline));
  if (priority) TRY(priority.put(task.park(), task.mm(), m.priority));
  TRY(UserOut<char>{text}.put_array(task.park(), task.mm(), std::span<const char>(m.text)));
  return static_cast<int64_t>(m.text.size());
}

Result<int64_t> sys_mq_notify(Task& task, Fd fd, UserIn<UserSigevent> event) {
  UserSigevent e = {};
  if (event) {
    e = TRY(event.get(task.park(), task.mm()));
    if (e.notify != SIGEV_NONE && e.notify != SIGEV_SIGNAL && e.notify != SIGEV_THREAD)
      return Err(Errno::kINVAL);
    if (e.notify == SIGEV_SIGNAL && (e.signo < 1 || e.signo > kSignals)) return Err(Errno::kINVAL);
  }
  CookieSocket cookie;
  if (event && e.notify == SIGEV_THREAD) cookie = TRY(fetch_cookie(task, e));
  Queue q = TRY(queue_of(task, fd));
  MqInode::Notify& notify = q.inode->notify;
  const void* owner = task.fds_.get();
  if (!event) {
    if (notify.owner == owner) q.inode->end_notify();
    return 0;
  }
  if (notify.owner != nullptr) return Err(Errno::kBUSY);
  notify.owner = owner;
  notify.owner_pid = task.tgid();
  notify.kind = e.notify;
  notify.signo = e.notify == SIGEV_SIGNAL ? e.signo : 0;
  if (e.notify == SIGEV_SIGNAL) {
    notify.fire = [group = task.group, e](const MqInode::Sender& from) {
      (void)send_signal_group(
          *group,
          siginfo_sigqueue(
              e.signo, SI_MESGQ, pid_in(*group, from.pid),
              group->leader != nullptr ? shown_uid(*group->leader, from.uid) : from.uid, e.value));
    };
  } else if (e.notify == SIGEV_THREAD) {
    notify.fire = [cookie](const MqInode::Sender&) { cookie.tell(CookieSocket::kWokenUp); };
    notify.removed = [cookie] { cookie.tell(CookieSocket::kRemoved); };
  }
  return 0;
}

Result<int64_t> sys_mq_getsetattr(Task& task, Fd fd, UserIn<MqAttr> to, UserOut<MqAttr> old) {
  MqAttr wanted = {};
  if (to) {
    wanted = TRY(to.get(task.park(), task.mm()));
    if ((wanted.flags & ~O_NONBLOCK) != 0) return Err(Errno::kINVAL);
  }
  Queue q = TRY(queue_of(task, fd));
  MqAttr was = q.inode->attr();
  was.flags = q.file->flags & O_NONBLOCK;
  if (to) q.file->flags = (q.file->flags & ~O_NONBLOCK) | static_cast<int>(wanted.flags);
  if (old) TRY(old.put(task.park(), task.mm(), was));
  return 0;
}

}  // namespace uk
