// Groups and real-time limits, with simulated guests and time as in vcpu_test.cc.
#include "ukernel/sched/sched_group.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "ukernel/sched/sim_guest.h"

namespace uk {
namespace {

struct SchedGroupTest : testing::Test {
  ~SchedGroupTest() override {
    for (auto& g : guests) set->set_group(g->e, nullptr);
  }
  void make(int cpus) { set = std::make_unique<VcpuSet>(sim.reactor.timers(), sim.clock, cpus); }
  SimGuest& hog(SchedGroup* group, uint64_t until_ns) {
    guests.push_back(std::make_unique<SimGuest>(sim, *set, "hog"));
    set->set_group(guests.back()->e, group);
    guests.back()->hog(until_ns);
    return *guests.back();
  }
  static double ms(const SimGuest& g) { return static_cast<double>(g.e.run_ns) * 1e-6; }
  SimReactor sim;
  std::unique_ptr<VcpuSet> set;
  std::vector<std::unique_ptr<SimGuest>> guests;
};

TEST_F(SchedGroupTest, GroupsShareByTheirWeights) {
  make(1);
  SchedGroup heavy(*set, nullptr), light(*set, nullptr);
  heavy.set_weight(3 * SchedGroup::kDefaultWeight);
  SimGuest& a = hog(&heavy, 4000 * kMs);
  SimGuest& b = hog(&light, 4000 * kMs);
  SimGuest& c = hog(&light, 4000 * kMs);
  sim.run();
  EXPECT_NEAR(ms(a), 3000, 100);
  EXPECT_NEAR(ms(b), 500, 50);
  EXPECT_NEAR(ms(c), 500, 50);
  guests.clear();
}

TEST_F(SchedGroupTest, GroupsNestAndStandBesideWhoIsInNone) {
  make(1);
  SchedGroup outer(*set, nullptr), inner(*set, &outer);
  SimGuest& none = hog(nullptr, 3000 * kMs);
  SimGuest& a = hog(&inner, 3000 * kMs);
  SimGuest& b = hog(&inner, 3000 * kMs);
  sim.run();
  EXPECT_NEAR(ms(none), 1500, 50);
  EXPECT_NEAR(ms(a), 750, 50);
  EXPECT_NEAR(ms(b), 750, 50);
  guests.clear();
}

TEST_F(SchedGroupTest, AQuotaHoldsForAllTogether) {
  make(2);
  SchedGroup outer(*set, nullptr), inner(*set, &outer);
  outer.set_quota({.run_ns = 10 * kMs, .period_ns = 20 * kMs});
  SimGuest& a = hog(&inner, 1000 * kMs);
  SimGuest& b = hog(&inner, 1000 * kMs);
  SimGuest& free = hog(nullptr, 1000 * kMs);
  sim.run();
  EXPECT_NEAR(ms(a) + ms(b), 500, 15);
  EXPECT_GT(ms(free), 750);  // never throttled, but takes turns
  EXPECT_NEAR(static_cast<double>(outer.throttled_periods), 50, 2);
  EXPECT_GT(outer.throttled_ns, 300 * kMs);
  guests.clear();
}

TEST_F(SchedGroupTest, QuotasNest) {
  make(2);
  SchedGroup outer(*set, nullptr), inner(*set, &outer), side(*set, &outer);
  outer.set_quota({.run_ns = 5 * kMs, .period_ns = 11 * kMs});
  inner.set_quota({.run_ns = 3 * kMs, .period_ns = 10 * kMs});
  SimGuest& a = hog(&inner, 3000 * kMs);
  SimGuest& b = hog(&inner, 3000 * kMs);
  SimGuest& c = hog(&side, 3000 * kMs);
  sim.run();
  EXPECT_LE(ms(a) + ms(b), 920);
  EXPECT_NEAR(ms(a) + ms(b) + ms(c), 3000 * 5 / 11, 30);
  guests.clear();
}

// A period ends unused while the group's entities wait for another group's next one.
TEST_F(SchedGroupTest, APeriodMayEndWhileItsEntitiesWait) {
  make(1);
  SchedGroup outer(*set, nullptr), inner(*set, &outer);
  outer.set_quota({.run_ns = 2 * kMs, .period_ns = 3 * kMs});
  inner.set_quota({.run_ns = 3 * kMs, .period_ns = 30 * kMs});
  SimGuest& a = hog(&inner, 3000 * kMs);
  SimGuest& b = hog(&inner, 3000 * kMs);
  sim.run();
  EXPECT_NEAR(ms(a) + ms(b), 300, 10);
  guests.clear();
}

TEST_F(SchedGroupTest, WhatIsLeftMayBurst) {
  make(1);
  SchedGroup group(*set, nullptr);
  group.set_quota({.run_ns = 5 * kMs, .period_ns = 10 * kMs, .burst_ns = 5 * kMs});
  SimGuest g(sim, *set, "g");
  set->set_group(g.e, &group);
  uint64_t done = 0;
  g.start([&](Park& park) {
    g.burn(park, 1 * kMs);
    park.suspend({14 * kMs});  // into the second period
    g.burn(park, 8 * kMs);
    done = sim.clock.monotonic_ns();
  });
  sim.run();
  EXPECT_LE(done, 23 * kMs);
  set->set_group(g.e, nullptr);
}

TEST_F(SchedGroupTest, WhoLeavesALimitedGroupGoesOn) {
  make(1);
  SchedGroup group(*set, nullptr);
  group.set_quota({.run_ns = 1 * kMs, .period_ns = 1000 * kMs});
  SimGuest& g = hog(&group, 100 * kMs);
  sim.reactor.spawn("mover", [&](Park& park) {
    park.suspend({50 * kMs});
    EXPECT_NEAR(ms(g), 1, 0.5);
    set->set_group(g.e, nullptr);
  });
  sim.run();
  EXPECT_NEAR(ms(g), 51, 2);
  guests.clear();
}

TEST_F(SchedGroupTest, RealTimeLeavesSomethingToOthers) {
  make(1);
  SimGuest& fifo = hog(nullptr, 3000 * kMs);
  fifo.e.sched_class = SchedClass::kFifo;
  fifo.e.rt_priority = 50;
  SimGuest& fair = hog(nullptr, 3000 * kMs);
  sim.run();
  EXPECT_NEAR(ms(fair), 150, 15);
  EXPECT_NEAR(ms(fifo), 2850, 15);
  guests.clear();
}

TEST_F(SchedGroupTest, RealTimeGoesOnWhileNobodyElseWaits) {
  make(1);
  SimGuest& fifo = hog(nullptr, 3000 * kMs);
  fifo.e.sched_class = SchedClass::kFifo;
  fifo.e.rt_priority = 50;
  sim.run();
  EXPECT_NEAR(ms(fifo), 3000, 1);
  guests.clear();
}

TEST_F(SchedGroupTest, WithoutALimitRealTimeStarvesOthers) {
  make(1);
  set->real_time.runtime_ns = UINT64_MAX;
  SimGuest& fifo = hog(nullptr, 2000 * kMs);
  fifo.e.sched_class = SchedClass::kFifo;
  fifo.e.rt_priority = 50;
  SimGuest& fair = hog(nullptr, 2000 * kMs);
  sim.run();
  EXPECT_LT(ms(fair), 10);
  guests.clear();
}

}  // namespace
}  // namespace uk
