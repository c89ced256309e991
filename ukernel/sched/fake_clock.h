// FakeClock: time for tests and simulation. It moves when a test advances it, or when a FakeRing
// built on now() sleeps.
#pragma once

#include "ukernel/sched/clock.h"

namespace uk {

class FakeClock final : public Clock {
 public:
  uint64_t monotonic_ns() override { return now_ns_; }
  uint64_t realtime_ns() override { return kEpochNs + now_ns_; }
  void advance(uint64_t ns) { now_ns_ += ns; }
  uint64_t& now() { return now_ns_; }

 private:
  static constexpr uint64_t kEpochNs = 1'000'000'000 * kNsPerSec;  // 2001-09-09
  uint64_t now_ns_ = 0;
};

}  // namespace uk
