// The same calls from the same places over and over, which a kernel may make faster in its own
// ways: nothing else about them may change.
#include <sched.h>
#include <sys/time.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/syscalls/testing.h"

// A call site of the usual form.
extern "C" long uk_test_hot_getpid(long);
extern "C" const char uk_test_hot_instruction[];
__asm__(
    ".text\n"
    ".globl uk_test_hot_getpid, uk_test_hot_instruction\n"
    "uk_test_hot_getpid:\n"
    "  mov $39, %eax\n"
    "uk_test_hot_instruction:\n"
    "  syscall\n"
    "  ret\n");

namespace uk::test {
namespace {

constexpr int kMany = 600;

TEST(getppid, ManyTimesInARow) {
  const pid_t parent = getppid(), self = getpid();
  for (int i = 0; i < kMany; i++) {
    ASSERT_EQ(getppid(), parent);
    ASSERT_EQ(getpgid(0), getpgid(self));
  }
  // What fork makes of a process that has done so.
  for (int i = 0; i < 3; i++) {
    IN_CHILD([&] {
      for (int k = 0; k < kMany; k++) CHILD_CHECK(getppid() == self);
    });
    ASSERT_EQ(getppid(), parent);
  }
}

TEST(write, ManyTimesInARow) {
  int fds[2];
  ASSERT_OK(pipe(fds));
  for (int i = 0; i < kMany; i++) {
    char c = static_cast<char>(i), back = 0;
    ASSERT_EQ(write(fds[1], &c, 1), 1);
    ASSERT_EQ(read(fds[0], &back, 1), 1);
    ASSERT_EQ(back, c);
    EXPECT_ERRNO(EBADF, write(-1, &c, 1));
    EXPECT_ERRNO(EFAULT, write(fds[1], BadPointer(), 1));
  }
  close(fds[0]);
  close(fds[1]);
}

// A signal to oneself has been handled when the call returns, each time.
TEST(kill, ReturnsBehindTheHandler) {
  static volatile sig_atomic_t handled;
  handled = 0;
  ScopedHandler h(SIGUSR1, [](int) { handled = handled + 1; });
  const pid_t self = getpid();
  for (int i = 0; i < 50 * kMany; i++) {
    ASSERT_OK(kill(self, SIGUSR1));
    ASSERT_EQ(handled, i + 1);
  }
}

// Handlers run in the middle of it all, and their own calls are as hot.
TEST(kill, HandlersAmidHotCalls) {
  static std::atomic<int> handled;
  static pid_t parent;
  handled = 0;
  parent = getppid();
  ScopedHandler h(SIGALRM, [](int) {
    if (getppid() == parent) ++handled;
  });
  itimerval often = {{0, 500}, {0, 500}}, off = {};
  ASSERT_OK(setitimer(ITIMER_REAL, &often, nullptr));
  while (handled < 100) {
    ASSERT_EQ(getppid(), parent);
    EXPECT_ERRNO(ESRCH, getpgid(-1));
    sched_yield();
  }
  ASSERT_OK(setitimer(ITIMER_REAL, &off, nullptr));
}

TEST(gettid, ThreadsCallFromTheSamePlaceAtOnce) {
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  const pid_t parent = getppid();
  for (int t = 0; t < 6; t++) {
    threads.emplace_back([&] {
      const pid_t me = gettid();
      for (int i = 0; i < kMany; i++) {
        if (gettid() != me || getppid() != parent) ++wrong;
        if (i % 100 == 0) {
          pid_t child = fork();
          if (child == 0) _exit(getppid() > 0 ? 0 : 1);
          int status = -1;
          if (waitpid(child, &status, 0) != child || status != 0) ++wrong;
        }
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
}

// Code that jumps to the instruction itself, past what loads the number, finds it there.
TEST(getpid, TheInstructionStaysWhereItWas) {
  const pid_t self = getpid();
  for (int i = 0; i < kMany; i++) ASSERT_EQ(uk_test_hot_getpid(0), self);
  EXPECT_EQ(memcmp(uk_test_hot_instruction, "\x0f\x05\xc3", 3), 0);
  long result = 0;
  __asm__ volatile(
      "lea -128(%%rsp), %%rsp\n\tcall *%2\n\tlea 128(%%rsp), %%rsp"  // past the red zone
      : "=a"(result)
      : "0"(SYS_getppid), "r"(uk_test_hot_instruction)
      : "rcx", "r11", "memory");
  EXPECT_EQ(result, getppid());
}

}  // namespace
}  // namespace uk::test
