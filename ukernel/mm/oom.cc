#include "ukernel/mm/oom.h"

#include "ukernel/sched/reactor.h"

namespace uk {

Result<> wait_for_memory(Park& park, PhysMemory& mem) {
  if (!mem.oom_kill || !mem.oom_kill()) return Err(Errno::kNOMEM);
  if (park.interrupted(WaitMode::kKillable)) return Err(Errno::kNOMEM);
  // The victim has to leave its guest code and exit; there is no one event that says that enough
  // has come back.
  park.suspend(Deadline{park.reactor().now_ns() + 1'000'000});
  if (park.interrupted(WaitMode::kKillable)) return Err(Errno::kNOMEM);
  return {};
}

}  // namespace uk
