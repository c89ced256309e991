// Time as the kernel sees it. No kernel code reads a host clock except through this object, so that
// a test (or a replay) can own time. All times are nanoseconds. Owned by whoever builds the
// instance.
#pragma once

#include <cstdint>

namespace uk {

constexpr uint64_t kNsPerSec = 1'000'000'000;

class Clock {
 public:
  virtual ~Clock() = default;
  // CLOCK_MONOTONIC: ns since boot of the instance's clock; never goes back.
  virtual uint64_t monotonic_ns() = 0;
  // CLOCK_REALTIME: ns since the epoch.
  virtual uint64_t realtime_ns() = 0;
};

// A point on the monotonic clock; kNever waits for ever.
struct Deadline {
  uint64_t at_ns = UINT64_MAX;
  bool never() const { return at_ns == UINT64_MAX; }
  bool operator==(const Deadline&) const = default;
};
constexpr Deadline kNever{};

}  // namespace uk
