#include "ukernel/sched/vcpu.h"

#include <algorithm>
#include <array>

namespace uk {

namespace {

constexpr uint32_t kNice0Weight = 1024;
constexpr uint32_t kIdleWeight = 3;  // SCHED_IDLE, sched(7): less than nice 19
enum Rank { kRealTime = 0, kFair = 1, kIdleRank = 2 };

constexpr std::array<uint32_t, 40> make_weights() {
  std::array<uint32_t, 40> w{};
  for (int nice = -20; nice < 20; ++nice) {
    double x = kNice0Weight;
    for (int i = 0; i < nice; ++i) x /= 1.25;
    for (int i = 0; i > nice; --i) x *= 1.25;
    w[static_cast<size_t>(nice + 20)] = static_cast<uint32_t>(x + 0.5);
  }
  return w;
}
constexpr std::array<uint32_t, 40> kWeights = make_weights();

bool real_time(const SchedEntity& e) { return e.effective_rt() != 0; }

uint64_t weighted(const SchedEntity& e, uint64_t ns) {
  uint32_t w = e.sched_class == SchedClass::kIdle ? kIdleWeight : VcpuSet::weight(e.nice);
  return w == kNice0Weight ? ns : ns * kNice0Weight / w;
}

}  // namespace

uint32_t VcpuSet::weight(int nice) {
  return kWeights[static_cast<size_t>(std::clamp(nice, -20, 19) + 20)];
}

VcpuSet::VcpuSet(TimerQueue& timers, Clock& clock, int count)
    : clock_(clock),
      cpus_(static_cast<size_t>(count)),
      slice_(timers, [this] { on_slice(); }),
      dispatch_(timers, [this] { dispatch(); }) {
  CHECK(count >= 1 && count <= kMaxCpus);
}

VcpuSet::~VcpuSet() { CHECK(on_cpu_ == 0 && waiting_.empty()); }

bool VcpuSet::allowed(const SchedEntity& e, int cpu) const {
  uint64_t all = count() == 64 ? ~0ull : (1ull << count()) - 1;
  uint64_t mask = e.affinity & all;
  return ((mask != 0 ? mask : all) >> cpu) & 1;
}

// Takes a free vCPU, the last one if possible. Only when nobody waits.
bool VcpuSet::take_free(SchedEntity& e, uint64_t now_ns) {
  int cpu = e.cpu;
  if (cpus_[static_cast<size_t>(cpu)].current != nullptr || !allowed(e, cpu)) {
    for (cpu = 0; cpu < count(); ++cpu) {
      if (cpus_[static_cast<size_t>(cpu)].current == nullptr && allowed(e, cpu)) break;
    }
    if (cpu == count()) return false;
  }
  put_on(e, cpu, now_ns != 0 ? now_ns : clock_.monotonic_ns());
  return true;
}

void VcpuSet::put_on(SchedEntity& e, int cpu, uint64_t now) {
  Cpu& c = cpus_[static_cast<size_t>(cpu)];
  DCHECK(c.current == nullptr && !e.on_cpu);
  bool goes_on = c.last == &e && e.cpu == cpu && !e.resched_ && now < e.slice_end_ns_;
  if (!goes_on) e.slice_end_ns_ = now + kSliceNs;
  if (e.started_ && !e.resched_ && (c.last != &e || e.cpu != cpu)) ++e.voluntary_switches;
  e.started_ = true;
  e.resched_ = false;
  e.entered_ns_ = now;
  e.cpu = cpu;
  e.on_cpu = true;
  c.current = &e;
  c.last = &e;
  ++on_cpu_;
}

void VcpuSet::charge(SchedEntity& e, uint64_t ns) {
  e.run_ns += ns;
  e.vruntime += weighted(e, ns);
  cpus_[static_cast<size_t>(e.cpu)].busy_ns += ns;
}

uint64_t VcpuSet::leave(SchedEntity& e) {
  CHECK(e.on_cpu);
  uint64_t now = clock_.monotonic_ns();
  charge(e, now - e.entered_ns_);
  e.on_cpu = false;
  cpus_[static_cast<size_t>(e.cpu)].current = nullptr;
  --on_cpu_;
  // Others get the vCPU when this fiber has suspended, in the next turn; or it comes back first.
  if (!waiting_.empty() && !dispatch_.armed()) dispatch_.arm(Deadline{0});
  return now;
}

SchedEntity::Key VcpuSet::key_of(const SchedEntity& e, uint64_t now) const {
  if (real_time(e)) return {kRealTime, static_cast<uint64_t>(99 - e.effective_rt()), 0};
  uint64_t v = e.vruntime + (e.on_cpu ? weighted(e, now - e.entered_ns_) : 0);
  return {e.sched_class == SchedClass::kIdle ? kIdleRank : kFair, v, 0};
}

// Somebody waits, or no vCPU is free.
Result<> VcpuSet::compete(Park& park, SchedEntity& e) {
  uint64_t now = clock_.monotonic_ns();
  Cpu& mine = cpus_[static_cast<size_t>(e.cpu)];
  if (mine.last == &e && mine.current == nullptr && !e.resched_ && now < e.slice_end_ns_ &&
      allowed(e, e.cpu)) {
    put_on(e, e.cpu, now);  // still its slice
    arm_slice();
    return {};
  }
  settle(e, now);
  enqueue(e, park.fiber());
  dispatch();
  if (!e.on_cpu) preempt_for(e);
  park.fiber().set_wait_reason("runqueue");
  while (!e.on_cpu) {
    if (park.interrupted(WaitMode::kKillable)) {
      dequeue(e);
      park.fiber().set_wait_reason(nullptr);
      return Err(Errno::kRestartSys);
    }
    park.suspend();
  }
  park.fiber().set_wait_reason(nullptr);
  return {};
}

// Contention begins: what was used while nobody waited is forgotten, so those who run start as
// equals.
void VcpuSet::level(uint64_t now) {
  for (const Cpu& c : cpus_) {
    if (c.current != nullptr && !real_time(*c.current))
      min_vruntime_ = std::max(min_vruntime_, key_of(*c.current, now).value);
  }
  for (const Cpu& c : cpus_) {
    if (c.current != nullptr && !real_time(*c.current))
      c.current->vruntime += min_vruntime_ - key_of(*c.current, now).value;
  }
}

// Whoever slept, or is new, starts near the others instead of from its own past; a sleeper a little
// ahead.
void VcpuSet::settle(SchedEntity& e, uint64_t now) {
  if (waiting_.empty()) {
    level(now);
  } else {
    uint64_t lowest = UINT64_MAX;
    for (const Cpu& c : cpus_) {
      if (c.current != nullptr && !real_time(*c.current))
        lowest = std::min(lowest, key_of(*c.current, now).value);
    }
    auto first = waiting_.lower_bound(Key{kFair, 0, 0});
    if (first != waiting_.end()) lowest = std::min(lowest, first->first.value);
    if (lowest != UINT64_MAX) min_vruntime_ = std::max(min_vruntime_, lowest);
  }
  if (real_time(e)) return;
  uint64_t bonus = e.started_ && !e.resched_ ? kSliceNs / 2 : 0;
  e.vruntime = std::max(e.vruntime, min_vruntime_ - std::min(min_vruntime_, bonus));
}

void VcpuSet::enqueue(SchedEntity& e, Fiber& fiber) {
  e.key_ = key_of(e, 0);
  e.key_.order = next_order_++;
  // A preempted FIFO entity stays at the head of its priority (sched(7)).
  if (e.sched_class == SchedClass::kFifo && e.resched_) e.key_.order = 0;
  while (!waiting_.emplace(e.key_, &e).second) ++e.key_.order;
  e.waiting_ = &fiber;
}

void VcpuSet::dequeue(SchedEntity& e) {
  waiting_.erase(e.key_);
  e.waiting_ = nullptr;
}

// Gives free vCPUs to those who wait, the first in order first.
void VcpuSet::dispatch() {
  int free = count() - on_cpu_;
  if (free == 0) return arm_slice();
  uint64_t now = clock_.monotonic_ns();
  for (auto it = waiting_.begin(); it != waiting_.end() && free > 0;) {
    SchedEntity& e = *(it++)->second;
    int cpu = -1;
    for (int i = 0; i < count(); ++i) {
      if (cpus_[static_cast<size_t>(i)].current != nullptr || !allowed(e, i)) continue;
      if (cpu < 0 || i == e.cpu) cpu = i;
    }
    if (cpu < 0) continue;
    Fiber* fiber = e.waiting_;
    dequeue(e);
    put_on(e, cpu, now);
    fiber->wake();
    --free;
  }
  arm_slice();
}

// `e` has just begun to wait: kicks the running entity that it should replace at once, if there is
// one.
void VcpuSet::preempt_for(const SchedEntity& e) {
  uint64_t now = clock_.monotonic_ns();
  SchedEntity* victim = nullptr;
  Key worst = e.key_;
  worst.order = 0;
  if (worst.rank == kFair) worst.value += weighted(e, kWakeupGranularityNs);
  for (Cpu& c : cpus_) {
    if (c.current == nullptr || c.current->resched_ || !allowed(e, c.current->cpu)) continue;
    Key k = key_of(*c.current, now);
    if (k > worst) {
      worst = k;
      victim = c.current;
    }
  }
  if (victim == nullptr) return;
  victim->resched_ = true;
  ++victim->involuntary_switches;
  victim->kick_();
}

bool VcpuSet::should_yield(const SchedEntity& e) const {
  if (!allowed(e, e.cpu)) return true;
  if (waiting_.empty()) return false;
  if (e.resched_) return true;
  uint64_t now = clock_.monotonic_ns();
  Key mine = key_of(e, now);
  for (const auto& [key, other] : waiting_) {
    if (key.rank > mine.rank) return false;
    if (!allowed(*other, e.cpu)) continue;
    if (key.rank < mine.rank) return true;
    if (mine.rank == kRealTime) {
      if (key.value < mine.value) return true;
      // Round robin among equals at the end of the slice; FIFO runs on.
      return key.value == mine.value && e.sched_class == SchedClass::kRr && now >= e.slice_end_ns_;
    }
    return now >= e.slice_end_ns_ && key.value < mine.value;
  }
  return false;
}

void VcpuSet::priority_changed(SchedEntity& e) {
  if (Fiber* fiber = e.waiting_; fiber != nullptr) {
    dequeue(e);
    enqueue(e, *fiber);
    dispatch();
    if (!e.on_cpu) preempt_for(e);
  } else if (e.on_cpu && !e.resched_ && should_yield(e)) {
    e.resched_ = true;
    ++e.involuntary_switches;
    e.kick_();
  }
}

void VcpuSet::yield(SchedEntity& e) {
  e.slice_end_ns_ = 0;  // so it queues, at the tail of its priority
  auto first = waiting_.lower_bound(Key{kFair, 0, 0});
  if (!real_time(e) && first != waiting_.end() && first->first.rank == kFair)
    e.vruntime = std::max(e.vruntime, first->first.value + 1);
}

// Arms the slice timer for the earliest slice that ends while others wait; none when nobody waits.
void VcpuSet::arm_slice() {
  if (waiting_.empty()) return slice_.cancel();
  uint64_t earliest = UINT64_MAX;
  for (const Cpu& c : cpus_) {
    if (c.current != nullptr && !c.current->resched_)
      earliest = std::min(earliest, c.current->slice_end_ns_);
  }
  if (slice_.armed() && slice_.deadline().at_ns == earliest) return;
  slice_.arm(Deadline{earliest});
}

void VcpuSet::on_slice() {
  uint64_t now = clock_.monotonic_ns();
  for (Cpu& c : cpus_) {
    SchedEntity* e = c.current;
    if (e == nullptr || e->resched_ || now < e->slice_end_ns_) continue;
    if (should_yield(*e)) {
      e->resched_ = true;
      ++e->involuntary_switches;
      e->kick_();
    } else {
      e->slice_end_ns_ = now + kSliceNs;  // still the best: another slice
    }
  }
  arm_slice();
}

uint64_t VcpuSet::busy_ns(int cpu) const {
  CHECK(cpu >= 0 && cpu < count());
  const Cpu& c = cpus_[static_cast<size_t>(cpu)];
  return c.busy_ns + (c.current != nullptr ? clock_.monotonic_ns() - c.current->entered_ns_ : 0);
}

}  // namespace uk
