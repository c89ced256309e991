// pipe(2), pipe2(2): a pair of descriptors of a new pipe. The address of the pair is guest input.
#pragma once

#include <array>

#include "syscalls/decode.h"

namespace uk {

Result<int64_t> sys_pipe(Task& task, UserOut<std::array<int32_t, 2>> fds);
Result<int64_t> sys_pipe2(Task& task, UserOut<std::array<int32_t, 2>> fds, OpenFlags flags);

}  // namespace uk
