// Timers on the monotonic clock. A Timer is caller-owned and re-armable; its callback runs from the
// reactor loop, never from inside arm() or cancel(), and may do anything to any timer but destroy
// its own. Destroying an armed timer cancels it. Resolution is the host's (hrtimers).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/list.h"
#include "ukernel/sched/clock.h"

namespace uk {

class TimerQueue;

class Timer : public ListNode<> {
 public:
  using Callback = std::function<void()>;
  Timer(TimerQueue& queue, Callback callback) : queue_(queue), callback_(std::move(callback)) {}
  ~Timer() { cancel(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  // Arms (or moves) the timer. A deadline in the past fires at the next turn of the loop.
  void arm(Deadline at);
  void cancel();
  bool armed() const { return slot_ != kNone || linked(); }
  Deadline deadline() const { return at_; }

 private:
  friend class TimerQueue;
  static constexpr size_t kNone = SIZE_MAX;
  TimerQueue& queue_;
  Callback callback_;
  Deadline at_;
  uint64_t order_ = 0;   // arming order among equal deadlines
  size_t slot_ = kNone;  // place in the queue's heap; when due, it is on a list instead
};

// Owned by the Reactor. A binary heap by (deadline, arming order) of timers that know their slot.
class TimerQueue {
 public:
  TimerQueue() = default;
  ~TimerQueue() { clear(); }
  TimerQueue(const TimerQueue&) = delete;
  TimerQueue& operator=(const TimerQueue&) = delete;
  // The earliest armed deadline, or kNever.
  Deadline next() const { return heap_.empty() ? kNever : heap_.front()->at_; }
  // Runs callbacks of all timers due at now_ns. Returns how many ran. What they arm fires in a
  // later call.
  size_t expire(uint64_t now_ns);
  void clear();  // disarms all

 private:
  friend class Timer;
  static bool before(const Timer& a, const Timer& b) {
    return a.at_.at_ns != b.at_.at_ns ? a.at_.at_ns < b.at_.at_ns : a.order_ < b.order_;
  }
  void insert(Timer& t);
  void remove(Timer& t);
  void place(size_t slot, Timer* t);
  void sift_up(size_t slot);
  void sift_down(size_t slot);

  std::vector<Timer*> heap_;
  uint64_t next_order_ = 0;
};

}  // namespace uk
