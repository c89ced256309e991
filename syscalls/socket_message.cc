// Sending and receiving through sockets, with control messages (sendmsg(2), recvmsg(2), cmsg(3)).
#include <sys/socket.h>

#include "syscalls/socket_common.h"
#include "ukernel/task/identity.h"
#include "ukernel/task/pidfd.h"

namespace uk {
namespace {

constexpr size_t kMaxControl = 20480;  // net.core.optmem_max
constexpr size_t kMaxFiles = 253;      // SCM_MAX_FD
constexpr uint32_t kMaxMessages = 1024;

struct ControlHeader {
  uint64_t len;
  int32_t level;
  int32_t type;
};
static_assert(sizeof(ControlHeader) == 16);
constexpr size_t align8(size_t n) { return (n + 7) & ~size_t{7}; }

// ---- sending

// unix(7): what SCM_CREDENTIALS may claim; as the kernel has it.
Result<UserCreds> check_claim(const Task& task, const UserCreds& c) {
  const Cred& cred = task.cred();
  const Ref<PidNamespace>& pids = pid_ns_of(task);
  const bool pid_ok = c.pid == shown_pid(task, task.tgid()) ||
                      cred.has_in(pids ? pids->owner.get() : nullptr, Cap::kSysAdmin);
  const std::optional<uint32_t> uid = kernel_uid(cred.user_ns.get(), c.uid);
  const std::optional<uint32_t> gid = kernel_gid(cred.user_ns.get(), c.gid);
  if (!uid || !gid) return Err(Errno::kINVAL);
  const bool uid_ok =
      uid == cred.uid || uid == cred.euid || uid == cred.suid || cred.raised(Cap::kSetuid);
  const bool gid_ok =
      gid == cred.gid || gid == cred.egid || gid == cred.sgid || cred.raised(Cap::kSetgid);
  if (!pid_ok || !uid_ok || !gid_ok) return Err(Errno::kPERM);
  const Task* claimed = task_by_number(task, c.pid);
  if (claimed == nullptr) return Err(Errno::kSRCH);
  return UserCreds{claimed->tid, *uid, *gid};
}

Result<> parse_rights(Task& task, std::span<const char> body, SendMessage& m) {
  const size_t count = body.size() / sizeof(int32_t);
  if (m.files.size() + count > kMaxFiles) return Err(Errno::kINVAL);
  for (size_t i = 0; i < count; ++i) {
    int32_t fd;
    std::memcpy(&fd, body.data() + i * sizeof fd, sizeof fd);
    m.files.push_back(TRY(task.fds().get(fd)));
  }
  return {};
}

Result<> parse_control(Task& task, const std::vector<char>& control, SendMessage& m) {
  for (size_t at = 0; at + sizeof(ControlHeader) <= control.size();) {
    ControlHeader h;
    std::memcpy(&h, control.data() + at, sizeof h);
    if (h.len < sizeof h || h.len > control.size() - at) return Err(Errno::kINVAL);
    auto body = std::span(control).subspan(at + sizeof h, h.len - sizeof h);
    if (h.level == SOL_SOCKET) {
      if (h.type == SCM_RIGHTS) {
        TRY(parse_rights(task, body, m));
      } else if (h.type == SCM_CREDENTIALS) {
        if (body.size() != sizeof(UserCreds)) return Err(Errno::kINVAL);
        std::memcpy(&m.creds, body.data(), sizeof(UserCreds));
        m.creds = TRY(check_claim(task, m.creds));
        m.claimed = true;
      } else {
        return Err(Errno::kINVAL);
      }
    }
    at += align8(h.len);
  }
  return {};
}

}  // namespace

UserCreds shown_creds(const Task& viewer, const UserCreds& c) {
  if (c.uid == kNoId) return c;  // of nobody: there is no peer
  return {shown_pid(viewer, c.pid), shown_uid(viewer, c.uid), shown_gid(viewer, c.gid)};
}

UserCreds real_creds(const Task& task) { return {task.tgid(), task.cred().uid, task.cred().gid}; }

void sign(Task& task, SendMessage& m) {
  m.process = task.group.get();
  m.now_ns = task.kernel.clock.realtime_ns();
}

Result<int64_t> do_send(Task& task, SocketRef& s, SendMessage& m, bool nonblock) {
  m.nonblock = nonblock || (m.flags & MSG_DONTWAIT) != 0;
  Result<size_t> n = s->send(task.park(), Caller(task), m);
  if (!n) {
    const bool signal = (m.flags & MSG_NOSIGNAL) == 0 && s->type() == SOCK_STREAM;
    if (signal) n = raise_sigpipe(task, n);
    return Err(n.error());
  }
  return static_cast<int64_t>(*n);
}

Result<int64_t> send_message(Task& task, SocketRef& s, const UserMsghdr& h, int flags) {
  if (h.control_len > kMaxControl) return Err(Errno::kNOBUFS);
  std::string to;
  if (h.name != 0 && h.name_len != 0) {
    if (h.name_len > INT32_MAX) return Err(Errno::kINVAL);
    to = TRY(fetch_address(task, {h.name}, std::min<uint32_t>(h.name_len, kMaxAddress)));
  }
  if (h.iov_len > 1024) return Err(Errno::kMSGSIZE);
  return send_pieces(task, s, h, TRY(fetch_iovec(task.park(), task.mm(), {h.iov}, h.iov_len)), to,
                     flags);
}

Result<int64_t> send_pieces(Task& task, SocketRef& s, const UserMsghdr& h,
                            std::vector<UserIovec> iov, std::string_view to, int flags) {
  if (h.control_len > kMaxControl) return Err(Errno::kNOBUFS);
  UserSource data(task.mm(), std::move(iov));
  SendMessage m{.data = data, .to = to, .flags = flags, .creds = real_creds(task)};
  sign(task, m);
  if (h.control != 0 && h.control_len != 0) {
    TRY(s->may_send());
    std::vector<char> control =
        TRY(UserIn<char>{{h.control}}.get_array(task.park(), task.mm(), h.control_len));
    TRY(parse_control(task, control, m));
  }
  return do_send(task, s, m, s->nonblock());
}

// ---- receiving

namespace {

// Writes control messages into the guest's buffer, and notes what does not fit.
class ControlWriter {
 public:
  ControlWriter(Task& task, uint64_t at, uint64_t room) : task_(task), at_(at), room_(room) {}

