#include <sys/socket.h>

#include "syscalls/socket_common.h"
#include "syscalls/uring/ops.h"

namespace uk::uring {
namespace {

constexpr uint32_t kPollFirst = IORING_RECVSEND_POLL_FIRST;

void take_flags(Request& r) {
  const auto flags = static_cast<int>(r.sqe().msg_flags);
  r.nowait = (flags & MSG_DONTWAIT) != 0;
  r.must_wait = (flags & MSG_WAITALL) != 0;
}

// ---- send, recv: one buffer

Result<> prepare_send(Task& task, Request& r) {
  const Sqe& s = r.sqe();
  if ((s.ioprio & ~kPollFirst) != 0) return Err(Errno::kINVAL);
  if (s.addr_len != 0 && s.off != 0)
    r.prepared.address = TRY(fetch_address(task, {s.off}, s.addr_len));
  take_flags(r);
  r.wanted = (s.msg_flags & MSG_WAITALL) != 0 ? static_cast<int64_t>(s.len) : 0;
  return {};
}
Result<int64_t> run_send(Task& worker, Request& r) {
  SocketRef socket = TRY(SocketRef::of(r.file));
  const Sqe& s = r.sqe();
  UserSource data(worker.mm(), s.addr, std::min<size_t>(s.len, kMaxRw));
  SendMessage m{.data = data,
                .to = r.prepared.address,
                .flags = static_cast<int>(s.msg_flags) | MSG_NOSIGNAL,
                .creds = real_creds(worker)};
  return do_send(worker, socket, m, socket->nonblock());
}

Result<> prepare_recv(Task&, Request& r) {
  const Sqe& s = r.sqe();
  if ((s.ioprio & ~(kPollFirst | IORING_RECV_MULTISHOT)) != 0) return Err(Errno::kINVAL);
  TRY(unused({s.off}));
  take_flags(r);
  if ((s.ioprio & IORING_RECV_MULTISHOT) != 0) {
    if (!r.flag(IOSQE_BUFFER_SELECT) || (s.msg_flags & MSG_WAITALL) != 0) return Err(Errno::kINVAL);
    r.multishot = true;
  }
  r.wanted = (s.msg_flags & MSG_WAITALL) != 0 ? static_cast<int64_t>(s.len) : 0;
  return {};
}
Result<int64_t> run_recv(Task& worker, Request& r) {
  SocketRef socket = TRY(SocketRef::of(r.file));
  const Sqe& s = r.sqe();
  uint64_t at = s.addr, len = s.len;
  if (r.flag(IOSQE_BUFFER_SELECT)) {
    const ChosenBuffer b = TRY(r.choose_buffer(worker, len));
    at = b.addr;
    len = b.len;
  }
  UserSink data(worker.mm(), at, std::min<size_t>(len, kMaxRw));
  ReceiveMessage m{.data = data,
                   .flags = static_cast<int>(s.msg_flags),
                   .nonblock = socket->nonblock() || (s.msg_flags & MSG_DONTWAIT) != 0};
  return static_cast<int64_t>(TRY(socket->receive(worker.park(), m)));
}

// ---- sendmsg, recvmsg

Result<> prepare_message(Task& task, Request& r) {
  const Sqe& s = r.sqe();
  TRY(unused({s.off, static_cast<uint32_t>(s.splice_fd_in)}));
  if ((s.ioprio & ~kPollFirst) != 0) return Err(Errno::kINVAL);
  take_flags(r);
  UserMsghdr& h = r.prepared.message;
  h = TRY(UserIn<UserMsghdr>{{s.addr}}.get(task.park(), task.mm()));
  if (h.iov_len > 1024) return Err(Errno::kMSGSIZE);
  auto& iov = r.prepared.rw.iov;
  iov = TRY(fetch_iovec(task.park(), task.mm(), {h.iov}, h.iov_len));
  return r.charge(iov.size() * sizeof(UserIovec));
}
Result<> prepare_sendmsg(Task& task, Request& r) {
  TRY(prepare_message(task, r));
  const UserMsghdr& h = r.prepared.message;
  if (h.name != 0 && h.name_len != 0) {
    if (h.name_len > INT32_MAX) return Err(Errno::kINVAL);
    r.prepared.address =
        TRY(fetch_address(task, {h.name}, std::min<uint32_t>(h.name_len, kMaxAddress)));
  }
  return {};
}
Result<> prepare_recvmsg(Task& task, Request& r) {
  TRY(prepare_message(task, r));
  if (r.flag(IOSQE_BUFFER_SELECT) && r.prepared.rw.iov.size() > 1) return Err(Errno::kINVAL);
  if (r.prepared.message.name != 0 && r.prepared.message.name_len > INT32_MAX)
    return Err(Errno::kINVAL);
  return {};
}

Result<int64_t> run_sendmsg(Task& worker, Request& r) {
  SocketRef socket = TRY(SocketRef::of(r.file));
  return send_pieces(worker, socket, r.prepared.message, r.prepared.rw.iov, r.prepared.address,
                     static_cast<int>(r.sqe().msg_flags) | MSG_NOSIGNAL);
}
Result<int64_t> run_recvmsg(Task& worker, Request& r) {
  SocketRef socket = TRY(SocketRef::of(r.file));
  std::vector<UserIovec> iov = r.prepared.rw.iov;
  if (r.flag(IOSQE_BUFFER_SELECT)) {
    const ChosenBuffer b = TRY(r.choose_buffer(worker, iov.empty() ? 0 : iov[0].len));
    iov = {UserIovec{b.addr, b.len}};
  }
  UserMsghdr h = r.prepared.message;
  const int64_t n =
      TRY(receive_pieces(worker, socket, h, std::move(iov), static_cast<int>(r.sqe().msg_flags)));
  TRY(store_header(worker, r.sqe().addr, h));
  return n;
}

// ---- connections

Result<> prepare_accept(Task&, Request& r) {
  const Sqe& s = r.sqe();
  TRY(unused({s.len, s.buf_index}));
  if ((s.ioprio & ~(IORING_ACCEPT_MULTISHOT | kAcceptDontWait | kAcceptPollFirst)) != 0)
    return Err(Errno::kINVAL);
  if ((s.accept_flags & ~static_cast<uint32_t>(SOCK_CLOEXEC | SOCK_NONBLOCK)) != 0)
    return Err(Errno::kINVAL);
  if (s.file_index != 0 && (s.accept_flags & SOCK_CLOEXEC) != 0) return Err(Errno::kINVAL);
  r.multishot = (s.ioprio & IORING_ACCEPT_MULTISHOT) != 0;
  // Each of many needs a place of its own.
  if (r.multishot && s.file_index != 0 && static_cast<uint32_t>(s.file_index) != ~0u)
    return Err(Errno::kINVAL);
  r.nowait = (s.ioprio & kAcceptDontWait) != 0;
  return {};
}
Result<int64_t> run_accept(Task& worker, Request& r) {
  SocketRef socket = TRY(SocketRef::of(r.file));
  const Sqe& s = r.sqe();
  UserInOut<int32_t> len;
  len.addr = s.off;
  Ref<File> peer =
      TRY(accept_socket(worker, socket, {s.addr}, len, static_cast<int>(s.accept_flags)));
  return place_file(worker, r, std::move(peer), (s.accept_flags & SOCK_CLOEXEC) != 0);
}

Result<> prepare_address(Task& task, Request& r) {
  const Sqe& s = r.sqe();
  TRY(unused({s.len, s.buf_index, static_cast<uint32_t>(s.rw_flags),
              static_cast<uint32_t>(s.splice_fd_in)}));
  r.prepared.address = TRY(fetch_address(task, {s.addr}, static_cast<int64_t>(s.off)));
  return {};
}
Result<int64_t> run_connect(Task& worker, Request& r) {
  SocketRef socket = TRY(SocketRef::of(r.file));
  return zero(socket->connect(worker.park(), Caller(worker), r.prepared.address));
}
Result<int64_t> run_bind(Task& worker, Request& r) {
  SocketRef socket = TRY(SocketRef::of(r.file));
  return zero(socket->bind(worker.park(), Caller(worker), r.prepared.address));
}

Result<> prepare_listen(Task&, Request& r) {
  const Sqe& s = r.sqe();
  return unused({s.addr, s.buf_index, static_cast<uint32_t>(s.rw_flags),
                 static_cast<uint32_t>(s.splice_fd_in), s.off});
}
Result<int64_t> run_listen(Task& worker, Request& r) {
  SocketRef socket = TRY(SocketRef::of(r.file));
  return zero(socket->listen(Caller(worker), static_cast<int>(r.sqe().len)));
}

Result<> prepare_shutdown(Task&, Request& r) {
  const Sqe& s = r.sqe();
  return unused({s.off, s.addr, static_cast<uint32_t>(s.rw_flags), s.buf_index,
                 static_cast<uint32_t>(s.splice_fd_in)});
}
Result<int64_t> run_shutdown(Task&, Request& r) {
  SocketRef socket = TRY(SocketRef::of(r.file));
  return zero(socket->shutdown(static_cast<int>(r.sqe().len)));
}

Result<> prepare_socket(Task&, Request& r) {
  const Sqe& s = r.sqe();
  TRY(unused({s.addr, static_cast<uint32_t>(s.rw_flags), s.buf_index}));
  const auto type = static_cast<uint32_t>(s.off);
  if (s.file_index != 0 && (type & SOCK_CLOEXEC) != 0) return Err(Errno::kINVAL);
  return {};
}
Result<int64_t> run_socket(Task& worker, Request& r) {
  const Sqe& s = r.sqe();
  const int64_t fd =
      TRY(sys_socket(worker, s.fd, static_cast<int>(s.off), static_cast<int>(s.len)));
  if (s.file_index == 0) return fd;
  return place_file(worker, r, TRY(worker.fds().remove(static_cast<int>(fd))), false);
}

}  // namespace

constexpr Op kAccept{
    .prepare = prepare_accept, .run = run_accept, .poll = POLLIN, .file = true, .ioprio = true};
constexpr Op kConnect{.prepare = prepare_address, .run = run_connect, .file = true};
constexpr Op kSend{.prepare = prepare_send,
                   .run = run_send,
                   .poll = POLLOUT,
                   .file = true,
                   .short_fails = true,
                   .ioprio = true};
constexpr Op kRecv{.prepare = prepare_recv,
                   .run = run_recv,
                   .poll = POLLIN,
                   .file = true,
                   .short_fails = true,
                   .select = true,
                   .ioprio = true};
constexpr Op kSendmsg{
    .prepare = prepare_sendmsg, .run = run_sendmsg, .poll = POLLOUT, .file = true, .ioprio = true};
constexpr Op kRecvmsg{.prepare = prepare_recvmsg,
                      .run = run_recvmsg,
                      .poll = POLLIN,
                      .file = true,
                      .select = true,
                      .ioprio = true};
constexpr Op kShutdown{.prepare = prepare_shutdown, .run = run_shutdown, .file = true};
constexpr Op kSocket{.prepare = prepare_socket, .run = run_socket};
constexpr Op kBind{.prepare = prepare_address, .run = run_bind, .file = true};
constexpr Op kListen{.prepare = prepare_listen, .run = run_listen, .file = true};

}  // namespace uk::uring
