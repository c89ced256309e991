// futex(2), futex_waitv(2), futex_wait and its kin: waiting and waking on words of guest memory.
// Handlers run on the calling task's fiber and may suspend; addresses and counts are guest input.
#pragma once

#include "syscalls/decode.h"

namespace uk {

// timeout_or_val2: a UserTimespec for the waiting operations, a count for the requeueing ones.
Result<int64_t> sys_futex(Task& task, UserAddr word, Hex op, uint32_t val, UserAddr timeout_or_val2,
                          UserAddr word2, uint32_t val3);

struct UserFutexWaitv {  // struct futex_waitv
  uint64_t val;
  uint64_t addr;
  uint32_t flags;
  uint32_t reserved;
};
Result<int64_t> sys_futex_waitv(Task& task, UserIn<UserFutexWaitv> waiters, uint32_t count,
                                uint32_t flags, UserAddr timeout, int clock_id);

// The calls of Linux 6.7 (futex2): 32-bit words, absolute times.
Result<int64_t> sys_futex_wake(Task& task, UserAddr word, uint64_t mask, int count, Hex flags);
Result<int64_t> sys_futex_wait(Task& task, UserAddr word, uint64_t val, uint64_t mask, Hex flags,
                               UserAddr timeout, int clock_id);
Result<int64_t> sys_futex_requeue(Task& task, UserIn<UserFutexWaitv> waiters, Hex flags, int n_wake,
                                  int n_move);

}  // namespace uk
