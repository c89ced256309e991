// Memory policies (set_mempolicy(2), mbind(2)). There is one node, so a policy decides nothing; it
// is kept for the task or the mapping it was set for, inherited and reported as Linux does.
//
// A policy is immutable and shared. What guests ask for is checked before one is made.
#pragma once

#include <cstdint>

#include "base/ref.h"

namespace uk {

class MemPolicy final : public RefCounted {
 public:
  MemPolicy(uint32_t mode, uint32_t flags, bool node) : mode(mode), flags(flags), node(node) {}
  const uint32_t mode;   // MPOL_*
  const uint32_t flags;  // MPOL_F_STATIC_NODES, ...
  const bool node;       // node 0 is in its mask
  bool operator==(const MemPolicy& o) const {
    return mode == o.mode && flags == o.flags && node == o.node;
  }
};

inline bool same_policy(const MemPolicy* a, const MemPolicy* b) {
  return a == b || (a != nullptr && b != nullptr && *a == *b);
}

}  // namespace uk
