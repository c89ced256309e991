// Bytes of a disk that somebody changes or copies: whoever wants some of them waits for all that
// asked before, so nobody waits for ever.
//
// Ownership: the caller owns the Ranges, which outlive what is held of them. take() suspends, and
// is not interruptible.
#pragma once

#include <algorithm>
#include <list>

#include "ukernel/sched/wait_queue.h"

namespace uk {

class Ranges {
 public:
  struct Range {
    uint64_t begin = 0, end = 0;
  };
  using Held = std::list<Range>::iterator;

  Held take(Park& park, uint64_t offset, uint64_t length) {
    Held mine = ranges_.insert(ranges_.end(), {offset, offset + length});
    (void)changed_.wait(
        park,
        [&] {
          return std::none_of(ranges_.begin(), mine, [&](const Range& r) {
            return r.begin < mine->end && mine->begin < r.end;
          });
        },
        WaitMode::kUninterruptible, kNever, "mirror_range");
    return mine;
  }
  void give_back(Held mine) {
    ranges_.erase(mine);
    changed_.wake_all();
  }

 private:
  std::list<Range> ranges_;
  WaitQueue changed_;
};

class HeldRange {
 public:
  HeldRange(Park& park, Ranges& ranges, uint64_t offset, uint64_t length)
      : ranges_(ranges), held_(ranges.take(park, offset, length)) {}
  ~HeldRange() { ranges_.give_back(held_); }
  HeldRange(const HeldRange&) = delete;
  HeldRange& operator=(const HeldRange&) = delete;

 private:
  Ranges& ranges_;
  Ranges::Held held_;
};

}  // namespace uk
