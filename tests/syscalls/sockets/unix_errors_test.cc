// Errors of AF_UNIX sockets, in the order in which they are found.
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

struct Pair {
  explicit Pair(int type) {
    int sv[2];
    EXPECT_OK(socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, sv));
    a = Fd(sv[0]);
    b = Fd(sv[1]);
  }
  Fd a, b;
};

TEST(write, ABrokenDatagramIsNoBrokenPipe) {
  COVERS(shutdown);
  for (int type : {SOCK_DGRAM, SOCK_SEQPACKET}) {
    IN_CHILD([&] {
      // SIGPIPE would end it.
      Pair s(type);
      CHILD_CHECK(shutdown(s.a, SHUT_WR) == 0);
      CHILD_CHECK(write(s.a, "x", 1) == -1 && errno == EPIPE);
    });
  }
}

TEST(sendto, UnreadPacketsReset) {
  Pair s(SOCK_SEQPACKET);
  ASSERT_EQ(send(s.a, "x", 1, 0), 1);
  s.b.reset();
  EXPECT_ERRNO(ECONNRESET, send(s.a, "x", 1, MSG_NOSIGNAL));
  EXPECT_ERRNO(EPIPE, send(s.a, "x", 1, MSG_NOSIGNAL));
}

TEST(sendto, TheDataIsLookedAtBeforeWhoTakesIt) {
  Fd s(socket(AF_UNIX, SOCK_DGRAM, 0));
  EXPECT_ERRNO(EFAULT, syscall(SYS_sendto, s.get(), 8ul, 7ul, 0, nullptr, 0));
  EXPECT_ERRNO(ENOTCONN, send(s, "x", 1, 0));
}

TEST(recvfrom, OfNothingWaitsForSomething) {
  COVERS(read);
  Pair s(SOCK_STREAM);
  char none;
  EXPECT_ERRNO(EAGAIN, recv(s.a, &none, 0, 0));
  EXPECT_EQ(read(s.a, &none, 0), 0) << "which read(2) does not";
  ASSERT_EQ(send(s.b, "x", 1, 0), 1);
  EXPECT_EQ(recv(s.a, &none, 0, 0), 0);
  EXPECT_EQ(recv(s.a, &none, 1, 0), 1);
  Pair packets(SOCK_SEQPACKET);
  EXPECT_EQ(read(packets.a, &none, 0), 0);
  Fd alone(socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_EQ(read(alone, &none, 0), 0);
}

TEST(writev, OfNothingIsDone) {
  COVERS(readv);
  Fd s(socket(AF_UNIX, SOCK_STREAM, 0));
  struct iovec none {
    nullptr, 0
  };
  EXPECT_EQ(writev(s, &none, 1), 0);
  EXPECT_EQ(readv(s, &none, 1), 0);
}

TEST(bind, TheNameBeforeTheSecondBinding) {
  Scratch dir;
  Fd s(socket(AF_UNIX, SOCK_DGRAM, 0));
  auto bind_to = [&](const std::string& path) {
    struct sockaddr_un a {};
    a.sun_family = AF_UNIX;
    strncpy(a.sun_path, path.c_str(), sizeof a.sun_path - 1);
    return bind(s, reinterpret_cast<struct sockaddr*>(&a), sizeof a);
  };
  ASSERT_OK(bind_to(dir / "a"));
  EXPECT_ERRNO(ENOENT, bind_to(dir / "no/b"));
  EXPECT_ERRNO(EADDRINUSE, bind_to(dir / "a"));
  EXPECT_ERRNO(EINVAL, bind_to(dir / "b"));
  sa_family_t family = AF_UNIX;
  EXPECT_OK(syscall(SYS_bind, s.get(), &family, sizeof family)) << "any name will do";
  EXPECT_ERRNO(ENOENT, access((dir / "b").c_str(), F_OK)) << "the name is taken away again";
}

TEST(accept4, OnlyWhoWaitsIsToldThatNobodyWillCome) {
  COVERS(shutdown, accept);
  for (int flags : {int{SOCK_NONBLOCK}, 0}) {
    Fd s(socket(AF_UNIX, SOCK_STREAM | flags, 0));
    sa_family_t family = AF_UNIX;
    ASSERT_OK(syscall(SYS_bind, s.get(), &family, sizeof family));
    ASSERT_OK(listen(s, 1));
    ASSERT_OK(shutdown(s, SHUT_RD));
    EXPECT_ERRNO(flags != 0 ? EAGAIN : EINVAL, accept4(s, nullptr, nullptr, 0));
  }
}

TEST(recvmsg, TheEndHasNoSender) {
  COVERS(setsockopt);
  Pair s(SOCK_STREAM);
  const int on = 1;
  ASSERT_OK(setsockopt(s.a, SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
  s.b.reset();
  char byte, control[64];
  struct iovec data {
    &byte, 1
  };
  struct msghdr m {};
  m.msg_iov = &data, m.msg_iovlen = 1, m.msg_control = control, m.msg_controllen = sizeof control;
  ASSERT_EQ(recvmsg(s.a, &m, 0), 0);
  const struct cmsghdr* c = CMSG_FIRSTHDR(&m);
  ASSERT_NE(c, nullptr);
  EXPECT_EQ(c->cmsg_type, SCM_CREDENTIALS);
  struct ucred who;
  memcpy(&who, CMSG_DATA(c), sizeof who);
  EXPECT_EQ(who.pid, 0);
  EXPECT_EQ(who.uid, 0u);
  m.msg_control = nullptr, m.msg_controllen = 0;
  ASSERT_EQ(recvmsg(s.a, &m, 0), 0);
  EXPECT_EQ(m.msg_flags & MSG_CTRUNC, MSG_CTRUNC);
}

TEST(connect, AnAddressThatIsNoneBindsNothing) {
  COVERS(getsockname);
  for (int type : {SOCK_DGRAM, SOCK_STREAM}) {
    Fd s(socket(AF_UNIX, type, 0));
    const int on = 1;
    ASSERT_OK(setsockopt(s, SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
    struct sockaddr_un a {};
    a.sun_family = AF_UNIX;
    auto* address = reinterpret_cast<struct sockaddr*>(&a);
    EXPECT_ERRNO(EINVAL, connect(s, address, sizeof a.sun_family));
    socklen_t n = sizeof a;
    ASSERT_OK(getsockname(s, address, &n));
    EXPECT_EQ(n, sizeof a.sun_family);
  }
}

}  // namespace
}  // namespace uk::test
