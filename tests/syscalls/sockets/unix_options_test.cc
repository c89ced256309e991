// Options of AF_UNIX sockets that tell who is at the other end, and when and where to read.
#include <grp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <algorithm>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

// Newer than the headers.
constexpr int kPassPidfd = 76, kPeerPidfd = 77, kScmPidfd = 4;

struct Pair {
  Fd a, b;
  explicit Pair(int type = SOCK_STREAM) {
    int s[2];
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, s) != 0) abort();
    a = Fd(s[0]);
    b = Fd(s[1]);
  }
};

int SetInt(int fd, int name, int value) {
  return setsockopt(fd, SOL_SOCKET, name, &value, sizeof value);
}
int GetInt(int fd, int name) {
  int value = -1;
  socklen_t len = sizeof value;
  return getsockopt(fd, SOL_SOCKET, name, &value, &len) == 0 ? value : -errno;
}

TEST(getsockopt, CookieIsUnique) {
  Pair p;
  uint64_t a = 0, b = 0, again = 0;
  socklen_t len = sizeof a;
  ASSERT_OK(getsockopt(p.a, SOL_SOCKET, SO_COOKIE, &a, &len));
  EXPECT_EQ(len, sizeof a);
  ASSERT_OK(getsockopt(p.b, SOL_SOCKET, SO_COOKIE, &b, &len));
  ASSERT_OK(getsockopt(p.a, SOL_SOCKET, SO_COOKIE, &again, &len));
  EXPECT_NE(a, 0u);
  EXPECT_NE(a, b);
  EXPECT_EQ(a, again);
  len = 4;
  EXPECT_ERRNO(EINVAL, getsockopt(p.a, SOL_SOCKET, SO_COOKIE, &a, &len));
  EXPECT_ERRNO(ENOPROTOOPT, SetInt(p.a, SO_COOKIE, 1));
}

TEST(getsockopt, PeerGroups) {
  auto check = [](std::vector<gid_t> mine) {
    Pair p;
    std::vector<gid_t> groups(64);
    auto len = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
    CHILD_CHECK(getsockopt(p.a, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &len) == 0);
    groups.resize(len / sizeof(gid_t));
    std::sort(mine.begin(), mine.end());
    CHILD_CHECK(groups == mine);
    if (mine.empty()) return;
    len = 1;
    CHILD_CHECK(getsockopt(p.a, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &len) == -1);
    CHILD_CHECK(errno == ERANGE && len == mine.size() * sizeof(gid_t));
  };
  IN_CHILD([&] {
    std::vector<gid_t> mine(64);
    int n = getgroups(64, mine.data());
    CHILD_CHECK(n >= 0);
    mine.resize(static_cast<size_t>(n));
    check(mine);
  });
  if (IsRoot()) {
    IN_CHILD([&] {
      const std::vector<gid_t> mine = {5, 77, 4000};
      CHILD_CHECK(setgroups(mine.size(), mine.data()) == 0);
      check(mine);
    });
  }
  Fd alone(socket(AF_UNIX, SOCK_STREAM, 0));
  gid_t g;
  socklen_t len = sizeof g;
  EXPECT_ERRNO(ENODATA, getsockopt(alone, SOL_SOCKET, SO_PEERGROUPS, &g, &len));
}

// The process behind a pidfd, from its fdinfo.
std::string PidOf(int pidfd) {
  return ProcField("/proc/self/fdinfo/" + std::to_string(pidfd), "Pid");
}

TEST(getsockopt, PeerPidfd) {
  Fd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un a = {AF_UNIX, {}};
  ASSERT_OK(bind(listener, reinterpret_cast<sockaddr*>(&a), sizeof(sa_family_t)));
  ASSERT_OK(listen(listener, 5));
  socklen_t len = sizeof a;
  ASSERT_OK(getsockname(listener, reinterpret_cast<sockaddr*>(&a), &len));
  Gate gate;
  pid_t child = Spawn([&] {
    Fd c(socket(AF_UNIX, SOCK_STREAM, 0));
    CHILD_CHECK(connect(c, reinterpret_cast<sockaddr*>(&a), len) == 0);
    gate.Wait();
    return 0;
  });
  Fd server(accept(listener, nullptr, nullptr));
  ASSERT_OK(server.get());
  Fd pidfd(GetInt(server, kPeerPidfd));
  ASSERT_GE(pidfd.get(), 0);
  EXPECT_EQ(PidOf(pidfd), std::to_string(child));
  EXPECT_EQ(fcntl(pidfd, F_GETFD), FD_CLOEXEC);
  gate.Open();
  EXPECT_EQ(WaitFor(child), 0);
  EXPECT_EQ(PidOf(pidfd), "-1");
  EXPECT_EQ(GetInt(listener, kPeerPidfd) >= 0, true) << "who listens, itself";
  Fd alone(socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_EQ(GetInt(alone, kPeerPidfd), -ENODATA);
}

struct Received {
  char text[64] = {};
  ssize_t n = 0;
  alignas(cmsghdr) char control[256] = {};
  msghdr m = {};
  explicit Received(int fd, int flags = 0) {
    iovec iov = {text, sizeof text};
    m.msg_iov = &iov, m.msg_iovlen = 1, m.msg_control = control, m.msg_controllen = sizeof control;
    n = recvmsg(fd, &m, flags | MSG_CMSG_CLOEXEC);
  }
  // The body of a control message; null if there is none.
  void* Control(int type) {
    for (cmsghdr* c = CMSG_FIRSTHDR(&m); c != nullptr; c = CMSG_NXTHDR(&m, c))
      if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == type) return CMSG_DATA(c);
    return nullptr;
  }
};

