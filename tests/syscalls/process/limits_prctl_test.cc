// Resource limits, prctl, arch_prctl, personality.
#include <asm/prctl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <thread>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

TEST(setrlimit, SoftUpToHard) {
  COVERS(getrlimit);
  IN_CHILD([&] {
    rlimit lim;
    CHILD_CHECK(syscall(SYS_getrlimit, RLIMIT_NOFILE, &lim) == 0);
    rlimit set = {50, 60};
    CHILD_CHECK(syscall(SYS_setrlimit, RLIMIT_NOFILE, &set) == 0);
    CHILD_CHECK(syscall(SYS_getrlimit, RLIMIT_NOFILE, &lim) == 0);
    CHILD_CHECK(lim.rlim_cur == 50 && lim.rlim_max == 60);
    set.rlim_cur = 60;
    CHILD_CHECK(syscall(SYS_setrlimit, RLIMIT_NOFILE, &set) == 0);
    set.rlim_cur = 61;
    CHILD_CHECK(syscall(SYS_setrlimit, RLIMIT_NOFILE, &set) == -1 && errno == EINVAL);
    if (IsRoot()) CHILD_CHECK(setresuid(12345, 12345, 12345) == 0);
    set = {61, 61};
    CHILD_CHECK(syscall(SYS_setrlimit, RLIMIT_NOFILE, &set) == -1 && errno == EPERM);
    CHILD_CHECK(RunChild([] {
                  rlimit inherited;
                  getrlimit(RLIMIT_NOFILE, &inherited);
                  return inherited.rlim_cur == 60 && inherited.rlim_max == 60 ? 0 : 1;
                }) == 0);
  });
  rlimit lim;
  EXPECT_ERRNO(EINVAL, syscall(SYS_getrlimit, 99, &lim));
  EXPECT_ERRNO(EINVAL, syscall(SYS_setrlimit, 99, &lim));
  EXPECT_ERRNO(EFAULT, syscall(SYS_getrlimit, RLIMIT_NOFILE, BadPointer()));
  EXPECT_ERRNO(EFAULT, syscall(SYS_setrlimit, RLIMIT_NOFILE, BadPointer()));
}

TEST(prlimit64, OfAnotherProcess) {
  Gate go, changed;
  pid_t child = Spawn([&] {
    go.Wait();
    rlimit lim;
    getrlimit(RLIMIT_CORE, &lim);
    return lim.rlim_cur == 0 && lim.rlim_max == 4096 ? 0 : 1;
  });
  rlimit64 set = {0, 4096}, old = {};
  EXPECT_OK(syscall(SYS_prlimit64, child, RLIMIT_CORE, &set, &old));
  EXPECT_OK(syscall(SYS_prlimit64, child, RLIMIT_CORE, nullptr, &old));
  EXPECT_EQ(old.rlim_max, 4096u);
  go.Open();
  EXPECT_EQ(WaitFor(child), Exited(0));
  EXPECT_ERRNO(ESRCH, syscall(SYS_prlimit64, 0x3fffffff, RLIMIT_CORE, nullptr, &old));
  EXPECT_ERRNO(EINVAL, syscall(SYS_prlimit64, 0, 99, nullptr, &old));
  EXPECT_ERRNO(EFAULT, syscall(SYS_prlimit64, 0, RLIMIT_CORE, BadPointer(), nullptr));
  if (InitIsForeign()) {
    EXPECT_ERRNO(EPERM, syscall(SYS_prlimit64, 1, RLIMIT_CORE, nullptr, &old));
  }
}

TEST(setrlimit, CpuLimitKills) {
  EXPECT_EQ(RunChild([] {
              rlimit lim = {1, 2};
              CHILD_CHECK(setrlimit(RLIMIT_CPU, &lim) == 0);
              while (true) {
              }
              return 0;
            }),
            Killed(SIGXCPU));
}

TEST(setrlimit, ProcessLimitStopsFork) {
  EXPECT_EQ(RunChild([] {
              if (IsRoot()) CHILD_CHECK(setresuid(54321, 54321, 54321) == 0);
              rlimit lim = {1, 1};
              CHILD_CHECK(setrlimit(RLIMIT_NPROC, &lim) == 0);
              pid_t p = fork();
              if (p == 0) _exit(0);
              return p == -1 && errno == EAGAIN ? 0 : 1;
            }),
            Exited(0));
}

TEST(prctl, NameAndDumpable) {
  char name[16] = {};
  std::thread([&] {
    EXPECT_OK(syscall(SYS_prctl, PR_SET_NAME, "a-long-name-that-is-cut"));
    EXPECT_OK(syscall(SYS_prctl, PR_GET_NAME, name));
    EXPECT_STREQ(name, "a-long-name-tha");
    EXPECT_EQ(ReadFile("/proc/self/task/" + std::to_string(gettid()) + "/comm"),
              "a-long-name-tha\n");
  }).join();
  EXPECT_OK(syscall(SYS_prctl, PR_GET_NAME, name));
  EXPECT_STRNE(name, "a-long-name-tha");
  EXPECT_ERRNO(EFAULT, syscall(SYS_prctl, PR_SET_NAME, BadPointer()));
  IN_CHILD([&] {
    CHILD_CHECK(syscall(SYS_prctl, PR_SET_DUMPABLE, 1) == 0);
    CHILD_CHECK(syscall(SYS_prctl, PR_GET_DUMPABLE) == 1);
    CHILD_CHECK(syscall(SYS_prctl, PR_SET_DUMPABLE, 0) == 0);
    CHILD_CHECK(syscall(SYS_prctl, PR_GET_DUMPABLE) == 0);
    CHILD_CHECK(syscall(SYS_prctl, PR_SET_DUMPABLE, 7) == -1 && errno == EINVAL);
  });
}

