#include "ukernel/task/autogroup.h"

#include "ukernel/kernel.h"
#include "ukernel/task/cgroup.h"

namespace uk {

Autogroup::Autogroup(Kernel& kernel) : number(++kernel.autogroups), group(kernel.vcpus, nullptr) {}

void Autogroup::set_nice(int nice) {
  nice_ = nice;
  group.set_weight(VcpuSet::weight(nice));
}

SchedGroup* sched_group_of(const Task& task) {
  const ThreadGroup& process = *task.group;
  if (process.cgroup)
    if (SchedGroup* group = process.cgroup->sched_group()) return group;
  if (!task.kernel.settings.autogroup || !process.group) return nullptr;
  Autogroup* session = process.group->session->autogroup.get();
  return session != nullptr ? &session->group : nullptr;
}

void regroup(ThreadGroup& group) {
  for (Task* t : group.threads)
    if (!t->exiting) group.kernel.vcpus.set_group(t->sched, sched_group_of(*t));
}

void regroup_all(Kernel& kernel) {
  kernel.pids.each_task([&](Task& t) {
    if (!t.exiting) kernel.vcpus.set_group(t.sched, sched_group_of(t));
  });
}

}  // namespace uk
