// futex_wait, futex_wake, futex_requeue: futexes with a call for each operation (Linux 6.7).
#include <linux/futex.h>
#include <time.h>

#include <atomic>
#include <thread>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

constexpr long kWake = 454, kWait = 455, kRequeue = 456;
constexpr unsigned k32 = 2, kPrivate = 128;
using Word = std::atomic<uint32_t>;

long Wait(Word* word, uint64_t value, uint64_t mask = ~0u, unsigned flags = k32 | kPrivate,
          const timespec* until = nullptr, int clock = CLOCK_MONOTONIC) {
  return syscall(kWait, word, value, mask, flags, until, clock);
}
long Wake(Word* word, int count, uint64_t mask = ~0u, unsigned flags = k32 | kPrivate) {
  return syscall(kWake, word, mask, count, flags);
}

bool HaveCalls() {
  Word word{0};
  return Wake(&word, 1) != -1 || errno != ENOSYS;
}

TEST(futex_wait, ChecksTheValueAndTimesOut) {
  if (!HaveCalls()) GTEST_SKIP() << "an older kernel";
  Word word{5};
  EXPECT_ERRNO(EAGAIN, Wait(&word, 4));
  timespec until;
  for (int clock : {CLOCK_MONOTONIC, CLOCK_REALTIME}) {
    clock_gettime(clock, &until);
    until.tv_nsec += 3000000;
    if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
    EXPECT_ERRNO(ETIMEDOUT, Wait(&word, 5, ~0u, k32 | kPrivate, &until, clock));
  }
  EXPECT_ERRNO(EINVAL, Wait(&word, 5, ~0u, k32 | kPrivate, &until, CLOCK_BOOTTIME));
  EXPECT_ERRNO(EINVAL, Wait(&word, 5, 0));
  EXPECT_ERRNO(EINVAL, Wait(&word, 5, ~0u, 1 /* 16 bits */));
  EXPECT_ERRNO(EINVAL, Wait(&word, 5, ~0u, k32 | 0x40));
  EXPECT_ERRNO(EINVAL, Wait(&word, 1ull << 32)) << "more than the word holds";
  EXPECT_ERRNO(EFAULT, Wait(nullptr, 0));
}

TEST(futex_wake, WakesByMaskAndCount) {
  COVERS(futex_wait);
  if (!HaveCalls()) GTEST_SKIP() << "an older kernel";
  Word word{0};
  std::atomic<int> woken{0};
  std::vector<std::thread> threads;
  for (uint64_t mask : {1, 2, 2}) {
    threads.emplace_back([&, mask] {
      EXPECT_OK(Wait(&word, 0, mask));
      woken++;
    });
  }
  int n = 0;
  while (n < 2) n += static_cast<int>(Wake(&word, 1, 2));
  EXPECT_EQ(Wake(&word, 0), 0) << "unlike FUTEX_WAKE, none is none";
  EXPECT_EQ(Wake(&word, 5, 2), 0);
  while (n < 3) n += static_cast<int>(Wake(&word, 5));
  for (auto& t : threads) t.join();
  EXPECT_EQ(woken, 3);
  EXPECT_ERRNO(EINVAL, Wake(&word, 1, 0));
  EXPECT_ERRNO(EINVAL, Wake(&word, 1, ~0u, 0));
}

TEST(futex_requeue, MovesTheRestToTheOtherWord) {
  COVERS(futex_wait, futex_wake);
  if (!HaveCalls()) GTEST_SKIP() << "an older kernel";
  Word a{1}, b{2};
  struct {
    uint64_t val, addr;
    uint32_t flags, reserved;
  } pair[2] = {{1, reinterpret_cast<uint64_t>(&a), k32 | kPrivate, 0},
               {0, reinterpret_cast<uint64_t>(&b), k32 | kPrivate, 0}};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; i++) threads.emplace_back([&] { EXPECT_OK(Wait(&a, 1)); });
  int moved = 0;
  while (moved < 3) moved += static_cast<int>(syscall(kRequeue, pair, 0, 0, 3));
  EXPECT_EQ(Wake(&a, 5), 0);
  EXPECT_EQ(Wake(&b, 5), 3);
  for (auto& t : threads) t.join();
  pair[0].val = 9;
  EXPECT_ERRNO(EAGAIN, syscall(kRequeue, pair, 0, 1, 1));
  EXPECT_ERRNO(EINVAL, syscall(kRequeue, pair, 1, 1, 1));
  EXPECT_ERRNO(EINVAL, syscall(kRequeue, pair, 0, -1, 1));
  pair[1].reserved = 1;
  EXPECT_ERRNO(EINVAL, syscall(kRequeue, pair, 0, 1, 1));
  EXPECT_ERRNO(EINVAL, syscall(kRequeue, nullptr, 0, 1, 1));
}

}  // namespace
}  // namespace uk::test
