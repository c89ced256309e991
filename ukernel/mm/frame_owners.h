// Accounting of frames by groups of tasks (cgroups(7), the memory controller): each frame belongs
// to whoever was running when it was given out, until its last reference goes. Implemented above
// mm; PhysMemory keeps the owner of each frame. Nothing suspends.
#pragma once

#include <cstdint>

namespace uk {

class FrameOwners {
 public:
  static constexpr uint16_t kNobody = 0;  // what the instance has without an owner; not told about
  struct Grant {
    uint16_t owner;
    uint32_t frames;  // of those asked for; 0: the owner is at its limit
  };
  virtual Grant charge(uint32_t frames) = 0;
  virtual void uncharge(uint16_t owner, uint32_t frames) = 0;

 protected:
  ~FrameOwners() = default;
};

}  // namespace uk
