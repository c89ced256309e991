// timerfd_create(2): a timer whose expirations are read as a count. Periodic ones are counted when
// somebody looks, so a timer nobody reads costs one wake-up. read() suspends.
#pragma once

#include <cstdint>

#include "ukernel/sched/clock.h"
#include "ukernel/sched/timer.h"
#include "ukernel/vfs/file.h"

namespace uk {

class TimerFd final : public File {
 public:
  struct Setting {  // ns; value 0: disarmed
    uint64_t value = 0, interval = 0;
  };
  // `realtime`: on the wall clock (CLOCK_REALTIME), else monotonic. `flags`: O_NONBLOCK.
  TimerFd(TimerQueue& timers, Clock& clock, int clock_id, bool realtime, int flags);

  // `absolute`: the value is a time of the kernel's clock. Returns the old setting.
  Setting set(const Setting& to, bool absolute, int settime_flags);
  Setting get();
  int clock_id() const { return clock_id_; }

  Result<size_t> read(Park& park, IoSink& to, uint64_t offset) override;
  uint32_t ready() override { return ticks_ > 0 ? POLLIN : 0; }
  WaitQueue* poll_queue() override { return &queue_; }
  std::string fdinfo() const override;

 private:
  Setting left() const;
  void expire();
  // After an expiry of a periodic timer: counts those missed since, and goes on.
  void forward();

  Clock& clock_;
  const int clock_id_;
  const bool realtime_;
  int settime_flags_ = 0;
  Timer timer_;
  uint64_t at_ns_ = 0;  // monotonic time of the next expiry; 0: none
  uint64_t interval_ns_ = 0;
  uint64_t ticks_ = 0;
  bool expired_ = false;  // and not forwarded yet
  WaitQueue queue_;
};

}  // namespace uk
