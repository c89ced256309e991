// fork, vfork, clone, clone3, set_tid_address, and what a child inherits.
#include <linux/sched.h>
#include <sched.h>

#include <atomic>
#include <random>

#include "tests/syscalls/memory/fault.h"
#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

TEST(fork, ChildHasItsOwnIdentity) {
  COVERS(getpid, getppid, gettid);
  pid_t parent = syscall(SYS_getpid);
  pid_t child = static_cast<pid_t>(syscall(SYS_fork));
  if (child == 0) {
    CHILD_CHECK(syscall(SYS_getpid) != parent);
    CHILD_CHECK(syscall(SYS_getppid) == parent);
    CHILD_CHECK(syscall(SYS_gettid) == syscall(SYS_getpid));
    _exit(7);
  }
  ASSERT_GT(child, 0);
  EXPECT_EQ(WaitFor(child), Exited(7));
}

TEST(fork, ChildInherits) {
  Scratch dir;
  umask(022);
  Fd fd = dir.Open("f", "abc");
  ScopedBlock block({SIGUSR1});
  ASSERT_OK(raise(SIGUSR1));
  ScopedHandler handler(SIGUSR2, [](int) {});
  IN_CHILD([&] {
    CHILD_CHECK(umask(0) == 022);
    CHILD_CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    sigset_t set;
    CHILD_CHECK(sigprocmask(SIG_BLOCK, nullptr, &set) == 0 && sigismember(&set, SIGUSR1));
    CHILD_CHECK(sigpending(&set) == 0 && !sigismember(&set, SIGUSR1));
    struct sigaction sa;
    CHILD_CHECK(sigaction(SIGUSR2, nullptr, &sa) == 0 && sa.sa_handler != SIG_DFL);
    close(fd);
  });
  EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC) << "the child closed only its own";
  signal(SIGUSR1, SIG_IGN);  // discards the pending one before it is unblocked
  signal(SIGUSR1, SIG_DFL);
}

TEST(fork, ManyChildren) {
  std::vector<pid_t> pids;
  for (int i = 0; i < 40; i++) pids.push_back(Spawn([i] { return i; }));
  for (int i = 0; i < 40; i++) EXPECT_EQ(WaitFor(pids[i]), Exited(i));
}

TEST(fork, DeepChain) {
  struct Chain {
    static int Go(int depth) {
      if (depth == 0) return 0;
      int status = RunChild([depth] { return Go(depth - 1); });
      return WIFEXITED(status) ? WEXITSTATUS(status) + 1 : 100;
    }
  };
  EXPECT_EQ(Chain::Go(10), 10);
}

TEST(fork, MemoryOfParentAndChildDiverges) {
  std::string big(1 << 20, 'p');
  Gate child_done, parent_done;
  pid_t child = Spawn([&] {
    memset(big.data(), 'c', big.size() / 2);
    child_done.Open();
    CHILD_CHECK(parent_done.Wait());
    for (size_t i = 0; i < big.size(); i += 1000) {
      CHILD_CHECK(big[i] == (i < big.size() / 2 ? 'c' : 'p'));
    }
    return 0;
  });
  ASSERT_TRUE(child_done.Wait());
  memset(big.data(), 'q', big.size());
  parent_done.Open();
  EXPECT_EQ(WaitFor(child), Exited(0));
  EXPECT_EQ(big, std::string(1 << 20, 'q'));
}

TEST(vfork, SharesMemoryAndSuspendsTheParent) {
  // By hand: a wrapper function's stack frame would be reused under the parent.
  static volatile int value;
  value = 1;
  pid_t child = vfork();
  if (child == 0) {
    value = 2;
    _exit(3);
  }
  EXPECT_EQ(value, 2) << "ran before the parent went on, in its memory";
  EXPECT_EQ(WaitFor(child), Exited(3));
}

TEST(vfork, ParentResumesWhenTheChildExecs) {
  pid_t child = vfork();
  if (child == 0) {
    execl("/bin/sh", "sh", "-c", "exit 4", nullptr);
    _exit(99);
  }
  ASSERT_GT(child, 0);
  EXPECT_EQ(WaitFor(child), Exited(4));
}

int Nothing(void*) { return 0; }

