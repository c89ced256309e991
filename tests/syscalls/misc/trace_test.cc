// ptrace and seccomp, as far as ordinary programs use them: stepping over calls, reading memory
// and registers, filtering.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

int Wait(pid_t pid) {
  int status = -1;
  EXPECT_EQ(waitpid(pid, &status, __WALL), pid);
  return status;
}

TEST(ptrace, TracemeStopsAtExecAndSyscalls) {
  pid_t child = Spawn([] {
    CHILD_CHECK(ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0);
    raise(SIGSTOP);
    syscall(SYS_getppid);
    return 3;
  });
  int status = Wait(child);
  ASSERT_TRUE(WIFSTOPPED(status));
  EXPECT_EQ(WSTOPSIG(status), SIGSTOP);
  ASSERT_OK(ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD));
  bool entered = false, left = false;
  while (true) {
    ASSERT_OK(ptrace(PTRACE_SYSCALL, child, nullptr, nullptr));
    status = Wait(child);
    if (!WIFSTOPPED(status)) break;
    EXPECT_EQ(WSTOPSIG(status), SIGTRAP | 0x80);
    user_regs_struct regs;
    ASSERT_OK(ptrace(PTRACE_GETREGS, child, nullptr, &regs));
    if (regs.orig_rax == SYS_getppid) {
      if (!entered) {
        entered = true;
        EXPECT_EQ(static_cast<long>(regs.rax), -ENOSYS) << "at entry";
      } else {
        left = true;
        EXPECT_EQ(static_cast<pid_t>(regs.rax), getpid());
      }
    }
  }
  EXPECT_TRUE(entered && left);
  EXPECT_EQ(status, Exited(3));
}

TEST(ptrace, PeekPokeAndSetRegisters) {
  static volatile long cell;
  cell = 11;
  void* bad = BadPointer();  // the child has it too
  pid_t child = Spawn([] {
    ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    raise(SIGSTOP);
    return cell == 22 ? 0 : 1;
  });
  Wait(child);
  errno = 0;
  EXPECT_EQ(ptrace(PTRACE_PEEKDATA, child, &cell, nullptr), 11);
  EXPECT_OK(ptrace(PTRACE_POKEDATA, child, &cell, 22l));
  EXPECT_EQ(cell, 11) << "the parent's copy is its own";
  EXPECT_OK(ptrace(PTRACE_PEEKDATA, child, bad, nullptr)) << "even without any right";
  EXPECT_ERRNO(EIO, ptrace(PTRACE_PEEKDATA, child, reinterpret_cast<void*>(8l), nullptr));
  user_regs_struct regs = {};
  iovec iov = {&regs, sizeof regs};
  EXPECT_OK(
      ptrace(static_cast<__ptrace_request>(PTRACE_GETREGSET), child, 1 /* NT_PRSTATUS */, &iov));
  EXPECT_EQ(iov.iov_len, sizeof regs);
  EXPECT_NE(regs.rip, 0u);
  EXPECT_OK(ptrace(PTRACE_CONT, child, nullptr, nullptr));
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(ptrace, SingleStepAndSignalInjection) {
  pid_t child = Spawn([] {
    ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    raise(SIGSTOP);
    while (true) {
    }
    return 0;
  });
  Wait(child);
  for (int i = 0; i < 20; i++) {
    ASSERT_OK(ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr));
    int status = Wait(child);
    ASSERT_TRUE(WIFSTOPPED(status));
    EXPECT_EQ(WSTOPSIG(status), SIGTRAP);
  }
  ASSERT_OK(ptrace(PTRACE_CONT, child, nullptr, SIGTERM));
  EXPECT_EQ(WaitFor(child), Killed(SIGTERM));
}

TEST(ptrace, SuppressedSignalAndAttach) {
  Gate ready;
  pid_t child = Spawn([&] {
    ready.Open();
    while (true) pause();
    return 0;
  });
  ASSERT_TRUE(ready.Wait());
  ASSERT_OK(ptrace(PTRACE_SEIZE, child, nullptr, nullptr));
  ASSERT_OK(kill(child, SIGTERM));
  int status = Wait(child);
  ASSERT_TRUE(WIFSTOPPED(status));
  EXPECT_EQ(WSTOPSIG(status), SIGTERM);
  ASSERT_OK(ptrace(PTRACE_CONT, child, nullptr, nullptr));
  ASSERT_OK(ptrace(PTRACE_INTERRUPT, child, nullptr, nullptr));
  status = Wait(child);
  EXPECT_EQ(status >> 16, PTRACE_EVENT_STOP);
  ASSERT_OK(ptrace(PTRACE_DETACH, child, nullptr, nullptr));
  ASSERT_OK(kill(child, SIGKILL));
  EXPECT_EQ(WaitFor(child), Killed(SIGKILL));
}

