// Queued signals and waiting for them: rt_sigqueueinfo, rt_sigtimedwait, rt_sigsuspend, pause.
#include <sys/resource.h>
#include <time.h>

#include <thread>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

constexpr size_t kSetSize = 8;

std::vector<int> g_seen;
void Remember(int, siginfo_t* info, void*) { g_seen.push_back(info->si_value.sival_int); }

siginfo_t Queued(int sig, int value) {
  siginfo_t info = {};
  info.si_signo = sig;
  info.si_code = SI_QUEUE;
  info.si_pid = getpid();
  info.si_uid = getuid();
  info.si_value.sival_int = value;
  return info;
}

TEST(rt_sigqueueinfo, RealtimeSignalsQueueInOrder) {
  g_seen.clear();
  g_seen.reserve(20);
  ScopedHandler a(SIGRTMIN, Remember), b(SIGRTMIN + 1, Remember);
  {
    ScopedBlock block({SIGRTMIN, SIGRTMIN + 1});
    for (int i = 0; i < 3; i++) {
      siginfo_t hi = Queued(SIGRTMIN + 1, 100 + i), lo = Queued(SIGRTMIN, i);
      EXPECT_OK(syscall(SYS_rt_sigqueueinfo, getpid(), SIGRTMIN + 1, &hi));
      EXPECT_OK(syscall(SYS_rt_sigqueueinfo, getpid(), SIGRTMIN, &lo));
    }
  }
  // On unblocking, frames are pushed lowest number first, so the highest runs first of all...
  ASSERT_EQ(g_seen.size(), 6u);
  std::vector<int> low, high;
  for (int v : g_seen) (v >= 100 ? high : low).push_back(v);
  // ...but handlers of one signal mask each other, so each number keeps its order.
  EXPECT_EQ(low, (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(high, (std::vector<int>{100, 101, 102}));
}

TEST(rt_sigqueueinfo, StandardSignalsKeepTheFirst) {
  g_seen.clear();
  ScopedHandler a(SIGUSR1, Remember);
  {
    ScopedBlock block({SIGUSR1});
    for (int i = 1; i <= 3; i++) {
      siginfo_t info = Queued(SIGUSR1, i);
      EXPECT_OK(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &info));
    }
  }
  EXPECT_EQ(g_seen, std::vector<int>{1});
}

TEST(rt_sigqueueinfo, Errors) {
  siginfo_t info = Queued(SIGUSR1, 0);
  EXPECT_ERRNO(ESRCH, syscall(SYS_rt_sigqueueinfo, 0x3fffffff, SIGUSR1, &info));
  EXPECT_ERRNO(EFAULT, syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, BadPointer()));
  EXPECT_ERRNO(EINVAL, syscall(SYS_rt_sigqueueinfo, getpid(), 99, &info));
  info.si_code = SI_USER;
  Gate go;
  pid_t child = Spawn([&] {
    go.Wait();
    return 0;
  });
  EXPECT_ERRNO(EPERM, syscall(SYS_rt_sigqueueinfo, child, SIGUSR1, &info))
      << "nobody may pretend to be kill()";
  go.Open();
  WaitFor(child);
}

TEST(rt_tgsigqueueinfo, ToOneThread) {
  g_seen.clear();
  ScopedHandler a(SIGUSR1, Remember);
  siginfo_t info = Queued(SIGUSR1, 77);
  EXPECT_OK(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), SIGUSR1, &info));
  EXPECT_EQ(g_seen, std::vector<int>{77});
  EXPECT_ERRNO(EINVAL, syscall(SYS_rt_tgsigqueueinfo, -1, gettid(), SIGUSR1, &info));
  EXPECT_ERRNO(ESRCH, syscall(SYS_rt_tgsigqueueinfo, getpid(), 0x3fffffff, SIGUSR1, &info));
}

TEST(rt_sigqueueinfo, LimitOfPendingSignals) {
  IN_CHILD([&] {
    rlimit lim = {10, 10};
    CHILD_CHECK(setrlimit(RLIMIT_SIGPENDING, &lim) == 0);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    int sent = 0;
    sigval v = {};
    while (sent < 1000 && sigqueue(getpid(), SIGRTMIN, v) == 0) sent++;
    CHILD_CHECK(errno == EAGAIN);
    CHILD_CHECK(sent <= 10);
  });
}

