#include "ukernel/platform/seccomp/door.h"

#include <algorithm>
#include <atomic>

#include "ukernel/platform/seccomp/thread.h"

namespace uk::seccomp {
namespace {

constexpr uint64_t kStubSpinNs = 200'000;
constexpr uint32_t kProbeTurns = 2000;
constexpr uint64_t kComputesNs = 1'000'000;  // who makes no call for so long computes

// How many turns of the stub's loop take kStubSpinNs; what takes time there is the pause.
uint32_t measure_patience(Clock& clock) {
  uint64_t best = UINT64_MAX;
  for (int i = 0; i < 3; ++i) {
    const uint64_t start = clock.monotonic_ns();
    for (uint32_t k = 0; k < kProbeTurns; ++k) __builtin_ia32_pause();
    best = std::min(best, clock.monotonic_ns() - start);
  }
  return static_cast<uint32_t>(kStubSpinNs * kProbeTurns / std::max<uint64_t>(best, 1000));
}

}  // namespace

Door::Door(Clock& clock, TimerQueue& timers, int cpus, const int& running, const int& batches,
           std::function<bool()> idle)
    : clock_(clock),
      policy_(cpus),
      running_guests_(running),
      batches_(batches),
      idle_(std::move(idle)),
      cpus_(cpus),
      loose_(timers, [this] {
        if (looks_that_found_ == found_when_armed_) let_loose();
      }) {}

Door::~Door() = default;

void Door::open(stub::Published& published) {
  published_ = &published;
  patience_ = measure_patience(clock_);
}

void Door::publish() {
  if (published_ == nullptr) return;
  std::atomic_ref(published_->patience)
      .store(policy_.on() ? patience_ : 0, std::memory_order_seq_cst);
}

uint64_t Door::resumed() {
  const uint64_t now = policy_.on() ? 0 : clock_.monotonic_ns();
  policy_.resumed(now);
  return now;
}

uint64_t Door::reported() {
  if (policy_.on()) return 0;
  const uint64_t now = clock_.monotonic_ns();
  if (published_ != nullptr) policy_.reported(now);
  if (policy_.on()) publish();
  return now;
}

void Door::let_loose() {
  for (Thread& t : running_) t.let_loose();
}

bool Door::look() {
  bool any = false;
  for (auto it = running_.begin(); it != running_.end();) {
    Thread& t = *it;
    ++it;  // a thread that reported leaves the list
    any |= t.look();
  }
  looks_that_found_ += any;
  return any;
}

bool Door::collect() {
  if (!policy_.on()) return false;
  for (Thread& t : held_) t.tell_it_was_taken();
  const bool any = look();
  if (any && spinning_) {
    spinning_ = false;
    policy_.spun(true);
  }
  return any;
}

// Nothing is ready to run: whose report is held still waits for something. Its thread shall not
// occupy a CPU meanwhile, unless the wait is for a change of its address space, which is soon over,
// and no other guest wants the CPU: one is the reactor's.
uint64_t Door::spin_ns() {
  if (batches_ > 0 && running_guests_ < cpus_ - 1) return 0;
  while (Thread* t = held_.pop_front()) {
    t->tell_to_sleep();
  }
  if (batches_ > 0) return 0;
  const uint64_t ns = policy_.spin_ns(running_guests_);
  spinning_ = ns != 0;
  if (policy_.on() && running_guests_ >= cpus_ && !loose_.armed()) {
    found_when_armed_ = looks_that_found_;
    loose_.arm({clock_.monotonic_ns() + kComputesNs});
  }
  return ns;
}

bool Door::use_idle_time() {
  if (!idle_()) return false;
  spinning_ = false;  // neither paid nor in vain
  return true;
}

// Either the stub sees that nobody looks any more, or we see its report.
bool Door::fall_asleep() {
  if (published_ == nullptr) return true;
  if (std::exchange(spinning_, false)) {
    policy_.spun(false);
    // The reactor needs its CPU no longer for itself.
    if (!policy_.on()) let_loose();
  }
  // A batch brings us back soon: who calls meanwhile waits for that, and does not interrupt it.
  if (batches_ > 0 && policy_.on()) return true;
  std::atomic_ref(published_->patience).store(0, std::memory_order_seq_cst);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!look()) return true;
  for (Thread& t : held_) t.tell_it_was_taken();
  publish();
  return false;
}

}  // namespace uk::seccomp
