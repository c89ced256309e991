// ioprio_set(2), ioprio_get(2). Priorities are kept and told; the host schedules the I/O, which
// does not know of guests, so they order nothing (docs/CAVEATS.md).
#include <sys/resource.h>

#include "syscalls/process.h"
#include "syscalls/sched.h"
#include "ukernel/kernel.h"

namespace uk {
namespace {

constexpr int kClassShift = 13, kClassMask = 7, kLevelMask = 7, kMostValue = 0xffff;
// <linux/ioprio.h> of some Debian 12 kernels is not C++.
constexpr int kWhoProcess = 1, kWhoGroup = 2, kWhoUser = 3;
constexpr int kNone = 0, kRealTime = 1, kBestEffort = 2, kIdle = 3;
int io_class(int prio) { return prio >> kClassShift & kClassMask; }

Result<> check(Task& task, int prio) {
  if (prio < 0 || prio > kMostValue) return Err(Errno::kINVAL);
  switch (io_class(prio)) {
    case kRealTime:
      if (!task.cred().has(Cap::kSysAdmin) && !task.cred().has(Cap::kSysNice))
        return Err(Errno::kPERM);
      return {};
    case kBestEffort:
    case kIdle:
      return {};
    case kNone:
      return (prio & kLevelMask) == 0 ? Result<>() : Err(Errno::kINVAL);
    default:
      return Err(Errno::kINVAL);
  }
}

// What holds for the task: without a class of its own it follows the way it is scheduled.
int effective(const Task& t) {
  if (io_class(t.io_priority) != kNone) return t.io_priority;
  const int level = (t.sched.nice + 20) / 5;
  switch (t.sched.sched_class) {
    case SchedClass::kIdle:
      return kIdle << kClassShift | level;
    case SchedClass::kFifo:
    case SchedClass::kRr:
      return kRealTime << kClassShift | level;
    default:
      return kBestEffort << kClassShift | level;
  }
}

// The tasks that (which, who) of ioprio_set(2) names: its kinds are getpriority(2)'s, from 1 on.
Result<std::vector<Task*>> targets(Task& task, int which, int who) {
  static_assert(kWhoProcess == PRIO_PROCESS + 1 && kWhoUser == PRIO_USER + 1);
  if (which < kWhoProcess) return Err(Errno::kINVAL);
  return priority_targets(task, which - 1, who);
}

}  // namespace

Result<int64_t> sys_ioprio_set(Task& task, int which, int who, int prio) {
  TRY(check(task, prio));
  const Cred& cred = task.cred();
  for (Task* t : TRY(targets(task, which, who))) {
    const Cred& owner = *t->cred_;
    if (owner.uid != cred.euid && owner.uid != cred.uid && !cred.has(Cap::kSysNice))
      return Err(Errno::kPERM);
    t->io_priority = prio;
  }
  return 0;
}

// Of one task what was set; of several the best that holds: the lowest number.
Result<int64_t> sys_ioprio_get(Task& task, int which, int who) {
  if (which == kWhoProcess) return TRY(targets(task, which, who)).front()->io_priority;
  int best = INT32_MAX;
  for (const Task* t : TRY(targets(task, which, who))) best = std::min(best, effective(*t));
  return best;
}

}  // namespace uk
