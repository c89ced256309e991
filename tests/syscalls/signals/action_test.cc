// rt_sigaction, rt_sigprocmask, rt_sigpending, kill, tkill, tgkill: dispositions, masks, queues.
#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <thread>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

constexpr size_t kSetSize = 8;  // the kernel's sigset_t

volatile sig_atomic_t g_count;
volatile sig_atomic_t g_last;
siginfo_t g_info;

void Count(int sig) {
  g_count = g_count + 1;
  g_last = sig;
}
void CountInfo(int sig, siginfo_t* info, void*) {
  Count(sig);
  g_info = *info;
}

struct KernelAction {
  void (*handler)(int);
  unsigned long flags;
  void (*restorer)();
  uint64_t mask;
};

TEST(rt_sigaction, ReadsBackWhatWasSet) {
  KernelAction old = {}, now = {};
  KernelAction set = {SIG_IGN, SA_RESTART, nullptr, 0};
  EXPECT_OK(syscall(SYS_rt_sigaction, SIGUSR1, &set, &old, kSetSize));
  EXPECT_EQ(old.handler, SIG_DFL);
  set.mask = 1ull << (SIGUSR2 - 1) | 1ull << (SIGKILL - 1);
  EXPECT_OK(syscall(SYS_rt_sigaction, SIGUSR1, &set, nullptr, kSetSize));
  EXPECT_OK(syscall(SYS_rt_sigaction, SIGUSR1, nullptr, &now, kSetSize));
  EXPECT_EQ(now.handler, SIG_IGN);
  EXPECT_EQ(now.flags & SA_RESTART, static_cast<unsigned long>(SA_RESTART));
  EXPECT_EQ(now.mask, 1ull << (SIGUSR2 - 1)) << "SIGKILL is taken out";
  EXPECT_OK(syscall(SYS_rt_sigaction, SIGUSR1, &old, nullptr, kSetSize));
}

TEST(rt_sigaction, Errors) {
  KernelAction set = {SIG_IGN, 0, nullptr, 0};
  EXPECT_ERRNO(EINVAL, syscall(SYS_rt_sigaction, SIGKILL, &set, nullptr, kSetSize));
  EXPECT_ERRNO(EINVAL, syscall(SYS_rt_sigaction, SIGSTOP, &set, nullptr, kSetSize));
  EXPECT_ERRNO(EINVAL, syscall(SYS_rt_sigaction, 0, &set, nullptr, kSetSize));
  EXPECT_ERRNO(EINVAL, syscall(SYS_rt_sigaction, 65, &set, nullptr, kSetSize));
  EXPECT_ERRNO(EINVAL, syscall(SYS_rt_sigaction, SIGUSR1, &set, nullptr, 4));
  EXPECT_ERRNO(EFAULT, syscall(SYS_rt_sigaction, SIGUSR1, BadPointer(), nullptr, kSetSize));
  EXPECT_ERRNO(EFAULT, syscall(SYS_rt_sigaction, SIGUSR1, nullptr, BadPointer(), kSetSize));
  EXPECT_OK(syscall(SYS_rt_sigaction, SIGKILL, nullptr, &set, kSetSize)) << "reading is allowed";
}

TEST(rt_sigaction, HandlerRunsWithItsMask) {
  static uint64_t inside;
  struct sigaction sa = {};
  sa.sa_handler = [](int) { syscall(SYS_rt_sigprocmask, SIG_BLOCK, nullptr, &inside, kSetSize); };
  sigaddset(&sa.sa_mask, SIGUSR2);
  struct sigaction old;
  ASSERT_OK(sigaction(SIGUSR1, &sa, &old));
  raise(SIGUSR1);
  EXPECT_TRUE(inside & 1ull << (SIGUSR1 - 1)) << "the signal itself";
  EXPECT_TRUE(inside & 1ull << (SIGUSR2 - 1)) << "and those of sa_mask";
  uint64_t outside;
  syscall(SYS_rt_sigprocmask, SIG_BLOCK, nullptr, &outside, kSetSize);
  EXPECT_FALSE(outside & 1ull << (SIGUSR1 - 1));
  sa.sa_flags = SA_NODEFER;
  ASSERT_OK(sigaction(SIGUSR1, &sa, nullptr));
  raise(SIGUSR1);
  EXPECT_FALSE(inside & 1ull << (SIGUSR1 - 1)) << "SA_NODEFER";
  sigaction(SIGUSR1, &old, nullptr);
}

