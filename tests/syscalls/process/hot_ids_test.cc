// Who am I: calls that a kernel may answer without being entered, asked often and whenever the
// answer has just changed.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

constexpr int kMany = 200;

// By the C library, by syscall(3), and as others tell it: all the same, asked many times.
struct Ids {
  long pid, tid, uid, euid, gid, egid;
  bool operator==(const Ids&) const = default;
};

Ids Told() {  // by calls that tell more than that
  uid_t r, e, s;
  gid_t gr, ge, gs;
  Ids ids = {};
  if (getresuid(&r, &e, &s) != 0 || getresgid(&gr, &ge, &gs) != 0) return ids;
  ids.uid = r;
  ids.euid = e;
  ids.gid = gr;
  ids.egid = ge;
  char link[64] = {};
  if (readlink("/proc/thread-self", link, sizeof link - 1) < 0) return ids;
  sscanf(link, "%ld/task/%ld", &ids.pid, &ids.tid);
  return ids;
}

Ids Libc() { return {getpid(), gettid(), getuid(), geteuid(), getgid(), getegid()}; }

Ids Raw() {
  return {syscall(SYS_getpid),  syscall(SYS_gettid), syscall(SYS_getuid),
          syscall(SYS_geteuid), syscall(SYS_getgid), syscall(SYS_getegid)};
}

bool Agree() {
  const Ids told = Told();
  for (int i = 0; i < kMany; i++) {
    if (Libc() != told || Raw() != told) return false;
  }
  return true;
}

TEST(getpid, IdsInProcessesAndThreads) {
  COVERS(gettid, getuid, geteuid, getgid, getegid);
  ASSERT_TRUE(Agree());
  for (int i = 0; i < 5; i++) {
    IN_CHILD([&] {
      CHILD_CHECK(Agree());
      IN_CHILD([&] { CHILD_CHECK(Agree()); });
      CHILD_CHECK(Agree());
    });
    std::atomic<int> wrong = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; t++) {
      threads.emplace_back([&] {
        if (!Agree()) ++wrong;
        IN_CHILD([&] { CHILD_CHECK(Agree()); });
        if (!Agree()) ++wrong;
      });
    }
    for (auto& t : threads) t.join();
    ASSERT_EQ(wrong, 0);
    ASSERT_TRUE(Agree());
  }
  const pid_t self = getpid();
  pid_t child = vfork();
  if (child == 0) _exit(getpid() != self && gettid() == getpid() ? 0 : 1);
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(Agree());
}

TEST(setresuid, IdsChangeAtOnce) {
  COVERS(setuid, setgid, setresgid, setreuid, setregid);
  if (!IsRoot()) GTEST_SKIP() << "root only";
  IN_CHILD([&] {
    CHILD_CHECK(Agree());
    for (int i = 0; i < 20; i++) {
      CHILD_CHECK(syscall(SYS_setresgid, 10 + i, 20 + i, 0) == 0);
      CHILD_CHECK(syscall(SYS_setresuid, 30 + i, 40 + i, 0) == 0);
      CHILD_CHECK(getgid() == gid_t(10 + i) && syscall(SYS_getegid) == 20 + i);
      CHILD_CHECK(getuid() == uid_t(30 + i) && syscall(SYS_geteuid) == 40 + i);
      CHILD_CHECK(Agree());
      CHILD_CHECK(syscall(SYS_setresuid, 0, 0, 0) == 0);
      CHILD_CHECK(getuid() == 0 && syscall(SYS_geteuid) == 0);
      IN_CHILD([&] { CHILD_CHECK(Agree()); });
    }
    // The raw call changes its thread alone.
    std::atomic<int> wrong = 0;
    std::thread other([&] {
      if (syscall(SYS_setresuid, 1, 2, 3) != 0 || syscall(SYS_getuid) != 1) ++wrong;
      if (syscall(SYS_geteuid) != 2 || !Agree()) ++wrong;
    });
    other.join();
    CHILD_CHECK(wrong == 0 && getuid() == 0 && Agree());
    CHILD_CHECK(setgid(7) == 0 && getgid() == 7 && getegid() == 7);
    CHILD_CHECK(setuid(8) == 0 && getuid() == 8 && geteuid() == 8 && Agree());
  });
}

