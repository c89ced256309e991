#include "ukernel/fs/anonfs/timerfd.h"

#include "absl/strings/str_format.h"
#include "ukernel/vfs/anon_inode.h"

namespace uk {

TimerFd::TimerFd(TimerQueue& timers, Clock& clock, int clock_id, bool realtime, int flags)
    : File(make_anon_path("timerfd"), O_RDWR | flags),
      clock_(clock),
      clock_id_(clock_id),
      realtime_(realtime),
      timer_(timers, [this] { expire(); }) {}

void TimerFd::expire() {
  expired_ = true;
  ++ticks_;
  queue_.wake_all(POLLIN | POLLRDNORM);
}

void TimerFd::forward() {
  if (!expired_ || interval_ns_ == 0) return;
  expired_ = false;
  const uint64_t now = clock_.monotonic_ns();
  const uint64_t missed = now > at_ns_ ? (now - at_ns_) / interval_ns_ : 0;
  ticks_ += missed;
  at_ns_ += (missed + 1) * interval_ns_;
  timer_.arm({at_ns_});
}

TimerFd::Setting TimerFd::left() const {
  const uint64_t now = clock_.monotonic_ns();
  Setting s;
  s.interval = interval_ns_;
  if (at_ns_ != 0 && !expired_) s.value = at_ns_ > now ? at_ns_ - now : 1;
  return s;
}

TimerFd::Setting TimerFd::get() {
  forward();
  return left();
}

TimerFd::Setting TimerFd::set(const Setting& to, bool absolute, int settime_flags) {
  const Setting old = get();
  timer_.cancel();
  ticks_ = 0;
  expired_ = false;
  settime_flags_ = settime_flags;
  interval_ns_ = to.interval;
  at_ns_ = 0;
  if (to.value == 0) return old;
  const uint64_t now = clock_.monotonic_ns();
  if (!absolute) {
    at_ns_ = now + std::min(to.value, UINT64_MAX / 2);
  } else if (realtime_) {
    const uint64_t real = clock_.realtime_ns();
    at_ns_ = to.value > real ? now + (to.value - real) : now;
  } else {
    at_ns_ = to.value;
  }
  timer_.arm({at_ns_});
  return old;
}

Result<size_t> TimerFd::read(Park& park, IoSink& to, uint64_t) {
  if (to.remaining() < sizeof(uint64_t)) return Err(Errno::kINVAL);
  if (ticks_ == 0 && nonblock()) return Err(Errno::kAGAIN);
  TRY(queue_.wait(
      park, [&] { return ticks_ > 0; }, WaitMode::kInterruptible, kNever, "timerfd_read"));
  forward();
  const uint64_t count = std::exchange(ticks_, 0);
  return to.put(park, std::as_bytes(std::span(&count, 1)));
}

std::string TimerFd::fdinfo() const {
  const Setting s = left();
  return absl::StrFormat(
      "clockid: %d\nticks: %d\nsettime flags: 0%o\nit_value: (%d, %d)\nit_interval: (%d, %d)\n",
      clock_id_, ticks_, settime_flags_, s.value / kNsPerSec, s.value % kNsPerSec,
      s.interval / kNsPerSec, s.interval % kNsPerSec);
}

}  // namespace uk
