// Freezing and killing the processes of a control group (cgroups(7); cgroup.freeze, cgroup.kill).
#include <signal.h>

#include "ukernel/kernel.h"
#include "ukernel/task/cgroup.h"
#include "ukernel/task/ptrace.h"

namespace uk {

// `freezing` of the group and those below follows from what was asked of each.
void Cgroups::spread_freeze(Cgroup& group) {
  group.freezing = group.freeze || (!group.is_root() && group.parent->freezing);
  for (const auto& [name, child] : group.children) spread_freeze(*child);
  events_changed(group);
}

void Cgroups::set_freeze(Cgroup& group, bool freeze) {
  if (group.freeze == freeze) return;
  group.freeze = freeze;
  spread_freeze(group);
  thawed.wake_all();
  each_process(group, [](ThreadGroup& p) {
    for (Task* t : p.threads)
      if (!t->exiting) t->notify();
  });
}

void Cgroups::kill(Cgroup& group) {
  each_process(group, [](ThreadGroup& p) {
    if (p.live != 0) (void)send_signal_group(p, siginfo_kernel(SIGKILL));
  });
}

namespace {

// A signal is there that ends the process at once, even a frozen one (Linux makes a SIGKILL of it
// when it is sent: neither caught nor ignored, without a core dump, and nobody traces the thread).
bool dies_of_signal(const Task& task) {
  if (is_traced(task)) return false;
  const SigSet harmless = kDefaultIgnored | kDefaultCore | kStopSignals;
  for (int signo = 1; signo <= kSignals; ++signo) {
    if (!task.deliverable().has(signo) || harmless.has(signo)) continue;
    if (task.group->handlers->actions[signo].handler == kSigDfl) return true;
  }
  return false;
}

}  // namespace

bool must_freeze(const Task& task) {
  const Cgroup* group = task.group->cgroup.get();
  if (group == nullptr || !group->freezing) return false;
  return !task.must_exit() && !task.worker && !dies_of_signal(task);
}

void freeze_here(Task& task) {
  StandsStill still(task);
  // Stops and tracers are heard; other signals wait.
  auto other_work = [&] {
    const bool stop = task.group->stop_signal != 0 && !(is_traced(task) && task.trace->stop_seen);
    return stop || trace_work(task);
  };
  CHECK_OK(task.kernel.cgroups->thawed.wait(
      task.park(), [&] { return !must_freeze(task) || other_work(); }, WaitMode::kUninterruptible,
      kNever, "do_freezer_trap"));
}

StandsStill::StandsStill(Task& task) : task_(task), outermost_(!task.frozen) {
  if (outermost_) task_.kernel.cgroups->stands_still(task_, true);
}

StandsStill::~StandsStill() {
  if (outermost_) task_.kernel.cgroups->stands_still(task_, false);
}

}  // namespace uk
