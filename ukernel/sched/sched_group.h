// Scheduling groups: sets of entities that share virtual CPU time as one (cgroups(7) cpu
// controller, sched(7) "The autogroup feature"). A group has a weight against its siblings, and may
// have a quota of time in each period, for all vCPUs together; groups nest.
//
// Weights are flattened: an entity in groups is charged as if its weight were its own share of its
// group's weight, that of its parent's, and so on, among those who are running or waiting at that
// moment. So groups need no run queue of their own, and who is in none pays nothing.
//
// Ownership: whoever made the group owns it (a cgroup, a session) and keeps its parent; entities
// point to it until VcpuSet::set_group() takes them out. Reactor-owned; nothing suspends.
#pragma once

#include <cstdint>

namespace uk {

class VcpuSet;

class SchedGroup {
 public:
  static constexpr uint64_t kUnlimited = UINT64_MAX;
  static constexpr uint32_t kDefaultWeight = 1024;

  // `parent` null: beside those who are in no group.
  SchedGroup(VcpuSet& set, SchedGroup* parent) : parent(parent), set_(set) {}
  ~SchedGroup();
  SchedGroup(const SchedGroup&) = delete;
  SchedGroup& operator=(const SchedGroup&) = delete;

  SchedGroup* const parent;

  struct Quota {  // fair entities may run so long in each period
    uint64_t run_ns = kUnlimited;
    uint64_t period_ns = 100'000'000;
    uint64_t burst_ns = 0;  // of what earlier periods left may be used later
  };
  const Quota& quota() const { return quota_; }
  void set_quota(const Quota& quota);  // a new period begins
  uint32_t weight() const { return weight_; }
  void set_weight(uint32_t weight);  // in the unit of VcpuSet::weight(), not 0

  // Accounts of the quota (cpu.stat).
  uint64_t periods = 0;            // that ended while there was a quota and it was used
  uint64_t throttled_periods = 0;  // of those, with the quota used up
  uint64_t throttled_ns = 0;

 private:
  friend class VcpuSet;
  VcpuSet& set_;
  Quota quota_;
  uint32_t weight_ = kDefaultWeight;
  uint64_t load_ = 0;     // weights of what is running or waiting in it: entities and groups
  uint32_t counted_ = 0;  // its own weight in the parent's load_
  // Of the current period; used while period_end_ns_ is not 0.
  uint64_t period_end_ns_ = 0;
  int64_t left_ns_ = 0;  // below 0: owed to the next period
  bool used_ = false;
  bool throttled_ = false;
  uint64_t throttled_since_ns_ = 0;
};

}  // namespace uk
