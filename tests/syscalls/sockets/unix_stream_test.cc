// AF_UNIX stream sockets: pairs, listening, connecting, shutting down, options.
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#include <thread>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

struct Address {
  sockaddr_un un = {};
  socklen_t len;
  explicit Address(const std::string& path) {
    un.sun_family = AF_UNIX;
    memcpy(un.sun_path, path.data(), path.size());
    len = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() +
                                 (path.empty() || path[0] == 0 ? 0 : 1));
  }
  sockaddr* sa() { return reinterpret_cast<sockaddr*>(&un); }
};

struct SocketPair {
  Fd a, b;
  explicit SocketPair(int type = SOCK_STREAM) {
    int sv[2];
    EXPECT_OK(socketpair(AF_UNIX, type, 0, sv));
    a = Fd(sv[0]);
    b = Fd(sv[1]);
  }
};

TEST(socketpair, StreamBothWays) {
  int sv[2];
  ASSERT_OK(syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv));
  Fd a(sv[0]), b(sv[1]);
  EXPECT_EQ(fcntl(a, F_GETFD), FD_CLOEXEC);
  EXPECT_TRUE(fcntl(b, F_GETFL) & O_NONBLOCK);
  EXPECT_EQ(write(a, "ab", 2), 2);
  EXPECT_EQ(write(a, "cd", 2), 2);
  char text[8] = {};
  EXPECT_EQ(read(b, text, 8), 4) << "a stream has no boundaries";
  EXPECT_ERRNO(EAGAIN, read(b, text, 8));
  EXPECT_EQ(write(b, "x", 1), 1);
  EXPECT_EQ(read(a, text, 8), 1);
  a.reset();
  EXPECT_EQ(read(b, text, 8), 0);
  ScopedHandler ignore(SIGPIPE, SIG_IGN);
  EXPECT_ERRNO(EPIPE, write(b, "x", 1));
}

TEST(socketpair, Errors) {
  int sv[2];
  EXPECT_ERRNO(EINVAL, syscall(SYS_socketpair, AF_UNIX, 77, 0, sv));
  EXPECT_ERRNO(EPROTONOSUPPORT, syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 99, sv));
  EXPECT_ERRNO(EAFNOSUPPORT, syscall(SYS_socketpair, 999, SOCK_STREAM, 0, sv));
  EXPECT_ERRNO(EFAULT, syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, BadPointer()));
}