TEST(recvmsg, SenderAsPidfd) {
  COVERS(setsockopt, sendmsg);
  for (int type : {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}) {
    Pair p(type);
    ASSERT_OK(SetInt(p.b, kPassPidfd, 1));
    EXPECT_EQ(GetInt(p.b, kPassPidfd), 1);
    Gate gate;
    pid_t child = Spawn([&] {
      CHILD_CHECK(send(p.a, "x", 1, 0) == 1);
      gate.Wait();
      return 0;
    });
    Received r(p.b);
    EXPECT_EQ(r.n, 1);
    void* body = r.Control(kScmPidfd);
    ASSERT_NE(body, nullptr);
    int fd;
    memcpy(&fd, body, sizeof fd);
    Fd pidfd(fd);
    EXPECT_EQ(PidOf(pidfd), std::to_string(child));
    gate.Open();
    EXPECT_EQ(WaitFor(child), 0);
    ASSERT_OK(SetInt(p.b, kPassPidfd, 0));
    ASSERT_EQ(send(p.a, "x", 1, 0), 1);
    Received none(p.b);
    EXPECT_EQ(none.Control(kScmPidfd), nullptr);
  }
}

TEST(recvmsg, Timestamps) {
  Pair p(SOCK_DGRAM);
  timeval before, after;
  gettimeofday(&before, nullptr);
  ASSERT_OK(SetInt(p.b, SO_TIMESTAMP, 1));
  EXPECT_EQ(GetInt(p.b, SO_TIMESTAMP), 1);
  EXPECT_EQ(GetInt(p.b, SO_TIMESTAMPNS), 0);
  ASSERT_EQ(write(p.a, "x", 1), 1);
  Received r(p.b);
  gettimeofday(&after, nullptr);
  void* body = r.Control(SO_TIMESTAMP);
  ASSERT_NE(body, nullptr);
  timeval t;
  memcpy(&t, body, sizeof t);
  EXPECT_FALSE(timercmp(&t, &before, <));
  EXPECT_FALSE(timercmp(&t, &after, >));
  ASSERT_OK(SetInt(p.b, SO_TIMESTAMPNS, 1));
  EXPECT_EQ(GetInt(p.b, SO_TIMESTAMP), 0);
  ASSERT_EQ(send(p.a, "x", 1, 0), 1);
  Received ns(p.b);
  EXPECT_NE(ns.Control(SO_TIMESTAMPNS), nullptr);
  EXPECT_EQ(ns.Control(SO_TIMESTAMP), nullptr);
  ASSERT_OK(SetInt(p.b, SO_TIMESTAMPNS, 0));
  ASSERT_EQ(send(p.a, "x", 1, 0), 1);
  Received none(p.b);
  EXPECT_EQ(none.m.msg_controllen, 0u);
}

std::string Take(int fd, size_t n, int flags) {
  char text[64] = {};
  ssize_t got = recv(fd, text, n, flags | MSG_DONTWAIT);
  return got < 0 ? strerrorname_np(errno) : std::string(text, static_cast<size_t>(got));
}

TEST(recvfrom, PeekOffsetOfStreams) {
  COVERS(setsockopt);
  Pair p;
  EXPECT_EQ(GetInt(p.b, SO_PEEK_OFF), -1);
  ASSERT_OK(SetInt(p.b, SO_PEEK_OFF, 0));
  ASSERT_EQ(send(p.a, "abcdefgh", 8, 0), 8);
  EXPECT_EQ(Take(p.b, 2, MSG_PEEK), "ab");
  EXPECT_EQ(Take(p.b, 2, MSG_PEEK), "cd");
  EXPECT_EQ(GetInt(p.b, SO_PEEK_OFF), 4);
  EXPECT_EQ(Take(p.b, 3, 0), "abc");
  EXPECT_EQ(GetInt(p.b, SO_PEEK_OFF), 1);
  EXPECT_EQ(Take(p.b, 2, MSG_PEEK), "ef");
  ASSERT_OK(SetInt(p.b, SO_PEEK_OFF, 5));
  EXPECT_EQ(Take(p.b, 2, MSG_PEEK), "EAGAIN");
  ASSERT_EQ(send(p.a, "ijk", 3, 0), 3);
  EXPECT_EQ(Take(p.b, 9, MSG_PEEK), "ijk");
  ASSERT_OK(SetInt(p.b, SO_PEEK_OFF, -1));
  EXPECT_EQ(Take(p.b, 2, MSG_PEEK), "de");
  EXPECT_EQ(Take(p.b, 2, MSG_PEEK), "de");
}

TEST(recvfrom, PeekOffsetOfPackets) {
  Pair p(SOCK_DGRAM);
  ASSERT_OK(SetInt(p.b, SO_PEEK_OFF, 0));
  ASSERT_EQ(send(p.a, "abcd", 4, 0), 4);
  ASSERT_EQ(send(p.a, "xyz", 3, 0), 3);
  EXPECT_EQ(Take(p.b, 2, MSG_PEEK), "ab");
  EXPECT_EQ(Take(p.b, 9, MSG_PEEK), "cd");
  EXPECT_EQ(Take(p.b, 9, MSG_PEEK), "xyz");
  EXPECT_EQ(Take(p.b, 9, MSG_PEEK), "EAGAIN");
  EXPECT_EQ(Take(p.b, 9, 0), "abcd");
  EXPECT_EQ(Take(p.b, 1, MSG_PEEK), "EAGAIN");
}

}  // namespace
}  // namespace uk::test
