// Host calls on sockets: what the kernel needs to hand descriptors to its stubs and to talk to host
// services. See fd.h.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "hostio/sys/fd.h"

namespace uk::sys {

Result<Fd> socket(int domain, int type, int protocol = 0);
struct SocketPair {
  Fd a, b;
};
Result<SocketPair> socketpair(int domain, int type, int protocol = 0);
Result<> bind(int fd, const struct sockaddr* addr, socklen_t len);
Result<> listen(int fd, int backlog);
Result<> connect(int fd, const struct sockaddr* addr, socklen_t len);
Result<Fd> accept(int fd, int flags = 0);
Result<size_t> send(int fd, std::span<const std::byte> buf, int flags = 0);
Result<size_t> recv(int fd, std::span<std::byte> buf, int flags = 0);
Result<size_t> sendmsg(int fd, const struct msghdr& msg, int flags = 0);
Result<size_t> recvmsg(int fd, struct msghdr& msg, int flags = 0);
Result<> setsockopt(int fd, int level, int name, const void* value, socklen_t len);
Result<> shutdown(int fd, int how);
// Who connected to, or listens at, the other end of an AF_UNIX socket (SO_PEERCRED).
Result<struct ucred> peer_credentials(int fd);

// Sends data (at least one byte) with one descriptor attached (unix(7), SCM_RIGHTS).
Result<size_t> send_fd(int sock, std::span<const std::byte> data, int fd);
struct ReceivedFd {
  size_t bytes = 0;
  Fd fd;  // empty if none came
};
Result<ReceivedFd> recv_fd(int sock, std::span<std::byte> buf, int flags = 0);

}  // namespace uk::sys
