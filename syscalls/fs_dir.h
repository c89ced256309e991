// Reading directories: getdents(2). Lists into a buffer first, so that the directory's lock is not
// held while user memory is touched. May suspend.
#pragma once

#include "syscalls/decode.h"

namespace uk {

Result<int64_t> sys_getdents(Task& task, Fd fd, UserOut<std::byte> buf, uint32_t count);
Result<int64_t> sys_getdents64(Task& task, Fd fd, UserOut<std::byte> buf, uint32_t count);

}  // namespace uk
