#include "ukernel/load_average.h"

#include <algorithm>
#include <cmath>

namespace uk {

void LoadAverage::update(uint64_t now_ns, uint64_t busy_ns, int waiting) {
  constexpr std::array<double, 3> kSpanNs{60e9, 300e9, 900e9};
  if (now_ns <= last_ns_) return;
  auto passed = static_cast<double>(now_ns - last_ns_);
  double active = static_cast<double>(busy_ns - std::min(busy_ns, last_busy_ns_)) / passed +
                  std::max(waiting, 0);
  for (size_t i = 0; i < value_.size(); ++i) {
    double keep = std::exp(-passed / kSpanNs[i]);
    value_[i] = value_[i] * keep + active * (1 - keep);
  }
  last_ns_ = now_ns;
  last_busy_ns_ = busy_ns;
}

}  // namespace uk
