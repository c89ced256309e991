#include "hostio/sys/socket.h"

#include <string.h>
#include <sys/uio.h>

#include "hostio/sys/ret.h"

namespace uk::sys {

using internal::ret;
using internal::ret_fd;
using internal::ret_void;

Result<Fd> socket(int domain, int type, int protocol) {
  return ret_fd(::socket(domain, type | SOCK_CLOEXEC, protocol));
}
Result<SocketPair> socketpair(int domain, int type, int protocol) {
  int fds[2];
  TRY(ret_void(::socketpair(domain, type | SOCK_CLOEXEC, protocol, fds)));
  return SocketPair{Fd(fds[0]), Fd(fds[1])};
}
Result<> bind(int fd, const struct sockaddr* addr, socklen_t len) {
  return ret_void(::bind(fd, addr, len));
}
Result<> listen(int fd, int backlog) { return ret_void(::listen(fd, backlog)); }
Result<> connect(int fd, const struct sockaddr* addr, socklen_t len) {
  return ret_void(::connect(fd, addr, len));
}
Result<Fd> accept(int fd, int flags) {
  return ret_fd(::accept4(fd, nullptr, nullptr, flags | SOCK_CLOEXEC));
}
Result<size_t> send(int fd, std::span<const std::byte> buf, int flags) {
  return ret<size_t>(::send(fd, buf.data(), buf.size(), flags | MSG_NOSIGNAL));
}
Result<size_t> recv(int fd, std::span<std::byte> buf, int flags) {
  return ret<size_t>(::recv(fd, buf.data(), buf.size(), flags));
}
Result<size_t> sendmsg(int fd, const struct msghdr& msg, int flags) {
  return ret<size_t>(::sendmsg(fd, &msg, flags | MSG_NOSIGNAL));
}
Result<size_t> recvmsg(int fd, struct msghdr& msg, int flags) {
  return ret<size_t>(::recvmsg(fd, &msg, flags | MSG_CMSG_CLOEXEC));
}
Result<> setsockopt(int fd, int level, int name, const void* value, socklen_t len) {
  return ret_void(::setsockopt(fd, level, name, value, len));
}
Result<struct ucred> peer_credentials(int fd) {
  struct ucred who = {};
  socklen_t len = sizeof(who);
  TRY(ret_void(::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len)));
  return who;
}
Result<> shutdown(int fd, int how) { return ret_void(::shutdown(fd, how)); }

Result<size_t> send_fd(int sock, std::span<const std::byte> data, int fd) {
  struct iovec iov = {const_cast<std::byte*>(data.data()), data.size()};
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  struct msghdr msg = {};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  msg.msg_control = control;
  msg.msg_controllen = sizeof(control);
  struct cmsghdr* c = CMSG_FIRSTHDR(&msg);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(c), &fd, sizeof(fd));
  return sendmsg(sock, msg);
}

Result<ReceivedFd> recv_fd(int sock, std::span<std::byte> buf, int flags) {
  struct iovec iov = {buf.data(), buf.size()};
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  struct msghdr msg = {};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  msg.msg_control = control;
  msg.msg_controllen = sizeof(control);
  ReceivedFd got;
  got.bytes = TRY(recvmsg(sock, msg, flags));
  for (struct cmsghdr* c = CMSG_FIRSTHDR(&msg); c != nullptr; c = CMSG_NXTHDR(&msg, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    int fd = -1;
    if (c->cmsg_len != CMSG_LEN(sizeof(fd))) continue;
    memcpy(&fd, CMSG_DATA(c), sizeof(fd));
    got.fd = Fd(fd);
  }
  return got;
}

}  // namespace uk::sys
