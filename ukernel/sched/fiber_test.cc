#include "ukernel/sched/fiber.h"

#include <gtest/gtest.h>

#include "ukernel/sched/test_kit.h"

namespace uk {
namespace {

TEST(Fiber, RunsAndEnds) {
  SimReactor sim;
  int n = 0;
  Ref<Fiber> f = sim.reactor.spawn("f", [&](Park& park) {
    EXPECT_EQ(park.reactor().current(), &park.fiber());
    n = 1;
  });
  EXPECT_EQ(n, 0);  // not before the next turn
  sim.run();
  EXPECT_EQ(n, 1);
  EXPECT_TRUE(f->done());
  EXPECT_EQ(sim.reactor.current(), nullptr);
  f->wake();  // harmless
}

TEST(Fiber, SuspendsUntilWoken) {
  SimReactor sim;
  std::string log;
  Ref<Fiber> a = sim.reactor.spawn("a", [&](Park& park) {
    log += "a1 ";
    park.suspend();
    log += "a2 ";
  });
  sim.reactor.spawn("b", [&](Park&) {
    log += "b ";
    a->wake();
    a->wake();
  });
  sim.run();
  EXPECT_EQ(log, "a1 b a2 ");
  EXPECT_TRUE(a->done());
}

TEST(Fiber, AWakeWhileRunningIsNotLost) {
  SimReactor sim;
  bool ended = false;
  sim.reactor.spawn("a", [&](Park& park) {
    park.fiber().wake();
    park.suspend();
    ended = true;
    park.suspend();  // for ever
  });
  sim.run();
  EXPECT_TRUE(ended);
  EXPECT_TRUE(sim.deadlocked);
}

TEST(Fiber, DeadlinesEndSuspension) {
  SimReactor sim;
  uint64_t woke_at = 0;
  sim.reactor.spawn("a", [&](Park& park) {
    park.suspend({1000});
    woke_at = park.reactor().now_ns();
    park.suspend({500});  // past
  });
  sim.run();
  EXPECT_EQ(woke_at, 1000u);
}

TEST(Fiber, AWakeBeforeTheDeadlineDisarmsIt) {
  SimReactor sim;
  Ref<Fiber> a = sim.reactor.spawn("a", [&](Park& park) {
    park.suspend({1000});
    EXPECT_TRUE(park.reactor().timers().next().never());
  });
  sim.reactor.spawn("b", [&](Park&) { a->wake(); });
  sim.run();
  EXPECT_EQ(sim.clock.monotonic_ns(), 0u);
}

TEST(Fiber, YieldLetsAllOthersRun) {
  SimReactor sim;
  std::string log;
  for (char c : {'a', 'b', 'c'}) {
    sim.reactor.spawn(std::string(1, c), [&log, c](Park& park) {
      for (int i = 0; i < 3; ++i) {
        log += c;
        park.yield();
      }
    });
  }
  sim.run();
  EXPECT_EQ(log, "abcabcabc");
}

TEST(Fiber, ThousandsOfThemKeepTheirStacks) {
  SimReactor sim;
  int done = 0;
  for (int i = 0; i < 3000; ++i) {
    sim.reactor.spawn("f", [&done, i](Park& park) {
      volatile int local[64];
      for (int k = 0; k < 64; ++k) local[k] = i + k;
      for (int k = 0; k < 3; ++k) park.yield();
      for (int k = 0; k < 64; ++k) ASSERT_EQ(local[k], i + k);
      ++done;
    });
  }
  sim.run();
  EXPECT_EQ(done, 3000);
  int live = 0;
  sim.reactor.each_fiber([&](Fiber&) { ++live; });
  EXPECT_EQ(live, 0);
}

TEST(Fiber, WhatTheMainCapturedDiesWithTheFiber) {
  SimReactor sim;
  auto token = std::make_shared<int>(1);
  Ref<Fiber> f = sim.reactor.spawn("f", [token](Park&) {});
  EXPECT_EQ(token.use_count(), 2);
  sim.run();
  EXPECT_EQ(token.use_count(), 1);
}

TEST(Fiber, SuspendedFibersMayOutliveTheLoop) {
  Ref<Fiber> f;
  {
    SimReactor sim;
    int stream = sim.ring.add_stream();
    f = sim.reactor.spawn("f", [&](Park& park) { park.suspend({kNsPerSec}); });
    sim.reactor.spawn("stop", [&](Park& park) { park.reactor().stop(); });
    (void)stream;
    sim.run();
  }
  EXPECT_FALSE(f->done());
}

struct Flag final : Interruptor {
  bool interruptible = false, fatal = false;
  bool should_interrupt(WaitMode mode) const override {
    return fatal || (interruptible && mode == WaitMode::kInterruptible);
  }
};

TEST(Fiber, InterruptorDecides) {
  SimReactor sim;
  Flag flag;
  sim.reactor.spawn("f", [&](Park& park) {
    EXPECT_FALSE(park.interrupted(WaitMode::kInterruptible));  // a daemon
    park.fiber().set_interruptor(&flag);
    flag.interruptible = true;
    EXPECT_TRUE(park.interrupted(WaitMode::kInterruptible));
    EXPECT_FALSE(park.interrupted(WaitMode::kKillable));
    flag.fatal = true;
    EXPECT_TRUE(park.interrupted(WaitMode::kKillable));
    EXPECT_FALSE(park.interrupted(WaitMode::kUninterruptible));
  });
  sim.run();
}

int overflow(int depth, const volatile bool& stop) {
  if (stop) return 0;
  volatile char frame[4096];
  frame[0] = static_cast<char>(depth);
  return overflow(depth + 1, stop) + frame[0];
}

TEST(FiberDeathTest, AStackOverflowHitsTheGuard) {
  EXPECT_DEATH(
      {
        SimReactor sim;
        volatile bool stop = false;
        sim.reactor.spawn("deep", [&](Park&) { overflow(0, stop); });
        sim.run();
      },
      "");
}

}  // namespace
}  // namespace uk
