// io_uring_register(2): what is kept with a ring, and settings of it.
#pragma once

#include "syscalls/uring/ring.h"

namespace uk::uring {

constexpr uint32_t kRegisterOps = 26;  // those there are; above, EINVAL

// With the ring locked, on the caller's fiber; may suspend. `arg` is the guest's pointer.
Result<int64_t> do_register(Task& task, Ring& ring, uint32_t op, uint64_t arg, uint32_t count);

}  // namespace uk::uring
