// Call sites of other forms than `mov $nr, %eax; syscall`, hot: syscall(3), whose number comes with
// the call, read(2), and those of instructions of every length. Calls that do not simply return
// come from there, too.
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/time.h>
#include <sys/user.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/syscalls/testing.h"

#define SITE(name, before)                 \
  ".globl uk_test_" name "\nuk_test_" name \
  ":\n"                                    \
  "  mov %rdi, %rax\n"                     \
  "  mov %rdi, %r8\n"                      \
  "  mov %rsi, %rdi\n"                     \
  "  mov %rdx, %rsi\n"                     \
  "  mov %rcx, %rdx\n" before              \
  "\n"                                     \
  "  syscall\n"                            \
  "  cmp $-4095, %rax\n"                   \
  "  ret\n"

// (number, three arguments) -> result
extern "C" long uk_test_load(long, ...), uk_test_copy(long, ...), uk_test_copy_2(long, ...);
extern "C" long uk_test_clear_r10(long, ...), uk_test_load_r10d(long, ...), uk_test_and(long, ...);
// The return address is in no memory while the call lasts, as vfork(2) wants it.
extern "C" long uk_test_popped(long) __attribute__((returns_twice));
extern "C" long uk_test_read(int, void*, size_t);

__asm__(".text\n"                                //
        SITE("load", "mov 8(%rsp), %r9")         // 5 bytes
        SITE("copy", "mov %r8, %rax")            // 3
        SITE("copy_2", "mov %edx, %edx")         // 2
        SITE("clear_r10", "xor %r10d, %r10d")    // 3
        SITE("load_r10d", "mov 8(%rsp), %r10d")  // 5
        SITE("and", "and $0x7fffffff, %edx")     // 6
        ".globl uk_test_popped, uk_test_read\n"
        "uk_test_popped:\n"
        "  mov %rdi, %rax\n"
        "  pop %rdx\n"
        "  mov 8(%rsp), %r9\n"
        "  syscall\n"
        "  push %rdx\n"
        "  ret\n"
        "uk_test_read:\n"
        "  xor %eax, %eax\n"
        "  syscall\n"
        "  cmp $-4096, %rax\n"
        "  ret\n");

