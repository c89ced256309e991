// A host thread whose calls and signals come as notifications: where it stands, and the last
// notification that it waits in. The state machine of the notify platform:
//
//   kRunning --call--> kCall --answer()--> kRunning          an answered call returns to the
//   guest's code kRunning --signal--> kReport --answer()--> kRunning      in the stub's handler,
//   registers in the shared frame kCall --interrupt()--> kRunning --> kReport              the call
//   is abandoned: its frame stands at the instruction any --the process dies--> kDead
//
// Ownership: a Thread belongs to a space or context; the platform's table finds it by host thread
// id. wait() suspends. Untrusted: what the notification and the frame say, but for tid, id and
// (report) the frame's address, which is checked to lie on the thread's own signal stack.
#pragma once

#include <linux/seccomp.h>

#include <cstdint>

#include "base/result.h"
#include "ukernel/platform/stub/placement.h"
#include "ukernel/platform/stub/stack_pages.h"
#include "ukernel/sched/fiber.h"
#include "ukernel/sched/timer.h"

namespace uk::notify {

class NotifyPlatform;

constexpr int kKickSignal = 10;  // SIGUSR1

class Thread {
 public:
  enum class State { kRunning, kCall, kReport, kDead };

  // kMm: an mm thread, which runs for moments only, by our order.
  enum class Kind { kGuest, kMm };
  // tgid: the stub's process. Counts as running.
  Thread(NotifyPlatform& platform, int tgid, int tid, Kind kind);
  ~Thread();
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;

  int tgid() const { return tgid_; }
  int tid() const { return tid_; }
  State state() const { return state_; }
  bool dead() const { return state_ == State::kDead; }
  bool running() const { return state_ == State::kRunning; }
  NotifyPlatform& platform() const { return platform_; }
  // Of the last notification.
  const seccomp_data& call() const { return call_; }

  // True if it stands in a notification that the host still knows: nobody killed it meanwhile.
  bool waits() const;
  // Answers the notification; the thread runs. Error: kSRCH when dead. An answer that the host says
  // came too late leaves the thread "running" as well, towards its next notification: `*lost` is
  // set.
  Result<> answer(uint64_t value, bool* lost);
  // Suspends until it no longer runs; false when dead.
  bool wait(Park& park);
  // Sends the kick signal, unless one is on its way. The handler's report follows, unless the guest
  // blocked the signal, for which the stub is killed after a while.
  void interrupt();
  // Towards a report without waiting for it: its owner leaves.
  void abandon();
  // It executes none of the guest's code, nor will it before its report: it stands in one, or is on
  // its way from a call.
  bool parked() const { return state_ == State::kReport || (running() && left_call_); }
  // A kick signal was sent and its report has not come.
  bool interrupt_pending() const { return interrupt_pending_; }
  // kCall: abandons the call by a signal and waits for the report. Error: kSRCH.
  Result<> leave_call(Park& park);

 private:
  friend class NotifyPlatform;
  void on_notification(const seccomp_notif& n, bool is_report);
  void on_death();
  void set_state(State s);
  void check_on_kick();

  NotifyPlatform& platform_;
  int tgid_, tid_;
  Kind kind_;
  State state_ = State::kCall;
  stub::Placement::Seat seat_;
  uint64_t id_ = 0;
  seccomp_data call_ = {};
  bool interrupt_pending_ = false;
  bool left_call_ = false;  // abandoned in a call
  Timer watchdog_;
  int blocked_seen_ = 0;
  Fiber* waiter_ = nullptr;
};

}  // namespace uk::notify
