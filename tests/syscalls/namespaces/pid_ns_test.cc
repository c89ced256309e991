// PID namespaces (pid_namespaces(7)): numbers inside and outside, process 1 and its end.
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/socket.h>

#include <thread>

#include "tests/syscalls/namespaces/namespaces.h"

namespace uk::test {
namespace {

pid_t RawGetpid() { return static_cast<pid_t>(syscall(SYS_getpid)); }
pid_t RawGettid() { return static_cast<pid_t>(syscall(SYS_gettid)); }

TEST(clone3, TheFirstOfAPidNamespaceIsOne) {
  COVERS(getpid, gettid, getppid, getpgid, getsid, fork, wait4);
  NEEDS_NAMESPACES();
  AS_INIT([] {
    CHILD_CHECK(RawGetpid() == 1 && RawGettid() == 1 && getppid() == 0);
    CHILD_CHECK(getpgid(0) == 0 && getsid(0) == 0);  // those of outside have no number here
    const pid_t child = Spawn([] {
      CHILD_CHECK(RawGetpid() == 2 && RawGettid() == 2 && getppid() == 1);
      // Often, so that a call site that is answered in another way is met.
      for (int i = 0; i < 3000; ++i) CHILD_CHECK(RawGetpid() == 2);
    });
    CHILD_CHECK(child == 2);
    int status = -1;
    CHILD_CHECK(waitpid(2, &status, 0) == 2 && status == 0);
    CHILD_CHECK(setsid() == 1 && getsid(0) == 1 && getpgid(0) == 1 && getpgrp() == 1);
    CHILD_CHECK(kill(77, 0) == -1 && errno == ESRCH);
    CHILD_CHECK(waitpid(77, &status, 0) == -1 && errno == ECHILD);
  });
}

TEST(unshare, APidNamespaceIsForTheChildren) {
  COVERS(vfork);
  NEEDS_NAMESPACES();
  IN_CHILD([] {
    CHILD_CHECK(BecomeMighty());
    const pid_t self = getpid();
    const ino_t mine = NsInode("pid");
    CHILD_CHECK(NsInode("pid_for_children") == mine);
    CHILD_CHECK(unshare(CLONE_NEWPID) == 0);
    CHILD_CHECK(RawGetpid() == self && NsInode("pid") == mine);
    char to[64];
    CHILD_CHECK(readlink("/proc/self/ns/pid_for_children", to, sizeof to) == -1 && errno == ENOENT);
    CHILD_CHECK(unshare(CLONE_NEWPID) == -1 && errno == EINVAL);  // one is waiting already
    // A thread would be in another namespace than its process.
    CHILD_CHECK(syscall(SYS_clone, CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, 0, 0, 0, 0) == -1 &&
                errno == EINVAL);
    Gate gate;
    const pid_t init = Spawn([&] {
      CHILD_CHECK(RawGetpid() == 1 && getppid() == 0);
      CHILD_CHECK(gate.Wait());
    });
    CHILD_CHECK(init > 0);
    CHILD_CHECK(NsInode("pid_for_children") != mine && NsInode("pid_for_children") != 0);
    const pid_t second = Spawn([] { CHILD_CHECK(RawGetpid() == 2 && getppid() == 0); });
    CHILD_CHECK(WaitFor(second) == 0);
    gate.Open();
    CHILD_CHECK(WaitFor(init) == 0);
    CHILD_CHECK(fork() == -1 && errno == ENOMEM);  // its process 1 has ended
  });
}

TEST(clone3, NumbersMayBeChosenInEachNamespace) {
  NEEDS_NAMESPACES();
  IN_CHILD([] {
    CHILD_CHECK(BecomeMighty());
    CHILD_CHECK(Clone3(CLONE_NEWPID, {2}) == -1 && errno == EINVAL);  // the first is 1
    CHILD_CHECK(Clone3(CLONE_NEWPID, {1, 0}) == -1 && errno == EINVAL);
    CHILD_CHECK(Clone3(CLONE_NEWPID, {1, 1 << 29}) == -1 && errno == EINVAL);
    const pid_t init = SpawnIn(
        CLONE_NEWPID,
        [] {
          CHILD_CHECK(RawGetpid() == 1);
          const pid_t a = SpawnIn(0, [] { CHILD_CHECK(RawGetpid() == 41); }, {41});
          CHILD_CHECK(a == 41);
          CHILD_CHECK(Clone3(0, {41}) == -1 && errno == EEXIST);
          CHILD_CHECK(WaitFor(a) == 0);
          // Two levels: 1 inside, 70 here.
          const pid_t b = SpawnIn(CLONE_NEWPID, [] { CHILD_CHECK(RawGetpid() == 1); }, {1, 70});
          CHILD_CHECK(b == 70 && WaitFor(b) == 0);
        },
        {1});
    CHILD_CHECK(init > 0 && WaitFor(init) == 0);
    // An attempt in vain leaves the namespace as it was.
    CHILD_CHECK(unshare(CLONE_NEWPID) == 0);
    CHILD_CHECK(Clone3(0, {1, getpid()}) == -1 && (errno == EEXIST || errno == EPERM));
    CHILD_CHECK(RunChild([] { CHILD_CHECK(RawGetpid() == 1); }) == 0);
    const std::vector<pid_t> many(33, 1);
    CHILD_CHECK(Clone3(CLONE_NEWPID, many) == -1 && errno == EINVAL);
  });
}

TEST(clone3, PidNamespacesNest32Deep) {
  NEEDS_NAMESPACES();
  struct Depth {
    int reached;
    int error;
  };
  Pipe report;
  IN_CHILD([&] {
    CHILD_CHECK(BecomeMighty());
    std::function<void(int)> deeper = [&](int level) {
      const pid_t child = SpawnIn(CLONE_NEWPID, [&] { deeper(level + 1); });
      if (child == -1) {
        const Depth d{level, errno};
        CHILD_CHECK(write(report.w, &d, sizeof d) == sizeof d);
        return;
      }
      CHILD_CHECK(WaitFor(child) == 0);
    };
    deeper(0);
  });
  Depth d = {};
  ASSERT_EQ(read(report.r, &d, sizeof d), static_cast<ssize_t>(sizeof d));
  EXPECT_EQ(d.error, ENOSPC);
  EXPECT_LE(d.reached, 32);  // fewer where these tests are in one already
  EXPECT_GE(d.reached, 16);
}

TEST(execve, AThreadTakesOverTheNumberInItsNamespace) {
  COVERS(clone, exit);
  NEEDS_NAMESPACES();
  AS_INIT([] {
    const pid_t child = Spawn([] {
      std::thread([] {
        CHILD_CHECK(RawGetpid() == 2 && RawGettid() == 3);
        execl("/bin/sh", "sh", "-c", "test $$ = 2 && (exit 0); test $$ = 2", nullptr);
        _exit(98);
      }).detach();
      for (;;) pause();
    });
    CHILD_CHECK(child == 2 && WaitFor(child) == 0);
    CHILD_CHECK(kill(3, 0) == -1 && errno == ESRCH);
    // The first thread may end before the others; the process goes on, and is process 1 still.
    std::thread([] {
      while (ProcField("/proc/thread-self/../../status", "State") != "Z (zombie)") Breathe();
      CHILD_CHECK(RawGetpid() == 1);
      const pid_t last = Spawn([] { CHILD_CHECK(getppid() == 1); });
      CHILD_CHECK(WaitFor(last) == 0);
      _exit(0);
    }).detach();
    syscall(SYS_exit, 0);
  });
}

TEST(kill, FromInsideProcessOneIsSafe) {
  COVERS(tgkill, rt_sigqueueinfo);
  NEEDS_NAMESPACES();
  AS_INIT([] {
    for (int sig : {SIGKILL, SIGSTOP, SIGTERM, SIGSEGV}) CHILD_CHECK(kill(1, sig) == 0);
    const pid_t child = Spawn([] {
      for (int sig : {SIGKILL, SIGSTOP, SIGTERM, SIGABRT}) {
        CHILD_CHECK(kill(1, sig) == 0);
        CHILD_CHECK(syscall(SYS_tgkill, 1, 1, sig) == 0);
      }
      CHILD_CHECK(kill(-1, SIGKILL) == -1 && errno == ESRCH);  // neither process 1 nor itself
    });
    CHILD_CHECK(WaitFor(child) == 0);
    // A handler is run.
    static volatile int got = 0;
    static volatile pid_t from = -1;
    struct sigaction a = {};
    a.sa_flags = SA_SIGINFO;
    a.sa_sigaction = [](int, siginfo_t* info, void*) {
      got = 1;
      from = info->si_pid;
    };
    CHILD_CHECK(sigaction(SIGTERM, &a, nullptr) == 0);
    const pid_t sender = Spawn([] { CHILD_CHECK(kill(1, SIGTERM) == 0); });
    CHILD_CHECK(WaitFor(sender) == 0 && got == 1 && from == sender);
  });
}

TEST(kill, FromOutsideProcessOneCanBeKilled) {
  NEEDS_NAMESPACES();
  IN_CHILD([] {
    CHILD_CHECK(BecomeMighty());
    Gate ready;
    const pid_t init = SpawnIn(CLONE_NEWPID, [&] {
      ready.Open();
      for (;;) pause();
    });
    CHILD_CHECK(init > 0 && ready.Wait());
    CHILD_CHECK(kill(init, SIGTERM) == 0);  // has no effect
    CHILD_CHECK(kill(init, SIGSTOP) == 0);
    int status = 0;
    CHILD_CHECK(waitpid(init, &status, WUNTRACED) == init && WIFSTOPPED(status));
    CHILD_CHECK(kill(init, SIGCONT) == 0 && kill(init, SIGKILL) == 0);
    CHILD_CHECK(WaitFor(init) == Killed(SIGKILL));
  });
}

TEST(kill, SendersFromOutsideHaveNoNumber) {
  COVERS(rt_sigqueueinfo, pidfd_send_signal, rt_sigtimedwait);
  NEEDS_NAMESPACES();
  IN_CHILD([] {
    CHILD_CHECK(BecomeMighty());
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHILD_CHECK(sigprocmask(SIG_BLOCK, &set, nullptr) == 0);
    int pidfd = -1;
    const pid_t init = SpawnIn(
        CLONE_NEWPID,
        [&] {
          for (int i = 0; i < 3; ++i) {
            siginfo_t info = {};
            CHILD_CHECK(sigwaitinfo(&set, &info) == SIGUSR1 && info.si_pid == 0);
            CHILD_CHECK(i != 1 || info.si_value.sival_int == 7);
            CHILD_CHECK(syscall(SYS_kill, 1, 0) == 0);
          }
          const pid_t child = Spawn([] {
            union sigval v = {};
            v.sival_int = 9;
            CHILD_CHECK(sigqueue(1, SIGUSR1, v) == 0);
          });
          siginfo_t info = {};
          CHILD_CHECK(sigwaitinfo(&set, &info) == SIGUSR1 && info.si_pid == child);
          CHILD_CHECK(info.si_value.sival_int == 9 && WaitFor(child) == 0);
        },
        {}, &pidfd);
    CHILD_CHECK(init > 0);
    auto until_taken = [&] {
      while (ProcField("/proc/" + std::to_string(init) + "/status", "ShdPnd") != "0000000000000000")
        Breathe();
    };
    CHILD_CHECK(kill(init, SIGUSR1) == 0);
    until_taken();
    union sigval v = {};
    v.sival_int = 7;
    CHILD_CHECK(sigqueue(init, SIGUSR1, v) == 0);
    until_taken();
    CHILD_CHECK(syscall(SYS_pidfd_send_signal, pidfd, SIGUSR1, nullptr, 0) == 0);
    CHILD_CHECK(WaitFor(init) == 0);
  });
}

TEST(pid_namespaces, ProcessOneReapsOrphansAndSubreapersStayInside) {
  COVERS(prctl, wait4);
  NEEDS_NAMESPACES();
  IN_CHILD([] {
    CHILD_CHECK(BecomeMighty());
    CHILD_CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);  // outside: gets nobody from inside
    const pid_t init = SpawnIn(CLONE_NEWPID, [] {
      Gate orphaned;
      const pid_t child = Spawn([&] {
        const pid_t grandchild = Spawn([&] {
          CHILD_CHECK(orphaned.Wait());
          CHILD_CHECK(getppid() == 1);
        });
        CHILD_CHECK(grandchild == 3);
      });
      CHILD_CHECK(WaitFor(child) == 0);
      orphaned.Open();
      int status = -1;
      CHILD_CHECK(waitpid(-1, &status, 0) == 3 && status == 0);
    });
    CHILD_CHECK(WaitFor(init) == 0);
    CHILD_CHECK(waitpid(-1, nullptr, 0) == -1 && errno == ECHILD);
  });
}

TEST(pid_namespaces, EverybodyEndsWithProcessOne) {
  COVERS(exit_group);
  NEEDS_NAMESPACES();
  Pipe held;
  IN_CHILD([&] {
    CHILD_CHECK(BecomeMighty());
    const pid_t init = SpawnIn(CLONE_NEWPID, [] {
      Gate running;
      for (int i = 0; i < 3; ++i) {
        const pid_t child = SpawnIn(i == 2 ? CLONE_NEWPID : 0, [&] {
          signal(SIGTERM, SIG_IGN);
          Spawn([] {
            for (;;) pause();
          });
          running.Open();
          for (;;) pause();
        });
        CHILD_CHECK(child > 0);
        CHILD_CHECK(running.Wait());
      }
      _exit(5);
    });
    CHILD_CHECK(init > 0 && WaitFor(init) == Exited(5));
    // All that had the pipe are gone when process 1 has been waited for.
    held.w.reset();
    CHILD_CHECK(fcntl(held.r, F_SETFL, O_NONBLOCK) == 0);
  });
  held.w.reset();
  char c;
  EXPECT_EQ(read(held.r, &c, 1), 0) << "somebody lives";
}

TEST(pid_namespaces, ProcShowsTheNamespaceItWasMountedIn) {
  COVERS(mount);
  NEEDS_NAMESPACES();
  Scratch dir;
  IN_CHILD([&] {
    CHILD_CHECK(BecomeMighty());
    CHILD_CHECK(unshare(CLONE_NEWNS) == 0);
    CHILD_CHECK(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
    const std::string outer = std::to_string(getpid());
    const pid_t init = SpawnIn(CLONE_NEWPID, [&] {
      const pid_t child = Spawn([] {
        for (;;) pause();
      });
      CHILD_CHECK(child == 2);
      // The old mount shows the numbers of outside.
      char to[64] = {};
      CHILD_CHECK(readlink("/proc/self", to, sizeof to - 1) > 0 && std::string(to) != "1");
      const std::string there = ProcField("/proc/self/status", "NSpid");
      CHILD_CHECK(ProcField("/proc/self/status", "Pid") == to);
      CHILD_CHECK(there.starts_with(to) && there.ends_with("\t1"));
      CHILD_CHECK(ProcField("/proc/self/status", "PPid") == outer);
      if (mount("proc", dir.c_str(), "proc", 0, nullptr) != 0) {
        CHILD_CHECK(errno == EPERM);  // parts of the old one are hidden
        return;
      }
      CHILD_CHECK(readlink((dir / "self").c_str(), to, sizeof to) == 1 && to[0] == '1');
      CHILD_CHECK(ProcField(dir / "1/status", "NSpid") == "1");
      CHILD_CHECK(ProcField(dir / "2/status", "PPid") == "1");
      CHILD_CHECK(ProcField(dir / "self/status", "PPid") == "0");
      CHILD_CHECK(!Exists(dir / outer) || std::stoi(outer) < 3);
      CHILD_CHECK(Exists(dir / "1/task/1") && Exists(dir / "2") && !Exists(dir / "3"));
      CHILD_CHECK(kill(2, SIGKILL) == 0 && WaitFor(2) == Killed(SIGKILL));
      CHILD_CHECK(!Exists(dir / "2"));
    });
    CHILD_CHECK(WaitFor(init) == 0);
  });
}

TEST(pid_namespaces, CredentialsOfSocketsAreTranslated) {
  COVERS(sendmsg, recvmsg, getsockopt, socketpair);
  NEEDS_NAMESPACES();
  IN_CHILD([] {
    CHILD_CHECK(BecomeMighty());
    int ends[2];
    CHILD_CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
    const int on = 1;
    CHILD_CHECK(setsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
    CHILD_CHECK(setsockopt(ends[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
    const pid_t init = SpawnIn(CLONE_NEWPID, [&] {
      struct ucred peer;
      socklen_t n = sizeof peer;
      CHILD_CHECK(getsockopt(ends[1], SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 && peer.pid == 0);
      CHILD_CHECK(send(ends[1], "i", 1, 0) == 1);
      CHILD_CHECK(ReceiveCreds(ends[1]).pid == 0);
    });
    CHILD_CHECK(init > 0 && ReceiveCreds(ends[0]).pid == init);
    CHILD_CHECK(send(ends[0], "o", 1, 0) == 1 && WaitFor(init) == 0);
  });
}

TEST(pid_namespaces, FileOwnersAndLocksAreTranslated) {
  COVERS(fcntl);
  NEEDS_NAMESPACES();
  Scratch dir;
  IN_CHILD([&] {
    CHILD_CHECK(BecomeMighty());
    Fd file = dir.Open("f", "x");
    struct flock lock = {};
    lock.l_type = F_WRLCK;
    CHILD_CHECK(fcntl(file, F_SETLK, &lock) == 0);
    CHILD_CHECK(fcntl(file, F_SETOWN, getpid()) == 0);
    const pid_t init = SpawnIn(CLONE_NEWPID, [&] {
      struct flock seen = {};
      seen.l_type = F_WRLCK;
      CHILD_CHECK(fcntl(file, F_GETLK, &seen) == 0 && seen.l_type == F_WRLCK && seen.l_pid == 0);
      CHILD_CHECK(fcntl(file, F_GETOWN) == 0);
      CHILD_CHECK(fcntl(file, F_SETOWN, 1) == 0 && fcntl(file, F_GETOWN) == 1);
      CHILD_CHECK(fcntl(file, F_SETOWN, 99) == -1 && errno == ESRCH);
      const pid_t child = Spawn([&] {
        struct flock again = {};
        again.l_type = F_WRLCK;
        CHILD_CHECK(fcntl(file, F_GETLK, &again) == 0 && again.l_pid == 0);
      });
      CHILD_CHECK(WaitFor(child) == 0);
    });
    CHILD_CHECK(WaitFor(init) == 0);
  });
}

TEST(reboot, EndsAPidNamespace) {
  NEEDS_NAMESPACES();
  IN_CHILD([] {
    CHILD_CHECK(BecomeMighty());
    const struct {
      unsigned command;
      int status;
    } cases[] = {{RB_AUTOBOOT, SIGHUP}, {RB_POWER_OFF, SIGINT}, {RB_HALT_SYSTEM, SIGINT}};
    for (const auto& c : cases) {
      const pid_t init = SpawnIn(CLONE_NEWPID, [&] {
        CHILD_CHECK(getpid() == 1);  // never outside!
        CHILD_CHECK(syscall(SYS_reboot, 1, 2, c.command, nullptr) == -1 && errno == EINVAL);
        CHILD_CHECK(reboot(RB_DISABLE_CAD) == -1 && errno == EINVAL);
        Spawn([&] {
          reboot(static_cast<int>(c.command));
          for (;;) pause();
        });
        for (;;) pause();
      });
      CHILD_CHECK(init > 0 && WaitFor(init) == Killed(c.status));
    }
  });
}

TEST(setns, IntoAPidNamespace) {
  NEEDS_NAMESPACES();
  IN_CHILD([] {
    const bool root = IsRoot();  // of the namespace of all
    CHILD_CHECK(BecomeMighty());
    Fd own = OpenNs("pid");
    int pidfd = -1;
    Gate done;
    const pid_t init = SpawnIn(
        CLONE_NEWPID,
        [&] {
          CHILD_CHECK(syscall(SYS_setns, own.get(), CLONE_NEWPID) == -1 &&
                      errno == (root ? EINVAL : EPERM));  // never up
          CHILD_CHECK(done.Wait());
        },
        {}, &pidfd);
    CHILD_CHECK(init > 0);
    CHILD_CHECK(syscall(SYS_setns, pidfd, CLONE_NEWPID) == 0);
    CHILD_CHECK(getpid() != 1);
    const pid_t child = Spawn([] { CHILD_CHECK(RawGetpid() == 2 && getppid() == 0); });
    CHILD_CHECK(child > 2 && WaitFor(child) == 0);
    if (!root) {
      done.Open();
      CHILD_CHECK(WaitFor(init) == 0);
      return;
    }
    CHILD_CHECK(syscall(SYS_setns, own.get(), 0) == 0);  // one's own again
    const pid_t outside = Spawn([] { CHILD_CHECK(RawGetpid() > 2 && getppid() != 0); });
    CHILD_CHECK(WaitFor(outside) == 0);
    done.Open();
    CHILD_CHECK(WaitFor(init) == 0);
  });
}

TEST(ptrace, MessagesAreNumbersOfTheTracersNamespace) {
  NEEDS_NAMESPACES();
  IN_CHILD([] {
    CHILD_CHECK(BecomeMighty());
    Gate go;
    const pid_t init = SpawnIn(CLONE_NEWPID, [&] {
      CHILD_CHECK(go.Wait());
      const pid_t child = Spawn([] {});
      CHILD_CHECK(child == 2 && WaitFor(child) == 0);
    });
    CHILD_CHECK(ptrace(PTRACE_SEIZE, init, 0, PTRACE_O_TRACEFORK) == 0);
    go.Open();
    int status = 0;
    CHILD_CHECK(waitpid(init, &status, __WALL) == init);
    CHILD_CHECK(status >> 8 == (SIGTRAP | PTRACE_EVENT_FORK << 8));
    unsigned long message = 0;
    CHILD_CHECK(ptrace(PTRACE_GETEVENTMSG, init, 0, &message) == 0);
    const auto child = static_cast<pid_t>(message);
    CHILD_CHECK(child > 2 && ProcField("/proc/" + std::to_string(child) + "/status", "PPid") ==
                                 std::to_string(init));
    CHILD_CHECK(waitpid(child, &status, __WALL) == child && WIFSTOPPED(status));
    CHILD_CHECK(ptrace(PTRACE_DETACH, child, 0, 0) == 0);
    CHILD_CHECK(ptrace(PTRACE_DETACH, init, 0, 0) == 0);
    CHILD_CHECK(WaitFor(init) == 0);
  });
}

}  // namespace
}  // namespace uk::test
