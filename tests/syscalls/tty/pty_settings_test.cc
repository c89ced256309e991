// Pseudoterminals: packet mode, what a new one is set to, locked settings, and what others keep
// when the session goes.
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

struct Pair {
  Fd master, slave;
  Pair() {
    int m = -1, s = -1;
    EXPECT_OK(openpty(&m, &s, nullptr, nullptr, nullptr));
    master = Fd(m);
    slave = Fd(s);
  }
  termios Get() {
    termios t;
    EXPECT_OK(tcgetattr(slave, &t));
    return t;
  }
};

// The next thing the master reads in packet mode, or -1 when there is none.
int PacketByte(int master) {
  pollfd p = {master, POLLIN | POLLPRI, 0};
  if (poll(&p, 1, 0) != 1) return -1;
  unsigned char c = 0;
  EXPECT_EQ(read(master, &c, 1), 1);
  return c;
}

TEST(pty_packet, ChangesOfFlowControlAreTold) {
  Pair p;
  int on = 1;
  ASSERT_OK(ioctl(p.master, TIOCPKT, &on));
  termios t = p.Get();
  ASSERT_NE(t.c_iflag & IXON, 0u);
  t.c_iflag &= ~IXON;
  ASSERT_OK(tcsetattr(p.slave, TCSANOW, &t));
  pollfd fd = {p.master, POLLIN | POLLPRI, 0};
  EXPECT_EQ(poll(&fd, 1, 0), 1);
  EXPECT_NE(fd.revents & POLLPRI, 0);
  EXPECT_EQ(PacketByte(p.master), TIOCPKT_NOSTOP);
  EXPECT_EQ(PacketByte(p.master), -1);
  t.c_iflag |= IXON;
  ASSERT_OK(tcsetattr(p.slave, TCSANOW, &t));
  EXPECT_EQ(PacketByte(p.master), TIOCPKT_DOSTOP);
  t.c_cc[VSTOP] = 'x';  // other keys than ^S and ^Q count as none
  ASSERT_OK(tcsetattr(p.slave, TCSANOW, &t));
  EXPECT_EQ(PacketByte(p.master), TIOCPKT_NOSTOP);
  t.c_cc[VEOL] = 'y';
  ASSERT_OK(tcsetattr(p.slave, TCSANOW, &t));
  EXPECT_EQ(PacketByte(p.master), -1) << "nothing of flow control has changed";
  ASSERT_OK(tcflow(p.slave, TCOOFF));
  ASSERT_OK(tcflow(p.slave, TCOON));
  EXPECT_EQ(PacketByte(p.master), TIOCPKT_START) << "takes the stop back";
}

TEST(pty_settings, OfANewOne) {
  Pair p;
  termios t = p.Get();
  EXPECT_EQ(t.c_cflag, tcflag_t{B38400 | CS8 | CREAD});
  EXPECT_EQ(t.c_iflag, tcflag_t{ICRNL | IXON});
}

TEST(pty_settings, CharactersAlwaysHaveEightBits) {
  Pair p;
  termios t = p.Get();
  t.c_cflag = (t.c_cflag & ~tcflag_t{CSIZE | CREAD}) | CS5 | PARENB | HUPCL;
  ASSERT_OK(ioctl(p.slave, TCSETS, &t));
  EXPECT_EQ(p.Get().c_cflag, tcflag_t{B38400 | CS8 | CREAD | HUPCL});
}

TEST(pty_settings, LockedOnesStay) {
  Pair p;
  termios lock;
  ASSERT_OK(ioctl(p.slave, TIOCGLCKTRMIOS, &lock));
  EXPECT_EQ(lock.c_lflag, 0u);
  lock.c_lflag = ECHO;
  lock.c_cc[VINTR] = 1;
  if (!IsRoot()) {
    EXPECT_ERRNO(EPERM, ioctl(p.slave, TIOCSLCKTRMIOS, &lock));
    return;
  }
  ASSERT_OK(ioctl(p.slave, TIOCSLCKTRMIOS, &lock));
  termios t = p.Get();
  t.c_lflag &= ~tcflag_t{ECHO | ISIG};
  t.c_cc[VINTR] = 'i';
  t.c_cc[VQUIT] = 'q';
  ASSERT_OK(ioctl(p.slave, TCSETS, &t));
  EXPECT_EQ(p.Get().c_lflag & (ECHO | ISIG), tcflag_t{ECHO});
  EXPECT_EQ(p.Get().c_cc[VINTR], 3);
  EXPECT_EQ(p.Get().c_cc[VQUIT], 'q');
  EXPECT_ERRNO(EFAULT, ioctl(p.slave, TIOCSLCKTRMIOS, nullptr));
}

TEST(pty_session, OthersKeepTheTerminalWhenTheLeaderExits) {
  Pair p;
  pid_t leader = fork();
  if (leader == 0) {
    if (setsid() < 0 || ioctl(p.slave, TIOCSCTTY, 0) != 0) _exit(1);
    signal(SIGHUP, SIG_IGN);
    _exit(write(p.slave, "leader", 6) == 6 ? 0 : 2);
  }
  int status = 0;
  ASSERT_EQ(waitpid(leader, &status, 0), leader);
  ASSERT_EQ(status, 0);
  EXPECT_EQ(write(p.slave, " other", 6), 6) << "our descriptor was not hung up";
  char buffer[32] = {};
  std::string got;
  while (got.size() < 12) {
    ssize_t n = read(p.master, buffer, sizeof buffer);
    ASSERT_GT(n, 0);
    got.append(buffer, n);
  }
  EXPECT_EQ(got, "leader other");
  ASSERT_EQ(write(p.master, "in\n", 3), 3);
  EXPECT_EQ(read(p.slave, buffer, sizeof buffer), 3);
  pid_t session = 0;
  EXPECT_ERRNO(ENOTTY, ioctl(p.master, TIOCGSID, &session));
}

}  // namespace
}  // namespace uk::test
