#include "ukernel/ipc/msg.h"

#include "ukernel/ipc/namespace.h"

namespace uk {
namespace {

constexpr uint64_t kQueueBytes = 512, kMessageBytes = 64;  // beside the text

Errno interrupted(Errno e) { return e == Errno::kRestartSys ? Errno::kRestartNoHand : e; }

}  // namespace

MsgQueue::MsgQueue(IpcNamespace& ns)
    : max_bytes(static_cast<uint64_t>(ns.msg_queue_bytes)), ns_(ns) {}

MsgQueue::~MsgQueue() = default;

Result<MsgQueue*> MsgQueue::create(IpcNamespace& ns, const Cred& cred, int32_t key,
                                   uint32_t flags) {
  if (!ns.charge(kQueueBytes)) return Err(Errno::kNOMEM);
  auto queue = make_ref<MsgQueue>(ns);
  queue->own(cred, key, flags);
  queue->ctime = ns.now();
  if (Result<int> id = ns.queues.add(queue, ns.msg_max_queues); !id) {
    ns.uncharge(kQueueBytes);
    return Err(id.error());
  }
  return queue.get();
}

void MsgQueue::remove() {
  Ref<MsgQueue> self(this);
  ns_.queues.remove(*this);
  ns_.uncharge(kQueueBytes + bytes + messages_.size() * kMessageBytes);
  messages_.clear();
  bytes = 0;
  changed_.wake_all();
}

Result<> MsgQueue::send(Park& park, Message message, int pid, bool nowait) {
  const uint64_t size = message.text.size();
  // Empty messages are bounded too: by as many as there may be bytes.
  auto fits = [&] { return bytes + size <= max_bytes && messages_.size() + 1 <= max_bytes; };
  Ref<MsgQueue> self(this);
  if (!fits()) {
    if (nowait) return Err(Errno::kAGAIN);
    Result<> r = changed_.wait(
        park, [&] { return removed || fits(); }, WaitMode::kInterruptible, kNever, "do_msgsnd");
    if (!r) return Err(interrupted(r.error()));
    if (removed) return Err(Errno::kIDRM);
  }
  if (!ns_.charge(size + kMessageBytes)) return Err(Errno::kNOMEM);
  bytes += size;
  messages_.push_back(std::move(message));
  last_sender = pid;
  stime = ns_.now();
  changed_.wake_all();
  return {};
}

std::list<MsgQueue::Message>::iterator MsgQueue::match(const Want& want) {
  auto found = messages_.end();
  for (auto it = messages_.begin(); it != messages_.end(); ++it) {
    if (want.type == 0) return it;
    if (want.type > 0) {
      if ((it->type == want.type) != want.except) return it;
    } else if (it->type <= -want.type && (found == messages_.end() || it->type < found->type)) {
      found = it;
    }
  }
  return found;
}

Result<MsgQueue::Message> MsgQueue::receive(Park& park, const Want& want, int pid) {
  Ref<MsgQueue> self(this);
  auto found = match(want);
  if (found == messages_.end()) {
    if (want.nowait) return Err(Errno::kNOMSG);
    Result<> r = changed_.wait(
        park, [&] { return removed || (found = match(want)) != messages_.end(); },
        WaitMode::kInterruptible, kNever, "do_msgrcv");
    if (!r) return Err(interrupted(r.error()));
    if (removed) return Err(Errno::kIDRM);
  }
  if (found->text.size() > want.max && !want.cut) return Err(Errno::k2BIG);
  Message m = std::move(*found);
  messages_.erase(found);
  bytes -= m.text.size();
  ns_.uncharge(m.text.size() + kMessageBytes);
  last_receiver = pid;
  rtime = ns_.now();
  changed_.wake_all();
  return m;
}

Result<MsgQueue::Message> MsgQueue::peek(uint64_t index) const {
  for (const Message& m : messages_)
    if (index-- == 0) return m;
  return Err(Errno::kNOMSG);
}

}  // namespace uk
