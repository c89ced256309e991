#include "ukernel/sched/reactor.h"

#include <algorithm>

#include "hostio/ring.h"
#include "hostio/sys/process.h"
#include "ukernel/sched/offload.h"
#include "ukernel/sched/stack_pool.h"

namespace uk {

namespace {
// While the loop never sleeps, sources announced by signals are looked at once in so many turns.
constexpr int kBusyTurns = 64;
// Of spinning in vain: what has not come by now takes long, most likely.
constexpr uint64_t kIdleNs = 30'000;

// Ends a sleep, and says so: it may have come together with something else.
thread_local volatile sig_atomic_t signal_seen = 0;
void on_signal(int) { signal_seen = 1; }
}  // namespace

struct Reactor::Impl {
  StackPool stacks;
  List<Fiber, LiveTag> live;  // each holds a reference
  std::unique_ptr<Offload> offload;
  sigset_t sleep_mask;  // the thread's, without the signals of sources
  sigset_t blocked;     // those this reactor has blocked
};

// The loop. A turn that finds something to do does not sleep; the next one runs the fibers that
// were woken.
void Reactor::run() {
  while (!stopping_) turn(true);
  stopping_ = false;
}

bool Reactor::turn(bool may_sleep) {
  bool worked = run_ready();
  worked |= collect(!may_sleep);
  worked |= ring_.drain();
  if (worked || !ready_.empty() || stopping_) {
    if (!ready_.empty()) ring_.submit();  // else the sleep to come does it
  } else if (may_sleep && !sleep()) {
    return false;  // woken by an event: the next turn takes it, and looks at the clock
  }
  return (timers_.next().never() ? 0 : timers_.expire(now_ns())) != 0 || worked;
}

bool Reactor::run_ready() {
  if (ready_.empty()) return false;
  List<Fiber> batch;  // those woken meanwhile run in the next turn
  batch.splice_back(ready_);
  while (Fiber* f = batch.pop_front()) run_fiber(*f);
  return true;
}

bool Reactor::collect(bool all) {
  bool signalled = std::exchange(signalled_, false) || all || ++turns_unlooked_ >= kBusyTurns;
  if (signalled) turns_unlooked_ = 0;
  bool any = false;
  for (EventSource& s : sources_) {
    if (!s.by_signal_ || (signalled && s.pending())) any |= s.collect();
  }
  return any;
}

// The one place that sleeps. True if a timer may be due.
bool Reactor::sleep() {
  uint64_t spin_ns = 0;
  bool by_signal = false;
  for (EventSource& s : sources_) {
    spin_ns = std::max(spin_ns, s.spin_ns());
    by_signal |= s.by_signal_ && s.pending();
  }
  if (spin_ns != 0 && spin(spin_ns)) return false;
  int64_t timeout_ns = -1;
  if (Deadline next = timers_.next(); !next.never()) {
    uint64_t now = now_ns();
    if (next.at_ns <= now) return true;
    timeout_ns = static_cast<int64_t>(std::min<uint64_t>(next.at_ns - now, INT64_MAX));
  }
  if (!all_fall_asleep()) return false;
  hostio::WaitEnd end = ring_.wait(timeout_ns, by_signal ? &impl_->sleep_mask : nullptr);
  for (EventSource& s : sources_) s.woke_up();
  signalled_ = by_signal && (signal_seen != 0 || end == hostio::WaitEnd::kSignal);
  signal_seen = 0;
  turns_unlooked_ = 0;
  return end == hostio::WaitEnd::kTimeout;
}

bool Reactor::all_fall_asleep() {
  for (EventSource& s : sources_) {
    if (s.fall_asleep()) continue;
    for (EventSource& before : sources_) {
      if (&before == &s) break;
      before.woke_up();
    }
    return false;
  }
  return true;
}

bool Reactor::spin(uint64_t for_ns) {
  ring_.submit();
  // Unknown while what comes within the first turns may save reading the clock.
  uint64_t end = 0, idle_at = 0;
  for (;;) {
    for (int i = 0; i < 16; ++i) {
      bool any = false;
      for (EventSource& s : sources_) {
        if (!s.by_signal_) any |= s.collect();
      }
      if (any || ring_.drain()) return true;
      __builtin_ia32_pause();
    }
    const uint64_t now = now_ns();
    if (end == 0) {
      end = std::min(now + for_ns, timers_.next().at_ns);
      idle_at = now + kIdleNs;
    }
    if (now >= end) return false;
    if (now < idle_at) continue;
    idle_at = UINT64_MAX;
    for (EventSource& s : sources_) {
      if (s.use_idle_time()) return true;
    }
  }
}

Reactor::Reactor(hostio::Ring& ring, Clock& clock)
    : ring_(ring), clock_(clock), impl_(std::make_unique<Impl>()) {
  sigset_t none;
  sigemptyset(&none);
  impl_->sleep_mask = CHECK_OK(sys::sigprocmask(SIG_BLOCK, none));
  impl_->blocked = none;
}

Reactor::~Reactor() {
  CHECK(current_ == nullptr);
  // What is left on the stacks of suspended fibers must not be reached any more: not by the host,
  // not by a timer.
  if (!impl_->live.empty()) ring_.detach_all();
  impl_->offload.reset();
  timers_.clear();
  while (Fiber* f = impl_->live.pop_front()) {
    f->release_stack();
    f->unref();
  }
  CHECK_OK(sys::sigprocmask(SIG_UNBLOCK, impl_->blocked));
}

StackPool& Reactor::stacks() { return impl_->stacks; }

Ref<Fiber> Reactor::spawn(std::string name, Fiber::Main main) {
  Ref<Fiber> f(new Fiber(*this, std::move(name), std::move(main)));
  f->ref();
  impl_->live.push_back(*f);
  make_ready(*f);
  return f;
}

void Reactor::make_ready(Fiber& f) { ready_.push_back(f); }

void Reactor::run_fiber(Fiber& f) {
  current_ = &f;
  f.resume();
  current_ = nullptr;
  if (!f.done()) return;
  f.ListNode<LiveTag>::unlink();
  f.release_stack();
  f.unref();
}

void Reactor::add_source(EventSource& s) {
  sigset_t wake;
  sigemptyset(&wake);
  s.wake_signals(wake);
  sigset_t before = CHECK_OK(sys::sigprocmask(SIG_BLOCK, wake));
  for (int sig = 1; sig < NSIG; ++sig) {
    if (sigismember(&wake, sig) != 1) continue;
    s.by_signal_ = true;
    sigdelset(&impl_->sleep_mask, sig);
    if (sigismember(&before, sig) == 0) sigaddset(&impl_->blocked, sig);
    // Ignored signals end no sleep.
    struct sigaction action = {};
    action.sa_handler = on_signal;
    action.sa_flags = s.signal_flags();
    CHECK_OK(sys::sigaction(sig, action));
  }
  sources_.push_back(s);
}

void Reactor::offload(Park& park, const std::function<void()>& work) {
  if (ring_.simulated()) return work();  // a simulation has no other threads
  if (impl_->offload == nullptr) impl_->offload = std::make_unique<Offload>(ring_);
  impl_->offload->run(park, work);
}

void Reactor::each_fiber(const std::function<void(Fiber&)>& f) {
  for (Fiber& fiber : impl_->live) f(fiber);
}

}  // namespace uk
