// Pseudoterminals: line discipline, signals, sizes, sessions and job control.
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

#include <algorithm>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

struct Pty {
  Fd master, slave;
  std::string name;
  Pty() {
    master = Fd(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC));
    EXPECT_OK(master.get());
    int unlock = 0, number = -1;
    EXPECT_OK(ioctl(master, TIOCSPTLCK, &unlock));
    EXPECT_OK(ioctl(master, TIOCGPTN, &number));
    name = "/dev/pts/" + std::to_string(number);
    slave = Fd(open(name.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC));
    EXPECT_OK(slave.get());
  }
  termios Get() {
    termios t;
    EXPECT_OK(tcgetattr(slave, &t));
    return t;
  }
  void Raw() {
    termios t = Get();
    cfmakeraw(&t);
    EXPECT_OK(tcsetattr(slave, TCSANOW, &t));
  }
  // Reads from the master until `n` bytes have come.
  std::string Output(size_t n) {
    std::string out;
    char buffer[256];
    while (out.size() < n) {
      pollfd p = {master, POLLIN, 0};
      if (poll(&p, 1, 5000) != 1) break;
      ssize_t got = read(master, buffer, std::min(sizeof buffer, n - out.size()));
      if (got <= 0) break;
      out.append(buffer, got);
    }
    return out;
  }
  std::string Read(size_t max = 256) {
    std::string out(max, 0);
    ssize_t n = read(slave, out.data(), max);
    out.resize(n < 0 ? 0 : n);
    return out;
  }
};

TEST(pty, CanonicalModeGivesLines) {
  Pty p;
  ASSERT_EQ(write(p.master, "hel", 3), 3);
  pollfd fd = {p.slave, POLLIN, 0};
  EXPECT_EQ(poll(&fd, 1, 0), 0) << "no whole line yet";
  ASSERT_EQ(write(p.master, "lo\nnext", 7), 7);
  EXPECT_EQ(p.Read(), "hello\n");
  EXPECT_EQ(p.Output(11), "hello\r\nnext") << "echoed, newline as CR LF";
}

TEST(pty, EditingCharacters) {
  Pty p;
  std::string input = "abX\177c\n";  // erase one
  ASSERT_EQ(write(p.master, input.data(), input.size()), static_cast<ssize_t>(input.size()));
  EXPECT_EQ(p.Read(), "abc\n");
  input = "forget this\025kept\n";  // kill the line
  ASSERT_EQ(write(p.master, input.data(), input.size()), static_cast<ssize_t>(input.size()));
  EXPECT_EQ(p.Read(), "kept\n");
  input = "one two\027x\n";  // erase a word
  ASSERT_EQ(write(p.master, input.data(), input.size()), static_cast<ssize_t>(input.size()));
  EXPECT_EQ(p.Read(), "one x\n");
  input = "\026\177\n";  // quoted
  ASSERT_EQ(write(p.master, input.data(), input.size()), static_cast<ssize_t>(input.size()));
  EXPECT_EQ(p.Read(), "\177\n");
}

TEST(pty, EndOfFileCharacter) {
  Pty p;
  ASSERT_EQ(write(p.master, "part\004", 5), 5);
  EXPECT_EQ(p.Read(), "part") << "in a line it pushes what there is";
  ASSERT_EQ(write(p.master, "\004", 1), 1);
  char c;
  EXPECT_EQ(read(p.slave, &c, 1), 0) << "at its start it is the end of file";
  ASSERT_EQ(write(p.master, "on\n", 3), 3);
  EXPECT_EQ(p.Read(), "on\n") << "and reading goes on";
}

TEST(pty, CarriageReturnBecomesNewline) {
  Pty p;
  ASSERT_EQ(write(p.master, "x\r", 2), 2);
  EXPECT_EQ(p.Read(), "x\n");
}

TEST(pty, RawModePassesEverything) {
  Pty p;
  p.Raw();
  std::string all;
  for (int i = 0; i < 256; i++) all += static_cast<char>(i);
  ASSERT_EQ(write(p.master, all.data(), 256), 256);
  std::string got;
  while (got.size() < 256) got += p.Read();
  EXPECT_EQ(got, all);
  ASSERT_EQ(write(p.slave, "a\nb", 3), 3);
  EXPECT_EQ(p.Output(3), "a\nb") << "no output processing either";
}

