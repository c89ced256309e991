#include "ukernel/platform/seccomp/thread.h"

#include <signal.h>

#include <cstdlib>
#include <string>

#include "base/check.h"
#include "hostio/sys/file.h"
#include "hostio/sys/process.h"
#include "ukernel/platform/seccomp/seccomp_platform.h"

namespace uk::seccomp {
namespace {

constexpr uint64_t kWatchdogNs = 500'000'000;
// From resuming to a report. Waking a thread on another CPU costs less than that.
constexpr uint64_t kComputesNs = 30'000;

constexpr int kWatchdogPatience = 4;

// True if the host says that the thread blocks the kick signal and is not stopped. False also if
// the host does not say.
bool blocks_kicks(int tgid, int tid) {
  auto text = sys::read_file(
      ("/proc/" + std::to_string(tgid) + "/task/" + std::to_string(tid) + "/status").c_str());
  if (!text || text->find("\nState:\tT") != std::string::npos) return false;
  const size_t at = text->find("\nSigBlk:");
  if (at == std::string::npos) return false;
  const uint64_t mask = std::strtoull(text->c_str() + at + 8, nullptr, 16);
  return ((mask >> (kKickSignal - 1)) & 1) != 0;
}

}  // namespace

Thread::Thread(SeccompPlatform& platform, int tgid, int tid, Kind kind, Slot slot)
    : platform_(platform),
      tgid_(tgid),
      tid_(tid),
      kind_(kind),
      seat_(platform.placement().inherited()),
      slot_(slot),
      watchdog_(platform.reactor().timers(), [this] { check_on_kick(); }) {
  set_state(State::kRunning);
  platform_.enroll(*this);
}

Thread::~Thread() {
  CHECK(waiter_ == nullptr);
  set_held(false);
  set_interrupt_pending(false);
  set_state(State::kDead);
  platform_.dismiss(*this);
}

void Thread::set_state(State s) {
  platform_.count_running((s == State::kRunning) - (state_ == State::kRunning), kind_);
  if (slot_ && s != state_) {
    unlink();
    if (s == State::kRunning) platform_.door().watch(*this);
  }
  state_ = s;
}

void Thread::set_held(bool held) {
  platform_.count_expected(held - held_);
  held_ = held;
}

void Thread::set_interrupt_pending(bool pending) {
  platform_.count_expected(pending - interrupt_pending_);
  interrupt_pending_ = pending;
}

// True if the slot had something, which is now the thread's state, held.
bool Thread::find_in_slot() {
  const Slot::Found found = slot_.take(&call_, gated_);
  if (found == Slot::Found::kNothing) return false;
  owed_.reset();
  set_held(true);
  gated_ |= found != Slot::Found::kReport;
  told_taken_ = false;
  call_all_ = found == Slot::Found::kCallAll;
  by_slot_ = found == Slot::Found::kReport;
  set_state(by_slot_ ? State::kReport : State::kCall);
  return true;
}

bool Thread::look() {
  if (!find_in_slot()) return false;
  platform_.door().hold(*this);
  if (by_slot_) {
    on_report();
  } else {
    came_back();
  }
  return true;
}

void Thread::tell_to_sleep() {
  if (held_) tell(slot_.sleep());
}

void Thread::tell_to_park() {
  if (held_) tell(slot_.park());
}

void Thread::tell(Slot::Gave gave) {
  unlink();
  if (gave == Slot::Gave::kOvertaken && gated_) return overtaken();
  if (gave == Slot::Gave::kOvertaken || gave == Slot::Gave::kForged) platform_.kill_stub(tgid_);
}

void Thread::let_loose() { platform_.placement().let_loose(tid_, seat_); }

// Instead of our answer the thread got a signal, and reports it.
void Thread::overtaken() {
  set_held(false);
  set_state(State::kRunning);
}

// The thread has parked, and its answer was there before it.
bool Thread::give_owed(const seccomp_notif& n) {
  if (!owed_) return false;
  // Should the answer come too late (the host's user stopped the stub), the same call comes again.
  if (platform_.listener().answer(n.id, *owed_)) owed_.reset();
  return true;
}

void Thread::on_park(const seccomp_notif& n) {
  if (running() && give_owed(n)) return;
  id_ = n.id;
  if (held_) {
    set_held(false);
    unlink();
    return;
  }
  // The report that was held, repeated.
  call_ = n.data;
  set_state(State::kReport);
  on_report();
}

void Thread::on_gate_park(const seccomp_notif& n) {
  if (running() && give_owed(n)) return;
  id_ = n.id;
  if (held_) {  // what came by the slot now stands in this call
    set_held(false);
    unlink();
    return;
  }
  if (left_call_) return;
  if (gated_) {
    if (!running()) return;
    set_state(State::kCall);  // it was to be answered when the host repeated it
  } else {
    if (!running()) return platform_.kill_stub(tgid_);  // it stands elsewhere
    if (!find_in_slot()) {                              // the answer was there before it
      (void)platform_.listener().answer(n.id, 0);
      return;
    }
    if (by_slot_) {
      // A signal has taken it out of this call while we received it; else nobody can report.
      if (platform_.listener().valid(n.id)) return platform_.kill_stub(tgid_);
      platform_.door().hold(*this);
      return on_report();
    }
    set_held(false);
  }
  came_back();
}

void Thread::on_notification(const seccomp_notif& n, Notice what) {
  if (dead()) return;
  if (what == Notice::kPark) return on_park(n);
  if (what == Notice::kGatePark) return on_gate_park(n);
  const bool is_report = what == Notice::kReport;
  // A thread whose report is held makes no other: the slot was forged. Only a signal gets it out of
  // the gate.
  if (held_ && !(gated_ && is_report)) return platform_.kill_stub(tgid_);
  set_held(false);
  by_slot_ = false;
  owed_.reset();
  id_ = n.id;
  call_ = n.data;
  // An abandoned call that comes again (stopped and continued by the host's user) will be left like
  // the first.
  if (left_call_ && !is_report) return;
  left_call_ = false;
  set_state(is_report ? State::kReport : State::kCall);
  if (is_report) return on_report();
  came_back();
}

void Thread::on_report() {
  if (call_.args[0] == kKickSignal) {
    set_interrupt_pending(false);
    watchdog_.cancel();
  }
  came_back();
}

void Thread::came_back() {
  if (kind_ == Kind::kGuest) {
    const uint64_t now = platform_.door().reported();
    ran_ns_ = now != 0 && resumed_ns_ != 0 ? now - resumed_ns_ : 0;
  }
  if (waiter_ != nullptr) waiter_->wake();
}

Listener::Wake Thread::wake() const {
  const bool apart = kind_ == Kind::kGuest && ran_ns_ > kComputesNs && platform_.guests_run();
  return apart ? Listener::Wake::kElsewhere : Listener::Wake::kHere;
}

void Thread::on_death() {
  set_held(false);
  set_interrupt_pending(false);
  set_state(State::kDead);
  watchdog_.cancel();
  if (waiter_ != nullptr) waiter_->wake();
}

bool Thread::waits() const {
  return !dead() && !running() && !held_ && platform_.listener().valid(id_);
}

Result<> Thread::answer(uint64_t value, bool* lost) {
  *lost = false;
  if (dead()) return Err(Errno::kSRCH);
  CHECK(!running());
  left_call_ = false;
  const Listener::Wake where = wake();
  resumed_ns_ = platform_.place(tid_, seat_, kind_);
  if (state_ == State::kCall && gated_) return answer_gate(value, where, lost);
  gated_ = false;
  if (held_) {
    const uint32_t word = static_cast<uint32_t>(value);
    const Slot::Gave gave = slot_.answer(word);
    set_held(false);
    set_state(State::kRunning);
    if (gave == Slot::Gave::kParked) owed_ = word;
    // Its death will be reported.
    if (gave == Slot::Gave::kForged || gave == Slot::Gave::kOvertaken) platform_.kill_stub(tgid_);
    return {};
  }
  // What a signal interrupted in the gate must not look like a call.
  if (slot_ && !by_slot_) slot_.clear();
  set_state(State::kRunning);
  if (platform_.listener().answer(id_, value, where)) return {};
  *lost = true;
  platform_.listener().sweep();  // its successor may be there, unannounced
  return {};
}

void Thread::call_up() {
  Door& door = platform_.door();
  if (!slot_ || state_ != State::kReport || held_ || !door.spins()) return;
  platform_.place(tid_, seat_, kind_);
  slot_.expect_answer();
  const uint32_t word = UK_ANSWER_IN_SLOT | (door.patience() << UK_ANSWER_PATIENCE);
  // Should the host know the notification no longer, answer() will see.
  if (!platform_.listener().answer(id_, word)) return;
  set_held(true);
  door.hold(*this);
}

Result<> Thread::answer_gate(uint64_t result, Listener::Wake where, bool* lost) {
  if (held_) {
    const Slot::Gave gave = slot_.answer_call(result, load_);
    if (gave == Slot::Gave::kOvertaken) {
      *lost = true;
      overtaken();
      return {};
    }
    set_held(false);
    gated_ = false;
    set_state(State::kRunning);
    if (gave == Slot::Gave::kParked) owed_ = load_;
    if (gave == Slot::Gave::kForged) platform_.kill_stub(tgid_);  // its death will be reported
    return {};
  }
  (void)slot_.answer_call(result, load_);  // read when the thread comes out of its park
  set_state(State::kRunning);
  if (platform_.listener().answer(id_, load_, where)) {
    gated_ = false;
    return {};
  }
  *lost = true;
  platform_.listener().sweep();  // its successor may be there, unannounced
  return {};
}

bool Thread::wait(Park& park) {
  CHECK(waiter_ == nullptr);
  waiter_ = &park.fiber();
  park.fiber().set_wait_reason("guest");
  while (running()) park.suspend_uncounted();
  park.fiber().set_wait_reason(nullptr);
  waiter_ = nullptr;
  return !dead();
}

void Thread::interrupt() {
  if (dead() || interrupt_pending_) return;
  set_interrupt_pending(true);
  blocked_seen_ = 0;
  (void)sys::tgkill(tgid_, tid_, kKickSignal);  // ESRCH: its death will be reported
  watchdog_.arm({platform_.reactor().now_ns() + kWatchdogNs});
}

void Thread::abandon() {
  if (dead()) return;
  if (state_ == State::kReport) return;
  left_call_ = state_ == State::kCall;
  set_held(false);
  interrupt();
  set_state(State::kRunning);
}

Result<> Thread::leave_call(Park& park) {
  // The same call may come once more first, if somebody stopped and continued the process.
  while (state_ == State::kCall) {
    const bool sent = held_ && slot_.send_back() == Slot::Gave::kDone;
    set_held(false);
    if (sent) {
      gated_ = false;
    } else {
      interrupt();
    }
    set_state(State::kRunning);
    if (!wait(park)) return Err(Errno::kSRCH);
  }
  return dead() ? Result<>(Err(Errno::kSRCH)) : Result<>();
}

// The kick has not come through. A guest can forge a signal frame that blocks signals, but then it
// must go: it could not be preempted any more. A thread that merely has not run yet (a loaded host,
// a stub stopped by the host's user) may stay; so may one seen in the handler, where signals are
// blocked rightly, unless it seems to be there always.
void Thread::check_on_kick() {
  if (dead() || !interrupt_pending_) return;
  blocked_seen_ = running() && blocks_kicks(tgid_, tid_) ? blocked_seen_ + 1 : 0;
  if (blocked_seen_ == kWatchdogPatience) return platform_.kill_stub(tgid_);
  watchdog_.arm({platform_.reactor().now_ns() + kWatchdogNs});
}

}  // namespace uk::seccomp