TEST(ptrace, AnInterruptedSleepIsSeenToBeginAnew) {
  Gate ready;
  pid_t child = Spawn([&] {
    ready.Open();
    timespec long_time = {1000, 0};
    while (true) nanosleep(&long_time, nullptr);
    return 0;
  });
  ASSERT_TRUE(ready.Wait());
  // Until it sleeps: its state is S, and its call is known.
  while (ReadFile("/proc/" + std::to_string(child) + "/stat").find(") S ") == std::string::npos)
    sched_yield();
  ASSERT_OK(ptrace(PTRACE_SEIZE, child, nullptr, PTRACE_O_TRACESYSGOOD));
  ASSERT_OK(ptrace(PTRACE_INTERRUPT, child, nullptr, nullptr));
  EXPECT_EQ(Wait(child) >> 16, PTRACE_EVENT_STOP);
  ASSERT_OK(ptrace(PTRACE_SYSCALL, child, nullptr, nullptr));
  int status = Wait(child);
  ASSERT_TRUE(WIFSTOPPED(status));
  EXPECT_EQ(WSTOPSIG(status), SIGTRAP | 0x80);
  __ptrace_syscall_info info = {};
  ASSERT_GT(ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, &info), 0);
  EXPECT_EQ(info.op, PTRACE_SYSCALL_INFO_ENTRY);
  ASSERT_OK(kill(child, SIGKILL));
  EXPECT_EQ(WaitFor(child), Killed(SIGKILL));
}

TEST(ptrace, Errors) {
  EXPECT_ERRNO(ESRCH, ptrace(PTRACE_ATTACH, 0x3fffffff, nullptr, nullptr));
  EXPECT_ERRNO(ESRCH, ptrace(PTRACE_CONT, getppid(), nullptr, nullptr)) << "not traced by us";
  EXPECT_ERRNO(EPERM, ptrace(PTRACE_ATTACH, getpid(), nullptr, nullptr));
  if (InitIsForeign()) {
    EXPECT_ERRNO(EPERM, ptrace(PTRACE_ATTACH, 1, nullptr, nullptr));
  }
}

// ---- seccomp -----------------------------------------------------------------------------------

// A filter that answers one call number with `action` and allows the rest.
std::vector<sock_filter> Filter(unsigned number, unsigned action) {
  return {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, action),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
}

long Install(std::vector<sock_filter> filter, unsigned flags = 0) {
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  sock_fprog prog = {static_cast<unsigned short>(filter.size()), filter.data()};
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
}

TEST(seccomp, FilterReturnsErrnoAndIsInherited) {
  IN_CHILD([&] {
    CHILD_CHECK(Install(Filter(SYS_getppid, SECCOMP_RET_ERRNO | 77)) == 0);
    CHILD_CHECK(syscall(SYS_getppid) == -1 && errno == 77);
    CHILD_CHECK(getpid() > 0);
    CHILD_CHECK(RunChild([] { return syscall(SYS_getppid) == -1 && errno == 77 ? 0 : 1; }) == 0);
    CHILD_CHECK(prctl(PR_GET_SECCOMP) == 2);
    CHILD_CHECK(ProcField("/proc/self/status", "Seccomp") == "2");
  });
}

TEST(seccomp, KillAndTrap) {
  EXPECT_EQ(RunChild([] {
              Install(Filter(SYS_getppid, SECCOMP_RET_KILL_PROCESS));
              syscall(SYS_getppid);
              return 0;
            }),
            Killed(SIGSYS));
  IN_CHILD([&] {
    static siginfo_t info;
    ScopedHandler h(SIGSYS, [](int, siginfo_t* i, void*) { info = *i; });
    CHILD_CHECK(Install(Filter(SYS_getppid, SECCOMP_RET_TRAP | 5)) == 0);
    syscall(SYS_getppid);
    CHILD_CHECK(info.si_signo == SIGSYS && info.si_syscall == SYS_getppid);
    CHILD_CHECK(info.si_errno == 5 && info.si_arch == AUDIT_ARCH_X86_64);
  });
}

TEST(seccomp, StrictMode) {
  EXPECT_EQ(RunChild([] {
              CHILD_CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
              syscall(SYS_exit, 7);
              return 0;
            }),
            Exited(7));
  EXPECT_EQ(RunChild([] {
              prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
              syscall(SYS_getpid);
              return 0;
            }),
            Killed(SIGKILL));
}

TEST(seccomp, Errors) {
  EXPECT_ERRNO(EINVAL, syscall(SYS_seccomp, 99, 0, nullptr));
  EXPECT_ERRNO(EFAULT, syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, BadPointer()));
  EXPECT_ERRNO(EINVAL, syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 1, nullptr));
  if (!IsRoot()) {
    IN_CHILD([&] {
      auto f = Filter(SYS_getppid, SECCOMP_RET_ALLOW);
      sock_fprog prog = {static_cast<unsigned short>(f.size()), f.data()};
      CHILD_CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) == -1);
      CHILD_CHECK(errno == EACCES);
    });
  }
  std::vector<sock_filter> endless = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0)};
  IN_CHILD([&] { CHILD_CHECK(Install(endless) == -1 && errno == EINVAL); });
}

}  // namespace
}  // namespace uk::test
