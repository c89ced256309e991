// What children of a program do soon after a fork, learnt from earlier ones: so that the next child
// gets at once what it will use, and no more. Shared along the line of forks; a new image starts
// afresh. It is a guess: what it misses costs a fault.
//
// Ownership: counted; address spaces hold it. Nothing suspends; nothing is untrusted.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/ref.h"

namespace uk {

// The last N different values that were noted.
template <size_t N>
class LastNoted {
 public:
  bool has(uint64_t value) const { return std::ranges::binary_search(sorted_, value); }
  void note(uint64_t value) {
    auto at = std::ranges::lower_bound(sorted_, value);
    if (at != sorted_.end() && *at == value) return;
    sorted_.insert(at, value);
    uint64_t& place = order_[next_++ % N];
    const uint64_t oldest = std::exchange(place, value);
    if (sorted_.size() > N) sorted_.erase(std::ranges::lower_bound(sorted_, oldest));
  }

 private:
  std::vector<uint64_t> sorted_;
  std::array<uint64_t, N> order_{};
  size_t next_ = 0;
};

struct ForkProfile final : public RefCounted {
  // Pages that parent or child write (the stack's top, thread data): those that broke copy-on-write
  // after earlier forks. They are copied at the next fork, which costs far less than two faults.
  LastNoted<32> written;
  // Where mappings begin that children use at all: these are shown to the next one from the start.
  LastNoted<64> used;
};

}  // namespace uk
