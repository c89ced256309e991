// io_uring_setup(2), io_uring_enter(2), io_uring_register(2). syscalls/uring/ring.h has the design.
#pragma once

#include <linux/io_uring.h>

#include "syscalls/decode.h"

namespace uk {

Result<int64_t> sys_io_uring_setup(Task& task, uint32_t entries, UserInOut<io_uring_params> params);
Result<int64_t> sys_io_uring_enter(Task& task, Fd fd, uint32_t to_submit, uint32_t min_complete,
                                   Hex flags, UserAddr arg, size_t arg_size);
Result<int64_t> sys_io_uring_register(Task& task, Fd fd, uint32_t op, UserAddr arg, uint32_t count);

}  // namespace uk
