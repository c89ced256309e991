// The load averages (getloadavg(3), proc_loadavg(5)): exponential means of how many threads ran or
// waited for a virtual CPU. Updated when somebody runs or asks, so an idle instance does nothing;
// from the CPU time used meanwhile it is known what the time in between was like. Owned by the
// Kernel.
#pragma once

#include <array>
#include <cstdint>

namespace uk {

class LoadAverage {
 public:
  static constexpr uint64_t kPeriodNs = 5'000'000'000;
  bool due(uint64_t now_ns) const { return now_ns - last_ns_ >= kPeriodNs; }
  // busy_ns: CPU time used in all so far; waiting: threads without a virtual CPU now.
  void update(uint64_t now_ns, uint64_t busy_ns, int waiting);
  const std::array<double, 3>& value() const { return value_; }

 private:
  uint64_t last_ns_ = 0, last_busy_ns_ = 0;
  std::array<double, 3> value_{};
};

}  // namespace uk
