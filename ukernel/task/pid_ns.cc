#include "ukernel/task/pid_ns.h"

#include <signal.h>

#include <algorithm>

#include "base/check.h"
#include "ukernel/kernel.h"
#include "ukernel/task/exit.h"

namespace uk {

PidNamespace::PidNamespace(Ref<PidNamespace> p, int max)
    : Namespace(NsKind::kPid),
      parent(std::move(p)),
      level(level_of(parent.get()) + 1),
      pid_max(max) {}

PidNamespace::~PidNamespace() = default;

int PidNamespace::inside(int pid) const {
  auto at = inside_.find(pid);
  return at == inside_.end() ? 0 : at->second;
}

int PidNamespace::outside(int shown) const {
  auto at = outside_.find(shown);
  return at == outside_.end() ? 0 : at->second;
}

void PidNamespace::each(const std::function<void(int pid)>& f) const {
  for (const auto& [shown, pid] : outside_) f(pid);
}

void PidNamespace::forget(int pid) {
  const int shown = inside(pid);
  inside_.erase(pid);
  outside_.erase(shown);
  if (shown == 1 && init == nullptr) closed = true;  // making its first process failed
  number_gone.wake_all();
}

bool pid_ns_within(const PidNamespace* ns, const PidNamespace* top) {
  while (level_of(ns) > level_of(top)) ns = ns->parent.get();
  return ns == top;
}

int pid_in(const ThreadGroup& viewer, int pid) {
  return shown_pid(viewer.kernel.pids.ns_of(viewer.tgid), pid);
}

Task* task_by_number(const Task& viewer, int shown) {
  return viewer.kernel.pids.task(kernel_pid(viewer, shown));
}

ThreadGroup* group_by_number(const Task& viewer, int shown) {
  return viewer.kernel.pids.group(kernel_pid(viewer, shown));
}

Ref<ProcessGroup> pgrp_by_number(const Task& viewer, int shown) {
  return viewer.kernel.pids.pgrp(kernel_pid(viewer, shown));
}

void each_task_in(Kernel& kernel, const PidNamespace* ns, const std::function<void(Task&)>& f) {
  if (ns == nullptr) return kernel.pids.each_task(f);
  ns->each([&](int pid) {
    if (Task* t = kernel.pids.task(pid)) f(*t);
  });
}

void each_group_in(Kernel& kernel, const PidNamespace* ns,
                   const std::function<void(ThreadGroup&)>& f) {
  each_task_in(kernel, ns, [&](Task& t) {
    if (t.is_leader()) f(*t.group);
  });
}

std::vector<int> numbers_from(Kernel& kernel, const PidNamespace* from, int pid) {
  std::vector<int> numbers;
  const PidNamespace* own = kernel.pids.ns_of(pid);
  if (pid == 0 || !pid_ns_within(own, from)) return numbers;
  for (; own != from; own = own->parent.get()) numbers.push_back(own->inside(pid));
  numbers.push_back(shown_pid(from, pid));
  std::reverse(numbers.begin(), numbers.end());
  return numbers;
}

bool is_namespace_init(const ThreadGroup& group) {
  const PidNamespace* ns = group.kernel.pids.ns_of(group.tgid);
  return ns != nullptr && ns->init == &group;
}

void end_pid_namespace(Task& init) {
  Kernel& k = init.kernel;
  ThreadGroup& group = *init.group;
  Ref<PidNamespace> ns(k.pids.ns_of(group.tgid));
  ns->closed = true;
  if (group.handlers->ref_count() > 1) group.handlers = group.handlers->copy();
  group.handlers->actions[SIGCHLD].handler = kSigIgn;  // nobody is left to wait
  std::vector<ThreadGroup*> zombies;
  for (ThreadGroup* child : group.children) {
    child->exit_signal = SIGCHLD;  // also those of clone(2): none of them stays
    if (child->zombie) zombies.push_back(child);
  }
  for (ThreadGroup* z : zombies) release_group(*z);
  each_group_in(k, ns.get(), [&](ThreadGroup& g) {
    if (&g != &group) begin_exit_group(g, SIGKILL);
  });
  // Each of our own threads has a number here, and so has whoever is left.
  auto alone = [&] { return ns->count() <= static_cast<int>(group.threads.size()); };
  // Uninterruptible: whoever waits for this process may count on the others being gone.
  CHECK_OK(
      ns->number_gone.wait(init.park(), alone, WaitMode::kUninterruptible, kNever, "zap_pid_ns"));
  ns->init = nullptr;
  if (ns->reboot_signal != 0) {
    group.exiting = true;
    group.exit_code = init.exit_code = ns->reboot_signal;
  }
}

}  // namespace uk