  Result<> put(int type, std::span<const char> body) {
    if (room_ < sizeof(ControlHeader)) {
      truncated_ = true;
      return {};
    }
    const size_t n = std::min<size_t>(body.size(), room_ - sizeof(ControlHeader));
    if (n < body.size()) truncated_ = true;
    ControlHeader h{sizeof(ControlHeader) + n, SOL_SOCKET, type};
    TRY(UserOut<ControlHeader>{{at_}}.put(task_.park(), task_.mm(), h));
    TRY(UserOut<char>{{at_ + sizeof h}}.put_array(task_.park(), task_.mm(), body.first(n)));
    advance(h.len);
    return {};
  }

  // Installs as many descriptors as there is room for.
  Result<> put_files(const std::vector<Ref<File>>& files, bool cloexec) {
    const size_t room =
        room_ < sizeof(ControlHeader) ? 0 : (room_ - sizeof(ControlHeader)) / sizeof(int32_t);
    std::vector<int32_t> numbers;
    for (const Ref<File>& f : files) {
      if (numbers.size() == room) break;
      auto fd = install_fd(task_, f, cloexec);
      if (!fd) break;
      numbers.push_back(static_cast<int32_t>(*fd));
    }
    if (numbers.size() < files.size()) truncated_ = true;
    if (numbers.empty()) return {};
    return put(SCM_RIGHTS, std::span(reinterpret_cast<const char*>(numbers.data()),
                                     numbers.size() * sizeof(int32_t)));
  }

  uint64_t used() const { return used_; }
  bool truncated() const { return truncated_; }

