// The memory controller of control groups (cgroups(7), cgroup-v2 "Memory"): which group pays for a
// frame of guest memory, and what happens at a group's limit.
//
// A frame is paid for by the group of the task that was running when it was given out: anonymous
// memory, tmpfs, shared memory and the page cache alike; the bill does not follow the task to other
// groups. When the group ends, its parent goes on paying. At a limit caches are reclaimed, and then
// the OOM killer looks for a victim in the group. Above memory.high who takes more is held up on
// its way to user mode, the longer the further above. memory.low and memory.min are kept and
// protect nothing: reclaim knows no groups.
//
// Ownership: Cgroups owns the MemoryGroups, a Cgroup its MemoryGroup; frames name their owner by a
// number. Reactor-owned; only heed_memory_high() suspends.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "ukernel/mm/frame_owners.h"

namespace uk {

class Kernel;
class MemoryGroups;
class Task;

class MemoryGroup {
 public:
  static constexpr uint64_t kUnlimited = UINT64_MAX;

  ~MemoryGroup();
  MemoryGroup(const MemoryGroup&) = delete;
  MemoryGroup& operator=(const MemoryGroup&) = delete;

  MemoryGroup* const parent;              // null: below the root
  uint64_t pages = 0, peak = 0;           // of this group and those below
  uint64_t max_pages = kUnlimited;        // memory.max
  uint64_t high_pages = kUnlimited;       // memory.high
  uint64_t low_pages = 0, min_pages = 0;  // memory.low, memory.min
  bool oom_group = false;                 // memory.oom.group
  struct Events {                         // memory.events, memory.events.local
    uint64_t high = 0, max = 0, oom = 0, oom_kill = 0, oom_group_kill = 0;
  } events, local;  // events: those below included

 private:
  friend class MemoryGroups;
  MemoryGroup(MemoryGroups& all, MemoryGroup* parent, uint16_t number)
      : parent(parent), all_(all), number_(number) {}
  MemoryGroups& all_;
  const uint16_t number_;
};

class MemoryGroups final : public FrameOwners {
 public:
  explicit MemoryGroups(Kernel& kernel);
  ~MemoryGroups();

  // Null: there are no numbers left, as frames still name groups that have ended.
  std::unique_ptr<MemoryGroup> make(MemoryGroup* parent);

  Grant charge(uint32_t frames) override;
  void uncharge(uint16_t owner, uint32_t frames) override;
  // Frames that a thread took above memory.high since it was last asked.
  uint32_t take_above_high(int tid);

 private:
  friend class MemoryGroup;
  struct Slot {
    MemoryGroup* group = nullptr;  // who pays; null: nobody any more
    uint64_t frames = 0;           // that name this number
    bool used = false;             // a group has it, or frames do
  };
  void end(MemoryGroup& group);
  Kernel& kernel_;
  std::vector<Slot> slots_;                       // by number; 0 is nobody
  std::unordered_map<int, uint32_t> above_high_;  // frames by who took them, till it is asked
};

// On a thread's way to user mode: if it has taken memory above memory.high, caches are reclaimed,
// and it waits up to two seconds for others to give some back. Suspends, killably.
void heed_memory_high(Task& task);
// Caches are reclaimed until the group is down to `pages` or there are none.
void reclaim_to(Kernel& kernel, const MemoryGroup& group, uint64_t pages);

}  // namespace uk