// Run by the test that follows, in a new image.
TEST(getpid, HelperAfterExec) {
  const char* expected = getenv("UK_TEST_PID");
  if (expected == nullptr) GTEST_SKIP() << "for another test";
  EXPECT_EQ(getpid(), atoi(expected));
  EXPECT_EQ(gettid(), getpid());
  EXPECT_TRUE(Agree());
}

TEST(execve, IdsAfterExecByAThread) {
  const pid_t child = fork();
  ASSERT_OK(child);
  if (child == 0) {
    CHILD_CHECK(Agree());
    std::thread([] {
      CHILD_CHECK(Agree() && gettid() != getpid());
      std::string pid = "UK_TEST_PID=" + std::to_string(getpid());
      char* env[] = {pid.data(), nullptr};
      char name[] = "test", filter[] = "--gtest_filter=getpid.HelperAfterExec";
      char* argv[] = {name, filter, nullptr};
      const int null = open("/dev/null", O_WRONLY);
      dup2(null, 1);
      execve("/proc/self/exe", argv, env);
      CHILD_CHECK(false);
    }).join();
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

#define AT(field) static_cast<uint32_t>(offsetof(seccomp_data, field))

// A filter that another thread sets for all of them is in force for one that only ever makes this
// call.
TEST(seccomp, FiltersSeeIdsToo) {
  IN_CHILD([&] {
    std::atomic<bool> hot = false, refused = false;
    std::thread other([&] {
      const long uid = getuid();
      long got = uid;
      for (int i = 0; got == uid; i++) {
        got = syscall(SYS_getuid);
        if (i == 20 * kMany) hot = true;
      }
      refused = got == -1 && errno == EDOM;
    });
    while (!hot) sched_yield();
    sock_filter code[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, AT(nr)),
                          BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getuid, 0, 1),
                          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EDOM),
                          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    sock_fprog program = {4, code};
    CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHILD_CHECK(
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0);
    CHILD_CHECK(syscall(SYS_getuid) == -1 && errno == EDOM);
    other.join();
    CHILD_CHECK(refused);
    IN_CHILD([&] { CHILD_CHECK(syscall(SYS_getuid) == -1 && syscall(SYS_getpid) > 0); });
  });
}

// So does a tracer, of a process that makes no other call.
TEST(ptrace, TracersSeeIdsToo) {
  int ready[2];
  ASSERT_OK(pipe(ready));
  const pid_t child = fork();
  ASSERT_OK(child);
  if (child == 0) {
    const pid_t self = getpid();
    for (int i = 0;; i++) {
      if (syscall(SYS_getpid) != self) _exit(1);
      if (i == 20 * kMany) (void)!write(ready[1], "r", 1);
    }
  }
  char c;
  ASSERT_EQ(read(ready[0], &c, 1), 1);
  for (int round = 0; round < 3; round++) {
    ASSERT_OK(ptrace(PTRACE_SEIZE, child, 0, PTRACE_O_TRACESYSGOOD));
    ASSERT_OK(ptrace(PTRACE_INTERRUPT, child, 0, 0));
    int status = 0, calls = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    for (int i = 0; i < 20; i++) {
      ASSERT_OK(ptrace(PTRACE_SYSCALL, child, 0, 0));
      ASSERT_EQ(waitpid(child, &status, 0), child);
      ASSERT_TRUE(WIFSTOPPED(status));
      if (WSTOPSIG(status) != (SIGTRAP | 0x80)) continue;
      user_regs_struct regs;
      ASSERT_OK(ptrace(PTRACE_GETREGS, child, 0, &regs));
      EXPECT_EQ(regs.orig_rax, static_cast<unsigned long>(SYS_getpid));
      ++calls;
    }
    EXPECT_GE(calls, 19);
    ASSERT_OK(ptrace(PTRACE_DETACH, child, 0, 0));
  }
  ASSERT_OK(kill(child, SIGKILL));
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, SIGKILL);
  close(ready[0]);
  close(ready[1]);
}

}  // namespace
}  // namespace uk::test
