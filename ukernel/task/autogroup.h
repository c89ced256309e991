// Which scheduling group a task is in: its cgroup's, or its session's while autogroups are on
// (sched(7), "The autogroup feature"). Autogroups are off until
// /proc/sys/kernel/sched_autogroup_enabled is written.
//
// Ownership: a session owns its autogroup; those of its tasks that end leave it before. Reactor-
// owned; nothing suspends.
#pragma once

#include "ukernel/task/task.h"

namespace uk {

struct Autogroup {
  explicit Autogroup(Kernel& kernel);
  const uint64_t number;
  SchedGroup group;
  int nice() const { return nice_; }
  void set_nice(int nice);
  uint64_t next_change_ns = 0;  // unprivileged changes wait until then

 private:
  int nice_ = 0;
};

// The group that the task's entity should be in now; null: none.
SchedGroup* sched_group_of(const Task& task);
// After the session or cgroup of a process, or the setting, has changed.
void regroup(ThreadGroup& group);
void regroup_all(Kernel& kernel);

}  // namespace uk
