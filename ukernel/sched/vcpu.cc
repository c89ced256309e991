#include "ukernel/sched/vcpu.h"

#include <algorithm>
#include <array>
#include <utility>

namespace uk {

namespace {

enum Rank { kRealTime = 0, kFair = 1, kIdleRank = 2, kSpent = 3 };  // kSpent: see rt_spent()

constexpr std::array<uint32_t, 40> make_weights() {
  std::array<uint32_t, 40> w{};
  for (int nice = -20; nice < 20; ++nice) {
    double x = SchedGroup::kDefaultWeight;
    for (int i = 0; i < nice; ++i) x /= 1.25;
    for (int i = 0; i > nice; --i) x *= 1.25;
    w[static_cast<size_t>(nice + 20)] = static_cast<uint32_t>(x + 0.5);
  }
  return w;
}
constexpr std::array<uint32_t, 40> kWeights = make_weights();

bool is_rt(const SchedEntity& e) { return e.effective_rt() != 0; }

}  // namespace

uint32_t VcpuSet::weight(int nice) {
  return kWeights[static_cast<size_t>(std::clamp(nice, -20, 19) + 20)];
}

VcpuSet::VcpuSet(TimerQueue& timers, Clock& clock, int count)
    : clock_(clock),
      cpus_(static_cast<size_t>(count)),
      slice_(timers, [this] { on_slice(); }),
      dispatch_(timers, [this] { dispatch(); }),
      quota_(timers, [this] { on_quota(); }) {
  CHECK(count >= 1 && count <= kMaxCpus);
}

VcpuSet::~VcpuSet() { CHECK(on_cpu_ == 0 && waiting_.empty() && put_aside_.empty()); }

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
  if (!goes_on) e.slice_end_ns_ = now + slice_of(e);
  if (e.started_ && !e.resched_ && (c.last != &e || e.cpu != cpu)) ++e.voluntary_switches;
  e.started_ = true;
  e.resched_ = false;
  e.entered_ns_ = now;
  e.cpu = cpu;
  e.on_cpu = true;
  c.current = &e;
  c.last = &e;
  c.rt_since_ns = now;
  ++on_cpu_;
  if (e.group_ != nullptr) watch_quotas(e, now);
}

uint64_t VcpuSet::slice_of(const SchedEntity& e) const {
  return e.sched_class == SchedClass::kRr ? real_time.rr_slice_ns : kSliceNs;
}

// What real-time entities used of the period that `now` is in. Periods are those of the clock.
uint64_t VcpuSet::rt_used(const Cpu& c, uint64_t now) const {
  const uint64_t period = now - now % real_time.period_ns;
  uint64_t used = c.rt_period_ns == period ? c.rt_used_ns : 0;
  if (c.current != nullptr && is_rt(*c.current))
    used += now - std::min(now, std::max(c.rt_since_ns, period));
  return used;
}

// What waits and is fair goes before real-time entities on this vCPU.
bool VcpuSet::rt_spent(const Cpu& c, uint64_t now) const {
  const bool used = c.rt_used_ns != 0 || (c.current != nullptr && is_rt(*c.current));
  return used && rt_limited() && rt_used(c, now) >= real_time.runtime_ns;
}

// When rt_spent() will be another, if the vCPU's entity stays; never, if that is fair.
uint64_t VcpuSet::rt_turn_ns(const Cpu& c, uint64_t now) const {
  if (rt_spent(c, now)) return now - now % real_time.period_ns + real_time.period_ns;
  if (!rt_limited() || c.current == nullptr || !is_rt(*c.current)) return UINT64_MAX;
  return now + (real_time.runtime_ns - rt_used(c, now));
}

// The place of a key in the order of a vCPU.
VcpuSet::Key VcpuSet::key_here(Key key, bool rt_spent) const {
  if (rt_spent && key.rank == kRealTime) key.rank = kSpent;
  return key;
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
  if (is_rt(e)) [[unlikely]] {
    Cpu& c = cpus_[static_cast<size_t>(e.cpu)];
    c.rt_used_ns = rt_used(c, now);
    c.rt_period_ns = now - now % real_time.period_ns;
  }
  if (e.group_ != nullptr) {
    charge_groups(e, now);
    count_out(e);
  }
  e.on_cpu = false;
  cpus_[static_cast<size_t>(e.cpu)].current = nullptr;
  --on_cpu_;
  // Others get the vCPU when this fiber has suspended, in the next turn; or it comes back first.
  if (!waiting_.empty() && !dispatch_.armed()) dispatch_.arm(Deadline{0});
  return now;
}

