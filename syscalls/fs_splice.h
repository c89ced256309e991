// Moving bytes through pipes: splice(2), tee(2), vmsplice(2).
#pragma once

#include "syscalls/decode.h"

namespace uk {

Result<int64_t> sys_splice(Task& task, Fd in, UserInOut<int64_t> in_off, Fd out,
                           UserInOut<int64_t> out_off, size_t count, Hex flags);
Result<int64_t> sys_tee(Task& task, Fd in, Fd out, size_t count, Hex flags);
Result<int64_t> sys_vmsplice(Task& task, Fd fd, UserAddr iov, uint64_t count, Hex flags);

}  // namespace uk