TEST(clone, SharingVmIsVisible) {
  static std::atomic<int> value;
  value = 0;
  std::vector<char> stack(65536);
  pid_t child = clone(
      [](void*) -> int {
        value = 5;
        return 6;
      },
      stack.data() + stack.size(), CLONE_VM | SIGCHLD, nullptr);
  ASSERT_OK(child);
  EXPECT_EQ(WaitFor(child), Exited(6));
  EXPECT_EQ(value, 5);
}

TEST(clone, SharingFilesAndFs) {
  std::vector<char> stack(65536);
  static int number;
  IN_CHILD([&] {
    CHILD_CHECK(chdir("/") == 0);
    number = -1;
    pid_t child = clone(
        [](void*) -> int {
          number = open("/dev/null", O_RDONLY);
          return chdir("/tmp");
        },
        stack.data() + stack.size(), CLONE_VM | CLONE_FILES | CLONE_FS | SIGCHLD, nullptr);
    CHILD_CHECK(WaitFor(child) == Exited(0));
    CHILD_CHECK(fcntl(number, F_GETFD) == 0);
    char cwd[64];
    CHILD_CHECK(getcwd(cwd, sizeof cwd) && std::string(cwd) == "/tmp");
  });
}

TEST(clone, TidsAreStored) {
  pid_t parent_tid = -1, child_tid = -1;
  long child = syscall(SYS_clone, CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD, nullptr,
                       &parent_tid, &child_tid, nullptr);
  if (child == 0) _exit(child_tid == syscall(SYS_gettid) ? 0 : 1);
  ASSERT_OK(child);
  EXPECT_EQ(parent_tid, child);
  EXPECT_EQ(child_tid, -1) << "stored only in the child's memory";
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(clone, ExitSignalIsTheCallers) {
  ScopedBlock block({SIGUSR1, SIGCHLD});
  std::vector<char> stack(65536);
  pid_t child = clone(Nothing, stack.data() + stack.size(), CLONE_VM | SIGUSR1, nullptr);
  ASSERT_OK(child);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  EXPECT_EQ(sigwaitinfo(&set, nullptr), SIGUSR1);
  int status;
  EXPECT_ERRNO(ECHILD, waitpid(child, &status, 0)) << "not a SIGCHLD child";
  EXPECT_EQ(waitpid(child, &status, __WCLONE), child);
}

TEST(clone, Errors) {
  EXPECT_ERRNO(EINVAL, syscall(SYS_clone, CLONE_THREAD, nullptr, nullptr, nullptr, nullptr));
  EXPECT_ERRNO(EINVAL, syscall(SYS_clone, CLONE_SIGHAND, nullptr, nullptr, nullptr, nullptr));
  EXPECT_ERRNO(EINVAL,
               syscall(SYS_clone, CLONE_NEWNS | CLONE_FS, nullptr, nullptr, nullptr, nullptr));
}

TEST(clone, ParentFlagMakesASibling) {
  IN_CHILD([&] {
    pid_t self = getpid();
    Pipe p;
    pid_t middle = Spawn([&] {
      long sibling = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, nullptr, nullptr, nullptr, nullptr);
      if (sibling == 0) {
        pid_t parent = getppid();
        CHILD_CHECK(write(p.w, &parent, sizeof parent) == sizeof parent);
        _exit(21);
      }
      return 0;
    });
    CHILD_CHECK(WaitFor(middle) == Exited(0));
    int status;
    CHILD_CHECK(wait(&status) > 0 && WEXITSTATUS(status) == 21);
    pid_t parent = 0;
    CHILD_CHECK(read(p.r, &parent, sizeof parent) == sizeof parent && parent == self);
  });
}

TEST(clone3, LikeForkWithPidfd) {
  int pidfd = -1;
  clone_args args = {};
  args.flags = CLONE_PIDFD;
  args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  args.exit_signal = SIGCHLD;
  long child = syscall(SYS_clone3, &args, sizeof args);
  if (child == 0) _exit(8);
  ASSERT_OK(child);
  Fd fd(pidfd);
  EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  siginfo_t info = {};
  EXPECT_OK(waitid(P_PIDFD, pidfd, &info, WEXITED));
  EXPECT_EQ(info.si_status, 8);
  EXPECT_EQ(info.si_pid, child);
}

