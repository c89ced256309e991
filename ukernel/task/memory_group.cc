#include "ukernel/task/memory_group.h"

#include <signal.h>

#include <algorithm>

#include "base/check.h"
#include "ukernel/kernel.h"
#include "ukernel/task/cgroup.h"
#include "ukernel/task/current.h"

namespace uk {

MemoryGroup::~MemoryGroup() { all_.end(*this); }

MemoryGroups::MemoryGroups(Kernel& kernel) : kernel_(kernel), slots_(1) {}

MemoryGroups::~MemoryGroups() = default;

std::unique_ptr<MemoryGroup> MemoryGroups::make(MemoryGroup* parent) {
  size_t number = 1;
  while (number < slots_.size() && slots_[number].used) ++number;
  if (number > UINT16_MAX) return nullptr;
  if (number == slots_.size()) slots_.emplace_back();
  std::unique_ptr<MemoryGroup> group(new MemoryGroup(*this, parent, static_cast<uint16_t>(number)));
  slots_[number] = {.group = group.get(), .frames = 0, .used = true};
  kernel_.mem->set_owners(this);
  return group;
}

// The parent pays for what is left. (Its own account has these frames already.)
void MemoryGroups::end(MemoryGroup& group) {
  for (Slot& s : slots_)
    if (s.group == &group) s.group = group.parent;
  Slot& mine = slots_[group.number_];
  mine.used = mine.frames != 0;
}

FrameOwners::Grant MemoryGroups::charge(uint32_t frames) {
  const Task* task = current_task(kernel_.reactor);
  MemoryGroup* payer = nullptr;
  if (task != nullptr)
    for (Cgroup* c = task->group->cgroup.get(); c != nullptr && payer == nullptr;
         c = c->parent.get())
      payer = c->memory.get();
  if (payer == nullptr) return {kNobody, frames};
  uint64_t room = frames;
  for (const MemoryGroup* g = payer; g != nullptr; g = g->parent)
    room = std::min(room, g->max_pages - std::min(g->pages, g->max_pages));
  // Who is dying is not held up: its memory comes back soon.
  if (room == 0 && task->must_exit()) room = frames;
  if (room == 0) return {kNobody, 0};
  bool above = false;
  for (MemoryGroup* g = payer; g != nullptr; g = g->parent) {
    g->pages += room;
    g->peak = std::max(g->peak, g->pages);
    above = above || g->pages > g->high_pages;
  }
  if (above && !task->must_exit()) above_high_[task->tid] += static_cast<uint32_t>(room);
  slots_[payer->number_].frames += room;
  return {payer->number_, static_cast<uint32_t>(room)};
}

void MemoryGroups::uncharge(uint16_t owner, uint32_t frames) {
  Slot& slot = slots_[owner];
  CHECK(slot.frames >= frames);
  slot.frames -= frames;
  for (MemoryGroup* g = slot.group; g != nullptr; g = g->parent) g->pages -= frames;
  const bool alive = slot.group != nullptr && slot.group->number_ == owner;
  if (!alive && slot.frames == 0) slot = {};
}

uint32_t MemoryGroups::take_above_high(int tid) {
  if (above_high_.empty()) return 0;
  auto it = above_high_.find(tid);
  if (it == above_high_.end()) return 0;
  const uint32_t frames = it->second;
  above_high_.erase(it);
  return frames;
}

void reclaim_to(Kernel& kernel, const MemoryGroup& group, uint64_t pages) {
  while (group.pages > pages && kernel.mem->reclaim(group.pages - pages) != 0) {
  }
}

Cgroup* Cgroups::at_memory_limit() const {
  const Task* task = current_task(kernel.reactor);
  if (task == nullptr) return nullptr;
  for (Cgroup* c = task->group->cgroup.get(); c != nullptr; c = c->parent.get())
    if (c->memory && c->memory->pages >= c->memory->max_pages) return c;
  return nullptr;
}

namespace {

// Counts an event in `at` and all above.
void count(Cgroup& at, uint64_t MemoryGroup::Events::*event) {
  if (at.memory) ++(at.memory->local.*event);
  for (Cgroup* c = &at; c != nullptr && c->memory; c = c->parent.get()) {
    ++(c->memory->events.*event);
    c->memory_events.change();
    if (c->tree.files) c->tree.files->changed(*c, "memory.events");
  }
}

}  // namespace

// As Linux: the square of how far above, in proportion to what was taken; a little is forgiven.
void heed_memory_high(Task& task) {
  constexpr double kLongestS = 2, kForgivenS = 0.01;
  Kernel& k = task.kernel;
  const uint32_t frames = k.cgroups->memory->take_above_high(task.tid);
  if (frames == 0) return;
  double above = 0;
  for (Ref<Cgroup> c = task.group->cgroup; c && c->memory; c = c->parent) {
    if (c->memory->pages <= c->memory->high_pages) continue;
    count(*c, &MemoryGroup::Events::high);
    reclaim_to(k, *c->memory, c->memory->high_pages);
    const auto high = static_cast<double>(std::max<uint64_t>(c->memory->high_pages, 1));
    above = std::max(above, static_cast<double>(c->memory->pages) / high - 1);
  }
  const double seconds = std::min(above * above * frames, kLongestS);
  if (seconds <= kForgivenS) return;
  WaitQueue nobody;
  const auto wait_ns = static_cast<uint64_t>(seconds * static_cast<double>(kNsPerSec));
  (void)nobody.wait(
      task.park(), [] { return false; }, WaitMode::kKillable,
      Deadline{k.reactor.now_ns() + wait_ns}, "memory.high");
}

void Cgroups::oom_killed(Cgroup& group, Cgroup* limited) {
  using Events = MemoryGroup::Events;
  if (limited != nullptr) {
    count(*limited, &Events::max);
    count(*limited, &Events::oom);
  }
  count(group, &Events::oom_kill);
  // The highest group up to the limited one that wants to go as a whole.
  Cgroup* whole = nullptr;
  for (Cgroup* c = &group; c != nullptr; c = c->parent.get()) {
    if (c->memory && c->memory->oom_group) whole = c;
    if (c == limited) break;
  }
  if (whole == nullptr) return;
  count(*whole, &Events::oom_group_kill);
  each_process(*whole, [](ThreadGroup& p) {
    if (p.live != 0 && p.oom_score_adj != -1000) begin_exit_group(p, SIGKILL);
  });
}

Result<> Cgroups::set_memory_max(Park& park, Cgroup& group, uint64_t pages) {
  group.memory->max_pages = pages;
  while (group.memory && group.memory->pages > group.memory->max_pages) {
    if (kernel.mem->reclaim(group.memory->pages - group.memory->max_pages) != 0) continue;
    if (!kernel.oom_kill("memory.max was lowered", &group)) return {};
    // As in wait_for_memory(): who was killed needs a while.
    park.suspend(Deadline{park.reactor().now_ns() + 1'000'000});
    if (park.interrupted(WaitMode::kInterruptible)) return Err(Errno::kINTR);
  }
  return {};
}

}  // namespace uk