TEST(rt_sigtimedwait, TakesAPendingSignal) {
  ScopedBlock block({SIGUSR1, SIGUSR2, SIGRTMIN});
  siginfo_t in = Queued(SIGRTMIN, 5), out = {};
  ASSERT_OK(syscall(SYS_rt_sigqueueinfo, getpid(), SIGRTMIN, &in));
  ASSERT_OK(kill(getpid(), SIGUSR2));
  uint64_t set = 1ull << (SIGUSR1 - 1) | 1ull << (SIGUSR2 - 1) | 1ull << (SIGRTMIN - 1);
  timespec zero = {0, 0};
  EXPECT_EQ(syscall(SYS_rt_sigtimedwait, &set, &out, &zero, kSetSize), SIGUSR2) << "lowest first";
  EXPECT_EQ(syscall(SYS_rt_sigtimedwait, &set, &out, &zero, kSetSize), SIGRTMIN);
  EXPECT_EQ(out.si_value.sival_int, 5);
  EXPECT_EQ(out.si_code, SI_QUEUE);
  EXPECT_ERRNO(EAGAIN, syscall(SYS_rt_sigtimedwait, &set, &out, &zero, kSetSize));
}

TEST(rt_sigtimedwait, TimesOutWaitsAndIsInterrupted) {
  ScopedBlock block({SIGUSR1});
  uint64_t set = 1ull << (SIGUSR1 - 1);
  timespec brief = {0, 5000000};
  int64_t start = MonotonicNs();
  EXPECT_ERRNO(EAGAIN, syscall(SYS_rt_sigtimedwait, &set, nullptr, &brief, kSetSize));
  EXPECT_GE(MonotonicNs() - start, 5000000);
  pid_t child = Spawn([] {
    pid_t parent = getppid();
    WaitForState(parent, 'S');
    return kill(parent, SIGUSR1);
  });
  EXPECT_EQ(syscall(SYS_rt_sigtimedwait, &set, nullptr, nullptr, kSetSize), SIGUSR1);
  WaitFor(child);
  ScopedHandler h(
      SIGUSR2, [](int) {}, SA_RESTART);
  child = Spawn([] {
    pid_t parent = getppid();
    WaitForState(parent, 'S');
    return kill(parent, SIGUSR2);
  });
  EXPECT_ERRNO(EINTR, syscall(SYS_rt_sigtimedwait, &set, nullptr, nullptr, kSetSize));
  WaitFor(child);
  EXPECT_ERRNO(EINVAL, syscall(SYS_rt_sigtimedwait, &set, nullptr, &brief, 4));
  EXPECT_ERRNO(EFAULT, syscall(SYS_rt_sigtimedwait, BadPointer(), nullptr, &brief, kSetSize));
  timespec wrong = {0, 1000000000};
  EXPECT_ERRNO(EINVAL, syscall(SYS_rt_sigtimedwait, &set, nullptr, &wrong, kSetSize));
}

TEST(rt_sigsuspend, SwapsTheMaskAtomically) {
  static volatile sig_atomic_t count;
  count = 0;
  ScopedHandler h(SIGUSR1, [](int) { count = count + 1; });
  ScopedBlock block({SIGUSR1});
  raise(SIGUSR1);
  EXPECT_EQ(count, 0);
  uint64_t none = 0;
  EXPECT_ERRNO(EINTR, syscall(SYS_rt_sigsuspend, &none, kSetSize));
  EXPECT_EQ(count, 1);
  sigset_t now;
  sigprocmask(SIG_BLOCK, nullptr, &now);
  EXPECT_TRUE(sigismember(&now, SIGUSR1)) << "the old mask is back";
  EXPECT_ERRNO(EFAULT, syscall(SYS_rt_sigsuspend, BadPointer(), kSetSize));
  EXPECT_ERRNO(EINVAL, syscall(SYS_rt_sigsuspend, &none, 4));
}

TEST(pause, ReturnsAfterAHandlerOnly) {
  Pipe p;
  pid_t child = Spawn([&] {
    static volatile sig_atomic_t count;
    signal(SIGUSR1, [](int) { count = count + 1; });
    signal(SIGUSR2, SIG_IGN);
    CHILD_CHECK(write(p.w, "x", 1) == 1);
    CHILD_CHECK(syscall(SYS_pause) == -1 && errno == EINTR);
    return count == 1 ? 0 : 1;
  });
  char c;
  ASSERT_EQ(read(p.r, &c, 1), 1);
  EXPECT_TRUE(WaitForState(child, 'S'));
  ASSERT_OK(kill(child, SIGUSR2));
  ASSERT_OK(kill(child, SIGSTOP));
  int status;
  ASSERT_EQ(waitpid(child, &status, WUNTRACED), child);
  ASSERT_OK(kill(child, SIGCONT));
  EXPECT_TRUE(WaitForState(child, 'S')) << "stopping and continuing does not end it";
  ASSERT_OK(kill(child, SIGUSR1));
  EXPECT_EQ(WaitFor(child), Exited(0));
}

