// ptrace(2). Handlers run on the tracer's fiber; arguments are guest input.
#pragma once

#include "syscalls/decode.h"

namespace uk {

Result<int64_t> sys_ptrace(Task& task, int64_t request, int pid, UserAddr addr, UserAddr data);

}  // namespace uk
