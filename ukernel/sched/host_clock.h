// HostClock: the host's time. Monotonic time counts from the clock's creation (the instance's
// boot). Owned by boot.
#pragma once

#include "hostio/sys/event.h"
#include "ukernel/sched/clock.h"

namespace uk {

class HostClock final : public Clock {
 public:
  uint64_t monotonic_ns() override { return sys::clock_ns(CLOCK_MONOTONIC) - start_ns_; }
  uint64_t realtime_ns() override { return sys::clock_ns(CLOCK_REALTIME); }

 private:
  const uint64_t start_ns_ = sys::clock_ns(CLOCK_MONOTONIC);
};

}  // namespace uk
