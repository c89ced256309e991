// Virtual CPUs: who may run guest code now. A task holds a vCPU only while in user mode. Each vCPU
// takes the entity with the least weighted run time (fair classes, nice) or the highest real-time
// priority; an entity that runs over its slice while another waits is preempted through its kick.
// Affinity is a mask over vCPUs.
//
// Ownership: the Kernel owns the VcpuSet; entities are owned by their tasks. enter() may suspend.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/list.h"
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

class SchedEntity : public ListNode<> {
 public:
  explicit SchedEntity(std::function<void()> kick) : kick_(std::move(kick)) {}
  ~SchedEntity();

  int nice = 0;  // -20..19
  SchedClass sched_class = SchedClass::kOther;
  int rt_priority = 0;        // 1..99 for kFifo, kRr
  uint64_t affinity = ~0ull;  // bit per vCPU
  uint64_t run_ns = 0;        // time in user mode, total
  uint64_t vruntime = 0;      // weighted; internal
  uint64_t voluntary_switches = 0;
  uint64_t involuntary_switches = 0;
  int cpu = 0;  // vCPU it is on, or was last on
  bool on_cpu = false;

 private:
  friend class VcpuSet;
  std::function<void()> kick_;  // asks the platform to bring the context back; must not suspend
  class Fiber* waiting_ = nullptr;
  uint64_t entered_ns_ = 0;
  class VcpuSet* set_ = nullptr;
};

class VcpuSet {
 public:
  VcpuSet(TimerQueue& timers, Clock& clock, int count);
  ~VcpuSet();

  // Takes a vCPU for `e`, waiting for its turn. Not interruptible by signals except fatal ones
  // (kRestartSys): the caller then looks at its signals again.
  Result<> enter(Park& park, SchedEntity& e);
  // Gives it back and accounts the time.
  void leave(SchedEntity& e);
  // True if another entity waits that should run before `e` (then the run loop leaves and enters
  // again).
  bool should_yield(const SchedEntity& e) const;
  int count() const { return static_cast<int>(cpus_.size()); }
  // Entities on or waiting for a vCPU (load average, /proc/stat).
  int runnable() const;
  uint64_t busy_ns(int cpu) const;

 private:
  struct Cpu;
  struct Queue;
  void dispatch();
  void arm_slice();
  TimerQueue& timers_;
  Clock& clock_;
  std::vector<std::unique_ptr<Cpu>> cpus_;
  std::unique_ptr<Queue> queue_;
};

}  // namespace uk