SchedEntity::Key VcpuSet::key_of(const SchedEntity& e, uint64_t now) const {
  if (is_rt(e)) return {kRealTime, static_cast<uint64_t>(99 - e.effective_rt()), 0};
  uint64_t v = e.vruntime + (e.on_cpu ? weighted(e, now - e.entered_ns_) : 0);
  return {e.sched_class == SchedClass::kIdle ? kIdleRank : kFair, v, 0};
}

// Somebody waits, or no vCPU is free, or the entity's groups have a say.
Result<> VcpuSet::compete(Park& park, SchedEntity& e) {
  uint64_t now = clock_.monotonic_ns();
  if (e.group_ != nullptr) count_in(e);
  if (limited(e)) {
    put_aside(e, park.fiber());
  } else {
    if (waiting_.empty() && take_free(e, now)) return {};
    Cpu& mine = cpus_[static_cast<size_t>(e.cpu)];
    const bool spent = is_rt(e) && rt_spent(mine, now);
    if (mine.last == &e && mine.current == nullptr && !e.resched_ && now < e.slice_end_ns_ &&
        !spent && allowed(e, e.cpu)) {
      put_on(e, e.cpu, now);  // still its slice
      arm_slice();
      return {};
    }
    settle(e, now);
    enqueue(e, park.fiber());
    dispatch();
    if (!e.on_cpu) preempt_for(e);
  }
  park.fiber().set_wait_reason("runqueue");
  while (!e.on_cpu) {
    if (park.interrupted(WaitMode::kKillable)) {
      dequeue(e);
      if (e.group_ != nullptr) count_out(e);
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
    if (c.current != nullptr && !is_rt(*c.current))
      min_vruntime_ = std::max(min_vruntime_, key_of(*c.current, now).value);
  }
  for (const Cpu& c : cpus_) {
    if (c.current != nullptr && !is_rt(*c.current))
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
      if (c.current != nullptr && !is_rt(*c.current))
        lowest = std::min(lowest, key_of(*c.current, now).value);
    }
    auto first = waiting_.lower_bound(Key{kFair, 0, 0});
    if (first != waiting_.end()) lowest = std::min(lowest, first->first.value);
    if (lowest != UINT64_MAX) min_vruntime_ = std::max(min_vruntime_, lowest);
  }
  if (is_rt(e)) return;
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
  if (e.put_aside_) {
    std::erase(put_aside_, &e);
    e.put_aside_ = false;
  } else {
    waiting_.erase(e.key_);
  }
  e.waiting_ = nullptr;
}

// Gives free vCPUs to those who wait, the first in order first. Where real-time entities have spent
// their share they come after all others.
void VcpuSet::dispatch() {
  int free = count() - on_cpu_;
  if (free == 0) return arm_slice();
  uint64_t now = clock_.monotonic_ns();
  bool again = false, last = false;
  do {
    last = std::exchange(again, false);
    for (auto it = waiting_.begin(); it != waiting_.end() && free > 0;) {
      SchedEntity& e = *(it++)->second;
      int cpu = -1;
      for (int i = 0; i < count(); ++i) {
        const Cpu& c = cpus_[static_cast<size_t>(i)];
        if (c.current != nullptr || !allowed(e, i)) continue;
        if (!last && e.key_.rank == kRealTime && rt_spent(c, now)) {
          again = true;
        } else if (cpu < 0 || i == e.cpu) {
          cpu = i;
        }
      }
      if (cpu < 0) continue;
      Fiber* fiber = e.waiting_;
      dequeue(e);
      put_on(e, cpu, now);
      fiber->wake();
      --free;
    }
  } while (again && !last);
  arm_slice();
}

