// Whether the reactor and the guests shall spin for each other, or wake each other. A hand-over
// between spinning threads costs a tenth of a wake-up, but it takes a CPU for the reactor alone,
// and guests that compute make it spin in vain: so it begins when guests have come back quickly
// many times in a row, and ends when spinning has mostly been in vain. Each end that comes soon
// makes the next beginning harder. (Short spins while guests want all the CPUs were tried:
// guests stay off the reactor's CPU meanwhile, so the time saved was nobody's, and a wake-up of the
// reactor costs about as much.)
//
// Owned by the Door. Pure: time comes as arguments. Nothing suspends.
#pragma once

#include <algorithm>
#include <cstdint>

namespace uk::seccomp {

class SpinPolicy {
 public:
  static constexpr uint64_t kSpinNs = 200'000;   // the reactor's, at most
  static constexpr uint64_t kQuickNs = 100'000;  // from resuming to a report, switches included
  static constexpr int kFirstRun = 8;            // quick returns in a row before it begins
  static constexpr int kLongestRun = 32;
  static constexpr int kCredit = 8;            // spins in vain in a row before it ends, twice
  static constexpr uint64_t kWorthwhile = 40;  // spins that paid: then the next beginning is easy

  // `cpus`: that the reactor and the stubs may use.
  explicit SpinPolicy(int cpus) : cpus_(cpus) {}

  // They spin.
  bool on() const { return on_; }
  // How long the reactor shall spin now, with so many guest threads running; 0: not at all. Once
  // for each time that one was resumed: who did not come back then computes.
  uint64_t spin_ns(int running) const { return on_ && fresh_ && running > 0 ? kSpinNs : 0; }

  // A guest thread was resumed.
  void resumed(uint64_t now_ns) {
    resumed_ns_ = now_ns;
    fresh_ = true;
  }
  // One reported.
  void reported(uint64_t now_ns) {
    if (on_ || cpus_ < 2) return;
    run_ = now_ns - resumed_ns_ <= kQuickNs ? run_ + 1 : 0;
    if (run_ < needed_) return;
    on_ = true;
    credit_ = kCredit;
    paid_ = 0;
  }
  // A spin of the reactor ended.
  void spun(bool found) {
    if (!on_) return;
    if (found) {
      ++paid_;
      credit_ = std::min(credit_ + 1, kCredit);
      return;
    }
    fresh_ = false;
    credit_ -= 2;
    if (credit_ > 0) return;
    on_ = false;
    run_ = 0;
    needed_ = paid_ >= kWorthwhile ? kFirstRun : std::min(needed_ * 2, kLongestRun);
  }

 private:
  int cpus_;
  bool on_ = false;
  bool fresh_ = false;  // one was resumed since the last spin in vain
  int run_ = 0;
  int needed_ = kFirstRun;
  int credit_ = 0;
  uint64_t paid_ = 0;
  uint64_t resumed_ns_ = 0;
};

}  // namespace uk::seccomp
