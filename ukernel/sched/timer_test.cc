#include "ukernel/sched/timer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>

namespace uk {
namespace {

TEST(Timer, FiresInOrderOfDeadlineThenArming) {
  TimerQueue q;
  std::vector<int> fired;
  Timer a(q, [&] { fired.push_back(1); });
  Timer b(q, [&] { fired.push_back(2); });
  Timer c(q, [&] { fired.push_back(3); });
  b.arm({20});
  a.arm({10});
  c.arm({10});
  EXPECT_EQ(q.next().at_ns, 10u);
  EXPECT_EQ(q.expire(9), 0u);
  EXPECT_EQ(q.expire(10), 2u);
  EXPECT_EQ(fired, (std::vector<int>{1, 3}));
  EXPECT_TRUE(b.armed());
  EXPECT_EQ(q.expire(100), 1u);
  EXPECT_TRUE(q.next().never());
}

TEST(Timer, NeverDoesNotArm) {
  TimerQueue q;
  Timer t(q, [] {});
  t.arm({5});
  t.arm(kNever);
  EXPECT_FALSE(t.armed());
  EXPECT_TRUE(q.next().never());
}

TEST(Timer, RearmingInTheCallbackWaitsForTheNextExpire) {
  TimerQueue q;
  int n = 0;
  Timer* self = nullptr;
  Timer t(q, [&] {
    ++n;
    self->arm({0});
  });
  self = &t;
  t.arm({0});
  EXPECT_EQ(q.expire(100), 1u);
  EXPECT_EQ(q.expire(100), 1u);
  EXPECT_EQ(n, 2);
  EXPECT_TRUE(t.armed());
}

TEST(Timer, CallbacksMayCancelAndDestroyOthersThatAreDue) {
  TimerQueue q;
  int fired = 0;
  auto victim = std::make_unique<Timer>(q, [&] { ++fired; });
  Timer cancelled(q, [&] { ++fired; });
  Timer killer(q, [&] {
    victim.reset();
    cancelled.cancel();
  });
  killer.arm({1});
  victim->arm({2});
  cancelled.arm({3});
  EXPECT_EQ(q.expire(10), 1u);
  EXPECT_EQ(fired, 0);
  EXPECT_FALSE(cancelled.armed());
}

TEST(Timer, HeapAgreesWithSorting) {
  TimerQueue q;
  std::mt19937 random(7);
  std::vector<std::unique_ptr<Timer>> timers;
  std::vector<uint64_t> fired;
  for (int i = 0; i < 500; ++i) {
    timers.push_back(nullptr);
    size_t at = timers.size() - 1;
    timers[at] =
        std::make_unique<Timer>(q, [&, at] { fired.push_back(timers[at]->deadline().at_ns); });
    timers[at]->arm({random() % 1000});
  }
  for (int i = 0; i < 1000; ++i) {
    Timer& t = *timers[random() % timers.size()];
    if (random() % 3 == 0) {
      t.cancel();
    } else {
      t.arm({random() % 1000});
    }
  }
  std::vector<uint64_t> expected;
  for (auto& t : timers) {
    if (t->armed()) expected.push_back(t->deadline().at_ns);
  }
  std::sort(expected.begin(), expected.end());
  for (uint64_t now = 0; now < 1013; now += 13) q.expire(now);
  EXPECT_EQ(fired, expected);
}

}  // namespace
}  // namespace uk