namespace uk::test {
namespace {

constexpr int kMany = 300;

void Heat() {
  for (int i = 0; i < kMany; i++) ASSERT_EQ(syscall(SYS_getppid), getppid());
}

TEST(getppid, SitesOfAllForms) {
  using Site = long (*)(long, ...);
  const long parent = getppid(), group = getpgid(0);
  for (Site site : {uk_test_load, uk_test_copy, uk_test_copy_2, uk_test_clear_r10,
                    uk_test_load_r10d, uk_test_and}) {
    int fds[2];
    ASSERT_OK(pipe(fds));
    for (int i = 0; i < kMany; i++) {
      char c = static_cast<char>(i), back = 0;
      ASSERT_EQ(site(SYS_getppid), parent);
      ASSERT_EQ(site(SYS_getpgid, 0), group);
      ASSERT_EQ(site(SYS_write, fds[1], &c, 1), 1);
      ASSERT_EQ(uk_test_read(fds[0], &back, 1), 1);
      ASSERT_EQ(back, c);
      ASSERT_EQ(site(SYS_write, -1, &c, 1), -EBADF);
      ASSERT_EQ(site(9999), -ENOSYS);
      ASSERT_EQ(site(-1), -ENOSYS);
    }
    IN_CHILD([&] {
      const long self = getpid();
      for (int i = 0; i < kMany; i++) CHILD_CHECK(site(SYS_getppid) == parent || self != parent);
      site(SYS_exit_group, 0);
      CHILD_CHECK(false);
    });
    close(fds[0]);
    close(fds[1]);
  }
}

TEST(getppid, ThreadsAtColdSites) {
  static std::atomic<int> wrong;
  wrong = 0;
  const long parent = getppid();
  IN_CHILD([&] {
    std::atomic<int> ready = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < 6; t++) {
      threads.emplace_back([&] {
        ++ready;
        while (ready < 6) sched_yield();
        char c[4];
        int zero = open("/dev/zero", O_RDONLY);
        const long real = getppid();
        for (int i = 0; i < kMany; i++) {
          if (uk_test_load(SYS_getppid) != real || uk_test_copy(SYS_gettid) != gettid()) ++wrong;
          if (uk_test_read(zero, c, 4) != 4 || read(zero, c, 3) != 3) ++wrong;
        }
        close(zero);
      });
    }
    for (auto& t : threads) t.join();
    CHILD_CHECK(wrong == 0 && getppid() != parent);
  });
}

TEST(syscall, ForkFromAHotSite) {
  COVERS(fork);
  Heat();
  const pid_t self = getpid();
  for (int i = 0; i < 10; i++) {
    long child = syscall(SYS_fork);
    if (child == 0) {
      if (syscall(SYS_getppid) != self) syscall(SYS_exit_group, 1);
      for (int k = 0; k < kMany; k++) syscall(SYS_getpgid, 0);
      syscall(SYS_exit_group, 42);
    }
    int status = 0;
    ASSERT_EQ(syscall(SYS_wait4, child, &status, 0, nullptr), child);
    ASSERT_EQ(status, 42 << 8);
  }
}

volatile int vforked;

[[gnu::noinline]] long Popped(long nr) { return uk_test_popped(nr); }

[[gnu::noinline]] long Vfork() {
  const long child = uk_test_popped(SYS_vfork);
  if (child == 0) {
    vforked = 1;
    _exit(Popped(SYS_getppid) > 0 ? 17 : 1);
  }
  return child;
}

TEST(syscall, VforkFromAHotSite) {
  COVERS(vfork);
  for (int i = 0; i < kMany; i++) ASSERT_EQ(Popped(SYS_getppid), getppid());
  for (int i = 0; i < 10; i++) {
    vforked = 0;
    const long child = Vfork();
    ASSERT_EQ(vforked, 1);
    int status = 0;
    ASSERT_EQ(waitpid(static_cast<pid_t>(child), &status, 0), child);
    ASSERT_EQ(status, 17 << 8);
  }
}

std::atomic<long> thread_sum;

// Where a thread that syscall(3) cloned begins: its `ret` finds this on the new stack.
void ThreadMain() {
  for (int i = 0; i < kMany; i++) thread_sum += syscall(SYS_getpgid, 0);
  syscall(SYS_exit, 0);
}

TEST(syscall, ThreadsFromAHotSite) {
  COVERS(clone, exit);
  Heat();
  constexpr size_t kStack = 64 << 10;
  char* stack = static_cast<char*>(mmap(nullptr, kStack, PROT_READ | PROT_WRITE,
                                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0));
  ASSERT_NE(stack, MAP_FAILED);
  const long group = getpgid(0);
  static std::atomic<int> tid;
  for (int i = 0; i < 10; i++) {
    auto* top = reinterpret_cast<void (**)()>(stack + kStack - 64);
    *top = ThreadMain;
    thread_sum = 0;
    tid = 1;
    const long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                       CLONE_SYSVSEM | CLONE_CHILD_CLEARTID | CLONE_PARENT_SETTID;
    long child = syscall(SYS_clone, flags, top, &tid, &tid, 0);
    ASSERT_GT(child, 0);
    for (int now = tid; now != 0; now = tid) {
      syscall(SYS_futex, &tid, FUTEX_WAIT, now, nullptr, nullptr, 0);
    }
    ASSERT_EQ(thread_sum, kMany * group);
  }
  munmap(stack, kStack);
}

int wake[2];
std::atomic<int> handled;

TEST(syscall, ReadsAreInterruptedOrRestarted) {
  COVERS(read, rt_sigprocmask);
  Heat();
  ASSERT_OK(pipe(wake));
  const itimerval often = {{0, 3000}, {0, 3000}}, off = {};
  for (const bool by_read : {false, true}) {
    auto call = [&](char* c) -> long {
      return by_read ? read(wake[0], c, 1) : syscall(SYS_read, wake[0], c, 1);
    };
    for (int i = 0; i < 50; i++) {  // read(2) hot, too
      char c = 'h';
      ASSERT_EQ(write(wake[1], &c, 1), 1);
      ASSERT_EQ(call(&c), 1);
    }
    struct sigaction old, sa = {};
    sa.sa_flags = SA_RESTART;
    sa.sa_handler = [](int) {
      char c = static_cast<char>('a' + handled % 20);
      if (++handled % 5 == 0) (void)!write(wake[1], &c, 1);
    };
    handled = 0;
    ASSERT_OK(sigaction(SIGALRM, &sa, &old));
    ASSERT_OK(setitimer(ITIMER_REAL, &often, nullptr));
    for (int i = 0; i < 4; i++) {
      char c = 0;
      ASSERT_EQ(call(&c), 1);
      ASSERT_EQ(c, static_cast<char>('a' + (5 * i + 4) % 20));
    }
    // Blocked, nothing of that happens.
    uint64_t alarm = 1ull << (SIGALRM - 1), was = 0;
    ASSERT_OK(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &alarm, &was, 8));
    EXPECT_EQ(was & alarm, 0u);
    const int before = handled;
    for (int i = 0; i < kMany; i++) ASSERT_EQ(syscall(SYS_getppid), getppid());
    EXPECT_EQ(handled, before);
    char rest;
    pollfd p = {wake[0], POLLIN, 0};
    while (poll(&p, 1, 0) == 1) ASSERT_EQ(call(&rest), 1);
    ASSERT_OK(setitimer(ITIMER_REAL, &off, nullptr));
    sa.sa_flags = 0;
    sa.sa_handler = [](int) { ++handled; };
    ASSERT_OK(sigaction(SIGALRM, &sa, nullptr));
    ASSERT_OK(setitimer(ITIMER_REAL, &often, nullptr));
    ASSERT_OK(syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &alarm, nullptr, 8));
    for (int i = 0; i < 4; i++) EXPECT_ERRNO(EINTR, call(&rest));
    ASSERT_OK(setitimer(ITIMER_REAL, &off, nullptr));
    ASSERT_OK(sigaction(SIGALRM, &old, nullptr));
  }
  close(wake[0]);
  close(wake[1]);
}

