// ptrace(2): what a traced task keeps, and the stops that its tracer sees.
//
// Ownership: the traced task owns its TraceState; tracer and tracees know each other by pointer and
// part when either ends. Stops suspend; all else does not.
#pragma once

#include <cstdint>

#include "ukernel/task/task.h"

namespace uk {

struct TraceState {
  uint32_t options = 0;  // PTRACE_O_*
  bool seized = false;
};

}  // namespace uk
