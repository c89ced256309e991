// wait4, waitid, exit, exit_group, reparenting.
#include <sys/prctl.h>
#include <sys/resource.h>

#include <thread>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

TEST(wait4, StatusAndUsage) {
  pid_t child = Spawn([] { return 42; });
  int status = 0;
  rusage usage = {};
  EXPECT_EQ(syscall(SYS_wait4, child, &status, 0, &usage), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 42);
  EXPECT_ERRNO(ECHILD, syscall(SYS_wait4, child, &status, 0, nullptr)) << "reaped once";
}

TEST(wait4, KilledBySignal) {
  for (int sig : {SIGKILL, SIGTERM, SIGABRT, SIGUSR1, SIGRTMIN + 3}) {
    pid_t child = Spawn([sig] {
      signal(sig, SIG_DFL);
      kill(getpid(), sig);
      return 1;
    });
    EXPECT_EQ(WaitFor(child), Killed(sig));
  }
}

TEST(wait4, NoHang) {
  Gate go;
  pid_t child = Spawn([&] {
    go.Wait();
    return 0;
  });
  int status;
  EXPECT_EQ(syscall(SYS_wait4, child, &status, WNOHANG, nullptr), 0);
  EXPECT_EQ(syscall(SYS_wait4, -1, &status, WNOHANG, nullptr), 0);
  go.Open();
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(wait4, StoppedAndContinued) {
  Gate hold;
  pid_t child = Spawn([&] {
    hold.Wait();
    return 5;
  });
  int status;
  ASSERT_OK(kill(child, SIGSTOP));
  EXPECT_EQ(syscall(SYS_wait4, child, &status, WUNTRACED, nullptr), child);
  EXPECT_TRUE(WIFSTOPPED(status));
  EXPECT_EQ(WSTOPSIG(status), SIGSTOP);
  EXPECT_EQ(syscall(SYS_wait4, child, &status, WUNTRACED | WNOHANG, nullptr), 0) << "told once";
  ASSERT_OK(kill(child, SIGCONT));
  EXPECT_EQ(syscall(SYS_wait4, child, &status, WCONTINUED, nullptr), child);
  EXPECT_TRUE(WIFCONTINUED(status));
  hold.Open();
  EXPECT_EQ(WaitFor(child), Exited(5));
}

TEST(wait4, ByProcessGroup) {
  IN_CHILD([&] {
    Gate go;
    pid_t a = Spawn([&] {
      go.Wait();
      return 1;
    });
    CHILD_CHECK(setpgid(a, a) == 0);
    pid_t b = Spawn([] { return 2; });
    int status;
    CHILD_CHECK(waitpid(0, &status, 0) == b);
    CHILD_CHECK(waitpid(0, &status, 0) == -1 && errno == ECHILD);
    go.Open();
    CHILD_CHECK(waitpid(-a, &status, 0) == a);
  });
}

TEST(wait4, Errors) {
  IN_CHILD([&] {
    int status;
    CHILD_CHECK(syscall(SYS_wait4, -1, &status, 0, nullptr) == -1 && errno == ECHILD);
    CHILD_CHECK(syscall(SYS_wait4, -1, &status, 0x1000, nullptr) == -1 && errno == EINVAL);
    CHILD_CHECK(syscall(SYS_wait4, INT32_MIN, &status, 0, nullptr) == -1 && errno == ESRCH);
    pid_t child = Spawn([] { return 0; });
    CHILD_CHECK(syscall(SYS_wait4, child, BadPointer(), 0, nullptr) == -1 && errno == EFAULT);
  });
}

TEST(wait4, InterruptedOrRestarted) {
  Gate hold;
  for (int flags : {0, SA_RESTART}) {
    pid_t waiter = Spawn([&] {
      static int calls;
      calls = 0;
      ScopedHandler h(
          SIGUSR1, [](int) { calls++; }, flags);
      pid_t child = Spawn([&] {
        hold.Wait();
        return 3;
      });
      int status;
      long got = waitpid(child, &status, 0);
      if (flags == 0) {
        CHILD_CHECK(got == -1 && errno == EINTR);
        kill(child, SIGKILL);
        return WaitFor(child) == Killed(SIGKILL) ? 0 : 1;
      }
      CHILD_CHECK(got == child && calls == 1 && WEXITSTATUS(status) == 3);
      return 0;
    });
    EXPECT_TRUE(WaitForState(waiter, 'S'));
    // In wait, not in some wait for memory: ask twice through the call it is in.
    while (ReadFile("/proc/" + std::to_string(waiter) + "/task/" + std::to_string(waiter) +
                    "/children")
               .empty()) {
    }
    EXPECT_TRUE(WaitForState(waiter, 'S'));
    ASSERT_OK(kill(waiter, SIGUSR1));
    if (flags) {
      EXPECT_TRUE(WaitForState(waiter, 'S'));
      hold.Open();
    }
    EXPECT_EQ(WaitFor(waiter), Exited(0));
  }
}

TEST(wait4, IgnoringSigchldReapsByItself) {
  IN_CHILD([&] {
    signal(SIGCHLD, SIG_IGN);
    pid_t child = Spawn([] { return 1; });
    int status;
    CHILD_CHECK(waitpid(child, &status, 0) == -1 && errno == ECHILD);
  });
  IN_CHILD([&] {
    struct sigaction sa = {};
    sa.sa_handler = [](int) {};
    sa.sa_flags = SA_NOCLDWAIT;
    CHILD_CHECK(sigaction(SIGCHLD, &sa, nullptr) == 0);
    pid_t child = Spawn([] { return 1; });
    int status;
    long got;
    while ((got = waitpid(child, &status, 0)) == -1 && errno == EINTR) {
    }
    CHILD_CHECK(got == -1 && errno == ECHILD);
  });
}

TEST(waitid, FillsSiginfo) {
  pid_t child = Spawn([] { return 33; });
  siginfo_t info = {};
  EXPECT_OK(syscall(SYS_waitid, P_PID, child, &info, WEXITED | WNOWAIT, nullptr));
  EXPECT_EQ(info.si_signo, SIGCHLD);
  EXPECT_EQ(info.si_code, CLD_EXITED);
  EXPECT_EQ(info.si_status, 33);
  EXPECT_EQ(info.si_pid, child);
  EXPECT_EQ(info.si_uid, getuid());
  info = {};
  EXPECT_OK(syscall(SYS_waitid, P_ALL, 0, &info, WEXITED, nullptr)) << "WNOWAIT left it";
  EXPECT_EQ(info.si_pid, child);
  child = Spawn([] {
    raise(SIGKILL);
    return 0;
  });
  EXPECT_OK(syscall(SYS_waitid, P_PID, child, &info, WEXITED, nullptr));
  EXPECT_EQ(info.si_code, CLD_KILLED);
  EXPECT_EQ(info.si_status, SIGKILL);
}

TEST(waitid, NoHangLeavesPidZero) {
  Gate go;
  pid_t child = Spawn([&] {
    go.Wait();
    return 0;
  });
  siginfo_t info = {};
  info.si_pid = 77;
  EXPECT_OK(syscall(SYS_waitid, P_PID, child, &info, WEXITED | WNOHANG, nullptr));
  EXPECT_EQ(info.si_pid, 0);
  go.Open();
  EXPECT_OK(syscall(SYS_waitid, P_PID, child, nullptr, WEXITED, nullptr));
  EXPECT_ERRNO(ECHILD, syscall(SYS_waitid, P_PID, child, &info, WEXITED, nullptr));
  EXPECT_ERRNO(EINVAL, syscall(SYS_waitid, P_PID, child, &info, 0, nullptr));
  EXPECT_ERRNO(EINVAL, syscall(SYS_waitid, 99, child, &info, WEXITED, nullptr));
  EXPECT_ERRNO(EBADF, syscall(SYS_waitid, P_PIDFD, kBadFd, &info, WEXITED, nullptr));
}

TEST(exit_group, EndsEveryThread) {
  EXPECT_EQ(RunChild([] {
              std::thread([] {
                while (true) pause();
              }).detach();
              std::thread([] { syscall(SYS_exit_group, 17); }).join();
              return 0;
            }),
            Exited(17));
}

TEST(exit, OfTheLeaderKeepsTheOthers) {
  Pipe p;
  pid_t child = Spawn([&] {
    std::thread([&] {
      // The leader becomes a zombie while this thread goes on.
      while (!WaitForState(getpid(), 'Z')) {
      }
      (void)!write(p.w, "alive", 5);
      syscall(SYS_exit_group, 9);
    }).detach();
    syscall(SYS_exit, 1);
    return 0;
  });
  p.w.reset();
  EXPECT_EQ(ReadFd(p.r), "alive");
  EXPECT_EQ(WaitFor(child), Exited(9));
}

TEST(exit, StatusIsTheLowByte) {
  EXPECT_EQ(RunChild([] {
              syscall(SYS_exit_group, 0x1234);
              return 0;
            }),
            Exited(0x34));
  EXPECT_EQ(RunChild([] {
              syscall(SYS_exit, -1);
              return 0;
            }),
            Exited(0xff));
}

TEST(exit, ClosesDescriptors) {
  Pipe p;
  pid_t child = Spawn([&] { return 0; });
  p.w.reset();
  char c;
  EXPECT_EQ(read(p.r, &c, 1), 0) << "end of file once the child's copy has gone";
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(exit, OrphansGoToTheSubreaper) {
  IN_CHILD([&] {
    CHILD_CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    Gate go;
    Pipe p;
    pid_t child = Spawn([&] {
      pid_t grandchild = Spawn([&] {
        go.Wait();
        pid_t parent = getppid();
        CHILD_CHECK(write(p.w, &parent, sizeof parent) == sizeof parent);
        return 12;
      });
      return grandchild > 0 ? 11 : 1;
    });
    CHILD_CHECK(WaitFor(child) == Exited(11));
    go.Open();
    pid_t parent = 0;
    CHILD_CHECK(read(p.r, &parent, sizeof parent) == sizeof parent && parent == getpid());
    int status;
    CHILD_CHECK(wait(&status) > 0 && WEXITSTATUS(status) == 12);
  });
}

TEST(exit, ParentDeathSignal) {
  Pipe p;
  pid_t child = Spawn([&] {
    Gate ready;
    pid_t grandchild = Spawn([&] {
      CHILD_CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
      ready.Open();
      while (true) pause();
      return 0;
    });
    (void)grandchild;
    CHILD_CHECK(ready.Wait());
    return 0;
  });
  p.w.reset();
  EXPECT_EQ(WaitFor(child), Exited(0));
  char c;
  EXPECT_EQ(read(p.r, &c, 1), 0) << "the grandchild, which held the pipe, has died too";
}

TEST(exit, ZombieUntilReaped) {
  pid_t child = Spawn([] { return 0; });
  EXPECT_TRUE(WaitForState(child, 'Z'));
  EXPECT_OK(kill(child, SIGKILL)) << "a zombie can still be signalled";
  EXPECT_EQ(WaitFor(child), Exited(0));
  EXPECT_ERRNO(ESRCH, kill(child, 0));
}

}  // namespace
}  // namespace uk::test
