// prctl(2), arch_prctl(2), personality(2), robust futex lists, rseq(2). Handlers run on the calling
// task's fiber; arguments are guest input.
#pragma once

#include "syscalls/decode.h"

namespace uk {

Result<int64_t> sys_prctl(Task& task, int option, uint64_t a, uint64_t b, uint64_t c, uint64_t d);
Result<int64_t> sys_arch_prctl(Task& task, int code, UserAddr addr);
Result<int64_t> sys_personality(Task& task, uint32_t persona);
Result<int64_t> sys_set_robust_list(Task& task, UserAddr head, size_t len);
Result<int64_t> sys_get_robust_list(Task& task, int pid, UserOut<uint64_t> head,
                                    UserOut<uint64_t> len);
Result<int64_t> sys_rseq(Task& task, UserAddr rseq, uint32_t len, int flags, uint32_t sig);

// PR_SET_MM (prctl_mm.cc).
Result<int64_t> set_mm(Task& task, uint64_t option, uint64_t addr, uint64_t len, uint64_t rest);

}  // namespace uk
