#include "ukernel/net/netlink/netlink_socket.h"

#include <linux/netlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "ukernel/kernel.h"
#include "ukernel/task/current.h"

namespace uk {
namespace {

constexpr int kMaxBuffer = 212992, kMinBuffer = 2304;
constexpr uint32_t kFirstPort = 0xffffe000u;  // Linux gives large numbers when tgid is taken
constexpr int kMaxGroup = 32;
constexpr size_t kOverhead = 256;  // what a datagram costs beside its bytes

std::string address(uint32_t port, uint32_t groups) {
  sockaddr_nl a = {};
  a.nl_family = AF_NETLINK;
  a.nl_pid = port;
  a.nl_groups = groups;
  return std::string(reinterpret_cast<const char*>(&a), sizeof a);
}

Result<sockaddr_nl> parse(std::string_view bytes) {
  sockaddr_nl a = {};
  if (bytes.size() < sizeof a) return Err(Errno::kINVAL);
  std::memcpy(&a, bytes.data(), sizeof a);
  if (a.nl_family != AF_NETLINK) return Err(Errno::kINVAL);
  return a;
}

template <class T>
std::string text_of(const T& value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}

struct Time {
  int64_t sec, usec;
};

}  // namespace

Result<uint32_t> NetlinkSockets::take(int protocol, uint32_t wanted, uint32_t tgid,
                                      NetlinkSocket* socket) {
  uint32_t port = wanted != 0 ? wanted : tgid;
  while (ports_.contains({protocol, port})) {
    if (wanted != 0) return Err(Errno::kADDRINUSE);
    port = kFirstPort - next_++ % kFirstPort / 2;
  }
  ports_[{protocol, port}] = socket;
  return port;
}

void NetlinkSockets::give_back(int protocol, uint32_t port) { ports_.erase({protocol, port}); }

NetlinkSocket* NetlinkSockets::find(int protocol, uint32_t port) const {
  auto it = ports_.find({protocol, port});
  return it == ports_.end() ? nullptr : it->second;
}

void NetlinkSockets::add(int protocol, std::unique_ptr<NetlinkProtocol> kernel_end) {
  protocols_[protocol] = std::move(kernel_end);
}

NetlinkProtocol* NetlinkSockets::protocol(int protocol) const {
  auto it = protocols_.find(protocol);
  return it == protocols_.end() ? nullptr : it->second.get();
}

void NetlinkSockets::each(int protocol, const std::function<void(NetlinkSocket&)>& f) const {
  for (auto it = ports_.lower_bound({protocol, 0});
       it != ports_.end() && it->first.first == protocol; ++it)
    f(*it->second);
}

Result<> check_netlink(const NetlinkSockets& table, int type, int protocol) {
  if (type != SOCK_RAW && type != SOCK_DGRAM) return Err(Errno::kSOCKTNOSUPPORT);
  if (table.protocol(protocol) == nullptr) return Err(Errno::kPROTONOSUPPORT);
  return {};
}

void each_request(NetlinkSocket& from, std::span<const std::byte> datagram,
                  const std::function<Result<>(const NetlinkRequest&)>& handle) {
  NetlinkRequest r;
  while (take_request(datagram, r)) {
    Result<> done;
    if ((r.header.nlmsg_flags & NLM_F_REQUEST) != 0 && r.header.nlmsg_type >= NLMSG_MIN_TYPE)
      done = handle(r);
    if (done && (r.header.nlmsg_flags & NLM_F_ACK) == 0) continue;
    const int error = done ? 0 : -static_cast<int>(done.error());
    if (!from.deliver(netlink_ack(r, error, from.port(), from.option(NETLINK_CAP_ACK)))) return;
  }
}

NetlinkSocket::NetlinkSocket(Path path, int flags, std::shared_ptr<NetlinkSockets> table, int type,
                             int protocol, Ref<const Cred> opener)
    : Socket(std::move(path), flags),
      table_(std::move(table)),
      type_(type),
      protocol_(protocol),
      opener_(std::move(opener)) {}

NetlinkSocket::~NetlinkSocket() {
  table_->protocol(protocol_)->closed(*this);
  if (bound_) table_->give_back(protocol_, port_);
}

bool NetlinkSocket::option(int name) const {
  auto it = flags_.find(name);
  return it != flags_.end() && it->second != 0;
}

bool NetlinkSocket::capable(const SocketCaller& who, Cap cap) const {
  return opener_->has(cap) && who.fs.cred->has(cap);
}

Result<> NetlinkSocket::join(const SocketCaller& who, uint32_t groups) {
  for (int group = 1; group <= kMaxGroup; ++group)
    if ((groups >> (group - 1) & 1) != 0) TRY(table_->protocol(protocol_)->may_join(who, group));
  return {};
}

int NetlinkSocket::family() const { return AF_NETLINK; }

Result<> NetlinkSocket::autobind(uint32_t tgid) {
  if (bound_) return {};
  port_ = TRY(table_->take(protocol_, 0, tgid, this));
  bound_ = true;
  return {};
}

Result<> NetlinkSocket::bind(Park&, const SocketCaller& who, std::string_view bytes) {
  const sockaddr_nl a = TRY(parse(bytes));
  if (bound_ && a.nl_pid != port_) return Err(Errno::kINVAL);
  TRY(join(who, a.nl_groups));
  if (!bound_ && a.nl_pid != 0) {
    port_ = TRY(table_->take(protocol_, a.nl_pid, 0, this));
    bound_ = true;
  }
  TRY(autobind(static_cast<uint32_t>(who.creds.pid)));
  groups_ = a.nl_groups;
  return {};
}

Result<> NetlinkSocket::connect(Park&, const SocketCaller& who, std::string_view bytes) {
  sa_family_t family = AF_UNSPEC;
  if (bytes.size() < sizeof family) return Err(Errno::kINVAL);
  std::memcpy(&family, bytes.data(), sizeof family);
  if (family == AF_UNSPEC) {
    peer_port_ = peer_groups_ = 0;
    return {};
  }
  const sockaddr_nl a = TRY(parse(bytes));
  if ((a.nl_pid != 0 || a.nl_groups != 0) && !who.fs.cred->has(Cap::kNetAdmin))
    return Err(Errno::kPERM);
  TRY(autobind(static_cast<uint32_t>(who.creds.pid)));
  peer_port_ = a.nl_pid;
  peer_groups_ = a.nl_groups;
  return {};
}

Result<std::string> NetlinkSocket::local_address() { return address(port_, groups_); }
Result<std::string> NetlinkSocket::peer_address() { return address(peer_port_, peer_groups_); }

bool NetlinkSocket::deliver(Bytes bytes, const NetlinkSender& from) {
  const size_t cost = bytes.size() + kOverhead;
  if (queued_bytes_ + cost > static_cast<size_t>(receive_buffer_)) {
    if (!option(NETLINK_NO_ENOBUFS)) {
      error_ = Errno::kNOBUFS;
      queue_.wake_all(POLLERR);
    }
    return false;
  }
  queued_bytes_ += cost;
  queued_.push_back({std::move(bytes), from});
  queue_.wake_all(POLLIN | POLLRDNORM);
  return true;
}

// Those whom there is no room with miss it.
void NetlinkSocket::broadcast(const Bytes& bytes, const NetlinkSender& from, uint32_t except_port) {
  table_->each(protocol_, [&](NetlinkSocket& other) {
    if (&other != this && other.port_ != except_port && other.in_group(from.group))
      (void)other.deliver(bytes, from);
  });
}

Result<size_t> NetlinkSocket::send(Park& park, const SocketCaller& who, SendMessage& m) {
  if ((m.flags & MSG_OOB) != 0) return Err(Errno::kOPNOTSUPP);
  uint32_t port = peer_port_, groups = peer_groups_;
  if (!m.to.empty()) {
    const sockaddr_nl a = TRY(parse(m.to));
    port = a.nl_pid;
    groups = a.nl_groups;
    if ((port != 0 || groups != 0) && !who.fs.cred->has(Cap::kNetAdmin)) return Err(Errno::kPERM);
  }
  TRY(autobind(static_cast<uint32_t>(who.creds.pid)));
  const size_t size = m.data.remaining();
  if (size > std::min<size_t>(kMaxMessage, static_cast<size_t>(send_buffer_) - 32))
    return Err(Errno::kMSGSIZE);
  std::vector<std::byte> bytes(size);
  if (TRY(m.data.get(park, bytes)) != size) return Err(Errno::kFAULT);
  NetlinkSender from{.port = port_, .creds = m.creds};
  if (groups != 0) {
    from.group = std::countr_zero(groups) + 1;  // only the first, as on Linux
    broadcast(bytes, from, port);
  }
  from.group = 0;
  if (port == 0) {
    table_->protocol(protocol_)->receive(*this, who, bytes);
    return size;
  }
  NetlinkSocket* other = table_->find(protocol_, port);
  if (other == nullptr) return Err(Errno::kCONNREFUSED);
  if (!other->deliver(std::move(bytes), from)) return Err(Errno::kAGAIN);
  return size;
}

Result<size_t> NetlinkSocket::receive(Park& park, ReceiveMessage& m) {
  if ((m.flags & MSG_OOB) != 0) return Err(Errno::kOPNOTSUPP);
  auto come = [&] { return !queued_.empty() || error_ != Errno::kOk; };
  if (!come()) {
    if (m.nonblock) return Err(Errno::kAGAIN);
    Deadline deadline = kNever;
    if (receive_timeout_ns_ != 0) deadline.at_ns = park.reactor().now_ns() + receive_timeout_ns_;
    auto r = queue_.wait(park, come, WaitMode::kInterruptible, deadline, "netlink");
    if (!r && r.error() == Errno::kTIMEDOUT) return Err(Errno::kAGAIN);
    if (!r) return Err(receive_timeout_ns_ != 0 ? Errno::kINTR : r.error());
  }
  if (error_ != Errno::kOk) return Err(std::exchange(error_, Errno::kOk));
  const bool peek = (m.flags & MSG_PEEK) != 0;
  Datagram d = peek ? queued_.front() : std::move(queued_.front());
  if (!peek) {
    queued_.pop_front();
    queued_bytes_ -= d.bytes.size() + kOverhead;
  }
  m.from = address(d.from.port, d.from.group == 0 ? 0 : 1u << (d.from.group - 1));
  if (pass_creds_) m.creds = d.from.creds;
  const size_t want = std::min(d.bytes.size(), m.data.remaining());
  if (want != 0 && TRY(m.data.put(park, std::span(d.bytes).first(want))) != want)
    return Err(Errno::kFAULT);
  if (d.bytes.size() > want) m.out_flags |= MSG_TRUNC;
  return (m.flags & MSG_TRUNC) != 0 ? d.bytes.size() : want;
}

Result<size_t> NetlinkSocket::read(Park& park, IoSink& to, uint64_t) {
  ReceiveMessage m{.data = to, .nonblock = nonblock()};
  return receive(park, m);
}

// As send(2) by the task that runs.
Result<size_t> NetlinkSocket::write(Park& park, IoSource& from, uint64_t&) {
  const Task* task = current_task(park.reactor());
  if (task == nullptr) return Err(Errno::kINVAL);
  const FsContext fs = task->fs_context();
  const UserCreds creds{task->tgid(), task->cred().uid, task->cred().gid};
  const SocketCaller who{task->kernel.vfs, fs, creds, 0, task->group.get()};
  SendMessage m{.data = from, .nonblock = nonblock(), .creds = creds};
  return send(park, who, m);
}

uint32_t NetlinkSocket::ready() {
  return POLLOUT | POLLWRNORM | (queued_.empty() ? 0 : POLLIN | POLLRDNORM) |
         (error_ != Errno::kOk ? POLLERR : 0);
}

Result<> NetlinkSocket::set_option(const SocketCaller& who, int level, int name,
                                   std::string_view value) {
  if (level == SOL_SOCKET && name == SO_RCVTIMEO) {
    Time t;
    if (value.size() < sizeof t) return Err(Errno::kINVAL);
    std::memcpy(&t, value.data(), sizeof t);
    if (t.usec < 0 || t.usec >= 1'000'000) return Err(Errno::kDOM);
    constexpr uint64_t kMaxSec = 1ull << 32;
    receive_timeout_ns_ = t.sec < 0 ? 1
                                    : std::min(static_cast<uint64_t>(t.sec), kMaxSec) * kNsPerSec +
                                          static_cast<uint64_t>(t.usec) * 1000;
    return {};
  }
  if (level != SOL_SOCKET && level != SOL_NETLINK) return Err(Errno::kNOPROTOOPT);
  int v = 0;
  if (value.size() < sizeof v) return Err(Errno::kINVAL);
  std::memcpy(&v, value.data(), sizeof v);
  if (level == SOL_NETLINK) {
    switch (name) {
      case NETLINK_ADD_MEMBERSHIP:
      case NETLINK_DROP_MEMBERSHIP: {
        if (v <= 0 || v > kMaxGroup) return Err(Errno::kINVAL);
        const uint32_t bit = 1u << (v - 1);
        if (name == NETLINK_ADD_MEMBERSHIP) TRY(join(who, bit));
        groups_ = name == NETLINK_ADD_MEMBERSHIP ? groups_ | bit : groups_ & ~bit;
        return {};
      }
      case NETLINK_PKTINFO:
      case NETLINK_NO_ENOBUFS:
      case NETLINK_CAP_ACK:
      case NETLINK_EXT_ACK:
      case NETLINK_GET_STRICT_CHK:
        flags_[name] = v != 0;
        return {};
      default:
        return Err(Errno::kNOPROTOOPT);
    }
  }
  switch (name) {
    case SO_PASSCRED:
      pass_creds_ = v != 0;
      return {};
    case SO_RCVBUFFORCE:
    case SO_SNDBUFFORCE:
      if (!who.fs.cred->has(Cap::kNetAdmin)) return Err(Errno::kPERM);
      [[fallthrough]];
    case SO_RCVBUF:
    case SO_SNDBUF: {
      const int size = std::max(std::clamp(v, 0, kMaxBuffer) * 2, kMinBuffer);
      (name == SO_RCVBUF || name == SO_RCVBUFFORCE ? receive_buffer_ : send_buffer_) = size;
      return {};
    }
    default:
      return Err(Errno::kNOPROTOOPT);
  }
}

Result<std::string> NetlinkSocket::get_option(int level, int name) {
  if (level == SOL_NETLINK) {
    if (name == NETLINK_LIST_MEMBERSHIPS) return text_of(groups_);
    if (name != NETLINK_PKTINFO && name != NETLINK_NO_ENOBUFS && name != NETLINK_CAP_ACK &&
        name != NETLINK_EXT_ACK && name != NETLINK_GET_STRICT_CHK)
      return Err(Errno::kNOPROTOOPT);
    return text_of(int{option(name)});
  }
  if (level != SOL_SOCKET) return Err(Errno::kNOPROTOOPT);
  switch (name) {
    case SO_TYPE:
      return text_of(type_);
    case SO_DOMAIN:
      return text_of(int{AF_NETLINK});
    case SO_PROTOCOL:
      return text_of(protocol_);
    case SO_ERROR:
      return text_of(static_cast<int>(std::exchange(error_, Errno::kOk)));
    case SO_RCVBUF:
      return text_of(receive_buffer_);
    case SO_SNDBUF:
      return text_of(send_buffer_);
    case SO_PASSCRED:
      return text_of(int{pass_creds_});
    case SO_ACCEPTCONN:
      return text_of(int{0});
    case SO_RCVTIMEO:
      return text_of(Time{static_cast<int64_t>(receive_timeout_ns_ / kNsPerSec),
                          static_cast<int64_t>(receive_timeout_ns_ % kNsPerSec / 1000)});
    default:
      return Err(Errno::kNOPROTOOPT);
  }
}

}  // namespace uk
