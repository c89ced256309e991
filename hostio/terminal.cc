#include "hostio/terminal.h"

#include <signal.h>
#include <sys/signalfd.h>

#include <atomic>

#include "base/check.h"
#include "hostio/sys/file.h"
#include "hostio/sys/process.h"
#include "hostio/sys/tty.h"

namespace uk::hostio {
namespace {

constexpr int kFatal[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS};

// What a crash handler needs, and nothing that could move.
std::atomic<int> crash_fd = -1;
struct termios crash_mode;

// tcsetattr(3) is async-signal-safe. The signal is raised again with its default effect.
void on_crash(int sig) {
  int fd = crash_fd.exchange(-1);
  if (fd >= 0) (void)sys::tcsetattr(fd, TCSANOW, crash_mode);
  raise(sig);
}

// Only where nobody else (a sanitizer, a platform) has a handler.
void arm_crash_handlers() {
  for (int sig : kFatal) {
    struct sigaction action = {};
    action.sa_handler = on_crash;
    action.sa_flags = static_cast<int>(SA_RESETHAND | SA_NODEFER | SA_ONSTACK);
    Result<struct sigaction> old = sys::sigaction(sig, action);
    bool was_free = old && (old->sa_flags & SA_SIGINFO) == 0 && old->sa_handler == SIG_DFL;
    if (old && !was_free) (void)sys::sigaction(sig, *old);
  }
}

}  // namespace

Result<std::unique_ptr<RawTerminal>> RawTerminal::enter(int fd) {
  struct termios original = TRY(sys::tcgetattr(fd));
  int none = -1;
  if (crash_fd.load() != -1) return Err(Errno::kBUSY);
  crash_mode = original;
  CHECK(crash_fd.compare_exchange_strong(none, fd));
  arm_crash_handlers();
  std::unique_ptr<RawTerminal> t(new RawTerminal(fd, original));
  TRY(t->resume());
  return t;
}

RawTerminal::~RawTerminal() {
  (void)suspend();
  crash_fd = -1;
}

Result<> RawTerminal::suspend() {
  // Even from the background, where a change would otherwise stop us (tcsetattr(3), SIGTTOU).
  sigset_t ttou;
  sigemptyset(&ttou);
  sigaddset(&ttou, SIGTTOU);
  sigset_t old = TRY(sys::sigprocmask(SIG_BLOCK, ttou));
  Result<> r = sys::tcsetattr(fd_, TCSADRAIN, original_);
  TRY(sys::sigprocmask(SIG_SETMASK, old));
  return r;
}

Result<> RawTerminal::resume() {
  struct termios raw = original_;
  cfmakeraw(&raw);
  return sys::tcsetattr(fd_, TCSADRAIN, raw);
}

Result<WindowWatch> WindowWatch::make() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGWINCH);
  TRY(sys::sigprocmask(SIG_BLOCK, set));
  return WindowWatch(TRY(sys::signalfd(-1, set, SFD_NONBLOCK)));
}

bool WindowWatch::take() {
  struct signalfd_siginfo info;
  bool any = false;
  while (sys::read(signals_.get(), std::as_writable_bytes(std::span(&info, 1)))) any = true;
  return any;
}

}  // namespace uk::hostio
