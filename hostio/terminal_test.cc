#include "hostio/terminal.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>

#include "base/check.h"
#include "hostio/sys/event.h"
#include "hostio/sys/file.h"
#include "hostio/sys/process.h"
#include "hostio/sys/tty.h"

namespace uk::hostio {
namespace {

// A terminal nobody sits at.
struct Pty {
  Pty() {
    master = sys::open("/dev/ptmx", O_RDWR | O_NOCTTY).value();
    CHECK(unlockpt(master.get()) == 0);
    slave = sys::open(ptsname(master.get()), O_RDWR | O_NOCTTY).value();
  }
  bool cooked() const {
    return (sys::tcgetattr(slave.get())->c_lflag & (ICANON | ECHO | ISIG)) ==
           (ICANON | ECHO | ISIG);
  }
  sys::Fd master, slave;
};

TEST(RawTerminal, IsPutBack) {
  Pty pty;
  ASSERT_TRUE(pty.cooked());
  {
    std::unique_ptr<RawTerminal> t = RawTerminal::enter(pty.slave.get()).value();
    EXPECT_FALSE(pty.cooked());
    EXPECT_TRUE(t->original().c_lflag & ICANON);
    EXPECT_EQ(RawTerminal::enter(pty.slave.get()).error(), Errno::kBUSY);
    ASSERT_TRUE(t->suspend());
    EXPECT_TRUE(pty.cooked());
    ASSERT_TRUE(t->resume());
    EXPECT_FALSE(pty.cooked());
  }
  EXPECT_TRUE(pty.cooked());
  EXPECT_TRUE(RawTerminal::enter(pty.slave.get()));
}

TEST(RawTerminal, APipeIsRefused) {
  sys::PipePair pipe = sys::pipe2().value();
  EXPECT_EQ(RawTerminal::enter(pipe.read_end.get()).error(), Errno::kNOTTY);
}

// The status with which a child that does `what` on a raw terminal ends.
int crash(const Pty& pty, void (*what)()) {
  pid_t pid = sys::fork().value();
  if (pid == 0) {
    (void)sys::setrlimit(RLIMIT_CORE, {0, 0});
    for (int sig : {SIGSEGV, SIGABRT}) {  // drop what a sanitizer may have set
      struct sigaction none = {};
      none.sa_handler = SIG_DFL;
      (void)sys::sigaction(sig, none);
    }
    Result<std::unique_ptr<RawTerminal>> t = RawTerminal::enter(pty.slave.get());
    if (!t || pty.cooked()) sys::exit_now(1);
    what();
    sys::exit_now(2);
  }
  int status = 0;
  EXPECT_EQ(sys::waitpid(pid, &status, 0).value(), pid);
  return status;
}

TEST(RawTerminal, IsPutBackByACrash) {
  Pty pty;
  int status = crash(pty, [] { raise(SIGSEGV); });
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGSEGV);
  EXPECT_TRUE(pty.cooked());
  status = crash(pty, [] { CHECK(sys::getpid() < 0); });
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGABRT);
  EXPECT_TRUE(pty.cooked());
}

TEST(WindowWatch, SeesChanges) {
  sigset_t now;
  sigemptyset(&now);
  sigset_t old = sys::sigprocmask(SIG_BLOCK, now).value();
  WindowWatch watch = WindowWatch::make().value();
  EXPECT_FALSE(watch.take());
  ASSERT_TRUE(sys::kill(sys::getpid(), SIGWINCH));
  struct pollfd p = {watch.fd(), POLLIN, 0};
  EXPECT_EQ(sys::ppoll({&p, 1}, 10'000'000'000, nullptr).value(), 1);
  EXPECT_TRUE(watch.take());
  EXPECT_FALSE(watch.take());
  ASSERT_TRUE(sys::sigprocmask(SIG_SETMASK, old));
}

}  // namespace
}  // namespace uk::hostio
