// timerfd_create(2) and signalfd(2): timers and signals as descriptors. Settings and masks are
// guest input.
#pragma once

#include "syscalls/decode.h"

namespace uk {

struct TimerFdSpec {
  int64_t interval_sec, interval_nsec;
  int64_t value_sec, value_nsec;
};

Result<int64_t> sys_timerfd_create(Task& task, int clock, int flags);
Result<int64_t> sys_timerfd_settime(Task& task, Fd fd, int flags, UserIn<TimerFdSpec> to,
                                    UserOut<TimerFdSpec> old);
Result<int64_t> sys_timerfd_gettime(Task& task, Fd fd, UserOut<TimerFdSpec> current);
Result<int64_t> sys_signalfd(Task& task, Fd fd, UserIn<uint64_t> mask, size_t mask_size);
Result<int64_t> sys_signalfd4(Task& task, Fd fd, UserIn<uint64_t> mask, size_t mask_size,
                              int flags);

}  // namespace uk
