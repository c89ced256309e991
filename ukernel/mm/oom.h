// What to do when a frame cannot be had: ask the instance's OOM killer and wait for the victim's
// memory. Suspends. Nothing untrusted.
#pragma once

#include "base/result.h"
#include "ukernel/mm/phys.h"
#include "ukernel/sched/fiber.h"

namespace uk {

// Called after an alloc failed. kOk: try again (some task is dying; time has passed). kNOMEM:
// nothing is to be expected, or the caller's own task is the one that dies.
Result<> wait_for_memory(Park& park, PhysMemory& mem);

}  // namespace uk
