// Groups of the VcpuSet: who shares with whom, and quotas.
#include "ukernel/sched/sched_group.h"

#include <algorithm>

#include "ukernel/sched/vcpu.h"

namespace uk {
namespace {

constexpr uint32_t kIdleWeight = 3;  // SCHED_IDLE, sched(7): less than nice 19

uint32_t own_weight(const SchedEntity& e) {
  return e.sched_class == SchedClass::kIdle ? kIdleWeight : VcpuSet::weight(e.nice);
}

bool has_quota(const SchedGroup& g) { return g.quota().run_ns != SchedGroup::kUnlimited; }

bool is_within(const SchedGroup* g, const SchedGroup& top) {
  for (; g != nullptr; g = g->parent)
    if (g == &top) return true;
  return false;
}

}  // namespace

SchedGroup::~SchedGroup() { set_.forget(*this); }

void SchedGroup::set_weight(uint32_t weight) {
  CHECK(weight != 0);
  weight_ = weight;
  if (load_ == 0) return;
  if (parent != nullptr) parent->load_ += uint64_t{weight_} - counted_;
  counted_ = weight_;
}

void SchedGroup::set_quota(const Quota& quota) {
  const uint64_t now = set_.clock_.monotonic_ns();
  set_.charge_running(now);
  quota_ = quota;
  left_ns_ = static_cast<int64_t>(std::min<uint64_t>(quota.run_ns, INT64_MAX));
  if (period_end_ns_ != 0) period_end_ns_ = now + quota_.period_ns;
  if (throttled_) set_.unthrottle(*this, now);
  if (!has_quota(*this)) {
    std::erase(set_.limited_, this);
    period_end_ns_ = 0;
    return;
  }
  for (const VcpuSet::Cpu& c : set_.cpus_)
    if (c.current != nullptr && is_within(c.current->group(), *this))
      set_.watch_quotas(*c.current, now);
}

// The entity's weight as if it were in no group; see sched_group.h.
double VcpuSet::shared_weight(const SchedEntity& e) {
  uint64_t part = own_weight(e);
  double weight = static_cast<double>(part);
  for (const SchedGroup* g = e.group_; g != nullptr; g = g->parent) {
    weight *= static_cast<double>(g->weight_) / static_cast<double>(std::max(g->load_, part));
    part = g->weight_;
  }
  return weight;
}

// Time as it counts for the order of the fair: less for who has more weight.
uint64_t VcpuSet::weighted(const SchedEntity& e, uint64_t ns) {
  constexpr uint64_t kUnit = SchedGroup::kDefaultWeight;
  if (e.group_ != nullptr)
    return static_cast<uint64_t>(static_cast<double>(ns * kUnit) / shared_weight(e));
  const uint64_t w = own_weight(e);
  return w == kUnit ? ns : ns * kUnit / w;
}

// Some group that it is in has used up its quota. Real-time entities have limits of their own.
bool VcpuSet::limited(const SchedEntity& e) {
  if (e.group_ == nullptr || e.effective_rt() != 0) return false;
  for (const SchedGroup* g = e.group_; g != nullptr; g = g->parent)
    if (g->throttled_) return true;
  return false;
}

void VcpuSet::count_in(SchedEntity& e) {
  DCHECK(e.counted_ == 0);
  uint64_t part = e.counted_ = own_weight(e);
  for (SchedGroup* g = e.group_; g != nullptr; g = g->parent) {
    const bool was_idle = g->load_ == 0;
    g->load_ += part;
    if (!was_idle) return;
    part = g->counted_ = g->weight_;
  }
}

void VcpuSet::count_out(SchedEntity& e) {
  uint64_t part = std::exchange(e.counted_, 0);
  for (SchedGroup* g = e.group_; g != nullptr && part != 0; g = g->parent) {
    g->load_ -= part;
    if (g->load_ != 0) return;
    part = std::exchange(g->counted_, 0);
  }
}

// The entity is on a vCPU: its groups pay for the time since they last did.
void VcpuSet::charge_groups(SchedEntity& e, uint64_t now) {
  const uint64_t ns = now - std::min(now, e.group_since_ns_);
  e.group_since_ns_ = now;
  if (e.effective_rt() != 0) return;
  for (SchedGroup* g = e.group_; g != nullptr; g = g->parent) {
    if (!has_quota(*g)) continue;
    g->left_ns_ -= static_cast<int64_t>(ns);
    g->used_ = true;
    if (g->left_ns_ <= 0 && !g->throttled_) throttle(*g, now);
  }
}

void VcpuSet::charge_running(uint64_t now) {
  for (const Cpu& c : cpus_)
    if (c.current != nullptr && c.current->group_ != nullptr) charge_groups(*c.current, now);
}

void VcpuSet::begin_period(SchedGroup& g, uint64_t now) {
  if (g.period_end_ns_ != 0) return;
  g.period_end_ns_ = now + g.quota_.period_ns;
  g.used_ = false;
  limited_.push_back(&g);
}

// The entity begins to run: periods begin where none goes on, and the timer looks in time.
void VcpuSet::watch_quotas(SchedEntity& e, uint64_t now) {
  e.group_since_ns_ = now;
  uint64_t look = UINT64_MAX;
  for (SchedGroup* g = e.group_; g != nullptr; g = g->parent) {
    if (!has_quota(*g)) continue;
    begin_period(*g, now);
    const auto left = static_cast<uint64_t>(std::max<int64_t>(g->left_ns_, 0));
    look = std::min({look, g->period_end_ns_, now + left / static_cast<uint64_t>(count())});
  }
  if (look != UINT64_MAX && (!quota_.armed() || quota_.deadline().at_ns > look))
    quota_.arm(Deadline{look});
}

void VcpuSet::throttle(SchedGroup& g, uint64_t now) {
  begin_period(g, now);
  g.throttled_ = true;
  g.throttled_since_ns_ = now;
  for (const Cpu& c : cpus_) {
    SchedEntity* e = c.current;
    if (e != nullptr && !e->resched_ && is_within(e->group_, g) && limited(*e)) preempt(*e);
  }
  std::vector<SchedEntity*> stopped;
  for (const auto& [key, e] : waiting_)
    if (limited(*e)) stopped.push_back(e);
  for (SchedEntity* e : stopped) {
    Fiber& fiber = *e->waiting_;
    dequeue(*e);
    put_aside(*e, fiber);
  }
}

void VcpuSet::put_aside(SchedEntity& e, Fiber& fiber) {
  put_aside_.push_back(&e);
  e.put_aside_ = true;
  e.waiting_ = &fiber;
}

void VcpuSet::unthrottle(SchedGroup& g, uint64_t now) {
  g.throttled_ = false;
  g.throttled_ns += now - g.throttled_since_ns_;
  std::vector<SchedEntity*> free;
  for (SchedEntity* e : put_aside_)
    if (!limited(*e)) free.push_back(e);
  for (SchedEntity* e : free) {
    Fiber& fiber = *e->waiting_;
    dequeue(*e);
    settle(*e, now);
    enqueue(*e, fiber);
  }
  dispatch();
  for (SchedEntity* e : free)
    if (e->waiting_ != nullptr) preempt_for(*e);
}

// The period of `g` may be over. False: nothing of it was used, so it needs no looking after.
bool VcpuSet::refill(SchedGroup& g, uint64_t now) {
  if (now < g.period_end_ns_) return true;
  const bool idle = !g.used_ && !g.throttled_ && g.load_ == 0;
  const uint64_t n = 1 + (now - g.period_end_ns_) / g.quota_.period_ns;
  g.periods += g.used_ || g.throttled_;
  g.throttled_periods += g.throttled_;
  g.period_end_ns_ += n * g.quota_.period_ns;
  g.used_ = false;
  const double most = static_cast<double>(g.quota_.run_ns + g.quota_.burst_ns);
  const double left = static_cast<double>(g.left_ns_) +
                      static_cast<double>(n) * static_cast<double>(g.quota_.run_ns);
  g.left_ns_ = static_cast<int64_t>(std::min(most, left));
  if (g.throttled_ && g.left_ns_ > 0) unthrottle(g, now);
  if (!idle) return true;
  g.period_end_ns_ = 0;
  return false;
}

void VcpuSet::on_quota() {
  const uint64_t now = clock_.monotonic_ns();
  charge_running(now);
  // Who is let go on may begin the period of another group.
  for (SchedGroup* g : std::vector<SchedGroup*>(limited_))
    if (!refill(*g, now)) std::erase(limited_, g);
  uint64_t look = UINT64_MAX;
  for (const SchedGroup* g : limited_) {
    look = std::min(look, g->period_end_ns_);
    if (g->throttled_) continue;
    uint64_t running = 0;
    for (const Cpu& c : cpus_) running += c.current != nullptr && is_within(c.current->group_, *g);
    if (running != 0)
      look =
          std::min(look, now + static_cast<uint64_t>(std::max<int64_t>(g->left_ns_, 0)) / running);
  }
  if (look == UINT64_MAX) return quota_.cancel();
  // Looking costs something for each group, which may not eat up the reactor.
  const uint64_t slack = std::max(kQuotaSlackNs, limited_.size() * kQuotaSlackNs / 64);
  quota_.arm(Deadline{std::max(look, now + slack)});
}

void VcpuSet::set_group(SchedEntity& e, SchedGroup* group) {
  if (e.group_ == group) return;
  const bool counted = e.on_cpu || e.waiting_ != nullptr;
  const uint64_t now = clock_.monotonic_ns();
  if (counted && e.group_ != nullptr) {
    if (e.on_cpu) charge_groups(e, now);
    count_out(e);
  }
  e.group_ = group;
  if (counted && group != nullptr) count_in(e);
  if (e.waiting_ != nullptr) return queue_again(e);
  if (!e.on_cpu) return;
  if (group != nullptr) watch_quotas(e, now);
  if (!e.resched_ && should_yield(e)) preempt(e);
}

void VcpuSet::forget(SchedGroup& g) {
  CHECK(g.load_ == 0);
  std::erase(limited_, &g);
}

}  // namespace uk
