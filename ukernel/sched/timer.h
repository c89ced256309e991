// Timers on the monotonic clock. A Timer is caller-owned and re-armable; its callback runs from the
// reactor loop, never from inside arm() or cancel(). Destroying an armed timer cancels it.
// Resolution is the host's (hrtimers).
#pragma once

#include <cstdint>
#include <functional>

#include "ukernel/sched/clock.h"

namespace uk {

class TimerQueue;

class Timer {
 public:
  using Callback = std::function<void()>;
  Timer(TimerQueue& queue, Callback callback) : queue_(queue), callback_(std::move(callback)) {}
  ~Timer() { cancel(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  // Arms (or moves) the timer. A deadline in the past fires at the next turn of the loop.
  void arm(Deadline at);
  void cancel();
  bool armed() const { return armed_; }
  Deadline deadline() const { return at_; }

 private:
  friend class TimerQueue;
  TimerQueue& queue_;
  Callback callback_;
  Deadline at_;
  uint64_t order_ = 0;  // arming order among equal deadlines
  bool armed_ = false;
};

// Owned by the Reactor.
class TimerQueue {
 public:
  TimerQueue();
  ~TimerQueue();
  // The earliest armed deadline, or kNever.
  Deadline next() const;
  // Runs callbacks of all timers due at now_ns. Returns how many ran.
  size_t expire(uint64_t now_ns);

 private:
  friend class Timer;
  struct Impl;
  Impl* impl_;
};

}  // namespace uk