TEST(socket, CreationAndErrors) {
  Fd s(syscall(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_OK(s.get());
  EXPECT_EQ(fcntl(s, F_GETFD), FD_CLOEXEC);
  struct stat st;
  ASSERT_OK(fstat(s, &st));
  EXPECT_TRUE(S_ISSOCK(st.st_mode));
  EXPECT_ERRNO(EAFNOSUPPORT, syscall(SYS_socket, 999, SOCK_STREAM, 0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_socket, AF_UNIX, 77, 0));
  EXPECT_ERRNO(EPROTONOSUPPORT, syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 99));
  char c;
  EXPECT_ERRNO(EINVAL, read(s, &c, 1));
  ScopedHandler ignore(SIGPIPE, SIG_IGN);
  EXPECT_ERRNO(ENOTCONN, write(s, "x", 1));
}

TEST(bind, ListenConnectAccept) {
  COVERS(listen, connect, accept, getsockname, getpeername);
  Scratch dir;
  Address addr(dir / "sock");
  Fd server(socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_listen, server.get(), 5)) << "not bound";
  EXPECT_OK(syscall(SYS_bind, server.get(), addr.sa(), addr.len));
  struct stat st;
  ASSERT_OK(stat((dir / "sock").c_str(), &st));
  EXPECT_TRUE(S_ISSOCK(st.st_mode));
  Fd client(socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_ERRNO(ECONNREFUSED, syscall(SYS_connect, client.get(), addr.sa(), addr.len));
  EXPECT_OK(syscall(SYS_listen, server.get(), 5));
  EXPECT_OK(syscall(SYS_connect, client.get(), addr.sa(), addr.len));
  EXPECT_ERRNO(EISCONN, syscall(SYS_connect, client.get(), addr.sa(), addr.len));
  sockaddr_un peer = {};
  socklen_t len = sizeof peer;
  Fd conn(syscall(SYS_accept, server.get(), &peer, &len));
  ASSERT_OK(conn.get());
  EXPECT_EQ(len, sizeof(sa_family_t)) << "the client has no name";
  EXPECT_EQ(write(client, "hi", 2), 2);
  char text[4] = {};
  EXPECT_EQ(read(conn, text, 4), 2);
  sockaddr_un name = {};
  len = sizeof name;
  EXPECT_OK(syscall(SYS_getsockname, conn.get(), &name, &len));
  EXPECT_EQ(std::string(name.sun_path), dir / "sock");
  EXPECT_EQ(len, addr.len);
  name = {};
  len = sizeof name;
  EXPECT_OK(syscall(SYS_getpeername, client.get(), &name, &len));
  EXPECT_EQ(std::string(name.sun_path), dir / "sock");
  EXPECT_ERRNO(ENOTCONN, syscall(SYS_getpeername, server.get(), &name, &len));
  len = 4;
  EXPECT_OK(syscall(SYS_getsockname, server.get(), &name, &len));
  EXPECT_EQ(len, addr.len) << "truncated, but the true length is told";
}

TEST(bind, Errors) {
  Scratch dir;
  dir.File("f");
  Fd s(socket(AF_UNIX, SOCK_STREAM, 0));
  Address taken(dir / "f"), missing(dir / "no/s"), good(dir / "s");
  EXPECT_ERRNO(EADDRINUSE, syscall(SYS_bind, s.get(), taken.sa(), taken.len));
  EXPECT_ERRNO(ENOENT, syscall(SYS_bind, s.get(), missing.sa(), missing.len));
  EXPECT_ERRNO(EINVAL, syscall(SYS_bind, s.get(), good.sa(), 1));
  EXPECT_ERRNO(EINVAL, syscall(SYS_bind, s.get(), good.sa(), 200));
  EXPECT_ERRNO(EFAULT, syscall(SYS_bind, s.get(), BadPointer(), good.len));
  EXPECT_OK(syscall(SYS_bind, s.get(), good.sa(), good.len));
  Address again(dir / "t");
  EXPECT_ERRNO(EINVAL, syscall(SYS_bind, s.get(), again.sa(), again.len)) << "bound already";
  EXPECT_ERRNO(EBADF, syscall(SYS_bind, kBadFd, good.sa(), good.len));
  Pipe p;
  EXPECT_ERRNO(ENOTSOCK, syscall(SYS_bind, p.r.get(), good.sa(), good.len));
}

TEST(connect, Errors) {
  Scratch dir;
  dir.File("f");
  Fd s(socket(AF_UNIX, SOCK_STREAM, 0));
  Address missing(dir / "none"), file(dir / "f");
  EXPECT_ERRNO(ENOENT, syscall(SYS_connect, s.get(), missing.sa(), missing.len));
  EXPECT_ERRNO(ECONNREFUSED, syscall(SYS_connect, s.get(), file.sa(), file.len));
  missing.un.sun_family = AF_INET;
  EXPECT_ERRNO(EINVAL, syscall(SYS_connect, s.get(), missing.sa(), missing.len));
  EXPECT_ERRNO(EBADF, syscall(SYS_connect, kBadFd, file.sa(), file.len));
}

TEST(bind, AbstractNamesAndAutobind) {
  std::string name = std::string(1, '\0') + "ukt-" + std::to_string(getpid());
  Address addr(name);
  Fd server(socket(AF_UNIX, SOCK_STREAM, 0)), client(socket(AF_UNIX, SOCK_STREAM, 0));
  ASSERT_OK(bind(server, addr.sa(), addr.len));
  ASSERT_OK(listen(server, 1));
  Fd second(socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_ERRNO(EADDRINUSE, bind(second, addr.sa(), addr.len));
  EXPECT_OK(connect(client, addr.sa(), addr.len));
  server.reset();
  EXPECT_OK(bind(second, addr.sa(), addr.len)) << "the name goes with its socket";
  Fd automatic(socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un un = {};
  un.sun_family = AF_UNIX;
  EXPECT_OK(bind(automatic, reinterpret_cast<sockaddr*>(&un), sizeof(sa_family_t)));
  socklen_t len = sizeof un;
  EXPECT_OK(getsockname(automatic, reinterpret_cast<sockaddr*>(&un), &len));
  EXPECT_EQ(len, sizeof(sa_family_t) + 6) << "a zero and five hexadecimal digits";
}

TEST(accept4, FlagsNonblockingAndBacklog) {
  Scratch dir;
  Address addr(dir / "s");
  Fd server(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
  ASSERT_OK(bind(server, addr.sa(), addr.len));
  EXPECT_ERRNO(EINVAL, syscall(SYS_accept4, server.get(), nullptr, nullptr, 0)) << "not listening";
  ASSERT_OK(listen(server, 1));
  EXPECT_ERRNO(EAGAIN, syscall(SYS_accept4, server.get(), nullptr, nullptr, 0));
  std::vector<Fd> clients;
  int connected = 0;
  for (int i = 0; i < 5; i++) {
    clients.emplace_back(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    if (connect(clients.back(), addr.sa(), addr.len) == 0) {
      connected++;
    } else {
      EXPECT_EQ(errno, EAGAIN) << "the backlog is full";
    }
  }
  EXPECT_EQ(connected, 2) << "backlog + 1";
  pollfd p = {server, POLLIN, 0};
  EXPECT_EQ(poll(&p, 1, 0), 1);
  Fd conn(syscall(SYS_accept4, server.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  ASSERT_OK(conn.get());
  EXPECT_EQ(fcntl(conn, F_GETFD), FD_CLOEXEC);
  EXPECT_TRUE(fcntl(conn, F_GETFL) & O_NONBLOCK);
  EXPECT_ERRNO(EINVAL, syscall(SYS_accept4, server.get(), nullptr, nullptr, 0x1));
  EXPECT_ERRNO(EBADF, syscall(SYS_accept4, kBadFd, nullptr, nullptr, 0));
  SocketPair pair;
  EXPECT_ERRNO(EINVAL, syscall(SYS_accept4, pair.a.get(), nullptr, nullptr, 0));
}

TEST(accept, BlocksUntilAClientComes) {
  Scratch dir;
  Address addr(dir / "s");
  Fd server(socket(AF_UNIX, SOCK_STREAM, 0));
  ASSERT_OK(bind(server, addr.sa(), addr.len));
  ASSERT_OK(listen(server, 5));
  pid_t child = Spawn([&] {
    Fd conn(accept(server, nullptr, nullptr));
    std::string got = ReadFd(conn);
    return got == "request" ? 0 : 1;
  });
  EXPECT_TRUE(WaitForState(child, 'S'));
  Fd client(socket(AF_UNIX, SOCK_STREAM, 0));
  ASSERT_OK(connect(client, addr.sa(), addr.len));
  EXPECT_EQ(write(client, "request", 7), 7);
  client.reset();
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(shutdown, HalvesTheConnection) {
  SocketPair s;
  EXPECT_OK(syscall(SYS_shutdown, s.a.get(), SHUT_WR));
  char c;
  EXPECT_EQ(read(s.b, &c, 1), 0);
  EXPECT_EQ(write(s.b, "x", 1), 1) << "the other direction works";
  EXPECT_EQ(read(s.a, &c, 1), 1);
  ScopedHandler ignore(SIGPIPE, SIG_IGN);
  EXPECT_ERRNO(EPIPE, write(s.a, "x", 1));
  EXPECT_ERRNO(EINVAL, syscall(SYS_shutdown, s.a.get(), 9));
  Fd lone(socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_OK(syscall(SYS_shutdown, lone.get(), SHUT_RDWR)) << "unconnected is no error here";
  EXPECT_ERRNO(EBADF, syscall(SYS_shutdown, kBadFd, SHUT_RDWR));
  SocketPair t;
  pid_t child = Spawn([&] {
    char d;
    return read(t.a, &d, 1) == 0 ? 0 : 1;
  });
  EXPECT_TRUE(WaitForState(child, 'S'));
  EXPECT_OK(shutdown(t.a, SHUT_RD)) << "wakes the reader";
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(sendto, AndRecvfromFlags) {
  COVERS(recvfrom);
  SocketPair s;
  EXPECT_EQ(syscall(SYS_sendto, s.a.get(), "hello", 5l, MSG_NOSIGNAL, nullptr, 0), 5);
  char text[16] = {};
  EXPECT_EQ(syscall(SYS_recvfrom, s.b.get(), text, 16l, MSG_PEEK, nullptr, nullptr), 5);
  EXPECT_EQ(syscall(SYS_recvfrom, s.b.get(), text, 3l, 0, nullptr, nullptr), 3);
  EXPECT_EQ(syscall(SYS_recvfrom, s.b.get(), text, 16l, 0, nullptr, nullptr), 2);
  EXPECT_ERRNO(EAGAIN, syscall(SYS_recvfrom, s.b.get(), text, 16l, MSG_DONTWAIT, nullptr, nullptr));
  EXPECT_EQ(write(s.a, "1234", 4), 4);
  pid_t child = Spawn([&] {
    char all[8];
    return recv(s.b, all, 8, MSG_WAITALL) == 8 && memcmp(all, "12345678", 8) == 0 ? 0 : 1;
  });
  EXPECT_TRUE(WaitForState(child, 'S'));
  EXPECT_EQ(write(s.a, "5678", 4), 4);
  EXPECT_EQ(WaitFor(child), Exited(0));
  s.b.reset();
  EXPECT_ERRNO(EPIPE, syscall(SYS_sendto, s.a.get(), "x", 1l, MSG_NOSIGNAL, nullptr, 0))
      << "and no signal";
  EXPECT_ERRNO(EBADF, syscall(SYS_sendto, kBadFd, "x", 1l, 0, nullptr, 0));
  Pipe p;
  EXPECT_ERRNO(ENOTSOCK, syscall(SYS_sendto, p.w.get(), "x", 1l, 0, nullptr, 0));
  EXPECT_ERRNO(ENOTSOCK, syscall(SYS_recvfrom, p.r.get(), text, 1l, 0, nullptr, nullptr));
}

TEST(getsockopt, TypeErrorCredentialsAndBuffers) {
  COVERS(setsockopt);
  SocketPair s;
  int value = 0;
  socklen_t len = sizeof value;
  EXPECT_OK(syscall(SYS_getsockopt, s.a.get(), SOL_SOCKET, SO_TYPE, &value, &len));
  EXPECT_EQ(value, SOCK_STREAM);
  EXPECT_OK(syscall(SYS_getsockopt, s.a.get(), SOL_SOCKET, SO_DOMAIN, &value, &len));
  EXPECT_EQ(value, AF_UNIX);
  EXPECT_OK(syscall(SYS_getsockopt, s.a.get(), SOL_SOCKET, SO_ERROR, &value, &len));
  EXPECT_EQ(value, 0);
  EXPECT_OK(syscall(SYS_getsockopt, s.a.get(), SOL_SOCKET, SO_ACCEPTCONN, &value, &len));
  EXPECT_EQ(value, 0);
  ucred cred = {};
  len = sizeof cred;
  EXPECT_OK(syscall(SYS_getsockopt, s.a.get(), SOL_SOCKET, SO_PEERCRED, &cred, &len));
  EXPECT_EQ(cred.pid, getpid());
  EXPECT_EQ(cred.uid, geteuid());
  EXPECT_EQ(cred.gid, getegid());
  int size = 20000;
  EXPECT_OK(syscall(SYS_setsockopt, s.a.get(), SOL_SOCKET, SO_SNDBUF, &size, sizeof size));
  len = sizeof value;
  EXPECT_OK(syscall(SYS_getsockopt, s.a.get(), SOL_SOCKET, SO_SNDBUF, &value, &len));
  EXPECT_EQ(value, 40000) << "the kernel doubles it";
  EXPECT_ERRNO(ENOPROTOOPT, syscall(SYS_getsockopt, s.a.get(), SOL_SOCKET, 9999, &value, &len));
  EXPECT_ERRNO(EINVAL, syscall(SYS_setsockopt, s.a.get(), SOL_SOCKET, SO_SNDBUF, &size, 1));
  EXPECT_ERRNO(EFAULT, syscall(SYS_getsockopt, s.a.get(), SOL_SOCKET, SO_TYPE, BadPointer(), &len));
  EXPECT_ERRNO(EFAULT, syscall(SYS_setsockopt, s.a.get(), SOL_SOCKET, SO_SNDBUF, BadPointer(), 4));
  EXPECT_ERRNO(EBADF, syscall(SYS_getsockopt, kBadFd, SOL_SOCKET, SO_TYPE, &value, &len));
}

TEST(setsockopt, ReceiveTimeout) {
  SocketPair s;
  timeval tv = {0, 5000};
  EXPECT_OK(setsockopt(s.a, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
  char c;
  int64_t start = MonotonicNs();
  EXPECT_ERRNO(EAGAIN, read(s.a, &c, 1));
  EXPECT_GE(MonotonicNs() - start, 5000000);
}

TEST(write, BlocksWhenTheSocketBufferIsFull) {
  SocketPair s;
  std::string big(2 << 20, 's');
  pid_t child = Spawn([&] {
    s.b.reset();
    size_t done = 0;
    while (done < big.size()) {
      ssize_t n = write(s.a, big.data() + done, big.size() - done);
      if (n <= 0) return 1;
      done += n;
    }
    return 0;
  });
  s.a.reset();
  EXPECT_TRUE(WaitForState(child, 'S'));
  EXPECT_EQ(ReadFd(s.b), big);
  EXPECT_EQ(WaitFor(child), Exited(0));
}

}  // namespace
}  // namespace uk::test
