#include "ukernel/platform/notify/notify_thread.h"

#include <signal.h>

#include <cstdlib>
#include <string>

#include "base/check.h"
#include "hostio/sys/file.h"
#include "hostio/sys/process.h"
#include "ukernel/platform/notify/notify_platform.h"

namespace uk::notify {
namespace {

constexpr uint64_t kWatchdogNs = 500'000'000;

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

Thread::Thread(NotifyPlatform& platform, int tgid, int tid, Kind kind)
    : platform_(platform),
      tgid_(tgid),
      tid_(tid),
      kind_(kind),
      seat_(platform.placement().inherited()),
      watchdog_(platform.reactor().timers(), [this] { check_on_kick(); }) {
  set_state(State::kRunning);
  platform_.enroll(*this);
}

Thread::~Thread() {
  CHECK(waiter_ == nullptr);
  set_state(State::kDead);
  platform_.dismiss(*this);
}

void Thread::set_state(State s) {
  platform_.count_running((s == State::kRunning) - (state_ == State::kRunning),
                          kind_ == Kind::kGuest);
  state_ = s;
}

void Thread::on_notification(const seccomp_notif& n, bool is_report) {
  if (dead()) return;
  id_ = n.id;
  call_ = n.data;
  // An abandoned call that comes again (stopped and continued by the host's user) will be left like
  // the first.
  if (left_call_ && !is_report) return;
  left_call_ = false;
  set_state(is_report ? State::kReport : State::kCall);
  if (is_report && call_.args[0] == kKickSignal) {
    interrupt_pending_ = false;
    watchdog_.cancel();
  }
  if (waiter_ != nullptr) waiter_->wake();
}

void Thread::on_death() {
  set_state(State::kDead);
  watchdog_.cancel();
  if (waiter_ != nullptr) waiter_->wake();
}

bool Thread::waits() const { return !dead() && !running() && platform_.listener().valid(id_); }

Result<> Thread::answer(uint64_t value, bool* lost) {
  *lost = false;
  if (dead()) return Err(Errno::kSRCH);
  CHECK(!running());
  left_call_ = false;
  platform_.place(tid_, seat_, kind_ == Kind::kGuest);
  set_state(State::kRunning);
  if (platform_.listener().answer(id_, value)) return {};
  *lost = true;
  platform_.listener().sweep();  // its successor may be there, unannounced
  return {};
}

bool Thread::wait(Park& park) {
  CHECK(waiter_ == nullptr);
  waiter_ = &park.fiber();
  park.fiber().set_wait_reason("guest");
  while (running()) park.suspend();
  park.fiber().set_wait_reason(nullptr);
  waiter_ = nullptr;
  return !dead();
}

void Thread::interrupt() {
  if (dead() || interrupt_pending_) return;
  interrupt_pending_ = true;
  blocked_seen_ = 0;
  (void)sys::tgkill(tgid_, tid_, kKickSignal);  // ESRCH: its death will be reported
  watchdog_.arm({platform_.reactor().now_ns() + kWatchdogNs});
}

void Thread::abandon() {
  if (dead() || state_ == State::kReport) return;
  left_call_ = state_ == State::kCall;
  interrupt();
  set_state(State::kRunning);
}

Result<> Thread::leave_call(Park& park) {
  // The same call may come once more first, if somebody stopped and continued the process.
  while (state_ == State::kCall) {
    interrupt();
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

}  // namespace uk::notify