// A tracer sees the calls of a process whose sites are hot, at their sites, and steps through them.
TEST(ptrace, CallsOfHotSites) {
  int go[2], ready[2];
  ASSERT_OK(pipe(go));
  ASSERT_OK(pipe(ready));
  const pid_t child = fork();
  ASSERT_OK(child);
  if (child == 0) {
    const long parent = getppid();
    for (int i = 0; i < kMany; i++) CHILD_CHECK(uk_test_load(SYS_getppid) == parent);
    char c = 'r';
    CHILD_CHECK(write(ready[1], &c, 1) == 1);
    for (;;) {
      CHILD_CHECK(uk_test_load(SYS_getppid) == parent);
      pollfd p = {go[0], POLLIN, 0};
      if (poll(&p, 1, 0) == 1) _exit(23);
    }
  }
  char c;
  ASSERT_EQ(read(ready[0], &c, 1), 1);
  ASSERT_OK(ptrace(PTRACE_SEIZE, child, 0, PTRACE_O_TRACESYSGOOD));
  ASSERT_OK(ptrace(PTRACE_INTERRUPT, child, 0, 0));
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  uint64_t site = 0;
  int ours = 0;
  for (int i = 0; i < 40; i++) {
    ASSERT_OK(ptrace(PTRACE_SYSCALL, child, 0, 0));
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSTOPPED(status));
    if (WSTOPSIG(status) != (SIGTRAP | 0x80)) continue;
    user_regs_struct regs;
    ASSERT_OK(ptrace(PTRACE_GETREGS, child, 0, &regs));
    if (regs.orig_rax != SYS_getppid) continue;
    ++ours;
    if (site == 0) site = regs.rip;
    EXPECT_EQ(regs.rip, site);
    EXPECT_LT(regs.rip - reinterpret_cast<uint64_t>(uk_test_load), 64u);
  }
  EXPECT_GT(ours, 10);
  int at_site = 0;
  for (int i = 0; i < 600; i++) {
    ASSERT_OK(ptrace(PTRACE_SINGLESTEP, child, 0, 0));
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSTOPPED(status));
    user_regs_struct regs;
    ASSERT_OK(ptrace(PTRACE_GETREGS, child, 0, &regs));
    at_site += regs.rip == site;
  }
  EXPECT_GT(at_site, 2);
  ASSERT_OK(ptrace(PTRACE_DETACH, child, 0, 0));
  ASSERT_EQ(write(go[1], &c, 1), 1);
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 23 << 8);
  for (int fd : {go[0], go[1], ready[0], ready[1]}) close(fd);
}

}  // namespace
}  // namespace uk::test
