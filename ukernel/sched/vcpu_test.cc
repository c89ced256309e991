// Guests are simulated (sim_guest.h). Time is the fake clock's.
#include "ukernel/sched/vcpu.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "ukernel/sched/sim_guest.h"

namespace uk {
namespace {

using Guest = SimGuest;

struct VcpuTest : testing::Test {
  std::unique_ptr<VcpuSet> make(int cpus) {
    return std::make_unique<VcpuSet>(sim.reactor.timers(), sim.clock, cpus);
  }
  SimReactor sim;
};

TEST_F(VcpuTest, WeightsAreLinux) {
  EXPECT_EQ(VcpuSet::weight(0), 1024u);
  EXPECT_EQ(VcpuSet::weight(1), 819u);  // 1024 / 1.25
  EXPECT_EQ(VcpuSet::weight(-1), 1280u);
  EXPECT_EQ(VcpuSet::weight(19), 15u);
  EXPECT_NEAR(VcpuSet::weight(-20), 88761, 100);  // Linux's table, rounded otherwise
}

TEST_F(VcpuTest, AloneNoTimerAndNoKick) {
  auto set = make(1);
  Guest g(sim, *set, "g");
  g.start([&](Park& park) {
    ASSERT_TRUE(set->enter(park, g.e));
    EXPECT_TRUE(sim.reactor.timers().next().never());
    EXPECT_EQ(set->runnable(), 1);
    sim.clock.advance(1000 * kMs);
    EXPECT_FALSE(set->should_yield(g.e));
    set->leave(g.e);
    EXPECT_TRUE(sim.reactor.timers().next().never());
  });
  sim.run();
  EXPECT_EQ(g.kicks, 0);
  EXPECT_EQ(g.e.run_ns, 1000 * kMs);
  EXPECT_EQ(set->busy_ns(0), 1000 * kMs);
}

TEST_F(VcpuTest, EqualsShareEqually) {
  auto set = make(1);
  std::vector<std::unique_ptr<Guest>> guests;
  for (int i = 0; i < 4; ++i) {
    guests.push_back(std::make_unique<Guest>(sim, *set, "g"));
    guests.back()->hog(1000 * kMs);
  }
  sim.run();
  for (auto& g : guests) EXPECT_NEAR(static_cast<double>(g->e.run_ns), 250e6, 6e6);
  EXPECT_GT(guests[0]->e.involuntary_switches, 20u);
}

TEST_F(VcpuTest, NiceWeighs) {
  auto set = make(1);
  Guest a(sim, *set, "a"), b(sim, *set, "b");
  b.e.nice = 5;  // 1024 / 1.25^5 = 335.5
  a.hog(4000 * kMs);
  b.hog(4000 * kMs);
  sim.run();
  double ratio = static_cast<double>(a.e.run_ns) / static_cast<double>(b.e.run_ns);
  EXPECT_NEAR(ratio, 1024.0 / 335, 0.2);
}

TEST_F(VcpuTest, TwoCpusRunTwoAtOnce) {
  auto set = make(2);
  std::vector<std::unique_ptr<Guest>> guests;
  for (int i = 0; i < 3; ++i) {
    guests.push_back(std::make_unique<Guest>(sim, *set, "g"));
    guests.back()->hog(900 * kMs);
  }
  sim.run();
  uint64_t total = 0;
  for (auto& g : guests) {
    total += g->e.run_ns;
    EXPECT_NEAR(static_cast<double>(g->e.run_ns), 600e6, 10e6);
  }
  EXPECT_NEAR(static_cast<double>(total), 1800e6, 10e6);
  EXPECT_NEAR(static_cast<double>(set->busy_ns(0)), 900e6, 5e6);
}

TEST_F(VcpuTest, AffinityIsKept) {
  auto set = make(2);
  Guest a(sim, *set, "a"), b(sim, *set, "b"), c(sim, *set, "c");
  a.e.affinity = b.e.affinity = 2;  // both on vCPU 1
  for (Guest* g : {&a, &b, &c}) g->hog(400 * kMs);
  sim.run();
  EXPECT_NEAR(static_cast<double>(a.e.run_ns), 200e6, 6e6);
  EXPECT_NEAR(static_cast<double>(b.e.run_ns), 200e6, 6e6);
  EXPECT_NEAR(static_cast<double>(c.e.run_ns), 400e6, 6e6);
  EXPECT_EQ(a.e.cpu, 1);
  EXPECT_EQ(c.e.cpu, 0);
}

TEST_F(VcpuTest, RealTimeGoesFirstAndFifoIsNotSliced) {
  auto set = make(1);
  Guest fair(sim, *set, "fair"), fifo(sim, *set, "fifo");
  fifo.e.sched_class = SchedClass::kFifo;
  fifo.e.rt_priority = 10;
  fair.hog(200 * kMs);
  uint64_t began = 0, ended = 0;
  fifo.start([&](Park& park) {
    park.suspend({50 * kMs});
    began = sim.clock.monotonic_ns();
    fifo.burn(park, 60 * kMs);
    ended = sim.clock.monotonic_ns();
  });
  sim.run();
  EXPECT_EQ(ended - began, 60 * kMs);  // at once, and without a break
  EXPECT_EQ(fifo.kicks, 0);
}

TEST_F(VcpuTest, RoundRobinTakesTurnsFifoDoesNot) {
  for (SchedClass cls : {SchedClass::kRr, SchedClass::kFifo}) {
    auto set = make(1);
    set->real_time.rr_slice_ns = 10 * kMs;
    Guest a(sim, *set, "a"), b(sim, *set, "b");
    for (Guest* g : {&a, &b}) {
      g->e.sched_class = cls;
      g->e.rt_priority = 1;
      g->start([g](Park& park) { g->burn(park, 40 * kMs); });
    }
    sim.run();
    if (cls == SchedClass::kRr) {
      EXPECT_GT(a.kicks, 2);
    } else {
      EXPECT_EQ(a.kicks + b.kicks, 0);
    }
  }
}

TEST_F(VcpuTest, IdleClassRunsOnlyWhenNobodyElseDoes) {
  auto set = make(1);
  Guest idle(sim, *set, "idle"), fair(sim, *set, "fair");
  idle.e.sched_class = SchedClass::kIdle;
  idle.start([&](Park& park) { idle.burn(park, 100 * kMs); });
  fair.start([&](Park& park) {
    park.suspend({10 * kMs});
    uint64_t start = sim.clock.monotonic_ns();
    fair.burn(park, 100 * kMs);
    EXPECT_EQ(sim.clock.monotonic_ns() - start, 100 * kMs);
  });
  sim.run();
  EXPECT_EQ(idle.e.run_ns, 100 * kMs);
}

TEST_F(VcpuTest, ASleeperPreemptsAHogAtOnce) {
  auto set = make(1);
  Guest hog(sim, *set, "hog"), editor(sim, *set, "editor");
  hog.hog(1000 * kMs);
  uint64_t worst = 0;
  editor.start([&](Park& park) {
    for (int i = 1; i < 90; ++i) {
      uint64_t at = static_cast<uint64_t>(i) * 10 * kMs;
      while (sim.clock.monotonic_ns() < at) park.suspend({at});
      ASSERT_TRUE(set->enter(park, editor.e));
      // The first time it is new, and has no credit.
      if (i > 1) worst = std::max(worst, sim.clock.monotonic_ns() - at);
      sim.clock.advance(100'000);
      set->leave(editor.e);
    }
  });
  sim.run();
  EXPECT_EQ(worst, 0u);
  EXPECT_GT(hog.e.run_ns, 900 * kMs);
}

TEST_F(VcpuTest, SystemCallsDoNotLoseTheCpu) {
  auto set = make(1);
  Guest hog(sim, *set, "hog"), caller(sim, *set, "caller");
  hog.hog(1000 * kMs);
  int calls = 0;
  caller.start([&](Park& park) {
    while (sim.clock.monotonic_ns() < 1000 * kMs) {
      caller.burn(park, 10'000);
      ++calls;  // a call that does not block: straight back to enter()
    }
  });
  sim.run();
  // Half of the time, in bursts of 10 us: about 50000, not one a slice.
  EXPECT_NEAR(calls, 50'000, 2'000);
  EXPECT_LT(caller.e.involuntary_switches, 300u);
}

TEST_F(VcpuTest, WhoBlocksGivesTheCpuAway) {
  auto set = make(1);
  Guest a(sim, *set, "a"), b(sim, *set, "b");
  uint64_t b_began = 0;
  a.start([&](Park& park) {
    ASSERT_TRUE(set->enter(park, a.e));
    park.suspend({kMs});  // runs; b comes to wait
    sim.clock.advance(kMs);
    set->leave(a.e);
    park.suspend({500 * kMs});  // blocks in its call
  });
  b.start([&](Park& park) {
    park.yield();
    b.burn(park, 1);
    b_began = sim.clock.monotonic_ns();
  });
  sim.run();
  EXPECT_LE(b_began, 3 * kMs);
}

TEST_F(VcpuTest, OldCreditIsForgotten) {
  auto set = make(1);
  Guest old(sim, *set, "old"), young(sim, *set, "young");
  old.hog(3000 * kMs);
  young.start([&](Park& park) {
    park.suspend({2000 * kMs});  // old has run alone for two seconds
    while (sim.clock.monotonic_ns() < 3000 * kMs) young.burn(park, kMs);
  });
  sim.run();
  EXPECT_NEAR(static_cast<double>(young.e.run_ns), 500e6, 15e6);
}

TEST_F(VcpuTest, YieldLetsAnotherRun) {
  for (SchedClass cls : {SchedClass::kOther, SchedClass::kFifo, SchedClass::kRr}) {
    auto set = make(1);
    Guest a(sim, *set, "a"), b(sim, *set, "b");
    std::string log;
    for (Guest* g : {&a, &b}) {
      g->e.sched_class = cls;
      g->e.rt_priority = cls == SchedClass::kOther ? 0 : 1;
      g->start([&, g](Park& park) {
        for (int i = 0; i < 3; ++i) {
          g->burn(park, 1000);
          log += g == &a ? 'a' : 'b';
          set->yield(g->e);
        }
      });
    }
    sim.run();
    EXPECT_EQ(log, "ababab");
  }
}

struct Fatal final : Interruptor {
  bool on = false;
  bool should_interrupt(WaitMode) const override { return on; }
};

TEST_F(VcpuTest, AFatalSignalEndsTheWait) {
  auto set = make(1);
  Guest hog(sim, *set, "hog");
  SchedEntity e([] {});
  Fatal fatal;
  Result<> r;
  hog.e.sched_class = SchedClass::kFifo;
  hog.e.rt_priority = 1;
  hog.start([&](Park& park) { hog.burn(park, 100 * kMs); });
  Ref<Fiber> f = sim.reactor.spawn("victim", [&](Park& park) {
    park.fiber().set_interruptor(&fatal);
    r = set->enter(park, e);
  });
  sim.reactor.spawn("killer", [&](Park& park) {
    park.suspend({50 * kMs});
    EXPECT_EQ(set->runnable(), 2);
    fatal.on = true;
    f->wake();
  });
  sim.run();
  EXPECT_EQ(r.error(), Errno::kRestartSys);
  EXPECT_EQ(set->runnable(), 0);
}

TEST_F(VcpuTest, MovingOffAForbiddenCpu) {
  auto set = make(2);
  Guest g(sim, *set, "g");
  g.start([&](Park& park) {
    g.burn(park, 1000);
    EXPECT_EQ(g.e.cpu, 0);
    g.e.affinity = 2;
    g.burn(park, 1000);
    EXPECT_EQ(g.e.cpu, 1);
    g.e.affinity = 1ull << 40;  // names no vCPU: counts as all
    g.burn(park, 1000);
    EXPECT_EQ(g.e.cpu, 1);
  });
  sim.run();
}

}  // namespace
}  // namespace uk
