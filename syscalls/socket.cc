#include "syscalls/socket.h"

#include <sys/socket.h>

#include "syscalls/socket_common.h"
#include "ukernel/net/unix/unix_socket.h"
#include "ukernel/task/current.h"

namespace uk {
namespace {

constexpr int kTypeMask = 0xf;
constexpr size_t kMaxOption = 4096;

// The table of the instance, made with its first socket.
std::shared_ptr<UnixSockets> unix_sockets(Kernel& kernel) {
  if (!kernel.unix_sockets) {
    kernel.unix_sockets = std::make_shared<UnixSockets>();
    kernel.unix_sockets->current = [&reactor = kernel.reactor]() -> UserCreds {
      Task* t = current_task(reactor);
      if (t == nullptr) return {};
      return {t->tgid(), t->cred().uid, t->cred().gid};
    };
  }
  return kernel.unix_sockets;
}

struct TypeFlags {
  int type, file_flags;
  bool cloexec;
};
Result<TypeFlags> split_type(int type) {
  const int flags = type & ~kTypeMask;
  if ((flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) != 0) return Err(Errno::kINVAL);
  return TypeFlags{type & kTypeMask, flags & SOCK_NONBLOCK, (flags & SOCK_CLOEXEC) != 0};
}

Result<> check_family(int family, int type) {
  if (family != AF_UNIX) return Err(Errno::kAFNOSUPPORT);
  if (type < 0 || type > SOCK_PACKET) return Err(Errno::kINVAL);
  return {};
}

}  // namespace

Result<std::string> fetch_address(Task& task, UserAddr address, int64_t len) {
  if (len < 0 || len > static_cast<int64_t>(kMaxAddress)) return Err(Errno::kINVAL);
  std::vector<char> bytes =
      TRY(UserIn<char>{address}.get_array(task.park(), task.mm(), static_cast<size_t>(len)));
  return std::string(bytes.begin(), bytes.end());
}

Result<> store_address(Task& task, UserAddr to, UserInOut<int32_t> len, std::string_view address) {
  if (!to) return {};
  const int32_t room = TRY(len.get(task.park(), task.mm()));
  if (room < 0) return Err(Errno::kINVAL);
  const size_t n = std::min(static_cast<size_t>(room), address.size());
  TRY(UserOut<char>{to}.put_array(task.park(), task.mm(), std::span(address.data(), n)));
  return len.put(task.park(), task.mm(), static_cast<int32_t>(address.size()));
}

Result<int64_t> sys_socket(Task& task, int family, int type, int protocol) {
  const TypeFlags t = TRY(split_type(type));
  TRY(check_family(family, t.type));
  Ref<Socket> s = TRY(make_unix_socket(unix_sockets(task.kernel), t.type, protocol, t.file_flags,
                                       task.cred(), task.kernel.vfs.now()));
  return install_fd(task, s, t.cloexec);
}

Result<int64_t> sys_socketpair(Task& task, int family, int type, int protocol,
                               UserOut<std::array<int32_t, 2>> fds) {
  const TypeFlags t = TRY(split_type(type));
  TRY(check_family(family, t.type));
  const UserCreds who{task.tgid(), task.cred().euid, task.cred().egid};
  UnixPair pair = TRY(make_unix_pair(unix_sockets(task.kernel), t.type, protocol, t.file_flags,
                                     task.cred(), who, task.kernel.vfs.now()));
  std::array<int32_t, 2> numbers{};
  numbers[0] = static_cast<int32_t>(TRY(install_fd(task, pair.a, t.cloexec)));
  auto second = install_fd(task, pair.b, t.cloexec);
  if (!second) {
    (void)task.fds().close(task.park(), numbers[0]);
    return second;
  }
  numbers[1] = static_cast<int32_t>(*second);
  if (auto put = fds.put(task.park(), task.mm(), numbers); !put) {
    for (int fd : numbers) (void)task.fds().close(task.park(), fd);
    return Err(put.error());
  }
  return 0;
}

Result<int64_t> sys_bind(Task& task, Fd fd, UserAddr address, int len) {
  SocketRef s = TRY(SocketRef::get(task, fd));
  return zero(s->bind(task.park(), Caller(task), TRY(fetch_address(task, address, len))));
}

Result<int64_t> sys_listen(Task& task, Fd fd, int backlog) {
  SocketRef s = TRY(SocketRef::get(task, fd));
  return zero(s->listen(Caller(task), backlog));
}

Result<int64_t> sys_accept(Task& task, Fd fd, UserAddr address, UserInOut<int32_t> len) {
  return sys_accept4(task, fd, address, len, 0);
}

Result<int64_t> sys_accept4(Task& task, Fd fd, UserAddr address, UserInOut<int32_t> len,
                            int flags) {
  if ((flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) != 0) return Err(Errno::kINVAL);
  SocketRef s = TRY(SocketRef::get(task, fd));
  Ref<Socket> peer = TRY(s->accept(task.park(), Caller(task), flags & SOCK_NONBLOCK));
  if (address) {
    std::string name;
    if (auto known = peer->peer_address()) name = *known;
    TRY(store_address(task, address, len, name));
  }
  return install_fd(task, peer, (flags & SOCK_CLOEXEC) != 0);
}

Result<int64_t> sys_connect(Task& task, Fd fd, UserAddr address, int len) {
  SocketRef s = TRY(SocketRef::get(task, fd));
  return zero(s->connect(task.park(), Caller(task), TRY(fetch_address(task, address, len))));
}

Result<int64_t> sys_getsockname(Task& task, Fd fd, UserAddr address, UserInOut<int32_t> len) {
  SocketRef s = TRY(SocketRef::get(task, fd));
  return zero(store_address(task, address, len, TRY(s->local_address())));
}

Result<int64_t> sys_getpeername(Task& task, Fd fd, UserAddr address, UserInOut<int32_t> len) {
  SocketRef s = TRY(SocketRef::get(task, fd));
  return zero(store_address(task, address, len, TRY(s->peer_address())));
}

Result<int64_t> sys_shutdown(Task& task, Fd fd, int how) {
  SocketRef s = TRY(SocketRef::get(task, fd));
  return zero(s->shutdown(how));
}

Result<int64_t> sys_setsockopt(Task& task, Fd fd, int level, int name, UserAddr value, int len) {
  SocketRef s = TRY(SocketRef::get(task, fd));
  if (len < 0) return Err(Errno::kINVAL);
  const size_t n = std::min(static_cast<size_t>(len), kMaxOption);
  std::vector<char> bytes = TRY(UserIn<char>{value}.get_array(task.park(), task.mm(), n));
  return zero(s->set_option(Caller(task), level, name, std::string_view(bytes.data(), n)));
}

Result<int64_t> sys_getsockopt(Task& task, Fd fd, int level, int name, UserAddr value,
                               UserInOut<int32_t> len) {
  SocketRef s = TRY(SocketRef::get(task, fd));
  const int32_t room = TRY(len.get(task.park(), task.mm()));
  if (room < 0) return Err(Errno::kINVAL);
  std::string bytes = TRY(s->get_option(level, name));
  bytes.resize(std::min(bytes.size(), static_cast<size_t>(room)));
  TRY(UserOut<char>{value}.put_array(task.park(), task.mm(), std::span(bytes)));
  return zero(len.put(task.park(), task.mm(), static_cast<int32_t>(bytes.size())));
}

}  // namespace uk