TEST(prctl, ParentDeathSubreaperNoNewPrivs) {
  IN_CHILD([&] {
    int sig = -1;
    CHILD_CHECK(syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGUSR1) == 0);
    CHILD_CHECK(syscall(SYS_prctl, PR_GET_PDEATHSIG, &sig) == 0 && sig == SIGUSR1);
    CHILD_CHECK(syscall(SYS_prctl, PR_SET_PDEATHSIG, 99) == -1 && errno == EINVAL);
    CHILD_CHECK(RunChild([] {
                  int inherited = -1;
                  prctl(PR_GET_PDEATHSIG, &inherited);
                  return inherited;
                }) == 0);
    int reaper = -1;
    CHILD_CHECK(syscall(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1) == 0);
    CHILD_CHECK(syscall(SYS_prctl, PR_GET_CHILD_SUBREAPER, &reaper) == 0 && reaper == 1);
    CHILD_CHECK(syscall(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0);
    CHILD_CHECK(syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHILD_CHECK(syscall(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    CHILD_CHECK(syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) == -1 && errno == EINVAL);
    CHILD_CHECK(RunChild([] {
                  return static_cast<int>(syscall(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)) - 1;
                }) == 0);
  });
}

TEST(prctl, BoundingSetTimerslackAndErrors) {
  EXPECT_EQ(syscall(SYS_prctl, PR_CAPBSET_READ, CAP_CHOWN), 1);
  EXPECT_ERRNO(EINVAL, syscall(SYS_prctl, PR_CAPBSET_READ, 1000));
  if (!IsRoot()) {
    EXPECT_ERRNO(EPERM, syscall(SYS_prctl, PR_CAPBSET_DROP, CAP_CHOWN));
  } else {
    IN_CHILD([&] {
      CHILD_CHECK(syscall(SYS_prctl, PR_CAPBSET_DROP, CAP_CHOWN) == 0);
      CHILD_CHECK(syscall(SYS_prctl, PR_CAPBSET_READ, CAP_CHOWN) == 0);
    });
  }
  IN_CHILD([&] {
    CHILD_CHECK(syscall(SYS_prctl, PR_SET_TIMERSLACK, 12345) == 0);
    CHILD_CHECK(syscall(SYS_prctl, PR_GET_TIMERSLACK) == 12345);
  });
  EXPECT_ERRNO(EINVAL, syscall(SYS_prctl, 123456, 0, 0, 0, 0));
}

// A program may use its GS base whatever it did before.
TEST(arch_prctl, TheGsBaseIsTheProgramsOwn) {
  static uint64_t word = 4711;
  auto at_gs = [] {
    uint64_t v;
    __asm__ volatile("mov %%gs:0, %0" : "=r"(v));
    return v;
  };
  IN_CHILD([&] {
    for (int i = 0; i < 300; i++) CHILD_CHECK(getppid() > 0);
    uint64_t gs = 1;
    CHILD_CHECK(syscall(SYS_arch_prctl, ARCH_GET_GS, &gs) == 0 && gs == 0);
    CHILD_CHECK(syscall(SYS_arch_prctl, ARCH_SET_GS, &word) == 0);
    for (int i = 0; i < 300; i++) {
      CHILD_CHECK(getppid() > 0);
      CHILD_CHECK(at_gs() == 4711);
    }
    pid_t child = fork();
    if (child == 0) _exit(at_gs() == 4711 && getppid() > 0 ? 0 : 1);
    CHILD_CHECK(WaitFor(child) == Exited(0));
  });
}

TEST(arch_prctl, FsAndGsBases) {
  unsigned long fs = 0;
  EXPECT_OK(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs));
  unsigned long self;
  __asm__("mov %%fs:0, %0" : "=r"(self));
  EXPECT_EQ(fs, self) << "the thread pointer points at itself";
  unsigned long value = 0x1122334455667788, gs = 0;
  EXPECT_OK(syscall(SYS_arch_prctl, ARCH_SET_GS, &value));
  EXPECT_OK(syscall(SYS_arch_prctl, ARCH_GET_GS, &gs));
  EXPECT_EQ(gs, reinterpret_cast<unsigned long>(&value));
  unsigned long through;
  __asm__("mov %%gs:0, %0" : "=r"(through));
  EXPECT_EQ(through, value);
  sched_yield();
  __asm__ volatile("mov %%gs:0, %0" : "=r"(through));
  EXPECT_EQ(through, value) << "kept over switches";
  IN_CHILD([&] {
    unsigned long inherited = 0;
    __asm__("mov %%gs:0, %0" : "=r"(inherited));
    CHILD_CHECK(inherited == value);
  });
  EXPECT_OK(syscall(SYS_arch_prctl, ARCH_SET_GS, 0l));
  EXPECT_ERRNO(EPERM, syscall(SYS_arch_prctl, ARCH_SET_GS, 1ul << 63));
  EXPECT_ERRNO(EFAULT, syscall(SYS_arch_prctl, ARCH_GET_FS, BadPointer()));
  EXPECT_ERRNO(EINVAL, syscall(SYS_arch_prctl, 0x9999, 0l));
}

TEST(personality, ReadAndSet) {
  IN_CHILD([&] {
    long now = syscall(SYS_personality, 0xffffffff);
    CHILD_CHECK(now >= 0);
    CHILD_CHECK(syscall(SYS_personality, ADDR_NO_RANDOMIZE) == now);
    CHILD_CHECK(syscall(SYS_personality, 0xffffffff) == ADDR_NO_RANDOMIZE);
    CHILD_CHECK(RunChild([] {
                  return syscall(SYS_personality, 0xffffffff) == ADDR_NO_RANDOMIZE ? 0 : 1;
                }) == 0);
  });
}

}  // namespace
}  // namespace uk::test
