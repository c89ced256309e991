// seccomp(2). Handlers run on the calling task's fiber; arguments are guest input.
#pragma once

#include "syscalls/decode.h"

namespace uk {

Result<int64_t> sys_seccomp(Task& task, uint32_t operation, uint32_t flags, UserAddr arg);
// prctl(2) PR_SET_SECCOMP.
Result<int64_t> set_seccomp(Task& task, uint64_t mode, UserAddr program);

}  // namespace uk