 private:
  void advance(uint64_t len) {
    const uint64_t step = std::min<uint64_t>(align8(len), room_);
    at_ += step;
    room_ -= step;
    used_ += step;
  }
  Task& task_;
  uint64_t at_, room_, used_ = 0;
  bool truncated_ = false;
};

// When it was sent; who stamps late says when it was received.
Result<> put_stamp(Task& task, const ReceiveMessage& m, ControlWriter& out) {
  const uint64_t ns = m.stamp_ns != 0 ? m.stamp_ns : task.kernel.clock.realtime_ns();
  const bool nanoseconds = m.stamp_option == SO_TIMESTAMPNS;
  const int64_t t[] = {static_cast<int64_t>(ns / kNsPerSec),
                       static_cast<int64_t>(ns % kNsPerSec / (nanoseconds ? 1 : 1000))};
  return out.put(m.stamp_option, std::span(reinterpret_cast<const char*>(t), sizeof t));
}

// The sender's process as a descriptor, or what error there was.
Result<> put_process(Task& task, const ReceiveMessage& m, ControlWriter& out) {
  int32_t fd = -static_cast<int32_t>(Errno::kSRCH);
  if (auto* group = dynamic_cast<ThreadGroup*>(m.process.get())) {
    auto made = install_pidfd(task, Ref<ThreadGroup>(group), 0);
    fd = made ? *made : -static_cast<int32_t>(made.error());
  }
  constexpr int kScmPidfd = 4;
  return out.put(kScmPidfd, std::span(reinterpret_cast<const char*>(&fd), sizeof fd));
}

Result<> put_control(Task& task, const ReceiveMessage& m, ControlWriter& out) {
  if (m.stamp_option != 0) TRY(put_stamp(task, m, out));
  if (m.creds) {
    const UserCreds creds = shown_creds(task, *m.creds);
    TRY(out.put(SCM_CREDENTIALS, std::span(reinterpret_cast<const char*>(&creds), sizeof creds)));
  }
  if (!m.files.empty()) TRY(out.put_files(m.files, (m.flags & MSG_CMSG_CLOEXEC) != 0));
  if (m.want_process && m.want_control) TRY(put_process(task, m, out));
  return {};
}

}  // namespace

// Receives one message; updates the header's out fields.
Result<int64_t> receive_message(Task& task, SocketRef& s, UserMsghdr& h, int flags) {
  if (h.name != 0 && h.name_len > INT32_MAX) return Err(Errno::kINVAL);
  if (h.iov_len > 1024) return Err(Errno::kMSGSIZE);
  return receive_pieces(task, s, h, TRY(fetch_iovec(task.park(), task.mm(), {h.iov}, h.iov_len)),
                        flags);
}

Result<int64_t> receive_pieces(Task& task, SocketRef& s, UserMsghdr& h, std::vector<UserIovec> iov,
                               int flags) {
  UserSink data(task.mm(), std::move(iov));
  ReceiveMessage m{.data = data,
                   .flags = flags,
                   .nonblock = s->nonblock() || (flags & MSG_DONTWAIT) != 0,
                   .want_control = h.control != 0};
  const size_t n = TRY(s->receive(task.park(), m));
  if (h.name != 0) {
    const size_t fits = std::min<size_t>(h.name_len, m.from.size());
    TRY(UserOut<char>{{h.name}}.put_array(task.park(), task.mm(), std::span(m.from).first(fits)));
    h.name_len = static_cast<uint32_t>(m.from.size());
  }
  ControlWriter control(task, h.control, h.control != 0 ? h.control_len : 0);
  TRY(put_control(task, m, control));
  h.control_len = control.used();
  h.flags = static_cast<uint32_t>(m.out_flags | (flags & MSG_CMSG_CLOEXEC) |
                                  (control.truncated() ? MSG_CTRUNC : 0));
  return static_cast<int64_t>(n);
}

Result<> store_header(Task& task, uint64_t at, const UserMsghdr& h) {
  UserOut<uint32_t> name_len{{at + offsetof(UserMsghdr, name_len)}};
  UserOut<uint64_t> control_len{{at + offsetof(UserMsghdr, control_len)}};
  UserOut<uint32_t> flags{{at + offsetof(UserMsghdr, flags)}};
  if (h.name != 0) TRY(name_len.put(task.park(), task.mm(), h.name_len));
  TRY(control_len.put(task.park(), task.mm(), h.control_len));
  return flags.put(task.park(), task.mm(), h.flags);
}

Result<int64_t> sys_sendto(Task& task, Fd fd, UserIn<std::byte> data, size_t len, int flags,
                           UserAddr address, int address_len) {
  SocketRef s = TRY(SocketRef::get(task, fd));
  std::string to;
  if (address) to = TRY(fetch_address(task, address, address_len));
  UserSource source(task.mm(), data.addr, std::min(len, kMaxRw));
  SendMessage m{.data = source, .to = to, .flags = flags, .creds = real_creds(task)};
  sign(task, m);
  return do_send(task, s, m, s->nonblock());
}

Result<int64_t> sys_recvfrom(Task& task, Fd fd, UserOut<std::byte> data, size_t len, int flags,
                             UserAddr address, UserInOut<int32_t> address_len) {
  SocketRef s = TRY(SocketRef::get(task, fd));
  UserSink sink(task.mm(), data.addr, std::min(len, kMaxRw));
  ReceiveMessage m{
      .data = sink, .flags = flags, .nonblock = s->nonblock() || (flags & MSG_DONTWAIT) != 0};
  const size_t n = TRY(s->receive(task.park(), m));
  TRY(store_address(task, address, address_len, m.from));
  return static_cast<int64_t>(n);
}

Result<int64_t> sys_sendmsg(Task& task, Fd fd, UserIn<UserMsghdr> message, int flags) {
  SocketRef s = TRY(SocketRef::get(task, fd));
  return send_message(task, s, TRY(message.get(task.park(), task.mm())), flags);
}

Result<int64_t> sys_recvmsg(Task& task, Fd fd, UserInOut<UserMsghdr> message, int flags) {
  SocketRef s = TRY(SocketRef::get(task, fd));
  UserMsghdr h = TRY(message.get(task.park(), task.mm()));
  const int64_t n = TRY(receive_message(task, s, h, flags));
  TRY(store_header(task, message.addr, h));
  return n;
}

Result<int64_t> sys_sendmmsg(Task& task, Fd fd, UserInOut<UserMmsghdr> messages, uint32_t count,
                             int flags) {
  SocketRef s = TRY(SocketRef::get(task, fd));
  count = std::min(count, kMaxMessages);
  int64_t done = 0;
  for (uint32_t i = 0; i < count; ++i) {
    auto step = [&]() -> Result<> {
      UserMmsghdr m = TRY(messages.get(task.park(), task.mm(), i));
      const int64_t n = TRY(send_message(task, s, m.header, flags));
      UserOut<uint32_t> len{{messages.addr + i * sizeof m + offsetof(UserMmsghdr, len)}};
      return len.put(task.park(), task.mm(), static_cast<uint32_t>(n));
    };
    if (auto r = step(); !r) return done > 0 ? Result<int64_t>(done) : Err(r.error());
    ++done;
  }
  return done;
}

Result<int64_t> sys_recvmmsg(Task& task, Fd fd, UserInOut<UserMmsghdr> messages, uint32_t count,
                             int flags, UserIn<SocketTimespec> timeout) {
  SocketRef s = TRY(SocketRef::get(task, fd));
  uint64_t end_ns = UINT64_MAX;
  if (timeout) {
    const SocketTimespec t = TRY(timeout.get(task.park(), task.mm()));
    if (t.sec < 0 || t.nsec < 0 || t.nsec >= 1'000'000'000) return Err(Errno::kINVAL);
    end_ns = task.kernel.clock.monotonic_ns() +
             std::min<uint64_t>(static_cast<uint64_t>(t.sec), 1u << 30) * kNsPerSec +
             static_cast<uint64_t>(t.nsec);
  }
  count = std::min(count, kMaxMessages);
  int64_t done = 0;
  for (uint32_t i = 0; i < count; ++i) {
    auto step = [&]() -> Result<> {
      UserMmsghdr m = TRY(messages.get(task.park(), task.mm(), i));
      const int64_t n = TRY(receive_message(task, s, m.header, flags & ~MSG_WAITFORONE));
      const uint64_t at = messages.addr + i * sizeof m;
      TRY(store_header(task, at, m.header));
      UserOut<uint32_t> len{{at + offsetof(UserMmsghdr, len)}};
      return len.put(task.park(), task.mm(), static_cast<uint32_t>(n));
    };
    if (auto r = step(); !r) return done > 0 ? Result<int64_t>(done) : Err(r.error());
    ++done;
    if (flags & MSG_WAITFORONE) flags |= MSG_DONTWAIT;
    // recvmmsg(2), BUGS: the timeout is looked at after each message only.
    if (task.kernel.clock.monotonic_ns() >= end_ns) break;
  }
  return done;
}

}  // namespace uk