TEST(rt_sigaction, ResethandIsOneShot) {
  g_count = 0;
  ScopedHandler h(SIGUSR1, Count, SA_RESETHAND);
  raise(SIGUSR1);
  EXPECT_EQ(g_count, 1);
  struct sigaction sa;
  sigaction(SIGUSR1, nullptr, &sa);
  EXPECT_EQ(sa.sa_handler, SIG_DFL);
}

TEST(rt_sigaction, IgnoringDiscardsThePending) {
  ScopedBlock block({SIGUSR1});
  ScopedHandler h(SIGUSR1, Count);
  g_count = 0;
  raise(SIGUSR1);
  signal(SIGUSR1, SIG_IGN);
  signal(SIGUSR1, Count);
  sigset_t pending;
  sigpending(&pending);
  EXPECT_FALSE(sigismember(&pending, SIGUSR1));
}

TEST(rt_sigaction, DefaultActions) {
  for (int sig : {SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGALRM, SIGTERM, SIGUSR1, SIGPOLL, SIGVTALRM,
                  SIGPROF, SIGXCPU, SIGSYS, SIGSTKFLT, SIGPWR, SIGRTMIN, SIGRTMAX, SIGTRAP}) {
    EXPECT_EQ(RunChild([sig] {
                signal(sig, SIG_DFL);
                raise(sig);
                return 0;
              }),
              Killed(sig));
  }
  for (int sig : {SIGCHLD, SIGURG, SIGWINCH, SIGCONT}) {
    EXPECT_EQ(RunChild([sig] {
                signal(sig, SIG_DFL);
                raise(sig);
                return 0;
              }),
              Exited(0))
        << sig;
  }
}

TEST(rt_sigprocmask, BlocksUnblocksAndSets) {
  g_count = 0;
  ScopedHandler h(SIGUSR1, Count);
  uint64_t set = 1ull << (SIGUSR1 - 1), old = 0, zero = 0;
  EXPECT_OK(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, &old, kSetSize));
  raise(SIGUSR1);
  raise(SIGUSR1);
  EXPECT_EQ(g_count, 0);
  EXPECT_OK(syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &set, nullptr, kSetSize));
  EXPECT_EQ(g_count, 1) << "a standard signal is pending once, delivered before the call returns";
  uint64_t all = ~0ull, now = 0;
  EXPECT_OK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &zero, kSetSize));
  EXPECT_OK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &zero, &now, kSetSize));
  EXPECT_EQ(now, ~0ull & ~(1ull << (SIGKILL - 1)) & ~(1ull << (SIGSTOP - 1)));
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old, nullptr, kSetSize);
}

TEST(rt_sigprocmask, Errors) {
  uint64_t set = 0;
  EXPECT_ERRNO(EINVAL, syscall(SYS_rt_sigprocmask, 99, &set, nullptr, kSetSize));
  EXPECT_ERRNO(EINVAL, syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, nullptr, 16));
  EXPECT_ERRNO(EFAULT, syscall(SYS_rt_sigprocmask, SIG_BLOCK, BadPointer(), nullptr, kSetSize));
  EXPECT_ERRNO(EFAULT, syscall(SYS_rt_sigprocmask, SIG_BLOCK, nullptr, BadPointer(), kSetSize));
  EXPECT_OK(syscall(SYS_rt_sigprocmask, 99, nullptr, &set, kSetSize)) << "how is not looked at";
}

TEST(rt_sigpending, ShowsThreadAndProcessPending) {
  ScopedBlock block({SIGUSR1, SIGUSR2});
  ScopedHandler a(SIGUSR1, SIG_DFL), b(SIGUSR2, SIG_DFL);
  ASSERT_OK(kill(getpid(), SIGUSR1));
  ASSERT_OK(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR2));
  uint64_t set = 0;
  EXPECT_OK(syscall(SYS_rt_sigpending, &set, kSetSize));
  EXPECT_EQ(set, 1ull << (SIGUSR1 - 1) | 1ull << (SIGUSR2 - 1));
  std::thread([&] {
    uint64_t other = 0;
    EXPECT_OK(syscall(SYS_rt_sigpending, &other, kSetSize));
    EXPECT_EQ(other, 1ull << (SIGUSR1 - 1)) << "only what the process as a whole has pending";
  }).join();
  EXPECT_ERRNO(EFAULT, syscall(SYS_rt_sigpending, BadPointer(), kSetSize));
  EXPECT_ERRNO(EINVAL, syscall(SYS_rt_sigpending, &set, 16));
  signal(SIGUSR1, SIG_IGN);
  signal(SIGUSR2, SIG_IGN);
}

