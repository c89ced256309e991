#include "ukernel/sched/wait_queue.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

#include "ukernel/sched/test_kit.h"

namespace uk {
namespace {

TEST(WaitQueue, WaitsForThePredicateNotForTheWake) {
  SimReactor sim;
  WaitQueue q;
  int value = 0;
  std::string log;
  sim.reactor.spawn("waiter", [&](Park& park) {
    EXPECT_TRUE(q.wait(
        park, [&] { return value == 2; }, WaitMode::kInterruptible, kNever, "two"));
    log += "woken";
  });
  sim.reactor.spawn("waker", [&](Park& park) {
    for (int i = 0; i < 2; ++i) {
      EXPECT_EQ(log, "");
      ++value;
      q.wake_all();
      park.yield();
      park.yield();
    }
  });
  sim.run();
  EXPECT_EQ(log, "woken");
  EXPECT_TRUE(q.empty());
}

TEST(WaitQueue, TimesOutButATruePredicateWins) {
  SimReactor sim;
  WaitQueue q;
  sim.reactor.spawn("f", [&](Park& park) {
    Result<> r = q.wait(park, [] { return false; }, WaitMode::kInterruptible, {1000});
    EXPECT_EQ(r.error(), Errno::kTIMEDOUT);
    EXPECT_EQ(park.reactor().now_ns(), 1000u);
    EXPECT_TRUE(q.wait(park, [] { return true; }, WaitMode::kInterruptible, {1}));
  });
  sim.run();
  EXPECT_EQ(sim.deadlocked, true);  // all is done: nothing can happen
}

struct Flag final : Interruptor {
  bool on = false;
  bool should_interrupt(WaitMode mode) const override { return on && mode != WaitMode::kKillable; }
};

TEST(WaitQueue, InterruptionIsAValue) {
  SimReactor sim;
  WaitQueue q;
  Flag flag;
  bool go = false;
  Result<> killable = Err(Errno::kIO), interruptible;
  Ref<Fiber> k = sim.reactor.spawn("k", [&](Park& park) {
    park.fiber().set_interruptor(&flag);
    killable = q.wait(
        park, [&] { return go; }, WaitMode::kKillable);
  });
  Ref<Fiber> i = sim.reactor.spawn("i", [&](Park& park) {
    park.fiber().set_interruptor(&flag);
    interruptible = q.wait(park, [&] { return go; });
  });
  sim.reactor.spawn("signal", [&](Park& park) {
    EXPECT_STREQ(i->wait_reason(), "wait");
    flag.on = true;
    k->wake();
    i->wake();
    park.yield();
    park.yield();
    EXPECT_TRUE(i->done());
    EXPECT_FALSE(k->done());
    go = true;
    q.wake_all();
  });
  sim.run();
  EXPECT_EQ(interruptible.error(), Errno::kRestartSys);
  EXPECT_TRUE(killable);
}

TEST(WaitQueue, WakeOneReachesOneExclusiveWaiterEach) {
  SimReactor sim;
  WaitQueue q;
  int tokens = 0, got = 0, shared = 0;
  for (int n = 0; n < 3; ++n) {
    sim.reactor.spawn("x", [&](Park& park) {
      ASSERT_TRUE(q.wait(
          park, [&] { return tokens > 0 && tokens--; }, WaitMode::kInterruptible, kNever, "x",
          true));
      ++got;
    });
  }
  sim.reactor.spawn("s", [&](Park& park) {
    ASSERT_TRUE(q.wait(park, [&] { return got > 0; }));
    shared = got;
  });
  sim.reactor.spawn("waker", [&](Park& park) {
    // Both wakes before any waiter runs: they must go to two waiters.
    tokens = 2;
    q.wake_one();
    q.wake_one();
    park.yield();
    park.yield();
    EXPECT_EQ(got, 2);
    EXPECT_EQ(shared, 1);  // woken by the first wake, after the first taker
    tokens = 1;
    q.wake_one();
  });
  sim.run();
  EXPECT_EQ(got, 3);
}

struct Listener final : Waiter {
  void on_wake(uint32_t events) override {
    seen |= events;
    ++count;
    if (action) action();
  }
  uint32_t seen = 0;
  int count = 0;
  std::function<void()> action;
};

TEST(WaitQueue, ListenersMayLeaveJoinAndRemoveOthersWhileCalled) {
  WaitQueue q;
  Listener a, c, late;
  auto b = std::make_unique<Listener>();
  a.action = [&] {
    b.reset();
    a.unlink();
    if (!late.linked()) q.add(late);
  };
  q.add(a);
  q.add(*b);
  q.add(c);
  q.wake_all(4);
  EXPECT_EQ(a.count, 1);
  EXPECT_EQ(c.seen, 4u);
  EXPECT_EQ(late.count, 0);
  q.wake_one(1);
  EXPECT_EQ(a.count, 1);
  EXPECT_EQ(c.seen, 5u);
  EXPECT_EQ(late.count, 1);
}

TEST(Mutex, OneAtATimeInTurn) {
  SimReactor sim;
  Mutex m;
  int inside = 0, rounds = 0;
  for (int n = 0; n < 5; ++n) {
    sim.reactor.spawn("f", [&](Park& park) {
      for (int i = 0; i < 10; ++i) {
        MutexLock lock(park, m);
        EXPECT_EQ(++inside, 1);
        park.yield();
        --inside;
        ++rounds;
      }
    });
  }
  sim.run();
  EXPECT_EQ(rounds, 50);
  EXPECT_FALSE(m.locked());
}

}  // namespace
}  // namespace uk
