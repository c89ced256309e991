// Clocks, sleeping, interval timers and POSIX timers (time(7)). Handlers run on the calling task's
// fiber; arguments are guest input.
#pragma once

#include "syscalls/decode.h"
#include "ukernel/abi/time.h"

namespace uk {

struct UserSigevent {
  uint64_t value;
  int32_t signo;
  int32_t notify;
  int32_t tid;
  int32_t pad[11];
};
static_assert(sizeof(UserSigevent) == 64);
struct UserTimezone {
  int32_t minutes_west, dst_time;
};

Result<int64_t> sys_time(Task& task, UserOut<int64_t> t);
Result<int64_t> sys_gettimeofday(Task& task, UserOut<UserTimeval> tv, UserOut<UserTimezone> tz);
Result<int64_t> sys_settimeofday(Task& task, UserIn<UserTimeval> tv, UserIn<UserTimezone> tz);
Result<int64_t> sys_clock_gettime(Task& task, int clock, UserOut<UserTimespec> ts);
Result<int64_t> sys_clock_settime(Task& task, int clock, UserIn<UserTimespec> ts);
Result<int64_t> sys_clock_getres(Task& task, int clock, UserOut<UserTimespec> ts);
Result<int64_t> sys_adjtimex(Task& task, UserInOut<UserTimex> tx);
Result<int64_t> sys_clock_adjtime(Task& task, int clock, UserInOut<UserTimex> tx);
Result<int64_t> sys_nanosleep(Task& task, UserIn<UserTimespec> request,
                              UserOut<UserTimespec> remain);
Result<int64_t> sys_clock_nanosleep(Task& task, int clock, Hex flags, UserIn<UserTimespec> request,
                                    UserOut<UserTimespec> remain);
Result<int64_t> sys_alarm(Task& task, uint32_t seconds);
Result<int64_t> sys_getitimer(Task& task, int which, UserOut<UserItimerval> value);
Result<int64_t> sys_setitimer(Task& task, int which, UserIn<UserItimerval> value,
                              UserOut<UserItimerval> old);
Result<int64_t> sys_timer_create(Task& task, int clock, UserIn<UserSigevent> event,
                                 UserOut<int32_t> id);
Result<int64_t> sys_timer_settime(Task& task, int id, Hex flags, UserIn<UserItimerspec> value,
                                  UserOut<UserItimerspec> old);
Result<int64_t> sys_timer_gettime(Task& task, int id, UserOut<UserItimerspec> value);
Result<int64_t> sys_timer_getoverrun(Task& task, int id);
Result<int64_t> sys_timer_delete(Task& task, int id);

}  // namespace uk
