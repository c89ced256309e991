// Scheduling parameters, affinity and niceness (sched(7)). Handlers run on the calling task's
// fiber; arguments are guest input.
#pragma once

#include "syscalls/decode.h"
#include "ukernel/abi/time.h"

namespace uk {

struct UserSchedAttr {  // sched_setattr(2), the version with utilization clamps
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
  uint32_t util_min, util_max;
};
static_assert(sizeof(UserSchedAttr) == 56);

Result<int64_t> sys_sched_yield(Task& task);
Result<int64_t> sys_sched_setscheduler(Task& task, int pid, int policy, UserIn<int32_t> param);
Result<int64_t> sys_sched_getscheduler(Task& task, int pid);
Result<int64_t> sys_sched_setparam(Task& task, int pid, UserIn<int32_t> param);
Result<int64_t> sys_sched_getparam(Task& task, int pid, UserOut<int32_t> param);
Result<int64_t> sys_sched_setattr(Task& task, int pid, UserInOut<UserSchedAttr> attr, Hex flags);
Result<int64_t> sys_sched_getattr(Task& task, int pid, UserOut<UserSchedAttr> attr, uint32_t size,
                                  Hex flags);
Result<int64_t> sys_sched_get_priority_max(Task& task, int policy);
Result<int64_t> sys_sched_get_priority_min(Task& task, int policy);
Result<int64_t> sys_sched_rr_get_interval(Task& task, int pid, UserOut<UserTimespec> ts);
Result<int64_t> sys_sched_setaffinity(Task& task, int pid, uint32_t size, UserAddr mask);
Result<int64_t> sys_sched_getaffinity(Task& task, int pid, uint32_t size, UserAddr mask);
// The tasks that (which, who) of getpriority(2) names; kINVAL, kSRCH if there is none. Borrowed:
// the caller must not suspend before it is through with them.
Result<std::vector<Task*>> priority_targets(Task& task, int which, int who);
Result<int64_t> sys_getpriority(Task& task, int which, int who);
Result<int64_t> sys_setpriority(Task& task, int which, int who, int nice);
Result<int64_t> sys_getcpu(Task& task, UserOut<uint32_t> cpu, UserOut<uint32_t> node);
Result<int64_t> sys_membarrier(Task& task, int cmd, uint32_t flags, int cpu);

// ---- ioprio_set(2)
Result<int64_t> sys_ioprio_set(Task& task, int which, int who, int prio);
Result<int64_t> sys_ioprio_get(Task& task, int which, int who);

}  // namespace uk
