// The calls of sockets (socket(7)). Addresses, options and messages come from the guest and are
// bounded here; AF_UNIX is the one family.
#pragma once

#include <array>

#include "syscalls/decode.h"

namespace uk {

struct UserMsghdr {
  uint64_t name;
  uint32_t name_len;
  uint32_t pad0;
  uint64_t iov;
  uint64_t iov_len;
  uint64_t control;
  uint64_t control_len;
  uint32_t flags;
  uint32_t pad1;
};
static_assert(sizeof(UserMsghdr) == 56);

struct UserMmsghdr {
  UserMsghdr header;
  uint32_t len;
  uint32_t pad;
};
static_assert(sizeof(UserMmsghdr) == 64);

struct SocketTimespec {
  int64_t sec;
  int64_t nsec;
};

// socket.cc
Result<int64_t> sys_socket(Task& task, int family, int type, int protocol);
Result<int64_t> sys_socketpair(Task& task, int family, int type, int protocol,
                               UserOut<std::array<int32_t, 2>> fds);
Result<int64_t> sys_bind(Task& task, Fd fd, UserAddr address, int len);
Result<int64_t> sys_listen(Task& task, Fd fd, int backlog);
Result<int64_t> sys_accept(Task& task, Fd fd, UserAddr address, UserInOut<int32_t> len);
Result<int64_t> sys_accept4(Task& task, Fd fd, UserAddr address, UserInOut<int32_t> len, int flags);
Result<int64_t> sys_connect(Task& task, Fd fd, UserAddr address, int len);
Result<int64_t> sys_getsockname(Task& task, Fd fd, UserAddr address, UserInOut<int32_t> len);
Result<int64_t> sys_getpeername(Task& task, Fd fd, UserAddr address, UserInOut<int32_t> len);
Result<int64_t> sys_shutdown(Task& task, Fd fd, int how);
Result<int64_t> sys_setsockopt(Task& task, Fd fd, int level, int name, UserAddr value, int len);
Result<int64_t> sys_getsockopt(Task& task, Fd fd, int level, int name, UserAddr value,
                               UserInOut<int32_t> len);
// socket_message.cc
Result<int64_t> sys_sendto(Task& task, Fd fd, UserIn<std::byte> data, size_t len, int flags,
                           UserAddr address, int address_len);
Result<int64_t> sys_recvfrom(Task& task, Fd fd, UserOut<std::byte> data, size_t len, int flags,
                             UserAddr address, UserInOut<int32_t> address_len);
Result<int64_t> sys_sendmsg(Task& task, Fd fd, UserIn<UserMsghdr> message, int flags);
Result<int64_t> sys_recvmsg(Task& task, Fd fd, UserInOut<UserMsghdr> message, int flags);
Result<int64_t> sys_sendmmsg(Task& task, Fd fd, UserInOut<UserMmsghdr> messages, uint32_t count,
                             int flags);
Result<int64_t> sys_recvmmsg(Task& task, Fd fd, UserInOut<UserMmsghdr> messages, uint32_t count,
                             int flags, UserIn<SocketTimespec> timeout);

}  // namespace uk
