// Stacks for fibers: mapped lazily, with an inaccessible page below, and kept for reuse. Private to
// sched.
#pragma once

#include <vector>

#include "hostio/sys/mem.h"
#include "ukernel/sched/fiber.h"

namespace uk {

class StackPool {
 public:
  // CHECKs that the host has memory: callers bound the number of fibers.
  sys::Mapping get();
  void put(sys::Mapping stack);

 private:
  static constexpr size_t kKeep = 64;
  std::vector<sys::Mapping> free_;
};

}  // namespace uk