// `e` has just begun to wait: kicks the running entity that it should replace at once, if there is
// one.
void VcpuSet::preempt_for(const SchedEntity& e) {
  uint64_t now = clock_.monotonic_ns();
  SchedEntity* victim = nullptr;
  Key worst;
  for (Cpu& c : cpus_) {
    if (c.current == nullptr || c.current->resched_ || !allowed(e, c.current->cpu)) continue;
    const bool spent = rt_spent(c, now);
    Key mine = key_here(e.key_, spent), theirs = key_here(key_of(*c.current, now), spent);
    mine.order = 0;
    if (mine.rank == kFair) mine.value += weighted(e, kWakeupGranularityNs);
    if (theirs > mine && (victim == nullptr || theirs > worst)) {
      worst = theirs;
      victim = c.current;
    }
  }
  if (victim != nullptr) preempt(*victim);
}

void VcpuSet::preempt(SchedEntity& e) {
  e.resched_ = true;
  ++e.involuntary_switches;
  e.kick_();
}

bool VcpuSet::should_yield(const SchedEntity& e) const {
  if (!allowed(e, e.cpu) || limited(e)) return true;
  if (waiting_.empty()) return false;
  if (e.resched_) return true;
  uint64_t now = clock_.monotonic_ns();
  const bool spent = rt_spent(cpus_[static_cast<size_t>(e.cpu)], now);
  const Key mine = key_here(key_of(e, now), spent);
  const bool slice_over = now >= e.slice_end_ns_;
  for (const auto& [waiting, other] : waiting_) {
    const Key key = key_here(waiting, spent);
    if (!allowed(*other, e.cpu)) continue;
    if (key.rank < mine.rank) return true;
    if (key.rank > mine.rank) {
      if (key.rank == kSpent) continue;  // others follow that are fair
      return false;
    }
    if (!is_rt(e)) return slice_over && key.value < mine.value;
    if (key.value < mine.value) return true;
    // Round robin among equals at the end of the slice; FIFO runs on.
    if (key.value == mine.value && e.sched_class == SchedClass::kRr && slice_over) return true;
    if (!spent) return false;
  }
  return false;
}

void VcpuSet::priority_changed(SchedEntity& e) {
  if (e.waiting_ != nullptr) {
    queue_again(e);
  } else if (e.on_cpu && !e.resched_ && should_yield(e)) {
    preempt(e);
  }
}

// A waiting entity is another than when it came: finds its place anew.
void VcpuSet::queue_again(SchedEntity& e) {
  Fiber& fiber = *e.waiting_;
  dequeue(e);
  if (limited(e)) return put_aside(e, fiber);
  enqueue(e, fiber);
  dispatch();
  if (!e.on_cpu) preempt_for(e);
}

void VcpuSet::yield(SchedEntity& e) {
  e.slice_end_ns_ = 0;  // so it queues, at the tail of its priority
  auto first = waiting_.lower_bound(Key{kFair, 0, 0});
  if (!is_rt(e) && first != waiting_.end() && first->first.rank == kFair)
    e.vruntime = std::max(e.vruntime, first->first.value + 1);
}

// Arms the slice timer for the earliest slice that ends while others wait; none when nobody waits.
void VcpuSet::arm_slice() {
  if (waiting_.empty()) return slice_.cancel();
  uint64_t earliest = UINT64_MAX;
  for (const Cpu& c : cpus_) {
    if (c.current == nullptr || c.current->resched_) continue;
    earliest = std::min(earliest, c.current->slice_end_ns_);
    if (c.rt_used_ns != 0 || is_rt(*c.current))
      earliest = std::min(earliest, rt_turn_ns(c, clock_.monotonic_ns()));
  }
  if (slice_.armed() && slice_.deadline().at_ns == earliest) return;
  slice_.arm(Deadline{earliest});
}

void VcpuSet::on_slice() {
  uint64_t now = clock_.monotonic_ns();
  for (Cpu& c : cpus_) {
    SchedEntity* e = c.current;
    if (e == nullptr || e->resched_) continue;
    const bool over = now >= e->slice_end_ns_;
    if (!over && c.rt_used_ns == 0 && !is_rt(*e)) continue;
    if (should_yield(*e)) {
      preempt(*e);
    } else if (over) {
      e->slice_end_ns_ = now + slice_of(*e);  // still the best: another slice
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
