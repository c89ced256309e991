// What `cpuid` says in programs that are started again and again, whose startup code asks it a lot.
#include <cpuid.h>
#include <sys/time.h>

#include <array>
#include <atomic>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

using Words = std::array<uint64_t, 4>;

// As compilers write it for a leaf that is a constant.
template <uint32_t leaf>
[[gnu::noinline]] Words AskConstant(bool* carry) {
  Words w = {0, ~0ul, ~0ul, ~0ul};
  asm volatile(
      "stc\n"
      "mov %5, %%eax\n"
      "cpuid\n"
      "setc %4\n"
      : "=a"(w[0]), "+b"(w[1]), "+c"(w[2]), "+d"(w[3]), "=m"(*carry)
      : "i"(leaf)
      : "cc");
  return w;
}

Words Ask(uint32_t leaf) {
  uint32_t a, b, c, d;
  __cpuid(leaf, a, b, c, d);
  return {a, b, c, d};
}

template <uint32_t leaf>
void ExpectTheSame() {
  bool carry = false;
  EXPECT_EQ(AskConstant<leaf>(&carry), Ask(leaf)) << leaf;
  EXPECT_TRUE(carry) << "flags are kept";
}

std::atomic<int> alarms;

// Run by the test that follows, in a new image.
TEST(cpuid, HelperInANewImage) {
  if (getenv("UK_TEST_CPUID") == nullptr) GTEST_SKIP() << "for another test";
  ExpectTheSame<0>();
  ExpectTheSame<2>();
  ExpectTheSame<0x80000000>();
  ExpectTheSame<0x80000002>();
  ExpectTheSame<0x80000005>();
  ExpectTheSame<0x80000006>();
  ExpectTheSame<0x80000008>();
  for (int i = 0; i < 500; ++i) syscall(SYS_getppid);
  // A signal at any instruction changes nothing.
  struct sigaction sa = {};
  sa.sa_handler = [](int) { ++alarms; };
  EXPECT_OK(sigaction(SIGALRM, &sa, nullptr));
  const itimerval often = {{0, 500}, {0, 500}}, never = {};
  EXPECT_OK(setitimer(ITIMER_REAL, &often, nullptr));
  const Words want = Ask(0x80000006);
  bool carry, same = true;
  while (alarms < 20) same &= AskConstant<0x80000006>(&carry) == want && carry;
  EXPECT_OK(setitimer(ITIMER_REAL, &never, nullptr));
  EXPECT_TRUE(same);
}

TEST(cpuid, IsTheSameInProgramsStartedOften) {
  for (int i = 0; i < 12; ++i) {
    const pid_t child = Spawn([] {
      char mark[] = "UK_TEST_CPUID=1";
      char* env[] = {mark, nullptr};
      char name[] = "test", filter[] = "--gtest_filter=cpuid.HelperInANewImage";
      char* argv[] = {name, filter, nullptr};
      dup2(open("/dev/null", O_WRONLY), 1);  // it speaks of its tests, too
      execve("/proc/self/exe", argv, env);
      return 1;
    });
    ASSERT_EQ(WaitFor(child), Exited(0)) << i;
  }
}

}  // namespace
}  // namespace uk::test
