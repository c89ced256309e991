// Virtual CPUs: who may run guest code now. A task holds a vCPU only while in user mode. Each vCPU
// takes the entity with the least weighted run time (fair classes, nice) or the highest real-time
// priority; an entity that runs over its slice while another waits is preempted through its kick.
// Affinity is a mask over vCPUs.
//
// A vCPU left for a system call is kept for its last entity until that fiber suspends: coming back
// within its slice it goes on without queueing, as it would under Linux, where the call runs on the
// same CPU.
//
// Ownership: the Kernel owns the VcpuSet; entities are owned by their tasks. enter() may suspend.
// No timer is armed while nobody waits. Real-time entities are not throttled: they may starve the
// others (sched_rt_runtime_us = -1).
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "base/check.h"
#include "base/result.h"
#include "ukernel/sched/fiber.h"
#include "ukernel/sched/timer.h"

namespace uk {

enum class SchedClass : uint8_t {
  kOther = 0,
  kFifo = 1,
  kRr = 2,
  kBatch = 3,
  kIdle = 5
};  // sched(7) numbers

class SchedEntity {
 public:
  explicit SchedEntity(std::function<void()> kick) : kick_(std::move(kick)) {}
  ~SchedEntity() { CHECK(!on_cpu && waiting_ == nullptr); }
  SchedEntity(const SchedEntity&) = delete;
  SchedEntity& operator=(const SchedEntity&) = delete;

  // Parameters. A change takes effect when the entity next enters; kick it to make that soon.
  int nice = 0;  // -20..19
  SchedClass sched_class = SchedClass::kOther;
  int rt_priority = 0;        // 1..99 for kFifo, kRr
  int lent_rt = 0;            // by who waits for what it owns; 0: none
  uint64_t affinity = ~0ull;  // bit per vCPU; if it names no vCPU there is, it counts as all
  // Accounts.
  uint64_t run_ns = 0;    // time in user mode, total, as of the last leave()
  uint64_t vruntime = 0;  // weighted; internal
  uint64_t voluntary_switches =
      0;  // another ran on the vCPU, or it moved, while this one was away by itself
  uint64_t involuntary_switches = 0;  // preempted
  int cpu = 0;                        // vCPU it is on, or was last on
  bool on_cpu = false;
  // The real-time priority it runs with, 0 for none.
  int effective_rt() const {
    const bool own = sched_class == SchedClass::kFifo || sched_class == SchedClass::kRr;
    return std::max(own ? rt_priority : 0, lent_rt);
  }
  // When it last got a vCPU.
  uint64_t entered_ns() const { return entered_ns_; }

 private:
  friend class VcpuSet;
  // Order among the waiting: class (0 real-time, 1 fair, 2 idle), then priority or vruntime, then
  // arrival.
  struct Key {
    int rank = 0;
    uint64_t value = 0;
    uint64_t order = 0;
    auto operator<=>(const Key&) const = default;
  };
  std::function<void()> kick_;  // asks the platform to bring the context back; must not suspend
  Fiber* waiting_ = nullptr;    // in the run queue
  Key key_;                     // its place there
  uint64_t entered_ns_ = 0;
  uint64_t slice_end_ns_ = 0;
  bool started_ = false;
  bool resched_ = false;  // preempted: must compete at its next enter()
};

class VcpuSet {
 public:
  static constexpr uint64_t kSliceNs = 4'000'000;
  // A waking entity preempts one whose vruntime is larger by more than this.
  static constexpr uint64_t kWakeupGranularityNs = 1'000'000;
  static constexpr int kMaxCpus = 64;

  VcpuSet(TimerQueue& timers, Clock& clock, int count);
  ~VcpuSet();

  // Takes a vCPU for `e`, waiting for its turn. Not interruptible by signals except fatal ones
  // (kRestartSys): the caller then looks at its signals again. `now_ns`: the time, not long ago; 0:
  // the clock is read.
  Result<> enter(Park& park, SchedEntity& e, uint64_t now_ns = 0) {
    if (waiting_.empty() && take_free(e, now_ns)) [[likely]]
      return {};
    return compete(park, e);
  }
  // Since when its time on the vCPU counts, if that is later than enter().
  void begins(SchedEntity& e, uint64_t now_ns) { e.entered_ns_ = now_ns; }
  // Gives it back and accounts the time. The task may enter again or suspend. Returns the time.
  uint64_t leave(SchedEntity& e);
  // True if another entity waits that should run before `e`, which is on a vCPU, or if it may not
  // stay there (then the run loop leaves and enters again).
  bool should_yield(const SchedEntity& e) const;
  // sched_yield(2), called after leave(): at its next enter() others that wait go first.
  void yield(SchedEntity& e);
  // The entity's lent_rt has changed: where it waits, and whether it goes on, follow at once.
  void priority_changed(SchedEntity& e);
  int count() const { return static_cast<int>(cpus_.size()); }
  // Entities on or waiting for a vCPU (load average, /proc/stat).
  int runnable() const { return on_cpu_ + static_cast<int>(waiting_.size()); }
  // Time in user mode on that vCPU.
  uint64_t busy_ns(int cpu) const;

  // Linux's weight of a nice value: 1024 / 1.25^nice, rounded.
  static uint32_t weight(int nice);

 private:
  using Key = SchedEntity::Key;
  struct Cpu {
    SchedEntity* current = nullptr;     // in user mode on it
    const SchedEntity* last = nullptr;  // who left it; only compared, it may be gone
    uint64_t busy_ns = 0;
  };
  bool allowed(const SchedEntity& e, int cpu) const;
  bool take_free(SchedEntity& e, uint64_t now_ns);
  Result<> compete(Park& park, SchedEntity& e);
  void put_on(SchedEntity& e, int cpu, uint64_t now);
  void enqueue(SchedEntity& e, Fiber& fiber);
  void dequeue(SchedEntity& e);
  void dispatch();
  void preempt_for(const SchedEntity& waiting);
  void arm_slice();
  void on_slice();
  Key key_of(const SchedEntity& e, uint64_t now) const;
  void level(uint64_t now);
  void settle(SchedEntity& e, uint64_t now);
  void charge(SchedEntity& e, uint64_t ns);

  Clock& clock_;
  std::vector<Cpu> cpus_;
  std::map<Key, SchedEntity*> waiting_;  // the run queue
  uint64_t next_order_ = 1ull << 32;     // below: places at the head
  uint64_t min_vruntime_ = 0;
  int on_cpu_ = 0;
  Timer slice_;     // the earliest end of a slice somebody waits for
  Timer dispatch_;  // "now": gives away what was left by fibers that did not come back
};

}  // namespace uk