TEST(pty, LinesMadeByTheOtherSideComeAsTheyAre) {
  Pty p;
  termios t = p.Get();
  t.c_lflag = 0200000 /* EXTPROC */ | ICANON | ECHO | ISIG;
  ASSERT_OK(tcsetattr(p.slave, TCSANOW, &t));
  ASSERT_EQ(write(p.master, "a\x7f\x03z", 4), 4);
  int waiting = 0;
  pollfd fd = {p.slave, POLLIN, 0};
  EXPECT_EQ(poll(&fd, 1, 5000), 1) << "no end of a line is needed";
  ASSERT_OK(ioctl(p.slave, FIONREAD, &waiting));
  EXPECT_EQ(waiting, 4);
  EXPECT_EQ(p.Read(), "a\x7f\x03z") << "neither edited nor taken for a signal";
  EXPECT_EQ(poll(&fd, 1, 0), 0);
  fd = {p.master, POLLIN, 0};
  EXPECT_EQ(poll(&fd, 1, 0), 0) << "no echo";
}

TEST(pty, MinAndTime) {
  Pty p;
  termios t = p.Get();
  cfmakeraw(&t);
  t.c_cc[VMIN] = 3;
  t.c_cc[VTIME] = 0;
  ASSERT_OK(tcsetattr(p.slave, TCSANOW, &t));
  pid_t child = Spawn([&] { return p.Read() == "xyz" ? 0 : 1; });
  ASSERT_EQ(write(p.master, "xy", 2), 2);
  EXPECT_TRUE(WaitForState(child, 'S'));
  ASSERT_EQ(write(p.master, "z", 1), 1);
  EXPECT_EQ(WaitFor(child), Exited(0));
  t.c_cc[VMIN] = 0;
  t.c_cc[VTIME] = 1;
  ASSERT_OK(tcsetattr(p.slave, TCSANOW, &t));
  int64_t start = MonotonicNs();
  char c;
  EXPECT_EQ(read(p.slave, &c, 1), 0);
  EXPECT_GE(MonotonicNs() - start, 90000000);
  t.c_cc[VTIME] = 0;
  ASSERT_OK(tcsetattr(p.slave, TCSANOW, &t));
  EXPECT_EQ(read(p.slave, &c, 1), 0) << "polling";
}

TEST(pty, EchoCanBeTurnedOff) {
  Pty p;
  termios t = p.Get();
  EXPECT_TRUE(t.c_lflag & ECHO);
  t.c_lflag &= ~ECHO;
  ASSERT_OK(tcsetattr(p.slave, TCSANOW, &t));
  ASSERT_EQ(write(p.master, "secret\n", 7), 7);
  EXPECT_EQ(p.Read(), "secret\n");
  ASSERT_EQ(write(p.slave, ".", 1), 1);
  EXPECT_EQ(p.Output(1), ".");
}

TEST(pty, ControlCharactersAreEchoedWithACaret) {
  Pty p;
  ASSERT_EQ(write(p.master, "\001\n", 2), 2);
  EXPECT_EQ(p.Output(4), "^A\r\n");
}

TEST(pty, AttributesRoundTripAndFlush) {
  Pty p;
  termios t = p.Get();
  EXPECT_EQ(t.c_iflag & ICRNL, static_cast<tcflag_t>(ICRNL));
  EXPECT_EQ(t.c_oflag & (OPOST | ONLCR), static_cast<tcflag_t>(OPOST | ONLCR));
  EXPECT_EQ(t.c_cc[VINTR], 3);
  t.c_cc[VINTR] = 7;
  t.c_lflag &= ~ICANON;
  ASSERT_OK(tcsetattr(p.slave, TCSADRAIN, &t));
  termios u = p.Get();
  EXPECT_EQ(u.c_cc[VINTR], 7);
  EXPECT_FALSE(u.c_lflag & ICANON);
  ASSERT_EQ(write(p.master, "junk", 4), 4);
  ASSERT_OK(tcflush(p.slave, TCIFLUSH));
  int n = -1;
  EXPECT_OK(ioctl(p.slave, FIONREAD, &n));
  EXPECT_EQ(n, 0);
}

