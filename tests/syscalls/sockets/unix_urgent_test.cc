// The urgent byte of AF_UNIX streams (MSG_OOB): where it is read, what it stops, who is told.
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

constexpr unsigned long kAtMark = 0x8905;  // SIOCATMARK

struct Stream {
  Fd in, out;
  explicit Stream(int type = SOCK_STREAM) {
    int fds[2];
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) != 0) abort();
    in = Fd(fds[0]);
    out = Fd(fds[1]);
  }
  void Send(const std::string& text, int flags = 0) const {
    EXPECT_EQ(send(out, text.data(), text.size(), flags | MSG_DONTWAIT),
              static_cast<ssize_t>(text.size()));
  }
  // What a read gets; "-ERROR" when it fails.
  std::string Get(size_t at_most, int flags = 0) const {
    char buf[64] = {};
    const ssize_t n = recv(in, buf, std::min(at_most, sizeof buf), flags | MSG_DONTWAIT);
    return n < 0 ? std::string("-") + strerrorname_np(errno) : std::string(buf, n);
  }
  bool AtMark() const {
    int at = -1;
    EXPECT_OK(ioctl(in, kAtMark, &at));
    return at == 1;
  }
  int Unread() const {
    int bytes = -1;
    EXPECT_OK(ioctl(in, FIONREAD, &bytes));
    return bytes;
  }
  short Ready() const {
    pollfd p = {in, POLLIN | POLLPRI, 0};
    EXPECT_OK(poll(&p, 1, 0));
    return p.revents;
  }
  void Inline() const {
    const int on = 1;
    EXPECT_OK(setsockopt(in, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on));
  }
};

TEST(recvfrom, TheUrgentByteIsReadApart) {
  COVERS(sendto);
  Stream s;
  s.Send("abc", MSG_OOB);
  EXPECT_EQ(s.Ready(), POLLIN | POLLPRI);
  EXPECT_EQ(s.Unread(), 3);
  EXPECT_FALSE(s.AtMark());
  EXPECT_EQ(s.Get(8, MSG_OOB | MSG_PEEK), "c");
  EXPECT_EQ(s.Get(8, MSG_OOB), "c");
  EXPECT_EQ(s.Get(8, MSG_OOB), "-EINVAL") << "once";
  EXPECT_EQ(s.Ready(), POLLIN);
  EXPECT_EQ(s.Unread(), 2);
  EXPECT_EQ(s.Get(8), "ab");
  EXPECT_TRUE(s.AtMark());
  EXPECT_EQ(s.Ready(), POLLIN) << "the mark is left";
  EXPECT_EQ(s.Unread(), 0);
  EXPECT_EQ(s.Get(8), "-EAGAIN");
  EXPECT_FALSE(s.AtMark());
  EXPECT_EQ(s.Ready(), 0);
}

TEST(recvfrom, ReadsEndAtTheUrgentByteAndThenPassIt) {
  Stream s;
  s.Send("ab");
  s.Send("c", MSG_OOB);
  s.Send("de");
  EXPECT_EQ(s.Get(8, MSG_PEEK), "ab");
  EXPECT_EQ(s.Get(1), "a");
  EXPECT_EQ(s.Get(8), "b");
  EXPECT_TRUE(s.AtMark());
  EXPECT_EQ(s.Get(8, MSG_PEEK), "de");
  EXPECT_EQ(s.Get(8, MSG_OOB | MSG_PEEK), "c") << "still there";
  EXPECT_EQ(s.Get(1), "d") << "passed over, and gone";
  EXPECT_FALSE(s.AtMark());
  EXPECT_EQ(s.Get(8, MSG_OOB), "-EINVAL");
  EXPECT_EQ(s.Get(8), "e");
}

TEST(recvfrom, OnlyTheLastUrgentByteIsUrgent) {
  Stream s;
  s.Send("ab", MSG_OOB);
  s.Send("cd", MSG_OOB);
  EXPECT_EQ(s.Get(8, MSG_OOB), "d");
  s.Send("ef");
  EXPECT_EQ(s.Get(8), "abc");
  EXPECT_TRUE(s.AtMark());
  EXPECT_EQ(s.Get(8), "ef");
}

TEST(recvfrom, AMarkEndsAReadTooAndTheNextBytesComeAfterIt) {
  Stream s;
  s.Send("a", MSG_OOB);
  EXPECT_EQ(s.Get(8, MSG_OOB), "a");
  s.Send("b", MSG_OOB);
  EXPECT_TRUE(s.AtMark());
  EXPECT_EQ(s.Get(8, MSG_OOB), "b") << "one mark is left of the two";
  s.Send("cd");
  s.Send("e", MSG_OOB);
  EXPECT_FALSE(s.AtMark());
  EXPECT_EQ(s.Get(8, MSG_PEEK), "cd");
  EXPECT_EQ(s.Get(8), "cd");
  EXPECT_EQ(s.Get(8), "-EAGAIN") << "past the urgent byte";
  EXPECT_EQ(s.Ready(), 0);
}

TEST(recvfrom, WaitingForAllEndsAtTheUrgentByte) {
  Stream s;
  s.Send("abc", MSG_OOB);
  s.Send("de");
  char buf[8];
  EXPECT_EQ(recv(s.in, buf, sizeof buf, MSG_WAITALL), 2);
  EXPECT_EQ(s.Get(8), "de");
}

