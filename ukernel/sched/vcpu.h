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
// No timer is armed while nobody waits, except for groups with a quota (sched_group.h).
//
// Real-time entities are kept from starving the others: once they have used up their share of a
// vCPU's period (sched(7), sched_rt_runtime_us), what is fair and waits goes before them there
// until the next period. While nobody else wants the vCPU they go on, as with Linux's fair server.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "base/check.h"
#include "base/result.h"
#include "ukernel/sched/fiber.h"
#include "ukernel/sched/sched_group.h"
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
  // Changed by VcpuSet::set_group(); null: none.
  SchedGroup* group() const { return group_; }
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
  // On a vCPU, but to give it back at once: its kick may have come before it went to user mode.
  bool preempted() const { return resched_; }
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
  SchedGroup* group_ = nullptr;
  uint64_t group_since_ns_ = 0;  // on a vCPU: its groups have been charged up to here
  uint32_t counted_ = 0;         // its weight in its group's load; 0: neither running nor waiting
  bool put_aside_ = false;       // waits for a group's next period, not in the run queue
  bool started_ = false;
  bool resched_ = false;  // preempted: must compete at its next enter()
};

class VcpuSet {
 public:
  static constexpr uint64_t kSliceNs = 4'000'000;
  // A waking entity preempts one whose vruntime is larger by more than this.
  static constexpr uint64_t kWakeupGranularityNs = 1'000'000;
  static constexpr int kMaxCpus = 64;
  // Quotas are looked at no more often.
  static constexpr uint64_t kQuotaSlackNs = 100'000;

  VcpuSet(TimerQueue& timers, Clock& clock, int count);
  ~VcpuSet();

  // Takes a vCPU for `e`, waiting for its turn. Not interruptible by signals except fatal ones
  // (kRestartSys): the caller then looks at its signals again. `now_ns`: the time, not long ago; 0:
  // the clock is read.
  Result<> enter(Park& park, SchedEntity& e, uint64_t now_ns = 0) {
    if (waiting_.empty() && e.group_ == nullptr && take_free(e, now_ns)) [[likely]]
      return {};
    return compete(park, e);
  }
  // Since when its time on the vCPU counts, if that is later than enter().
  void begins(SchedEntity& e, uint64_t now_ns) { e.entered_ns_ = e.group_since_ns_ = now_ns; }
  // Gives it back and accounts the time. The task may enter again or suspend. Returns the time.
  uint64_t leave(SchedEntity& e);
  // True if another entity waits that should run before `e`, which is on a vCPU, or if it may not
  // stay there (then the run loop leaves and enters again).
  bool should_yield(const SchedEntity& e) const;
  // sched_yield(2), called after leave(): at its next enter() others that wait go first.
  void yield(SchedEntity& e);
  // The entity's lent_rt has changed: where it waits, and whether it goes on, follow at once.
  void priority_changed(SchedEntity& e);
  // Moves the entity, which may be running or waiting, to another group (null: none).
  void set_group(SchedEntity& e, SchedGroup* group);

  struct RealTime {  // sched(7)
    uint64_t period_ns = kNsPerSec;
    uint64_t runtime_ns = kNsPerSec / 100 * 95;  // of each period; not less than it: no limit
    uint64_t rr_slice_ns = 100'000'000;          // of SCHED_RR
  };
  RealTime real_time;  // may be changed at any time; the period is not 0

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
    // What real-time entities used of the period that began then, up to rt_since_ns.
    uint64_t rt_period_ns = 0, rt_used_ns = 0, rt_since_ns = 0;
  };
  friend class SchedGroup;
  bool allowed(const SchedEntity& e, int cpu) const;
  bool take_free(SchedEntity& e, uint64_t now_ns);
  Result<> compete(Park& park, SchedEntity& e);
  void put_on(SchedEntity& e, int cpu, uint64_t now);
  uint64_t slice_of(const SchedEntity& e) const;
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
  void preempt(SchedEntity& e);
  // Real-time limits.
  bool rt_limited() const { return real_time.runtime_ns < real_time.period_ns; }
  uint64_t rt_used(const Cpu& c, uint64_t now) const;
  bool rt_spent(const Cpu& c, uint64_t now) const;
  uint64_t rt_turn_ns(const Cpu& c, uint64_t now) const;
  Key key_here(Key key, bool rt_spent) const;
  // Groups (sched_group.cc).
  static double shared_weight(const SchedEntity& e);
  static uint64_t weighted(const SchedEntity& e, uint64_t ns);
  static bool limited(const SchedEntity& e);
  void count_in(SchedEntity& e);
  void count_out(SchedEntity& e);
  void charge_groups(SchedEntity& e, uint64_t now);
  void charge_running(uint64_t now);
  void begin_period(SchedGroup& g, uint64_t now);
  void watch_quotas(SchedEntity& e, uint64_t now);
  void throttle(SchedGroup& g, uint64_t now);
  void unthrottle(SchedGroup& g, uint64_t now);
  bool refill(SchedGroup& g, uint64_t now);
  void on_quota();
  void forget(SchedGroup& g);
  void put_aside(SchedEntity& e, Fiber& fiber);
  void queue_again(SchedEntity& e);

  Clock& clock_;
  std::vector<Cpu> cpus_;
  std::map<Key, SchedEntity*> waiting_;  // the run queue
  uint64_t next_order_ = 1ull << 32;     // below: places at the head
  uint64_t min_vruntime_ = 0;
  int on_cpu_ = 0;
  Timer slice_;     // the earliest end of a slice somebody waits for
  Timer dispatch_;  // "now": gives away what was left by fibers that did not come back
  std::vector<SchedGroup*> limited_;     // with a quota, some of it used in this period
  std::vector<SchedEntity*> put_aside_;  // whose group has none left
  Timer quota_;                          // something is due for limited_
};

}  // namespace uk
