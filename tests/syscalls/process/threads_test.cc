// Threads made by threads.
#include <pthread.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

thread_local int own = 0;

// Every thread has its own thread pointer and stack, however many make threads at the same moment.
TEST(clone3, ThreadsAreMadeByManyThreadsAtOnce) {
  constexpr int kMakers = 8, kEach = 12, kRounds = 4;
  for (int round = 0; round < kRounds; ++round) {
    std::atomic<int> ready = 0, good = 0;
    std::vector<std::thread> makers;
    for (int m = 0; m < kMakers; ++m) {
      makers.emplace_back([&, m] {
        ++ready;
        while (ready < kMakers) sched_yield();
        std::vector<std::thread> made;
        for (int i = 0; i < kEach; ++i) {
          made.emplace_back([&, id = m * kEach + i + 1] {
            own = id;
            sched_yield();
            if (own == id && gettid() != getpid()) ++good;
          });
        }
        for (std::thread& t : made) t.join();
      });
    }
    for (std::thread& t : makers) t.join();
    EXPECT_EQ(good, kMakers * kEach);
  }
}

}  // namespace
}  // namespace uk::test
