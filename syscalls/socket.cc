#include "syscalls/socket.h"

#include <sys/socket.h>

#include "syscalls/fs_async.h"
#include "syscalls/socket_common.h"
#include "ukernel/net/netlink/protocols.h"
#include "ukernel/net/sockfs.h"
#include "ukernel/net/unix/unix_socket.h"
#include "ukernel/task/current.h"
#include "ukernel/task/identity.h"
#include "ukernel/task/pidfd.h"

namespace uk {
namespace {

constexpr int kTypeMask = 0xf;
constexpr size_t kMaxOption = 4096;

// The table of the instance, made with its first socket.
std::shared_ptr<UnixSockets> unix_sockets(Kernel& kernel) {
  if (!kernel.unix_sockets) {
    kernel.unix_sockets = std::make_shared<UnixSockets>();
    kernel.unix_sockets->current_process = [&reactor = kernel.reactor]() -> RefCounted* {
      Task* t = current_task(reactor);
      return t == nullptr ? nullptr : t->group.get();
    };
    kernel.unix_sockets->urgent = [&kernel](const File& file) { signal_urgent(kernel, file); };
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
  if (family != AF_UNIX && family != AF_NETLINK) return Err(Errno::kAFNOSUPPORT);
  if (type < 0 || type > SOCK_PACKET) return Err(Errno::kINVAL);
  return {};
}

const NetlinkSockets& netlink_sockets(Kernel& kernel) {
  if (!kernel.netlink_sockets) kernel.netlink_sockets = make_netlink_sockets(kernel);
  return *kernel.netlink_sockets;
}

Result<Ref<Socket>> make_netlink(Task& task, const TypeFlags& t, int protocol) {
  Kernel& k = task.kernel;
  TRY(check_netlink(netlink_sockets(k), t.type, protocol));
  const std::shared_ptr<UnixSockets> names = unix_sockets(k);
  Path path =
      make_socket_path(names->sockfs(), names->new_ino(), task.cred(), k.vfs.now(), "NETLINK");
  return Ref<Socket>(make_ref<NetlinkSocket>(std::move(path), O_RDWR | t.file_flags,
                                             k.netlink_sockets, t.type, protocol, task.cred_));
}

constexpr int kPeerPidfd = 77;  // SO_PEERPIDFD

Result<int64_t> peer_pidfd(Task& task, SocketRef& s, UserAddr value, UserInOut<int32_t> len,
                           int32_t room) {
  auto* group = dynamic_cast<ThreadGroup*>(s->peer_process().get());
  if (group == nullptr) return Err(Errno::kNODATA);
  const int32_t fd = TRY(install_pidfd(task, Ref<ThreadGroup>(group), 0));
  const size_t n = std::min<size_t>(static_cast<size_t>(room), sizeof fd);
  auto stored = UserOut<char>{value}.put_array(task.park(), task.mm(),
                                               std::span(reinterpret_cast<const char*>(&fd), n));
  if (stored) stored = len.put(task.park(), task.mm(), static_cast<int32_t>(n));
  if (!stored) {
    (void)task.fds().close(task.park(), fd);
    return Err(stored.error());
  }
  return 0;
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
  if (family == AF_NETLINK)
    return install_fd(task, TRY(make_netlink(task, t, protocol)), t.cloexec);
  Ref<Socket> s = TRY(make_unix_socket(unix_sockets(task.kernel), t.type, protocol, t.file_flags,
                                       task.cred(), task.kernel.vfs.now()));
  return install_fd(task, s, t.cloexec);
}

Result<int64_t> sys_socketpair(Task& task, int family, int type, int protocol,
                               UserOut<std::array<int32_t, 2>> fds) {
  const TypeFlags t = TRY(split_type(type));
  TRY(check_family(family, t.type));
  if (family == AF_NETLINK) {
    TRY(check_netlink(netlink_sockets(task.kernel), t.type, protocol));
    return Err(Errno::kOPNOTSUPP);
  }
  const UserCreds who{task.tgid(), task.cred().euid, task.cred().egid};
  UnixPair pair = TRY(make_unix_pair(unix_sockets(task.kernel), t.type, protocol, t.file_flags,
                                     task.cred(), who, task.kernel.vfs.now(), task.group.get()));
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
  TRY(task.fds().get_io(fd));
  if ((flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) != 0) return Err(Errno::kINVAL);
  if (task.fds().full(task.rlimit(RLIMIT_NOFILE).cur)) return Err(Errno::kMFILE);
  SocketRef s = TRY(SocketRef::get(task, fd));
  Ref<File> peer = TRY(accept_socket(task, s, address, len, flags));
  return install_fd(task, peer, (flags & SOCK_CLOEXEC) != 0);
}

Result<Ref<File>> accept_socket(Task& task, SocketRef& s, UserAddr address, UserInOut<int32_t> len,
                                int flags) {
  if ((flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) != 0) return Err(Errno::kINVAL);
  Ref<Socket> peer = TRY(s->accept(task.park(), Caller(task), flags & SOCK_NONBLOCK));
  if (address) {
    std::string name;
    if (auto known = peer->peer_address()) name = *known;
    TRY(store_address(task, address, len, name));
  }
  return Ref<File>(peer);
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
  if (level == SOL_SOCKET && name == kPeerPidfd && s->family() == AF_UNIX)
    return peer_pidfd(task, s, value, len, room);
  std::string bytes = TRY(s->get_option(level, name));
  if (level == SOL_SOCKET && name == SO_PEERCRED && bytes.size() == sizeof(UserCreds)) {
    UserCreds creds;
    std::memcpy(&creds, bytes.data(), sizeof creds);
    creds = shown_creds(task, creds);
    std::memcpy(bytes.data(), &creds, sizeof creds);
  }
  if (level == SOL_SOCKET && name == SO_PEERGROUPS) {
    for (size_t at = 0; at + sizeof(uint32_t) <= bytes.size(); at += sizeof(uint32_t)) {
      uint32_t gid;
      std::memcpy(&gid, bytes.data() + at, sizeof gid);
      gid = shown_gid(task, gid);
      std::memcpy(bytes.data() + at, &gid, sizeof gid);
    }
  }
  if (level == SOL_SOCKET && name == SO_COOKIE && room != static_cast<int>(bytes.size()))
    return Err(Errno::kINVAL);
  if (level == SOL_SOCKET && name == SO_PEERGROUPS && static_cast<size_t>(room) < bytes.size()) {
    TRY(len.put(task.park(), task.mm(), static_cast<int32_t>(bytes.size())));
    return Err(Errno::kRANGE);
  }
  bytes.resize(std::min(bytes.size(), static_cast<size_t>(room)));
  TRY(UserOut<char>{value}.put_array(task.park(), task.mm(), std::span(bytes)));
  return zero(len.put(task.park(), task.mm(), static_cast<int32_t>(bytes.size())));
}

}  // namespace uk