TEST(kill, SiginfoNamesTheSender) {
  ScopedHandler h(SIGUSR1, CountInfo);
  g_count = 0;
  EXPECT_OK(syscall(SYS_kill, getpid(), SIGUSR1));
  EXPECT_EQ(g_count, 1);
  EXPECT_EQ(g_info.si_code, SI_USER);
  EXPECT_EQ(g_info.si_pid, getpid());
  EXPECT_EQ(g_info.si_uid, getuid());
  EXPECT_EQ(g_info.si_signo, SIGUSR1);
}

TEST(kill, Errors) {
  EXPECT_OK(syscall(SYS_kill, getpid(), 0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_kill, getpid(), 65));
  EXPECT_ERRNO(EINVAL, syscall(SYS_kill, getpid(), -1));
  EXPECT_ERRNO(ESRCH, syscall(SYS_kill, 0x3fffffff, SIGTERM));
  EXPECT_ERRNO(ESRCH, syscall(SYS_kill, -0x3fffffff, SIGTERM));
  EXPECT_ERRNO(ESRCH, syscall(SYS_kill, INT32_MIN, SIGTERM));
  if (InitIsForeign()) {
    EXPECT_ERRNO(EPERM, syscall(SYS_kill, 1, 0));
  }
}

TEST(kill, PermissionNeedsAnEqualUid) {
  if (!IsRoot()) {
    if (InitIsForeign()) {
      EXPECT_ERRNO(EPERM, kill(1, SIGCONT));
    }
    return;
  }
  Gate ready, go;
  pid_t victim = Spawn([&] {
    CHILD_CHECK(setresuid(1001, 1001, 1001) == 0);
    ready.Open();
    go.Wait();
    return 0;
  });
  ASSERT_TRUE(ready.Wait());
  IN_CHILD([&] {
    CHILD_CHECK(setresuid(1002, 1002, 1002) == 0);
    CHILD_CHECK(kill(victim, SIGTERM) == -1 && errno == EPERM);
  });
  IN_CHILD([&] {
    CHILD_CHECK(setresuid(1001, 1002, 1002) == 0);
    CHILD_CHECK(kill(victim, 0) == 0);
  });
  go.Open();
  EXPECT_EQ(WaitFor(victim), Exited(0));
}

TEST(kill, ProcessGroup) {
  IN_CHILD([&] {
    CHILD_CHECK(setpgid(0, 0) == 0);
    signal(SIGTERM, SIG_IGN);
    Gate ready;
    std::vector<pid_t> pids;
    for (int i = 0; i < 3; i++) {
      pids.push_back(Spawn([&] {
        signal(SIGTERM, SIG_DFL);
        ready.Open();
        while (true) pause();
        return 0;
      }));
    }
    for (int i = 0; i < 3; i++) CHILD_CHECK(ready.Wait());
    CHILD_CHECK(syscall(SYS_kill, 0, SIGTERM) == 0);
    for (pid_t p : pids) CHILD_CHECK(WaitFor(p) == Killed(SIGTERM));
  });
}

