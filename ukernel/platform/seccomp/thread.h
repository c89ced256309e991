// A host thread whose calls and signals come as notifications, or (guest threads on direct) through
// their slots: where it stands, and the last report that it waits in. The state machine:
//
//   kRunning --call--> kCall --answer()--> kRunning: an answered call returns to the guest's code
//   kRunning --signal--> kReport --answer()--> kRunning: in the stub's handler, registers in the
//     shared frame. With slots every call is such a signal, and there is no kCall.
//   kCall --interrupt()--> kRunning --> kReport: the call is abandoned: its frame stands at the
//     instruction
//   any --the process dies--> kDead
//
// A call through the gate (slot.h) is a kCall that is held, or stands in UK_NR_PARK. One that is
// held can be sent back to its instruction, whose signal is the report. A signal that interrupts
// the gate makes a report of it, whose frame stands at the call instruction, as that of any
// abandoned call; so kCall may become kReport by itself.
//
// A report that came through the slot is "held": its thread, if honest, spins for the answer, and
// sleeps on the slot's turn when that takes long. Only the host's notification proves that a thread
// stands still, and nothing but a report that is not held may count as such.
//
// Ownership: a Thread belongs to a space or context; the platform's table finds it by host thread
// id. wait() suspends. Untrusted: what the notification and the frame say, but for tid, id and
// (report) the frame's address, which is checked to lie on the thread's own signal stack.
#pragma once

#include <linux/seccomp.h>
#include <sys/syscall.h>

#include <cstdint>
#include <optional>
#include <utility>

#include "base/list.h"
#include "base/result.h"
#include "ukernel/platform/seccomp/listener.h"
#include "ukernel/platform/seccomp/slot.h"
#include "ukernel/platform/stub/placement.h"
#include "ukernel/sched/fiber.h"
#include "ukernel/sched/timer.h"

namespace uk::seccomp {

class SeccompPlatform;

constexpr int kKickSignal = 10;  // SIGUSR1

// On the platform's list of running threads with slots, or of held ones.
class Thread : public ListNode<> {
 public:
  enum class State { kRunning, kCall, kReport, kDead };

  // kMm: an mm thread, which runs for moments only, by our order.
  enum class Kind { kGuest, kMm };
  // tgid: the stub's process. Counts as running.
  Thread(SeccompPlatform& platform, int tgid, int tid, Kind kind, Slot slot = {});
  ~Thread();
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;

  int tgid() const { return tgid_; }
  int tid() const { return tid_; }
  State state() const { return state_; }
  bool dead() const { return state_ == State::kDead; }
  bool running() const { return state_ == State::kRunning; }
  SeccompPlatform& platform() const { return platform_; }
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
  // Towards a report without waiting for it: its owner leaves. One that is held stays so.
  void abandon();
  // It executes none of the guest's code, nor will it before its report: it stands in one, or is on
  // its way from a call. Of a call through the gate only the guest says that it waits.
  bool parked() const {
    return (state_ == State::kReport && !held_) || (running() && left_call_ && !gated_);
  }
  // Its report came through the slot, and the host has not said that it stands still.
  bool held() const { return held_; }
  // Held: it shall wait asleep, as the answer will take a while.
  void tell_to_sleep();
  // Held: it shall know that it is, as there is no answer yet.
  void tell_it_was_taken() {
    if (gated_ && !std::exchange(told_taken_, true)) slot_.mark_taken();
  }
  // Held: it shall wait in a notification, to prove that it stands still.
  void tell_to_park();
  // It stands in a report of which nothing is asked any more, and will be answered soon: it shall
  // be on its CPU and wait for that in its slot, as the way there takes as long as a batch. Nothing
  // without slots, or while nobody spins.
  void call_up();
  // Running: on any CPU from now on.
  void let_loose();
  // Takes a report out of the slot, if there is one.
  bool look();
  // A call through the gate was taken, and no answer to it has reached the thread.
  bool gated() const { return gated_; }
  // The same, and it came with all registers (slot.h); came_with_fp(): extended state too.
  bool came_with_regs() const { return state_ == State::kCall && gated_ && call_all_; }
  bool came_with_fp() const { return came_with_regs() && call_.nr != SYS_rt_sigreturn; }
  // What it returns with beside its result: UK_LOAD_*.
  void set_load(uint32_t load) { load_ = load; }
  void add_load(uint32_t load) { load_ |= load; }
  // The report came through the slot.
  bool by_slot() const { return by_slot_; }
  // A kick signal was sent and its report has not come.
  bool interrupt_pending() const { return interrupt_pending_; }
  // kCall: abandons the call by a signal and waits for the report: of that signal, or of the call
  // by its instruction (SIGSYS). Error: kSRCH.
  Result<> leave_call(Park& park);

 private:
  friend class SeccompPlatform;
  enum class Notice { kCall, kReport, kPark, kGatePark };  // by where the stub made it
  void on_notification(const seccomp_notif& n, Notice what);
  void on_report();
  // It reported, or made a call: wakes the fiber that waits for it.
  void came_back();
  // Who computed for long while others run shall not wait for us to leave this CPU.
  Listener::Wake wake() const;
  void on_park(const seccomp_notif& n);
  void on_gate_park(const seccomp_notif& n);
  bool find_in_slot();
  void tell(Slot::Gave gave);
  Result<> answer_gate(uint64_t result, Listener::Wake where, bool* lost);
  void overtaken();
  bool give_owed(const seccomp_notif& n);
  void on_death();
  void set_state(State s);
  void set_held(bool held);
  void set_interrupt_pending(bool pending);
  void check_on_kick();

  SeccompPlatform& platform_;
  int tgid_, tid_;
  Kind kind_;
  State state_ = State::kCall;
  stub::Placement::Seat seat_;
  uint64_t id_ = 0;
  seccomp_data call_ = {};
  uint64_t resumed_ns_ = 0, ran_ns_ = 0;  // unless all spin
  bool interrupt_pending_ = false;
  bool left_call_ = false;  // abandoned in a call
  Slot slot_;
  bool held_ = false;
  bool gated_ = false;
  bool call_all_ = false;  // of a call through the gate
  bool told_taken_ = false;
  uint32_t load_ = 0;
  bool by_slot_ = false;
  std::optional<uint32_t> owed_;  // the answer to a thread that is on its way to parking
  Timer watchdog_;
  int blocked_seen_ = 0;
  Fiber* waiter_ = nullptr;
};

}  // namespace uk::seccomp