TEST(clone3, Errors) {
  clone_args args = {};
  args.exit_signal = SIGCHLD;
  EXPECT_ERRNO(EINVAL, syscall(SYS_clone3, &args, 32)) << "smaller than version 0";
  EXPECT_ERRNO(E2BIG, syscall(SYS_clone3, &args, 100000));
  EXPECT_ERRNO(EFAULT, syscall(SYS_clone3, BadPointer(), sizeof args));
  args.exit_signal = 1000;
  EXPECT_ERRNO(EINVAL, syscall(SYS_clone3, &args, sizeof args));
  args.exit_signal = 0;
  args.flags = CLONE_THREAD;
  EXPECT_ERRNO(EINVAL, syscall(SYS_clone3, &args, sizeof args));
  args.flags = 0;
  args.stack_size = 4096;
  EXPECT_ERRNO(EINVAL, syscall(SYS_clone3, &args, sizeof args)) << "a size without a stack";
}

TEST(clone3, ClearSighandResetsHandlers) {
  ScopedHandler h(SIGUSR1, [](int) {});
  clone_args args = {};
  args.flags = CLONE_CLEAR_SIGHAND;
  args.exit_signal = SIGCHLD;
  long child = syscall(SYS_clone3, &args, sizeof args);
  if (child == 0) {
    struct sigaction sa;
    sigaction(SIGUSR1, nullptr, &sa);
    _exit(sa.sa_handler == SIG_DFL ? 0 : 1);
  }
  ASSERT_OK(child);
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(set_tid_address, ReturnsTheTidAndClearsAtExit) {
  int word = 1;
  IN_CHILD([&] { CHILD_CHECK(syscall(SYS_set_tid_address, &word) == syscall(SYS_gettid)); });
  // Shared memory shows the clearing at the end of a process that shares it.
  static int cleared;
  cleared = 1;
  std::vector<char> stack(65536);
  pid_t child = clone(
      [](void*) -> int {
        syscall(SYS_set_tid_address, &cleared);
        return 0;
      },
      stack.data() + stack.size(), CLONE_VM | SIGCHLD, nullptr);
  ASSERT_OK(child);
  EXPECT_EQ(WaitFor(child), Exited(0));
  EXPECT_EQ(cleared, 0);
}

TEST(unshare, FilesBecomeSeparate) {
  EXPECT_ERRNO(EINVAL, syscall(SYS_unshare, 0x1));
  EXPECT_OK(syscall(SYS_unshare, 0));
  IN_CHILD([&] { CHILD_CHECK(syscall(SYS_unshare, CLONE_FILES | CLONE_FS) == 0); });
  if (!IsRoot()) {
    EXPECT_ERRNO(EPERM, syscall(SYS_unshare, CLONE_NEWUTS));
  }
}

TEST(pidfd_open, SignalsAndPolls) {
  COVERS(pidfd_send_signal, pidfd_getfd);
  Gate hold;
  Pipe p;
  pid_t child = Spawn([&] {
    hold.Wait();
    return 0;
  });
  Fd fd(syscall(SYS_pidfd_open, child, 0));
  ASSERT_OK(fd.get());
  EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  EXPECT_OK(syscall(SYS_pidfd_send_signal, fd.get(), 0, nullptr, 0));
  Fd stolen(syscall(SYS_pidfd_getfd, fd.get(), p.r.get(), 0));
  ASSERT_OK(stolen.get());
  ASSERT_EQ(write(p.w, "x", 1), 1);
  char c;
  EXPECT_EQ(read(stolen, &c, 1), 1) << "the same pipe";
  EXPECT_ERRNO(EBADF, syscall(SYS_pidfd_getfd, fd.get(), kBadFd, 0));
  EXPECT_OK(syscall(SYS_pidfd_send_signal, fd.get(), SIGKILL, nullptr, 0));
  EXPECT_EQ(WaitFor(child), Killed(SIGKILL));
  EXPECT_ERRNO(ESRCH, syscall(SYS_pidfd_send_signal, fd.get(), 0, nullptr, 0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_pidfd_open, getpid(), 1 << 30));
  EXPECT_ERRNO(EINVAL, syscall(SYS_pidfd_open, 0, 0));
  EXPECT_ERRNO(ESRCH, syscall(SYS_pidfd_open, 0x3fffffff, 0));
  EXPECT_ERRNO(EBADF, syscall(SYS_pidfd_send_signal, p.r.get(), 0, nullptr, 0));
}

TEST(fork, RefusesACopyThatCouldNeverBeHad) {
  if (ReadFile("/proc/sys/vm/overcommit_memory")[0] != '0') GTEST_SKIP() << "another policy";
  size_t kib = std::stoul(ProcField("/proc/meminfo", "MemTotal")) +
               std::stoul(ProcField("/proc/meminfo", "SwapTotal"));
  size_t half = kib * 1024 / kPage * 3 / 4 * kPage;
  void* room =
      mmap(nullptr, 2 * half, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(room, MAP_FAILED);
  for (size_t i = 0; i < 2; i++) {
    void* at = static_cast<char*>(room) + i * half;
    ASSERT_EQ(
        mmap(at, half, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), at)
        << "each by itself could be had";
  }
  pid_t pid = fork();
  if (pid == 0) _exit(0);
  EXPECT_ERRNO(ENOMEM, pid);
  if (pid > 0) WaitFor(pid);
  munmap(room, 2 * half);
}

// A parent whose memory changes between children: each sees what is there at its own fork, and what
// it writes is seen by nobody else.
TEST(fork, EachChildSeesItsOwnMoment) {
  constexpr size_t kPages = 16;
  enum Kind : int { kNothing, kProgram, kOther, kOwn };
  struct Page {
    Kind kind = kNothing;
    uint32_t of = 0;  // which page of the file
    bool writable = false;
    char value = 0;  // its first byte
  };
  const char* programs[] = {"/bin/ls", "/bin/cat"};
  std::string text[2];
  for (int f = 0; f < 2; f++) {
    text[f] = ReadFile(programs[f]);
    ASSERT_GE(text[f].size(), kPage);
    text[f].resize(text[f].size() / kPage * kPage);
  }
  char* at = static_cast<char*>(
      mmap(nullptr, kPages * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(at, MAP_FAILED);
  std::vector<Page> pages(kPages);
  std::minstd_rand random(1);
  auto change = [&](size_t i) {
    Page& p = pages[i];
    char* where = at + i * kPage;
    p = {.kind = static_cast<Kind>(random() % 4), .writable = random() % 2 == 0};
    const int prot = p.writable ? PROT_READ | PROT_WRITE : PROT_READ;
    if (p.kind == kNothing) {
      ASSERT_OK(munmap(where, kPage));
    } else if (p.kind == kOwn) {
      ASSERT_EQ(mmap(where, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                     -1, 0),
                where);
      p.value = *where = static_cast<char>(random());
      ASSERT_OK(mprotect(where, kPage, prot));
    } else {
      const std::string& bytes = text[p.kind - kProgram];
      p.of = random() % (bytes.size() / kPage);
      p.value = bytes[p.of * kPage];
      Fd fd(open(programs[p.kind - kProgram], O_RDONLY | O_CLOEXEC));
      ASSERT_EQ(mmap(where, kPage, prot, MAP_PRIVATE | MAP_FIXED, fd, p.of * kPage), where);
    }
  };
  auto check = [&](size_t i) {
    const Page& p = pages[i];
    char* where = at + i * kPage;
    const Fault read = TryRead(where);
    CHILD_CHECK(read.signal == (p.kind == kNothing ? SIGSEGV : 0));
    if (p.kind == kNothing) return;
    CHILD_CHECK(*where == p.value);
    CHILD_CHECK(TryWrite(where).signal == (p.writable ? 0 : SIGSEGV));
    if (p.writable) *where = static_cast<char>(p.value + 1);
  };
  for (int round = 0; round < 80; round++) {
    for (uint32_t n = random() % 6; n > 0; n--) change(random() % kPages);
    if (HasFatalFailure()) return;
    const uint32_t end = random() % 3;
    IN_CHILD([&] {
      for (size_t i = 0; i < kPages; i++) check((i + round) % kPages);
      if (end == 0) execl("/bin/true", "true", nullptr);
      // Rights and memory change in the child, too.
      if (end == 1 && pages[0].kind != kNothing) {
        CHILD_CHECK(mprotect(at, kPage, PROT_READ) == 0 && TryWrite(at).signal == SIGSEGV);
        CHILD_CHECK(munmap(at, 3 * kPage) == 0 && TryRead(at).signal == SIGSEGV);
      }
    });
    for (size_t i = 0; i < kPages; i++) {
      if (pages[i].kind != kNothing) {
        ASSERT_EQ(at[i * kPage], pages[i].value) << i;
      }
    }
  }
  munmap(at, kPages * kPage);
}

}  // namespace
}  // namespace uk::test
