// A simulated guest for tests of the VcpuSet: a fiber enters, "runs in user mode" by suspending
// until its work is used up or it is kicked, and leaves. Time is the fake clock's.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "ukernel/sched/test_kit.h"
#include "ukernel/sched/vcpu.h"

namespace uk {

constexpr uint64_t kMs = 1'000'000;

class SimGuest {
 public:
  SimGuest(SimReactor& sim, VcpuSet& set, std::string name)
      : sim_(sim), set_(set), name_(std::move(name)), e([this] {
          kicked_ = true;
          ++kicks;
          fiber_->wake();
        }) {}

  // Uses `ns` of user time, as the run loop would.
  void burn(Park& park, uint64_t ns) {
    while (ns > 0) {
      ASSERT_TRUE(set_.enter(park, e));
      EXPECT_TRUE(e.on_cpu);
      uint64_t start = sim_.clock.monotonic_ns();
      uint64_t end = start + ns;
      while (!kicked_ && sim_.clock.monotonic_ns() < end) park.suspend({end});
      kicked_ = false;
      uint64_t used = sim_.clock.monotonic_ns() - start;
      set_.leave(e);
      ns -= std::min(ns, used);
    }
  }
  void start(Fiber::Main main) { fiber_ = sim_.reactor.spawn(name_, std::move(main)); }
  // Burns until the clock says `until`.
  void hog(uint64_t until) {
    start([this, until](Park& park) {
      while (sim_.clock.monotonic_ns() < until) burn(park, kMs);
    });
  }

 private:
  SimReactor& sim_;
  VcpuSet& set_;
  std::string name_;
  bool kicked_ = false;
  Ref<Fiber> fiber_;

 public:
  SchedEntity e;
  int kicks = 0;
};

}  // namespace uk