TEST(pty, WindowSizeAndSigwinch) {
  Pty p;
  winsize w = {50, 132, 0, 0}, got = {};
  EXPECT_OK(ioctl(p.master, TIOCSWINSZ, &w));
  EXPECT_OK(ioctl(p.slave, TIOCGWINSZ, &got));
  EXPECT_EQ(got.ws_row, 50);
  EXPECT_EQ(got.ws_col, 132);
  Gate ready;
  pid_t child = Spawn([&] {
    CHILD_CHECK(setsid() > 0 && ioctl(p.slave, TIOCSCTTY, 0) == 0);
    static volatile sig_atomic_t seen;
    ScopedBlock block({SIGWINCH});
    ScopedHandler h(SIGWINCH, [](int) { seen = 1; });
    ready.Open();
    sigset_t none;
    sigemptyset(&none);
    while (!seen) sigsuspend(&none);
    return 0;
  });
  ASSERT_TRUE(ready.Wait());
  w.ws_col = 80;
  EXPECT_OK(ioctl(p.master, TIOCSWINSZ, &w));
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(pty, HangupsOnBothSides) {
  Pty p;
  ASSERT_EQ(write(p.slave, "last", 4), 4);
  p.slave.reset();
  EXPECT_EQ(p.Output(4), "last") << "what was written is still there";
  char c;
  EXPECT_ERRNO(EIO, read(p.master, &c, 1));
  pollfd fd = {p.master, POLLIN, 0};
  EXPECT_EQ(poll(&fd, 1, 0), 1);
  EXPECT_TRUE(fd.revents & POLLHUP);
  Pty q;
  q.master.reset();
  EXPECT_EQ(read(q.slave, &c, 1), 0) << "a hung-up terminal is at its end";
  EXPECT_ERRNO(EIO, write(q.slave, "x", 1));
  EXPECT_FALSE(Exists(q.name)) << "its name goes with the master";
}

TEST(pty, ControllingTerminalAndInterrupt) {
  Pty p;
  Gate ready;
  pid_t child = Spawn([&] {
    CHILD_CHECK(setsid() > 0);
    CHILD_CHECK(open("/dev/tty", O_RDWR) == -1 && errno == ENXIO);
    CHILD_CHECK(ioctl(p.slave, TIOCSCTTY, 0) == 0);
    Fd tty(open("/dev/tty", O_RDWR));
    CHILD_CHECK(tty >= 0);
    CHILD_CHECK(tcgetpgrp(tty) == getpgrp());
    pid_t sid = 0;
    CHILD_CHECK(ioctl(p.slave, TIOCGSID, &sid) == 0 && sid == getpid());
    ready.Open();
    while (true) pause();
    return 0;
  });
  ASSERT_TRUE(ready.Wait());
  ASSERT_EQ(write(p.master, "\003", 1), 1);
  EXPECT_EQ(WaitFor(child), Killed(SIGINT));
}

TEST(pty, OpeningTakesTheTerminalOfASessionLeader) {
  Pty p;
  EXPECT_EQ(RunChild([&] {
              CHILD_CHECK(setsid() > 0);
              Fd tty(open(p.name.c_str(), O_RDWR));
              CHILD_CHECK(tcgetsid(tty) == getpid());
              CHILD_CHECK(Fd(open("/dev/tty", O_RDWR)) >= 0);
              signal(SIGHUP, SIG_IGN);
              CHILD_CHECK(ioctl(tty, TIOCNOTTY) == 0);
              CHILD_CHECK(open("/dev/tty", O_RDWR) == -1 && errno == ENXIO);
              return 0;
            }),
            Exited(0));
}

TEST(pty, BackgroundReadAndWriteStop) {
  Pty p;
  Gate ready, go;
  pid_t leader = Spawn([&] {
    CHILD_CHECK(setsid() > 0 && ioctl(p.slave, TIOCSCTTY, 0) == 0);
    pid_t background = Spawn([&] {
      CHILD_CHECK(setpgid(0, 0) == 0);
      char c;
      (void)!read(p.slave, &c, 1);
      return 5;
    });
    int status;
    CHILD_CHECK(waitpid(background, &status, WUNTRACED) == background);
    CHILD_CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTIN);
    signal(SIGTTOU, SIG_IGN);
    CHILD_CHECK(tcsetpgrp(p.slave, background) == 0);
    CHILD_CHECK(kill(background, SIGCONT) == 0);
    ready.Open();
    CHILD_CHECK(waitpid(background, &status, 0) == background);
    CHILD_CHECK(WEXITSTATUS(status) == 5);
    CHILD_CHECK(tcsetpgrp(p.slave, getpgrp()) == 0);
    // Writing from the background stops only with TOSTOP; changing attributes always.
    pid_t writer = Spawn([&] {
      CHILD_CHECK(setpgid(0, 0) == 0);
      signal(SIGTTOU, SIG_DFL);
      CHILD_CHECK(write(p.slave, "w", 1) == 1);
      termios t;
      CHILD_CHECK(tcgetattr(p.slave, &t) == 0);
      tcsetattr(p.slave, TCSANOW, &t);
      return 6;
    });
    CHILD_CHECK(waitpid(writer, &status, WUNTRACED) == writer);
    CHILD_CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTOU);
    kill(writer, SIGKILL);
    waitpid(writer, &status, 0);
    return 0;
  });
  ASSERT_TRUE(ready.Wait());
  ASSERT_EQ(write(p.master, "x\n", 2), 2);
  EXPECT_EQ(WaitFor(leader), Exited(0));
}