// ---- restart rules -------------------------------------------------------------------------

// Runs `call` in a child, signals it once it sleeps and, where the call is to be restarted, then
// runs `after` in the parent; the child's exit code is what `call` returns.
template <typename F, typename G>
int Interrupt(int flags, F call, G after) {
  Gate ready;
  pid_t child = Spawn([&] {
    static volatile sig_atomic_t count;
    count = 0;
    ScopedHandler h(
        SIGUSR1, [](int) { count = count + 1; }, flags);
    ready.Open();
    int r = call();
    return count == 1 ? r : 77;
  });
  EXPECT_TRUE(ready.Wait());
  EXPECT_TRUE(WaitForState(child, 'S'));
  kill(child, SIGUSR1);
  if (flags & SA_RESTART) {
    EXPECT_TRUE(WaitForState(child, 'S'));
    after();
  }
  return WaitFor(child);
}

TEST(signal_restart, ReadOfAPipe) {
  for (int flags : {0, SA_RESTART}) {
    Pipe p;
    auto call = [&] {
      char c;
      ssize_t n = read(p.r, &c, 1);
      return n == 1 ? 1 : errno == EINTR ? 2 : 3;
    };
    auto after = [&] { EXPECT_EQ(write(p.w, "x", 1), 1); };
    EXPECT_EQ(Interrupt(flags, call, after), Exited(flags ? 1 : 2));
  }
}

TEST(signal_restart, WriteToAFullPipeReportsProgress) {
  for (int flags : {0, SA_RESTART}) {
    Pipe p;
    std::string big(1 << 20, 'x');
    auto call = [&] {
      ssize_t n = write(p.w, big.data(), big.size());
      return n == 65536 ? 1 : 2;
    };
    // What was written before the signal is reported, whatever the flags.
    Gate ready;
    pid_t child = Spawn([&] {
      ScopedHandler h(
          SIGUSR1, [](int) {}, flags);
      ready.Open();
      return call();
    });
    ASSERT_TRUE(ready.Wait());
    EXPECT_TRUE(WaitForState(child, 'S'));
    kill(child, SIGUSR1);
    EXPECT_EQ(WaitFor(child), Exited(1));
  }
}

TEST(signal_restart, NanosleepReportsTheRest) {
  auto call = [] {
    timespec ts = {30, 0}, rest = {};
    int r = nanosleep(&ts, &rest);
    return r == -1 && errno == EINTR && rest.tv_sec >= 1 && rest.tv_sec <= 30 ? 1 : 2;
  };
  EXPECT_EQ(Interrupt(0, call, [] {}), Exited(1));
}

TEST(signal_restart, NanosleepIsNotRestartedByAHandlerEvenWithTheFlag) {
  Gate ready;
  pid_t child = Spawn([&] {
    ScopedHandler h(
        SIGUSR1, [](int) {}, SA_RESTART);
    ready.Open();
    timespec ts = {30, 0};
    return nanosleep(&ts, nullptr) == -1 && errno == EINTR ? 0 : 1;
  });
  ASSERT_TRUE(ready.Wait());
  EXPECT_TRUE(WaitForState(child, 'S'));
  kill(child, SIGUSR1);
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(signal_restart, SleepGoesOnAfterStopAndContinue) {
  Gate ready;
  int64_t start = MonotonicNs();
  pid_t child = Spawn([&] {
    ready.Open();
    timespec ts = {0, 400000000};
    return nanosleep(&ts, nullptr) == 0 ? 0 : 1;
  });
  ASSERT_TRUE(ready.Wait());
  EXPECT_TRUE(WaitForState(child, 'S'));
  kill(child, SIGSTOP);
  int status;
  ASSERT_EQ(waitpid(child, &status, WUNTRACED), child);
  kill(child, SIGCONT);
  EXPECT_EQ(WaitFor(child), Exited(0));
  EXPECT_GE(MonotonicNs() - start, 400000000);
}

}  // namespace
}  // namespace uk::test
