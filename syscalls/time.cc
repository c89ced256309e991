#include "syscalls/time.h"

#include <signal.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>

#include "syscalls/process.h"
#include "ukernel/kernel.h"
#include "ukernel/task/pid_ns.h"
#include "ukernel/task/time_ns.h"
#include "ukernel/task/timers.h"

namespace uk {
namespace {

constexpr uint64_t kCoarseNs = 4'000'000;
constexpr int kClockTai = 11;

// What a clock id means. CPU clocks of other processes are encoded in negative ids
// (clock_getcpuclockid(3)): ~pid << 3, 4 for a thread, and which of three times.
struct ClockKind {
  enum class Base : uint8_t { kMonotonic, kRealtime, kCpu } base = Base::kMonotonic;
  bool coarse = false, alarm = false;
  bool boottime = false;  // kMonotonic with an offset of its own (time_namespaces(7))
  bool thread = false;
  int pid = 0;        // 0: the caller; a kernel number
  bool user = false;  // user time only
};

Result<ClockKind> clock_kind(Task& task, int clock) {
  using Base = ClockKind::Base;
  switch (clock) {
    case CLOCK_REALTIME:
    case kClockTai:
      return ClockKind{.base = Base::kRealtime};
    case CLOCK_REALTIME_COARSE:
      return ClockKind{.base = Base::kRealtime, .coarse = true};
    case CLOCK_REALTIME_ALARM:
      return ClockKind{.base = Base::kRealtime, .alarm = true};
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
      return ClockKind{.base = Base::kMonotonic};
    case CLOCK_BOOTTIME:
      return ClockKind{.base = Base::kMonotonic, .boottime = true};
    case CLOCK_MONOTONIC_COARSE:
      return ClockKind{.base = Base::kMonotonic, .coarse = true};
    case CLOCK_BOOTTIME_ALARM:
      return ClockKind{.base = Base::kMonotonic, .alarm = true, .boottime = true};
    case CLOCK_PROCESS_CPUTIME_ID:
      return ClockKind{.base = Base::kCpu};
    case CLOCK_THREAD_CPUTIME_ID:
      return ClockKind{.base = Base::kCpu, .thread = true};
  }
  if (clock >= 0 || (clock & 3) == 3) return Err(Errno::kINVAL);
  ClockKind k{.base = Base::kCpu,
              .thread = (clock & 4) != 0,
              .pid = ~(clock >> 3),
              .user = (clock & 3) == 1};
  if (k.pid != 0) {
    k.pid = kernel_pid(task, k.pid);
    Task* t = task.kernel.pids.task(k.pid);
    if (t == nullptr || (k.thread ? t->group != task.group : !t->is_leader()))
      return Err(Errno::kINVAL);
  }
  return k;
}

// What the clock is ahead of the kernel's.
int64_t offset_of(const Task& task, const ClockKind& k) {
  if (k.base != ClockKind::Base::kMonotonic) return 0;
  return k.boottime ? boottime_offset(task) : monotonic_offset(task);
}

uint64_t clock_now(Task& task, const ClockKind& k) {
  switch (k.base) {
    case ClockKind::Base::kMonotonic:
      return time_inside(task.kernel.guest_monotonic_ns(), offset_of(task, k));
    case ClockKind::Base::kRealtime:
      return task.kernel.guest_realtime_ns();
    case ClockKind::Base::kCpu:
      break;
  }
  Task* t = k.pid == 0 ? &task : task.kernel.pids.task(k.pid);
  if (t == nullptr) return 0;
  return k.thread ? t->cpu_ns(k.user) : t->group->cpu_ns(k.user);
}

// A time of a clock as a point on the monotonic clock.
// DEVIATION: a change of the wall clock while a wait is on does not move its end.
uint64_t to_monotonic(Task& task, const ClockKind& k, uint64_t at_ns) {
  if (k.base == ClockKind::Base::kMonotonic) return time_outside(at_ns, offset_of(task, k));
  uint64_t now = clock_now(task, k), mono = task.kernel.clock.monotonic_ns();
  return at_ns <= now ? mono : at_ns - now > kMaxTimeNs - mono ? kMaxTimeNs : mono + (at_ns - now);
}

}  // namespace

Result<int64_t> sys_time(Task& task, UserOut<int64_t> t) {
  auto now = static_cast<int64_t>(task.kernel.guest_realtime_ns() / kNsPerSec);
  if (t) TRY(t.put(task.park(), task.mm(), now));
  return now;
}

Result<int64_t> sys_gettimeofday(Task& task, UserOut<UserTimeval> tv, UserOut<UserTimezone> tz) {
  if (tv) TRY(tv.put(task.park(), task.mm(), to_timeval(task.kernel.guest_realtime_ns())));
  if (tz) TRY(tz.put(task.park(), task.mm(), UserTimezone{0, 0}));
  return 0;
}

Result<int64_t> sys_settimeofday(Task& task, UserIn<UserTimeval> tv, UserIn<UserTimezone> tz) {
  if (tv && !to_ns(TRY(tv.get(task.park(), task.mm())))) return Err(Errno::kINVAL);
  if (tz) TRY(tz.get(task.park(), task.mm()));
  return Err(Errno::kPERM);  // the clock is the host's
}

Result<int64_t> sys_clock_gettime(Task& task, int clock, UserOut<UserTimespec> ts) {
  ClockKind k = TRY(clock_kind(task, clock));
  TRY(ts.put(task.park(), task.mm(), to_timespec(clock_now(task, k))));
  return 0;
}

Result<int64_t> sys_clock_settime(Task& task, int clock, UserIn<UserTimespec> ts) {
  ClockKind k = TRY(clock_kind(task, clock));
  bool settable = clock == CLOCK_REALTIME;
  std::optional<uint64_t> ns = to_ns(TRY(ts.get(task.park(), task.mm())));
  if (k.base == ClockKind::Base::kCpu) return Err(Errno::kPERM);
  if (!settable || !ns) return Err(Errno::kINVAL);
  return Err(Errno::kPERM);  // the clock is the host's
}

Result<int64_t> sys_adjtimex(Task& task, UserInOut<UserTimex> user) {
  UserTimex tx = TRY(user.get(task.park(), task.mm()));
  // ADJ_OFFSET_SS_READ asks for what is left of an adjtime(3); all other modes change the clock,
  // which is the host's.
  if (tx.modes != 0 && tx.modes != ADJ_OFFSET_SS_READ) return Err(Errno::kPERM);
  uint32_t modes = tx.modes;
  tx = {};
  tx.modes = modes;
  // The state of a clock that nobody here disciplines, as Linux has it after boot.
  tx.status = STA_UNSYNC;
  tx.maxerror = tx.esterror = 16'000'000;
  tx.constant = 2;
  tx.precision = 1;
  tx.tolerance = 500 << 16;  // parts per million, 16 bits after the point
  tx.tick = 10'000;
  tx.time = to_timeval(task.kernel.guest_realtime_ns());
  TRY(user.put(task.park(), task.mm(), tx));
  return TIME_ERROR;
}

Result<int64_t> sys_clock_adjtime(Task& task, int clock, UserInOut<UserTimex> tx) {
  TRY(clock_kind(task, clock));
  if (clock != CLOCK_REALTIME) return Err(Errno::kOPNOTSUPP);
  return sys_adjtimex(task, tx);
}

Result<int64_t> sys_clock_getres(Task& task, int clock, UserOut<UserTimespec> ts) {
  ClockKind k = TRY(clock_kind(task, clock));
  if (ts) TRY(ts.put(task.park(), task.mm(), to_timespec(k.coarse ? kCoarseNs : 1)));
  return 0;
}

namespace {

// Sleeps to a point on the monotonic clock, or on a CPU clock.
Result<> sleep_until(Task& task, const ClockKind& k, uint64_t at_ns) {
  WaitQueue nothing;
  auto wait = [&](uint64_t until) {
    return nothing.wait(
        task.park(), [] { return false; }, WaitMode::kInterruptible, Deadline{until}, "nanosleep");
  };
  for (;;) {
    uint64_t until = at_ns;
    if (k.base == ClockKind::Base::kCpu) {
      // No CPU time passes while nobody of that process runs: look again after what is left of it.
      uint64_t now = clock_now(task, k);
      if (now >= at_ns) return {};
      until = task.kernel.clock.monotonic_ns() + std::max<uint64_t>(at_ns - now, 1'000'000);
    }
    Result<> r = wait(until);
    CHECK(!r);
    if (r.error() != Errno::kTIMEDOUT) return r;
    if (k.base != ClockKind::Base::kCpu) return {};
  }
}

// The remaining part of a relative sleep; runs again after a stop (restart_syscall(2)).
Result<int64_t> relative_sleep(Task& task, const ClockKind& k, uint64_t at_ns,
                               UserOut<UserTimespec> remain) {
  Result<> r = sleep_until(task, k, at_ns);
  if (r) return 0;
  if (remain) {
    uint64_t now =
        k.base == ClockKind::Base::kCpu ? clock_now(task, k) : task.kernel.clock.monotonic_ns();
    TRY(remain.put(task.park(), task.mm(), to_timespec(at_ns > now ? at_ns - now : 0)));
  }
  task.restart_block = [k, at_ns, remain](Task& t) { return relative_sleep(t, k, at_ns, remain); };
  return Err(Errno::kRestartBlock);
}

uint64_t after(uint64_t now, uint64_t ns) { return ns > kMaxTimeNs - now ? kMaxTimeNs : now + ns; }

Result<int64_t> start_sleep(Task& task, const ClockKind& k, uint64_t ns,
                            UserOut<UserTimespec> remain) {
  bool cpu = k.base == ClockKind::Base::kCpu;
  uint64_t now = cpu ? clock_now(task, k) : task.kernel.clock.monotonic_ns();
  return relative_sleep(task, k, after(now, ns), remain);
}

}  // namespace

Result<int64_t> sys_nanosleep(Task& task, UserIn<UserTimespec> request,
                              UserOut<UserTimespec> remain) {
  std::optional<uint64_t> ns = to_ns(TRY(request.get(task.park(), task.mm())));
  if (!ns) return Err(Errno::kINVAL);
  return start_sleep(task, ClockKind{}, *ns, remain);
}

Result<int64_t> sys_clock_nanosleep(Task& task, int clock, Hex flags, UserIn<UserTimespec> request,
                                    UserOut<UserTimespec> remain) {
  ClockKind k = TRY(clock_kind(task, clock));
  if (k.coarse) return Err(Errno::kOPNOTSUPP);
  if (clock == CLOCK_MONOTONIC_RAW) return Err(Errno::kOPNOTSUPP);
  if (k.base == ClockKind::Base::kCpu && k.thread && (k.pid == 0 || k.pid == task.tid))
    return Err(clock >= 0 ? Errno::kOPNOTSUPP : Errno::kINVAL);
  if (k.alarm && !task.cred().has(Cap::kWakeAlarm)) return Err(Errno::kPERM);
  std::optional<uint64_t> ns = to_ns(TRY(request.get(task.park(), task.mm())));
  if (!ns) return Err(Errno::kINVAL);
  if ((flags.value & TIMER_ABSTIME) == 0) return start_sleep(task, k, *ns, remain);
  uint64_t at = k.base == ClockKind::Base::kCpu ? *ns : to_monotonic(task, k, *ns);
  Result<> r = sleep_until(task, k, at);
  return r ? Result<int64_t>(0) : Err(Errno::kRestartNoHand);
}

// ---- interval timers

namespace {

UserItimerval to_user(const ItimerValue& v) {
  // A timer that is armed never shows as zero.
  uint64_t left = v.value == 0 ? 0 : std::max<uint64_t>(v.value, 1000);
  return {to_timeval(v.interval), to_timeval(left)};
}

UserItimerspec to_user_spec(const ItimerValue& v) {
  return {to_timespec(v.interval), to_timespec(v.value)};
}

}  // namespace

Result<int64_t> sys_alarm(Task& task, uint32_t seconds) {
  ItimerValue old = task.group->timers->set(ITIMER_REAL, {uint64_t{seconds} * kNsPerSec, 0});
  // Rounded, but not to "none".
  uint64_t left = (old.value + kNsPerSec / 2) / kNsPerSec;
  return static_cast<int64_t>(old.value != 0 && left == 0 ? 1 : left);
}

Result<int64_t> sys_getitimer(Task& task, int which, UserOut<UserItimerval> value) {
  if (which < ITIMER_REAL || which > ITIMER_PROF) return Err(Errno::kINVAL);
  TRY(value.put(task.park(), task.mm(), to_user(task.group->timers->get(which))));
  return 0;
}

Result<int64_t> sys_setitimer(Task& task, int which, UserIn<UserItimerval> value,
                              UserOut<UserItimerval> old) {
  ItimerValue next;
  if (value) {
    UserItimerval v = TRY(value.get(task.park(), task.mm()));
    std::optional<uint64_t> first = to_ns(v.value), interval = to_ns(v.interval);
    if (!first || !interval) return Err(Errno::kINVAL);
    next = {*first, *interval};
  }
  if (which < ITIMER_REAL || which > ITIMER_PROF) return Err(Errno::kINVAL);
  ItimerValue before = task.group->timers->set(which, next);
  if (old) TRY(old.put(task.park(), task.mm(), to_user(before)));
  return 0;
}

// ---- POSIX timers

Result<int64_t> sys_timer_create(Task& task, int clock, UserIn<UserSigevent> event,
                                 UserOut<int32_t> id) {
  ClockKind k = TRY(clock_kind(task, clock));
  if (k.coarse || clock == CLOCK_MONOTONIC_RAW) return Err(Errno::kOPNOTSUPP);
  if (k.alarm && !task.cred().has(Cap::kWakeAlarm)) return Err(Errno::kPERM);
  if (k.base == ClockKind::Base::kCpu && k.pid != 0 &&
      task.kernel.pids.task(k.pid)->group != task.group)
    return Err(Errno::kOPNOTSUPP);  // DEVIATION: only on CPU clocks of one's own
  TimerEvent e{.notify = SIGEV_SIGNAL, .signo = SIGALRM, .value = 0, .tid = 0};
  bool default_value = !event;
  if (event) {
    UserSigevent u = TRY(event.get(task.park(), task.mm()));
    e = {.notify = u.notify, .signo = u.signo, .value = u.value, .tid = u.tid};
    if (e.notify != SIGEV_SIGNAL && e.notify != SIGEV_NONE && e.notify != SIGEV_THREAD_ID &&
        e.notify != SIGEV_THREAD)
      return Err(Errno::kINVAL);
    if (e.notify == SIGEV_THREAD) e.notify = SIGEV_SIGNAL;
    if (e.notify != SIGEV_NONE && (e.signo < 1 || e.signo > kSignals)) return Err(Errno::kINVAL);
    if (e.notify == SIGEV_THREAD_ID) {
      e.tid = kernel_pid(task, e.tid);
      Task* t = task.kernel.pids.task(e.tid);
      if (t == nullptr || t->group != task.group) return Err(Errno::kINVAL);
    }
  }
  int kind = k.base != ClockKind::Base::kCpu ? clock
             : k.thread                      ? CLOCK_THREAD_CPUTIME_ID
                                             : CLOCK_PROCESS_CPUTIME_ID;
  int cpu_tid = k.pid == 0 ? task.tid : k.pid;
  PosixTimer* timer = TRY(task.group->timers->create(kind, cpu_tid, e));
  int number = timer->id;
  if (default_value) timer->set_value(static_cast<uint64_t>(number));
  if (Result<> r = id.put(task.park(), task.mm(), number); !r) {
    task.group->timers->posix.erase(number);
    return Err(r.error());
  }
  return 0;
}

Result<int64_t> sys_timer_settime(Task& task, int id, Hex flags, UserIn<UserItimerspec> value,
                                  UserOut<UserItimerspec> old) {
  if (!value) return Err(Errno::kINVAL);
  UserItimerspec v = TRY(value.get(task.park(), task.mm()));
  std::optional<uint64_t> first = to_ns(v.value), interval = to_ns(v.interval);
  if (!first || !interval) return Err(Errno::kINVAL);
  PosixTimer* timer = task.group->timers->find(id);
  if (timer == nullptr) return Err(Errno::kINVAL);
  ItimerValue before = timer->left();
  uint64_t at = 0, late = 0;
  if (*first != 0) {
    bool absolute = (flags.value & TIMER_ABSTIME) != 0;
    if (timer->cpu()) {
      at = absolute ? *first : after(timer->now(), *first);
    } else {
      ClockKind k = TRY(clock_kind(task, timer->clock));
      uint64_t now = clock_now(task, k);
      at = absolute ? std::max<uint64_t>(to_monotonic(task, k, *first), 1)
                    : after(task.kernel.clock.monotonic_ns(), *first);
      if (absolute && k.base == ClockKind::Base::kRealtime && *first < now) late = now - *first;
    }
  }
  timer->arm(at, *interval, late);
  if (old) TRY(old.put(task.park(), task.mm(), to_user_spec(before)));
  return 0;
}

Result<int64_t> sys_timer_gettime(Task& task, int id, UserOut<UserItimerspec> value) {
  PosixTimer* timer = task.group->timers->find(id);
  if (timer == nullptr) return Err(Errno::kINVAL);
  TRY(value.put(task.park(), task.mm(), to_user_spec(timer->left())));
  return 0;
}

Result<int64_t> sys_timer_getoverrun(Task& task, int id) {
  PosixTimer* timer = task.group->timers->find(id);
  if (timer == nullptr) return Err(Errno::kINVAL);
  return timer->overrun();
}

Result<int64_t> sys_timer_delete(Task& task, int id) {
  return task.group->timers->posix.erase(id) != 0 ? Result<int64_t>(0) : Err(Errno::kINVAL);
}

}  // namespace uk
