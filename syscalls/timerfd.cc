#include "syscalls/timerfd.h"

#include <sys/timerfd.h>

#include "syscalls/fs_common.h"
#include "ukernel/fs/anonfs/timerfd.h"
#include "ukernel/task/time_ns.h"

namespace uk {
namespace {

constexpr int kRealtime = 0, kMonotonic = 1, kBoottime = 7, kRealtimeAlarm = 8, kBoottimeAlarm = 9;
constexpr uint64_t kMaxSec = 1ull << 33;

Result<uint64_t> ns_of(int64_t sec, int64_t nsec) {
  if (sec < 0 || nsec < 0 || nsec >= static_cast<int64_t>(kNsPerSec)) return Err(Errno::kINVAL);
  return std::min(static_cast<uint64_t>(sec), kMaxSec) * kNsPerSec + static_cast<uint64_t>(nsec);
}

TimerFdSpec spec_of(const TimerFd::Setting& s) {
  auto sec = [](uint64_t ns) { return static_cast<int64_t>(ns / kNsPerSec); };
  auto nsec = [](uint64_t ns) { return static_cast<int64_t>(ns % kNsPerSec); };
  return {sec(s.interval), nsec(s.interval), sec(s.value), nsec(s.value)};
}

struct TimerRef {
  Ref<File> file;
  TimerFd* timer;
};
Result<TimerRef> timer_of(Task& task, Fd fd) {
  TimerRef r{TRY(task.fds().get_io(fd)), nullptr};
  r.timer = dynamic_cast<TimerFd*>(r.file.get());
  if (r.timer == nullptr) return Err(Errno::kINVAL);
  return r;
}

}  // namespace

Result<int64_t> sys_timerfd_create(Task& task, int clock, int flags) {
  const bool alarm = clock == kRealtimeAlarm || clock == kBoottimeAlarm;
  if ((flags & ~(TFD_CLOEXEC | TFD_NONBLOCK)) != 0) return Err(Errno::kINVAL);
  if (clock != kRealtime && clock != kMonotonic && clock != kBoottime && !alarm)
    return Err(Errno::kINVAL);
  if (alarm && !task.cred().has(Cap::kWakeAlarm)) return Err(Errno::kPERM);
  const bool realtime = clock == kRealtime || clock == kRealtimeAlarm;
  auto file = make_ref<TimerFd>(task.kernel.reactor.timers(), task.kernel.clock, clock, realtime,
                                flags & TFD_NONBLOCK);
  return install_fd(task, file, (flags & TFD_CLOEXEC) != 0);
}

Result<int64_t> sys_timerfd_settime(Task& task, Fd fd, int flags, UserIn<TimerFdSpec> to,
                                    UserOut<TimerFdSpec> old) {
  const TimerFdSpec spec = TRY(to.get(task.park(), task.mm()));
  if ((flags & ~(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET)) != 0) return Err(Errno::kINVAL);
  TimerFd::Setting wanted;
  wanted.value = TRY(ns_of(spec.value_sec, spec.value_nsec));
  wanted.interval = TRY(ns_of(spec.interval_sec, spec.interval_nsec));
  TimerRef t = TRY(timer_of(task, fd));
  const int clock = t.timer->clock_id();
  if ((flags & TFD_TIMER_ABSTIME) != 0 && wanted.value != 0 && clock != kRealtime &&
      clock != kRealtimeAlarm) {
    const int64_t ahead = clock == kMonotonic ? monotonic_offset(task) : boottime_offset(task);
    wanted.value = std::max<uint64_t>(time_outside(wanted.value, ahead), 1);
  }
  const TimerFd::Setting was = t.timer->set(wanted, (flags & TFD_TIMER_ABSTIME) != 0, flags);
  if (old) TRY(old.put(task.park(), task.mm(), spec_of(was)));
  return 0;
}

Result<int64_t> sys_timerfd_gettime(Task& task, Fd fd, UserOut<TimerFdSpec> current) {
  TimerRef t = TRY(timer_of(task, fd));
  return zero(current.put(task.park(), task.mm(), spec_of(t.timer->get())));
}

}  // namespace uk