TEST(setsockopt, OobInlinePutsTheUrgentByteInItsPlace) {
  COVERS(recvfrom, getsockopt);
  Stream s;
  s.Inline();
  int on = 0;
  socklen_t len = sizeof on;
  EXPECT_OK(getsockopt(s.in, SOL_SOCKET, SO_OOBINLINE, &on, &len));
  EXPECT_EQ(on, 1);
  s.Send("abc", MSG_OOB);
  s.Send("de");
  EXPECT_EQ(s.Ready(), POLLIN | POLLPRI);
  EXPECT_EQ(s.Get(8, MSG_OOB), "-EINVAL");
  EXPECT_EQ(s.Get(8), "ab");
  EXPECT_TRUE(s.AtMark());
  EXPECT_EQ(s.Get(8, MSG_PEEK), "cde");
  EXPECT_EQ(s.Get(8), "cde");
  EXPECT_EQ(s.Ready(), 0);
  EXPECT_FALSE(s.AtMark());
}

TEST(recvmsg, AnUrgentByteSaysSoAndBringsNothingElse) {
  COVERS(sendmsg);
  Stream s;
  const int on = 1;
  EXPECT_OK(setsockopt(s.in, SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
  s.Send("x", MSG_OOB);
  char byte = 0, control[256];
  iovec iov = {&byte, 1};
  msghdr m = {};
  m.msg_iov = &iov;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = sizeof control;
  EXPECT_EQ(recvmsg(s.in, &m, MSG_OOB), 1);
  EXPECT_EQ(byte, 'x');
  EXPECT_EQ(m.msg_flags, MSG_OOB);
  EXPECT_EQ(m.msg_controllen, 0u);
}

TEST(sendto, UrgentBytesNeedAStreamAndAByte) {
  Stream s;
  EXPECT_ERRNO(EOPNOTSUPP, send(s.out, "", 0, MSG_OOB));
  EXPECT_EQ(s.Get(1, MSG_OOB), "-EINVAL") << "none came";
  s.Send("x", MSG_OOB);
  EXPECT_EQ(recv(s.in, nullptr, 0, MSG_OOB | MSG_PEEK), 1) << "though there is no room";
  EXPECT_ERRNO(EFAULT, recv(s.in, BadPointer(), 1, MSG_OOB));
  EXPECT_EQ(s.Get(1, MSG_OOB), "-EINVAL") << "lost";
  for (int type : {SOCK_DGRAM, SOCK_SEQPACKET}) {
    Stream packets(type);
    EXPECT_ERRNO(EOPNOTSUPP, send(packets.out, "x", 1, MSG_OOB));
    EXPECT_EQ(packets.Get(1, MSG_OOB), "-EOPNOTSUPP");
  }
  Fd alone(socket(AF_UNIX, SOCK_STREAM, 0));
  char c;
  EXPECT_ERRNO(ENOTCONN, send(alone, "x", 1, MSG_OOB));
  EXPECT_ERRNO(EINVAL, recv(alone, &c, 1, MSG_OOB));
  s.in.reset();
  EXPECT_ERRNO(EPIPE, send(s.out, "x", 1, MSG_OOB | MSG_NOSIGNAL));
}

TEST(close, AMarkIsNothingUnread) {
  Stream s;
  s.Send("x", MSG_OOB);
  EXPECT_EQ(s.Get(1, MSG_OOB), "x");
  s.in.reset();
  char c;
  EXPECT_EQ(recv(s.out, &c, 1, 0), 0);
  Stream t;
  t.Send("x", MSG_OOB);
  t.in.reset();
  EXPECT_ERRNO(ECONNRESET, recv(t.out, &c, 1, 0));
}

volatile sig_atomic_t urgent_signals;

TEST(fcntl, TheOwnerHearsOfUrgentBytes) {
  Stream s;
  urgent_signals = 0;
  ScopedHandler handler(SIGURG, [](int, siginfo_t* info, void*) {
    if (info->si_code == SI_KERNEL) urgent_signals = urgent_signals + 1;
  });
  s.Send("a", MSG_OOB);
  EXPECT_EQ(urgent_signals, 0) << "nobody owns it";
  EXPECT_OK(fcntl(s.in, F_SETOWN, getpid()));
  s.Send("b", MSG_OOB);
  EXPECT_EQ(urgent_signals, 1) << "without O_ASYNC";
  s.Send("c");
  EXPECT_EQ(urgent_signals, 1);
}

TEST(poll, UrgentBytesWakeWhoWaitsForThem) {
  Stream s;
  const pid_t child = Spawn([&] {
    pollfd p = {s.in, POLLPRI, 0};
    CHILD_CHECK(poll(&p, 1, -1) == 1);
    CHILD_CHECK(p.revents == POLLPRI);
    return 3;
  });
  EXPECT_TRUE(WaitForState(child, 'S'));
  s.Send("plain");
  s.Send("!", MSG_OOB);
  EXPECT_EQ(WaitFor(child), Exited(3));
}

}  // namespace
}  // namespace uk::test
