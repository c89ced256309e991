// Wait queues: where fibers wait for a condition, and where poll and epoll listen. Waiting is by
// predicate, so a wake may be spurious and is never lost: the predicate is tested after the waiter
// is queued. Interruption is a value (kRestartSys), as is the end of time (kTIMEDOUT).
//
// Ownership: the object waited on owns the queue; it must outlive its waiters (take a Ref before
// waiting).
#pragma once

#include <cstdint>

#include "base/list.h"
#include "base/result.h"
#include "ukernel/sched/fiber.h"

namespace uk {

// Listens on a WaitQueue. on_wake runs on the reactor thread, inside the waker: it must not suspend
// and must not destroy the queue. It may remove itself.
class Waiter : public ListNode<> {
 public:
  // `events`: poll(2) bits that may now be true (all ones when the waker does not say).
  virtual void on_wake(uint32_t events) = 0;
  // An exclusive waiter consumes one wake_one().
  virtual bool exclusive() const { return false; }

 protected:
  ~Waiter() = default;
};

class FiberWaiter final : public Waiter {
 public:
  explicit FiberWaiter(Park& park, bool exclusive = false)
      : fiber_(park.fiber()), exclusive_(exclusive) {}
  // Leaves the queue, so that a second wake_one() reaches somebody else.
  void on_wake(uint32_t) override {
    unlink();
    fiber_.wake();
  }
  bool exclusive() const override { return exclusive_; }

 private:
  Fiber& fiber_;
  bool exclusive_;
};

class WaitQueue {
 public:
  WaitQueue() = default;
  WaitQueue(const WaitQueue&) = delete;
  WaitQueue& operator=(const WaitQueue&) = delete;

  // Suspends until pred() is true. Errors: kRestartSys (interrupted, see WaitMode), kTIMEDOUT.
  // pred() is tested before interruption and before the deadline, so that a true predicate always
  // wins. `exclusive`: see Waiter. An exclusive waiter whose predicate turns out false, or that is
  // interrupted, must be such that nobody else could have used its wake (or the waker uses
  // wake_all()).
  template <class Pred>
  Result<> wait(Park& park, Pred&& pred, WaitMode mode = WaitMode::kInterruptible,
                Deadline deadline = kNever, const char* why = "wait", bool exclusive = false) {
    while (!pred()) {
      if (park.interrupted(mode)) return Err(Errno::kRestartSys);
      if (expired(park, deadline)) return Err(Errno::kTIMEDOUT);
      FiberWaiter waiter(park, exclusive);
      waiters_.push_back(waiter);
      park.fiber().set_wait_reason(why);
      park.suspend(deadline);
      park.fiber().set_wait_reason(nullptr);
    }
    return {};
  }

  // Wakes every waiter that is queued now.
  void wake_all(uint32_t events = ~0u) { wake(events, false); }
  // Wakes all non-exclusive waiters and the first exclusive one.
  void wake_one(uint32_t events = ~0u) { wake(events, true); }
  void add(Waiter& w) { waiters_.push_back(w); }  // Waiter::unlink() removes
  bool empty() const { return const_cast<List<Waiter>&>(waiters_).empty(); }

 private:
  static bool expired(Park& park, Deadline deadline);
  void wake(uint32_t events, bool only_one_exclusive);
  List<Waiter> waiters_;
};

// A sleeping lock for state that is held across suspension points (file position, directory
// changes).
class Mutex {
 public:
  void lock(Park& park);
  bool try_lock() { return locked_ ? false : (locked_ = true); }
  void unlock() {
    locked_ = false;
    queue_.wake_one();
  }
  bool locked() const { return locked_; }

 private:
  bool locked_ = false;
  WaitQueue queue_;
};

class MutexLock {
 public:
  MutexLock(Park& park, Mutex& m) : m_(m) { m_.lock(park); }
  ~MutexLock() { m_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& m_;
};

}  // namespace uk
