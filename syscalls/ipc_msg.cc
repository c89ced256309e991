// msgget(2), msgsnd(2), msgrcv(2), msgctl(2).
#include <sys/msg.h>

#include <algorithm>

#include "syscalls/fs_common.h"
#include "syscalls/ipc.h"
#include "syscalls/ipc_common.h"
#include "ukernel/task/pid_ns.h"

namespace uk {
namespace {

constexpr uint64_t kMsgCopy = 040000;  // MSG_COPY
constexpr int kSegmentBytes = 16, kSegments = 0xffff;

Result<int64_t> info(Task& task, int command, UserAddr arg) {
  const IpcNamespace& ns = task.ipc();
  msginfo i = {};
  i.msgmni = ns.msg_max_queues;
  i.msgmax = ns.msg_max_bytes;
  i.msgmnb = ns.msg_queue_bytes;
  i.msgssz = kSegmentBytes;
  i.msgseg = static_cast<unsigned short>(kSegments);
  i.msgmap = ns.msg_queue_bytes;
  i.msgpool = ns.msg_max_queues * ns.msg_queue_bytes / 1024;
  i.msgtql = ns.msg_queue_bytes;
  if (command == MSG_INFO) {
    uint64_t messages = 0, bytes = 0;
    for (auto& [index, q] : ns.queues.all()) {
      messages += q->count();
      bytes += q->bytes;
    }
    i.msgpool = ns.queues.size();
    i.msgmap = static_cast<int>(messages);
    i.msgtql = static_cast<int>(bytes);
  }
  TRY(UserOut<msginfo>{{arg}}.put(task.park(), task.mm(), i));
  return ipc_max_index(ns.queues);
}

Result<int64_t> stat(Task& task, int id, int command, UserAddr arg) {
  const bool by_index = command != IPC_STAT;
  MsgQueue* q =
      TRY(ipc_stat_target(task, task.ipc().queues, id, by_index, command == MSG_STAT_ANY));
  msqid_ds d = {};
  d.msg_perm = to_ipc_perm(task, *q);
  d.msg_stime = q->stime;
  d.msg_rtime = q->rtime;
  d.msg_ctime = q->ctime;
  d.__msg_cbytes = q->bytes;
  d.msg_qnum = q->count();
  d.msg_qbytes = q->max_bytes;
  d.msg_lspid = shown_pid(task, q->last_sender);
  d.msg_lrpid = shown_pid(task, q->last_receiver);
  const int found = q->id;
  TRY(UserOut<msqid_ds>{{arg}}.put(task.park(), task.mm(), d));
  return by_index ? found : 0;
}

Result<int64_t> set(Task& task, int id, UserAddr arg) {
  const msqid_ds d = TRY(UserIn<msqid_ds>{{arg}}.get(task.park(), task.mm()));
  MsgQueue* q = TRY(ipc_find(task.ipc().queues, id));
  if (!q->owned_by(task.cred())) return Err(Errno::kPERM);
  if (d.msg_qbytes > static_cast<uint64_t>(task.ipc().msg_queue_bytes) &&
      !task.cred().has(Cap::kSysResource))
    return Err(Errno::kPERM);
  TRY(ipc_set(task, *q, d.msg_perm));
  q->max_bytes = d.msg_qbytes;
  q->wake();  // there may be room now
  return 0;
}

}  // namespace

Result<int64_t> sys_msgget(Task& task, int key, Hex flags) {
  IpcNamespace& ns = task.ipc();
  return ipc_get(
      task, ns.queues, key, flags, [](MsgQueue&) { return Result<>(); },
      [&] { return MsgQueue::create(ns, task.cred(), key, static_cast<uint32_t>(flags)); });
}

Result<int64_t> sys_msgsnd(Task& task, int id, UserAddr message, int64_t size, Hex flags) {
  Ref<IpcNamespace> ns(&task.ipc());
  const int64_t type = TRY(UserIn<int64_t>{message}.get(task.park(), task.mm()));
  if (size < 0 || size > ns->msg_max_bytes || id < 0 || type < 1) return Err(Errno::kINVAL);
  std::string text(static_cast<size_t>(size), '\0');
  if (size != 0) {
    const size_t n = TRY(task.mm().copy_in(task.park(), std::as_writable_bytes(std::span(text)),
                                           message.addr + sizeof type));
    if (n != text.size()) return Err(Errno::kFAULT);
  }
  MsgQueue* q = TRY(ipc_find(ns->queues, id));
  if (!q->permits(task.cred(), 0222)) return Err(Errno::kACCES);
  return zero(
      q->send(task.park(), {type, std::move(text)}, task.tgid(), (flags & IPC_NOWAIT) != 0));
}

Result<int64_t> sys_msgrcv(Task& task, int id, UserAddr message, int64_t size, int64_t type,
                           Hex flags) {
  if (id < 0 || size < 0) return Err(Errno::kINVAL);
  const bool copy = (flags & kMsgCopy) != 0;
  if (copy && ((flags & MSG_EXCEPT) != 0 || (flags & IPC_NOWAIT) == 0)) return Err(Errno::kINVAL);
  Ref<IpcNamespace> ns(&task.ipc());
  MsgQueue* q = TRY(ipc_find(ns->queues, id));
  if (!q->permits(task.cred(), 0444)) return Err(Errno::kACCES);
  MsgQueue::Want want;
  want.type = std::max(type, -INT64_MAX);
  want.max = static_cast<uint64_t>(size);
  want.except = (flags & MSG_EXCEPT) != 0;
  want.cut = (flags & MSG_NOERROR) != 0;
  want.nowait = (flags & IPC_NOWAIT) != 0;
  MsgQueue::Message m;
  if (copy) {
    m = TRY(q->peek(static_cast<uint64_t>(type)));
    if (m.text.size() > want.max && !want.cut) return Err(Errno::k2BIG);
  } else {
    m = TRY(q->receive(task.park(), want, task.tgid()));
  }
  m.text.resize(std::min<uint64_t>(m.text.size(), want.max));
  TRY(UserOut<int64_t>{message}.put(task.park(), task.mm(), m.type));
  UserOut<char> to{message + sizeof m.type};
  TRY(to.put_array(task.park(), task.mm(), std::span<const char>(m.text)));
  return static_cast<int64_t>(m.text.size());
}

Result<int64_t> sys_msgctl(Task& task, int id, int command, UserAddr arg) {
  if (id < 0 || command < 0) return Err(Errno::kINVAL);
  switch (command) {
    case kIpcInfo:
    case MSG_INFO:
      return info(task, command, arg);
    case IPC_STAT:
    case MSG_STAT:
    case MSG_STAT_ANY:
      return stat(task, id, command, arg);
    case IPC_SET:
      return set(task, id, arg);
    case IPC_RMID: {
      MsgQueue* q = TRY(ipc_find(task.ipc().queues, id));
      if (!q->owned_by(task.cred())) return Err(Errno::kPERM);
      q->remove();
      return 0;
    }
    default:
      return Err(Errno::kINVAL);
  }
}

}  // namespace uk