TEST(tgkill, GoesToOneThread) {
  COVERS(tkill);
  static std::atomic<pid_t> got;
  got = 0;
  ScopedHandler h(SIGUSR1, [](int) { got = gettid(); });
  std::atomic<pid_t> tid{0};
  std::atomic<bool> stop{false};
  std::thread t([&] {
    tid = gettid();
    while (!stop) Breathe();
  });
  while (tid == 0) Breathe();
  EXPECT_OK(syscall(SYS_tgkill, getpid(), tid.load(), SIGUSR1));
  while (got == 0) Breathe();
  EXPECT_EQ(got, tid);
  got = 0;
  EXPECT_OK(syscall(SYS_tkill, tid.load(), SIGUSR1));
  while (got == 0) Breathe();
  EXPECT_EQ(got, tid);
  stop = true;
  t.join();
  EXPECT_ERRNO(ESRCH, syscall(SYS_tgkill, getpid(), 0x3fffffff, SIGUSR1));
  EXPECT_ERRNO(ESRCH, syscall(SYS_tgkill, getppid(), gettid(), 0)) << "not of that group";
  EXPECT_ERRNO(EINVAL, syscall(SYS_tgkill, -1, gettid(), SIGUSR1));
  EXPECT_ERRNO(EINVAL, syscall(SYS_tgkill, getpid(), 0, SIGUSR1));
  EXPECT_ERRNO(EINVAL, syscall(SYS_tgkill, getpid(), gettid(), 65));
  EXPECT_ERRNO(EINVAL, syscall(SYS_tkill, -1, SIGUSR1));
}

TEST(kill, ProcessSignalGoesToAnUnblockedThread) {
  static std::atomic<pid_t> got;
  got = 0;
  ScopedHandler h(SIGUSR1, [](int) { got = gettid(); });
  std::atomic<pid_t> tid{0};
  std::atomic<bool> stop{false};
  std::thread t([&] {
    tid = gettid();
    while (!stop) Breathe();
  });
  while (tid == 0) Breathe();
  {
    ScopedBlock block({SIGUSR1});
    ASSERT_OK(kill(getpid(), SIGUSR1));
    while (got == 0) Breathe();
    EXPECT_EQ(got, tid);
  }
  stop = true;
  t.join();
}

TEST(kill, StopAndContinueAllThreads) {
  std::atomic<uint32_t>* counter;
  Mapping shared(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  counter = new (shared.at()) std::atomic<uint32_t>(0);
  pid_t child = Spawn([&] {
    std::thread([&] {
      while (true) ++*counter;
    }).detach();
    while (true) pause();
    return 0;
  });
  while (*counter == 0) Breathe();
  ASSERT_OK(kill(child, SIGSTOP));
  int status;
  ASSERT_EQ(waitpid(child, &status, WUNTRACED), child);
  uint32_t before = *counter;
  for (int i = 0; i < 1000; i++) sched_yield();
  EXPECT_EQ(*counter, before) << "the other thread has stopped too";
  ASSERT_OK(kill(child, SIGCONT));
  while (*counter == before) Breathe();
  ASSERT_OK(kill(child, SIGKILL));
  EXPECT_EQ(WaitFor(child), Killed(SIGKILL));
}

TEST(kill, ContinueDiscardsPendingStopAndViceVersa) {
  ScopedBlock block({SIGTSTP, SIGCONT});
  ASSERT_OK(raise(SIGTSTP));
  sigset_t pending;
  sigpending(&pending);
  EXPECT_TRUE(sigismember(&pending, SIGTSTP));
  ASSERT_OK(raise(SIGCONT));
  sigpending(&pending);
  EXPECT_FALSE(sigismember(&pending, SIGTSTP));
}

TEST(kill, SigchldWhenAChildStops) {
  ScopedHandler h(SIGCHLD, CountInfo);
  ScopedBlock block({SIGCHLD});
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  pid_t child = Spawn([] {
    while (true) pause();
    return 0;
  });
  ASSERT_OK(kill(child, SIGSTOP));
  siginfo_t info;
  EXPECT_EQ(sigwaitinfo(&set, &info), SIGCHLD);
  EXPECT_EQ(info.si_code, CLD_STOPPED);
  EXPECT_EQ(info.si_status, SIGSTOP);
  ASSERT_OK(kill(child, SIGCONT));
  EXPECT_EQ(sigwaitinfo(&set, &info), SIGCHLD);
  EXPECT_EQ(info.si_code, CLD_CONTINUED);
  ASSERT_OK(kill(child, SIGKILL));
  EXPECT_EQ(sigwaitinfo(&set, &info), SIGCHLD);
  EXPECT_EQ(info.si_code, CLD_KILLED);
  EXPECT_EQ(info.si_status, SIGKILL);
  EXPECT_EQ(info.si_pid, child);
  EXPECT_EQ(WaitFor(child), Killed(SIGKILL));
}

}  // namespace
}  // namespace uk::test