TEST(pty, SuspendCharacterStopsTheForeground) {
  Pty p;
  Gate ready, stopped;
  pid_t leader = Spawn([&] {
    CHILD_CHECK(setsid() > 0 && ioctl(p.slave, TIOCSCTTY, 0) == 0);
    signal(SIGTTOU, SIG_IGN);
    pid_t job = Spawn([&] {
      signal(SIGTSTP, SIG_DFL);
      setpgid(0, 0);
      tcsetpgrp(p.slave, getpid());
      ready.Open();
      while (true) pause();
      return 0;
    });
    int status;
    CHILD_CHECK(waitpid(job, &status, WUNTRACED) == job);
    CHILD_CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTSTP);
    kill(job, SIGKILL);
    waitpid(job, &status, 0);
    return 0;
  });
  ASSERT_TRUE(ready.Wait());
  ASSERT_EQ(write(p.master, "\032", 1), 1);
  EXPECT_EQ(WaitFor(leader), Exited(0));
}

TEST(pty, SessionLeaderExitHangsUpTheForeground) {
  Pty p;
  Pipe gone;
  pid_t leader = Spawn([&] {
    CHILD_CHECK(setsid() > 0 && ioctl(p.slave, TIOCSCTTY, 0) == 0);
    Gate ready;
    Spawn([&] {
      static int out;
      out = gone.w;
      signal(SIGHUP, [](int) {
        (void)!write(out, "hup", 3);
        _exit(0);
      });
      ready.Open();
      while (true) pause();
      return 0;
    });
    CHILD_CHECK(ready.Wait());
    return 0;
  });
  gone.w.reset();
  EXPECT_EQ(WaitFor(leader), Exited(0));
  EXPECT_EQ(ReadFd(gone.r), "hup");
}

TEST(pty, FlowControlStopsOutput) {
  Pty p;
  termios t;
  ASSERT_OK(tcgetattr(p.slave, &t));
  t.c_lflag &= ~static_cast<tcflag_t>(ECHO);
  ASSERT_OK(tcsetattr(p.slave, TCSANOW, &t));
  ASSERT_EQ(write(p.master, "\023\n", 2), 2);  // ^S, and a line behind it:
  char line[2];
  ASSERT_EQ(read(p.slave, line, 2), 1);  // Linux looks at input a little later
  pid_t child = Spawn([&] { return write(p.slave, "held", 4) == 4 ? 0 : 1; });
  EXPECT_TRUE(WaitForState(child, 'S'));
  pollfd fd = {p.master, POLLIN, 0};
  EXPECT_EQ(poll(&fd, 1, 0), 0);
  ASSERT_EQ(write(p.master, "\021", 1), 1);  // ^Q
  EXPECT_EQ(p.Output(4), "held");
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(pty, NumbersPermissionsAndErrors) {
  Pty p, q;
  EXPECT_NE(p.name, q.name);
  struct stat st;
  ASSERT_OK(stat(p.name.c_str(), &st));
  EXPECT_EQ(st.st_uid, getuid());
  EXPECT_EQ(st.st_mode & 0777 & ~020u, 0600u);
  EXPECT_TRUE(isatty(p.slave));
  Fd locked(open("/dev/ptmx", O_RDWR | O_NOCTTY));
  int number = -1;
  ASSERT_OK(ioctl(locked, TIOCGPTN, &number));
  EXPECT_ERRNO(EIO, open(("/dev/pts/" + std::to_string(number)).c_str(), O_RDWR | O_NOCTTY))
      << "locked until told otherwise";
  EXPECT_ERRNO(ENOTTY, ioctl(p.slave, TIOCGPTN, &number));
  EXPECT_ERRNO(ENOTTY, tcgetpgrp(p.slave)) << "not our terminal";
  EXPECT_ERRNO(EFAULT, ioctl(p.slave, TCGETS, BadPointer()));
  std::string name = p.name;
  p.slave.reset();
  p.master.reset();
  EXPECT_FALSE(Exists(name));
}

TEST(vhangup, NeedsPrivilege) {
  if (!IsRoot()) {
    EXPECT_ERRNO(EPERM, syscall(SYS_vhangup));
    return;
  }
  Pty p;
  EXPECT_EQ(RunChild([&] {
              signal(SIGHUP, SIG_IGN);
              CHILD_CHECK(setsid() > 0 && ioctl(p.slave, TIOCSCTTY, 0) == 0);
              CHILD_CHECK(syscall(SYS_vhangup) == 0);
              CHILD_CHECK(write(p.slave, "x", 1) == -1 && errno == EIO);
              return 0;
            }),
            Exited(0));
}

}  // namespace
}  // namespace uk::test
