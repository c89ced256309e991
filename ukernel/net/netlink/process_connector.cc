#include "ukernel/net/netlink/process_connector.h"

#include <linux/connector.h>

#include <algorithm>
#include <cstring>

#include "ukernel/task/current.h"
#include "ukernel/task/pid_ns.h"

namespace uk {
namespace {

constexpr uint32_t kAll = 0xffffffff;
constexpr uint32_t kNonzeroExit = 0x20000000;  // PROC_EVENT_NONZERO_EXIT
constexpr uint32_t kKnown = proc_event::PROC_EVENT_FORK | proc_event::PROC_EVENT_EXEC |
                            proc_event::PROC_EVENT_UID | proc_event::PROC_EVENT_GID |
                            proc_event::PROC_EVENT_SID | proc_event::PROC_EVENT_PTRACE |
                            proc_event::PROC_EVENT_COMM | proc_event::PROC_EVENT_COREDUMP |
                            proc_event::PROC_EVENT_EXIT | kNonzeroExit;
constexpr size_t kMaxMessage = 16384;  // CONNECTOR_MAX_MSG_SIZE

struct Numbers {
  int pid = 0, tgid = 0;
};

// The thread that made the process is not remembered: its parent's leader stands for it.
Numbers parent_of(const Task& t) {
  const ThreadGroup* parent = t.group->parent;
  if (parent == nullptr) return {};
  return {parent->tgid, parent->tgid};
}

// proc_input of Linux 6.6; older programs send the operation alone.
struct Input {
  uint32_t operation = 0, events = kAll;
};

}  // namespace

ProcessConnector::ProcessConnector(Kernel& kernel, NetlinkSockets& sockets)
    : kernel_(kernel),
      accounting_(accounting_of(kernel)),
      sockets_(sockets),
      sent_(static_cast<size_t>(kernel.vcpus.count())) {}

ProcessConnector::~ProcessConnector() { std::erase(accounting_->watchers, this); }

// Groups with odd numbers are everybody's: Linux tests the first bit of the number.
Result<> ProcessConnector::may_join(const SocketCaller& who, int group) {
  if (who.fs.cred->has(Cap::kNetAdmin) || (group & 1) != 0) return {};
  return Err(Errno::kPERM);
}

void ProcessConnector::set_listening(Wish& wish, bool listens) {
  if (wish.listens == listens) return;
  wish.listens = listens;
  listeners_ += listens ? 1 : -1;
  std::erase(accounting_->watchers, this);
  if (listeners_ > 0) accounting_->watchers.push_back(this);
}

void ProcessConnector::closed(NetlinkSocket& socket) {
  auto it = wishes_.find(&socket);
  if (it == wishes_.end()) return;
  set_listening(it->second, false);
  wishes_.erase(it);
}

void ProcessConnector::receive(NetlinkSocket& from, const SocketCaller&,
                               std::span<const std::byte> datagram) {
  NetlinkRequest r;
  cn_msg m;
  if (!take_request(datagram, r) || r.body().size() < sizeof m || r.body().size() > kMaxMessage)
    return;
  std::memcpy(&m, r.body().data(), sizeof m);
  const auto data = r.body().subspan(sizeof m);
  if (m.id.idx != CN_IDX_PROC || m.id.val != CN_VAL_PROC || data.size() < m.len) return;
  Input in;
  if (m.len != sizeof in && m.len != sizeof in.operation) return;
  std::memcpy(&in, data.data(), m.len);
  // Numbers of all processes are told: only who sees them all may ask.
  const Task* sender = current_task(kernel_.reactor);
  if (sender == nullptr || sender->cred().user_ns || pid_ns_of(*sender)) return;
  if ((in.events & kKnown) == 0 || (in.events & kKnown) == kKnown) in.events = kAll;
  Wish& wish = wishes_[&from];
  wish.events = in.events;
  wish.deaf = in.operation == PROC_CN_MCAST_IGNORE;
  uint32_t error = 0;
  switch (in.operation) {
    case PROC_CN_MCAST_LISTEN:
      set_listening(wish, true);
      break;
    case PROC_CN_MCAST_IGNORE:
      set_listening(wish, false);
      break;
    default:
      error = EINVAL;
  }
  proc_event e = {};
  e.what = proc_event::PROC_EVENT_NONE;
  e.event_data.ack.err = error;
  send(e, m.ack + 1, sender->sched.cpu);
}

bool ProcessConnector::wants(const NetlinkSocket& socket, const proc_event& e) const {
  auto it = wishes_.find(&socket);
  if (it == wishes_.end()) return true;  // it is in the group and has said no wish
  if (it->second.deaf) return false;
  const uint32_t events = it->second.events;
  if (events == kAll) return true;
  if ((events & kNonzeroExit) != 0 && e.what == proc_event::PROC_EVENT_EXIT &&
      e.event_data.exit.exit_code != 0)
    return true;
  return (events & e.what) != 0;
}

void ProcessConnector::send(proc_event& e, uint32_t ack, int cpu) {
  if (listeners_ == 0) return;
  const uint32_t seq = sent_[static_cast<size_t>(cpu)]++;
  e.cpu = static_cast<uint32_t>(cpu);
  e.timestamp_ns = kernel_.guest_monotonic_ns();
  NetlinkMessage m(NLMSG_DONE, 0, seq, 0);
  m.raw(bytes_of(cn_msg{{CN_IDX_PROC, CN_VAL_PROC}, seq, ack, sizeof e, 0}));
  m.raw(bytes_of(e));
  const Bytes bytes = std::move(m).finish();
  sockets_.each(NETLINK_CONNECTOR, [&](NetlinkSocket& s) {
    if (s.in_group(CN_IDX_PROC) && wants(s, e)) (void)s.deliver(bytes, {.group = CN_IDX_PROC});
  });
}

bool ProcessConnector::fill(proc_event& out, const ProcessEvent& event) {
  using Kind = ProcessEvent::Kind;
  const Task& t = event.task;
  const Cred& c = t.cred();
  const Numbers parent = parent_of(t);
  auto& data = out.event_data;
  switch (event.kind) {
    case Kind::kFork: {
      const Task& maker = *event.other;
      const bool own = t.group->parent == maker.group.get();  // not so with CLONE_PARENT, a thread
      out.what = proc_event::PROC_EVENT_FORK;
      data.fork = {own ? maker.tid : parent.pid, own ? maker.tgid() : parent.tgid, t.tid, t.tgid()};
      return true;
    }
    case Kind::kExec:
      out.what = proc_event::PROC_EVENT_EXEC;
      data.exec = {t.tid, t.tgid()};
      return true;
    case Kind::kUid:
      out.what = proc_event::PROC_EVENT_UID;
      data.id = {t.tid, t.tgid(), {.ruid = c.uid}, {.euid = c.euid}};
      return true;
    case Kind::kGid:
      out.what = proc_event::PROC_EVENT_GID;
      data.id = {t.tid, t.tgid(), {.rgid = c.gid}, {.egid = c.egid}};
      return true;
    case Kind::kSid:
      out.what = proc_event::PROC_EVENT_SID;
      data.sid = {t.tid, t.tgid()};
      return true;
    case Kind::kPtrace:
      out.what = proc_event::PROC_EVENT_PTRACE;
      data.ptrace = {t.tid, t.tgid(), 0, 0};
      if (event.other != nullptr) {
        data.ptrace.tracer_pid = event.other->tid;
        data.ptrace.tracer_tgid = event.other->tgid();
      }
      return true;
    case Kind::kComm:
      out.what = proc_event::PROC_EVENT_COMM;
      data.comm = {t.tid, t.tgid(), {}};
      t.comm.copy(data.comm.comm, sizeof data.comm.comm - 1);
      return true;
    case Kind::kCoredump:
      out.what = proc_event::PROC_EVENT_COREDUMP;
      data.coredump = {t.tid, t.tgid(), parent.pid, parent.tgid};
      return true;
    case Kind::kExit:
      out.what = proc_event::PROC_EVENT_EXIT;
      data.exit = {t.tid,
                   t.tgid(),
                   static_cast<uint32_t>(t.exit_code),
                   static_cast<uint32_t>(t.is_leader() ? t.group->exit_signal : -1),
                   parent.pid,
                   parent.tgid};
      return true;
    case Kind::kEnding:
      return false;
  }
  return false;
}

void ProcessConnector::tell(const ProcessEvent& event) {
  proc_event e = {};
  if (fill(e, event)) send(e, 0, event.task.sched.cpu);
}

}  // namespace uk
