// The tree of control groups, and where processes are in it.
#include "ukernel/task/cgroup.h"

#include <poll.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "ukernel/kernel.h"
#include "ukernel/task/autogroup.h"
#include "ukernel/task/io_group.h"
#include "ukernel/task/memory_group.h"
#include "ukernel/task/namespaces.h"

namespace uk {

Cgroup::Cgroup(Cgroups& t, Ref<Cgroup> p, std::string n, uint64_t i)
    : tree(t),
      parent(std::move(p)),
      name(std::move(n)),
      id(i),
      depth(parent ? parent->depth + 1 : 0) {}

Cgroup::~Cgroup() = default;

void Cgroup::Told::change() {
  ++version;
  queue.wake_all(POLLERR | POLLPRI);
}

bool Cgroup::is_within(const Cgroup& top) const {
  const Cgroup* c = this;
  while (c != nullptr && c->depth > top.depth) c = c->parent.get();
  return c == &top;
}

namespace {

// Its own processes share with its children (cgroups(7), "thread mode"): a thread root.
bool is_thread_root(const Cgroup& g) {
  return !g.is_root() && g.own_threads != 0 && (g.subtree_control & kThreadedControllers) != 0;
}

bool can_be_thread_root(const Cgroup& g) {
  if (g.is_root()) return true;
  const bool below = std::any_of(g.children.begin(), g.children.end(),
                                 [](const auto& c) { return c.second->populated(); });
  return !below && (g.subtree_control & ~kThreadedControllers) == 0;
}

}  // namespace

bool Cgroup::valid_domain() const {
  for (const Cgroup* c = parent.get(); c != nullptr; c = c->parent.get())
    if (is_thread_root(*c)) return false;
  return true;
}

const char* Cgroup::type() const {
  if (!valid_domain()) return "domain invalid";
  return is_thread_root(*this) ? "domain threaded" : "domain";
}

SchedGroup* Cgroup::sched_group() const {
  for (const Cgroup* c = this; c != nullptr; c = c->parent.get())
    if (c->cpu) return c->cpu.get();
  return nullptr;
}

Cgroups::Cgroups(Kernel& k)
    : kernel(k),
      root(make_ref<Cgroup>(*this, nullptr, "", 1)),
      memory(std::make_unique<MemoryGroups>(k)) {}

namespace {

// Lets go of what leads back to the group: its inodes, and its controllers.
void strip(Cgroup& g) {
  for (auto& [name, child] : std::exchange(g.children, {})) strip(*child);
  g.inodes.clear();
  g.cpu.reset();
  g.memory.reset();
}

}  // namespace

Cgroups::~Cgroups() { strip(*root); }

Cgroup& Cgroups::of(const ThreadGroup& process) const {
  return process.cgroup ? *process.cgroup : *root;
}

Result<Ref<Cgroup>> Cgroups::make(Cgroup& parent, std::string name) {
  if (parent.dead) return Err(Errno::kNODEV);
  if (groups >= kMaxGroups) return Err(Errno::kNOMEM);
  if (parent.depth >= kMaxDepth) return Err(Errno::kNOSPC);
  uint64_t level = 1;
  for (const Cgroup* c = &parent; c != nullptr; c = c->parent.get(), ++level) {
    if (static_cast<uint64_t>(c->descendants) >= c->max_descendants || level > c->max_depth)
      return Err(Errno::kAGAIN);
  }
  auto group = make_ref<Cgroup>(*this, Ref<Cgroup>(&parent), name, next_id_);
  TRY(apply_control(*group));
  next_id_ += kInodesPerGroup;
  group->freezing = group->shown_frozen_ = parent.freezing;
  parent.children.emplace(std::move(name), group);
  ++groups;
  for (Cgroup* c = &parent; c != nullptr; c = c->parent.get()) ++c->descendants;
  return group;
}

Result<> Cgroups::remove(Cgroup& group) {
  if (group.populated() || group.arriving != 0 || !group.children.empty()) return Err(Errno::kBUSY);
  CHECK(!group.is_root());
  Ref<Cgroup> keep(&group);
  group.dead = true;
  --groups;
  for (Cgroup* c = group.parent.get(); c != nullptr; c = c->parent.get()) --c->descendants;
  group.parent->children.erase(group.name);
  group.events.change();
  strip(group);
  return {};
}

// Makes what the controllers that are on need in the group, and ends what it needs no more.
Result<> Cgroups::apply_control(Cgroup& group) {
  const uint8_t on = group.enabled();
  const bool wants_memory = (on & kMemoryController) != 0;
  if (wants_memory && !group.memory) {
    group.memory = memory->make(group.parent->memory.get());
    if (!group.memory) return Err(Errno::kNOMEM);
  }
  if (!wants_memory) group.memory.reset();
  if ((on & kIoController) == 0) {
    if (group.io) group.io->end_limits();  // for those who wait
    group.io.reset();
  } else if (!group.io) {
    group.io = std::make_shared<IoGroup>();
  }
  if ((on & kPidsController) == 0) group.pids.max = Cgroup::kMax;
  if (((on & kCpuController) != 0) == (group.cpu != nullptr)) return {};
  std::unique_ptr<SchedGroup> old = std::move(group.cpu);
  group.cpu_weight = 100;
  if (!old) group.cpu = std::make_unique<SchedGroup>(kernel.vcpus, group.parent->cpu.get());
  each_process(group, [](ThreadGroup& p) { regroup(p); });
  return {};
}

Result<> Cgroups::control(Cgroup& group, uint8_t enable, uint8_t disable) {
  if (group.dead) return Err(Errno::kNODEV);
  if ((enable & ~group.enabled()) != 0) return Err(Errno::kNOENT);
  enable &= static_cast<uint8_t>(~group.subtree_control);
  disable &= group.subtree_control;
  for (const auto& [name, child] : group.children)
    if ((child->subtree_control & disable) != 0) return Err(Errno::kBUSY);
  if (enable != 0) {
    if (!group.valid_domain()) return Err(Errno::kOPNOTSUPP);
    const bool domain = (enable & ~kThreadedControllers) != 0;
    if (domain && is_thread_root(group)) return Err(Errno::kOPNOTSUPP);
    // A group's processes do not compete with its children.
    if (group.own_threads != 0 && (domain || !can_be_thread_root(group))) return Err(Errno::kBUSY);
  }
  const uint8_t before = group.subtree_control;
  group.subtree_control = static_cast<uint8_t>((before | enable) & ~disable);
  for (const auto& [name, child] : group.children) {
    if (apply_control(*child)) continue;
    group.subtree_control = before;
    for (const auto& [other, undone] : group.children) CHECK_OK(apply_control(*undone));
    return Err(Errno::kNOMEM);
  }
  return {};
}

Result<> Cgroups::check_target(const Cgroup& to) {
  if (to.dead) return Err(Errno::kNODEV);
  if (to.is_root()) return {};
  if (!to.valid_domain()) return Err(Errno::kOPNOTSUPP);
  if (to.subtree_control != 0 && !can_be_thread_root(to)) return Err(Errno::kBUSY);
  return {};
}

Result<> Cgroups::attach(ThreadGroup& process, Ref<Cgroup> to) {
  TRY(check_target(*to));
  if (process.live == 0) return Err(Errno::kSRCH);
  Cgroup& from = of(process);
  if (&from == to.get()) return {};
  Ref<Cgroup> keep(&from);
  int still = 0;
  for (const Task* t : process.threads) still += !t->exiting && t->frozen;
  add_threads(from, -process.live, -still);
  add_numbers(from, -process.numbered);
  process.cgroup = to->is_root() ? nullptr : to;
  add_threads(*to, process.live, still);
  add_numbers(*to, process.numbered);
  regroup(process);
  if (to->freezing) {
    for (Task* t : process.threads)
      if (!t->exiting) t->notify();
  } else if (from.freezing) {
    thawed.wake_all();
  }
  return {};
}

void Cgroups::each_process(const Cgroup& group, const std::function<void(ThreadGroup&)>& f) const {
  kernel.pids.each_group([&](ThreadGroup& p) {
    if (of(p).is_within(group)) f(p);
  });
}

void Cgroups::add_threads(Cgroup& group, int threads, int still) {
  if (group.is_root()) return;
  group.own_threads += threads;
  for (Cgroup* c = &group; !c->is_root(); c = c->parent.get()) {
    c->threads += threads;
    c->still += still;
    DCHECK(c->threads >= 0 && c->still >= 0);
    events_changed(*c);
  }
}

void Cgroups::add_numbers(Cgroup& group, int n) {
  for (Cgroup* c = &group; !c->is_root(); c = c->parent.get()) {
    c->pids.current += static_cast<uint64_t>(int64_t{n});
    c->pids.peak = std::max(c->pids.peak, c->pids.current);
  }
}

// Tells those who watch cgroup.events, if what it says is another thing.
void Cgroups::events_changed(Cgroup& group) {
  if (group.populated() == group.shown_populated_ && group.frozen() == group.shown_frozen_) return;
  group.shown_populated_ = group.populated();
  group.shown_frozen_ = group.frozen();
  group.events.change();
  if (files) files->changed(group, "cgroup.events");
}

void Cgroups::thread_ended(Task& task) {
  if (task.group->cgroup) add_threads(*task.group->cgroup, -1, task.frozen ? -1 : 0);
  if (memory != nullptr) (void)memory->take_above_high(task.tid);  // another may get the number
}

void Cgroups::number_released(ThreadGroup& process) {
  --process.numbered;
  add_numbers(of(process), -1);
}

void Cgroups::stands_still(Task& task, bool still) {
  task.frozen = still;
  if (!task.exiting && task.group->cgroup) add_threads(*task.group->cgroup, 0, still ? 1 : -1);
}

void Cgroups::charge_cpu(ThreadGroup& process, uint64_t user_ns, uint64_t system_ns) {
  for (Cgroup* c = process.cgroup.get(); c != nullptr; c = c->parent.get()) {
    c->user_ns += user_ns;
    c->system_ns += system_ns;
  }
}

ForkCharge::ForkCharge(Kernel& kernel, Ref<Cgroup> group, bool follows)
    : kernel_(kernel), group_(std::move(group)), follows_(follows) {
  if (!group_) return;
  kernel_.cgroups->add_numbers(*group_, 1);
  group_->arriving += !follows_;
}

void ForkCharge::drop() {
  if (!group_) return;
  kernel_.cgroups->add_numbers(*group_, -1);
  group_->arriving -= !follows_;
  group_ = nullptr;
}

ForkCharge::~ForkCharge() { drop(); }

Result<ForkCharge> ForkCharge::take(Kernel& kernel, Ref<Cgroup> group, bool follows) {
  if (group == nullptr || group->is_root()) return ForkCharge(kernel, nullptr, follows);
  for (Cgroup* c = group.get(); !c->is_root(); c = c->parent.get()) {
    if (c->pids.current < c->pids.max) continue;
    ++c->pids.refused;
    for (Cgroup* up = c; !up->is_root(); up = up->parent.get()) {
      ++up->pids.refused_below;
      up->pids.events.change();
      if (kernel.cgroups->files) kernel.cgroups->files->changed(*up, "pids.events");
    }
    return Err(Errno::kAGAIN);
  }
  return ForkCharge(kernel, std::move(group), follows);
}

void ForkCharge::keep(Task& task, const ThreadGroup& parent) {
  Cgroups& all = *kernel_.cgroups;
  ThreadGroup& process = *task.group;
  process.cgroup = follows_ ? parent.cgroup : group_;
  drop();
  ++process.numbered;
  if (process.cgroup) {
    all.add_numbers(*process.cgroup, 1);
    all.add_threads(*process.cgroup, 1, 0);
  }
  kernel_.vcpus.set_group(task.sched, sched_group_of(task));
}

std::string cgroup_path(const Cgroup& group, const Cgroup& root) {
  const Cgroup* top = &root;
  std::string out;
  while (!group.is_within(*top)) {  // as from a directory: up to what both are in
    out += "/..";
    top = top->parent.get();
  }
  std::vector<const Cgroup*> names;
  for (const Cgroup* c = &group; c != top; c = c->parent.get()) names.push_back(c);
  for (size_t i = names.size(); i-- > 0;) absl::StrAppend(&out, "/", names[i]->name);
  if (out.empty()) out.push_back('/');
  return group.dead ? out + " (deleted)" : out;
}

Ref<Cgroup> cgroup_root_of(const Task& task) {
  if (task.more_ns && task.more_ns->cgroup) return task.more_ns->cgroup->root;
  return task.kernel.cgroups->root;
}

}  // namespace uk
