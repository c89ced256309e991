// Time namespaces (time_namespaces(7)): what a task's CLOCK_MONOTONIC and CLOCK_BOOTTIME are ahead
// of the kernel's. A null TimeNamespace is the initial one, without offsets. The vDSO does not know
// offsets: who has a namespace sees a page that sends it to the system call (vdso/vdso.h).
//
// Ownership: NsSets and descriptors hold Refs. Reactor-owned; only enter_clock() may suspend.
#pragma once

#include <string>
#include <string_view>

#include "ukernel/task/namespaces.h"

namespace uk {

class TimeNamespace final : public Namespace {
 public:
  TimeNamespace() : Namespace(NsKind::kTime) {}
  int64_t monotonic_ns = 0, boottime_ns = 0;  // added to the kernel's
  bool frozen = false;                        // somebody is in it: the offsets stay
};

inline const TimeNamespace* time_ns_of(const Task& task) {
  return task.more_ns ? task.more_ns->time.get() : nullptr;
}
// What the task's CLOCK_MONOTONIC (with its RAW and COARSE) and CLOCK_BOOTTIME are ahead, in ns.
inline int64_t monotonic_offset(const Task& task) {
  const TimeNamespace* ns = time_ns_of(task);
  return ns == nullptr ? 0 : ns->monotonic_ns;
}
inline int64_t boottime_offset(const Task& task) {
  const TimeNamespace* ns = time_ns_of(task);
  return ns == nullptr ? 0 : ns->boottime_ns;
}
// A time of the kernel's clock in one that is `offset` ahead of it, and back; within what ktime_t
// holds.
uint64_t time_inside(uint64_t kernel_ns, int64_t offset);
uint64_t time_outside(uint64_t shown_ns, int64_t offset);

// The memory `mm` belongs to tasks of `ns` from now on: its offsets are fixed, and the vDSO of `mm`
// answers for it. kNOMEM.
Result<> enter_clock(Park& park, Kernel& kernel, AddressSpace& mm, const MmLimits& limits,
                     TimeNamespace* ns);

// execve(2) enters the time namespace that children would get.
void enter_time_for_children(Task& task);

// /proc/PID/timens_offsets: the offsets that the children of `task` will have. Writing is for whom
// the namespace's owner lets set clocks, before anybody is in it (kACCES); kPERM, kINVAL, kRANGE.
std::string show_time_offsets(const Task& task);
Result<> store_time_offsets(const Task& task, const Cred& writer, std::string_view text);

}  // namespace uk
