// PID namespaces (pid_namespaces(7)): each numbers the tasks in it, and those of the namespaces
// below it, in its own way. Inside the kernel a number is the initial namespace's ("kernel
// number"), and the PidTable, which gives numbers out, tells which namespace it belongs to; system
// calls and files translate with the functions below. A null PidNamespace is the initial one, so
// who has no other pays a test of a pointer.
//
// Ownership: tasks (NsSet), numbers in use (PidTable), descriptors and mounts of proc hold Refs.
// Reactor-owned; nothing here suspends. Numbers to translate may come from the guest.
#pragma once

#include <functional>
#include <map>
#include <unordered_map>

#include "ukernel/task/namespaces.h"

namespace uk {

class PidNamespace final : public Namespace {
 public:
  static constexpr int kMaxLevel = 32;  // MAX_PID_NS_LEVEL of Linux
  PidNamespace(Ref<PidNamespace> parent, int pid_max);
  ~PidNamespace() override;

  // A kernel number as it is known here, and back; 0: not here.
  int inside(int pid) const;
  int outside(int shown) const;
  int count() const { return static_cast<int>(outside_.size()); }
  // The kernel numbers of all, in the order of their numbers here; `f` may not change the table.
  void each(const std::function<void(int pid)>& f) const;

  const Ref<PidNamespace> parent;  // null: the initial one
  const int level;                 // the initial one has 0
  int pid_max;                     // /proc/sys/kernel/pid_max as seen here
  int last = 0;                    // the number given out last
  ThreadGroup* init = nullptr;     // its pid 1; null before and after that
  bool closed = false;             // pid 1 has come and begun to end: nobody may be added
  int reboot_signal = 0;           // what reboot(2) lets pid 1 seem to have died of
  WaitQueue number_gone;

 private:
  friend class PidTable;
  void forget(int pid);
  std::map<int, int> outside_;  // by number here
  std::unordered_map<int, int> inside_;
};

// Is `ns` the same as `top`, or below it?
bool pid_ns_within(const PidNamespace* ns, const PidNamespace* top);
inline int level_of(const PidNamespace* ns) { return ns == nullptr ? 0 : ns->level; }

// The namespace whose numbers the task knows.
inline const Ref<PidNamespace>& pid_ns_of(const Task& task) {
  static const Ref<PidNamespace> kInitial;
  return task.more_ns ? task.more_ns->pid : kInitial;
}

// A kernel number as it is known in `ns`; 0: not there.
inline int shown_pid(const PidNamespace* ns, int pid) {
  return ns == nullptr ? pid : ns->inside(pid);
}
inline int shown_pid(const Task& viewer, int pid) {
  return shown_pid(pid_ns_of(viewer).get(), pid);
}
// As a process knows it, whoever runs.
int pid_in(const ThreadGroup& viewer, int pid);
// A number known in `ns` as the kernel's; 0: nobody has it.
inline int kernel_pid(const PidNamespace* ns, int shown) {
  return ns == nullptr ? shown : ns->outside(shown);
}
inline int kernel_pid(const Task& viewer, int shown) {
  return kernel_pid(pid_ns_of(viewer).get(), shown);
}
// Who has a number that `viewer` gave; null: nobody.
Task* task_by_number(const Task& viewer, int shown);
ThreadGroup* group_by_number(const Task& viewer, int shown);  // by its leader's
Ref<ProcessGroup> pgrp_by_number(const Task& viewer, int shown);
// The tasks and processes that are seen in `ns`, in the order of their numbers there; `f` may not
// change the table.
void each_task_in(Kernel& kernel, const PidNamespace* ns, const std::function<void(Task&)>& f);
void each_group_in(Kernel& kernel, const PidNamespace* ns,
                   const std::function<void(ThreadGroup&)>& f);
// What a kernel number is in `from` and each namespace from there down to its own, outermost first:
// NSpid of proc_pid_status(5). Empty: it is not seen in `from`.
std::vector<int> numbers_from(Kernel& kernel, const PidNamespace* from, int pid);

// Is the process pid 1 of a namespace other than the initial one?
bool is_namespace_init(const ThreadGroup& group);
// Its last thread ends: everybody else in the namespace is killed and waited for, nobody comes
// after. Suspends; as on Linux it lasts until those whom somebody outside must wait for were waited
// for.
void end_pid_namespace(Task& init);

}  // namespace uk
