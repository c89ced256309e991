// Whether the reactor and a guest shall spin for each other on two CPUs, or take turns on one. A
// hand-over between spinning threads costs a tenth of a wake-up, but it takes two CPUs, and a guest
// that computes makes the reactor spin in vain: so it begins when a single guest thread has come
// back quickly many times in a row, and ends when spinning has mostly been in vain, or when calls
// mostly wait for others. Each end that comes soon makes the next beginning harder.
//
// Owned by the Door. Pure: time comes as arguments. Nothing suspends.
#pragma once

#include <algorithm>
#include <cstdint>

namespace uk::seccomp {

class SpinPolicy {
 public:
  static constexpr uint64_t kSpinNs = 50'000;    // the reactor's, at most
  static constexpr uint64_t kQuickNs = 100'000;  // from resuming to reporting, switches included
  static constexpr int kFirstRun = 16;           // quick returns in a row before it begins
  static constexpr int kLongestRun = 256;
  static constexpr int kCredit = 8;              // spins in vain in a row before it ends
  static constexpr uint64_t kWorthwhile = 2000;  // spins that paid: then the next beginning is easy

  // `cpus`: that the reactor and the stubs may use.
  explicit SpinPolicy(int cpus) : cpus_(cpus) {}

  // They spin.
  bool on() const { return on_; }
  // The reactor shall spin now, with so many guest threads running. Once for each time that one was
  // resumed: who did not come back then computes.
  bool worth(int running) const { return on_ && fresh_ && running >= 1 && running < cpus_; }

  // Guest thread `tid` was resumed, with so many others running.
  void resumed(uint64_t now_ns, int tid, int others) {
    alone_ = others == 0 && tid == tid_;
    tid_ = tid;
    resumed_ns_ = now_ns;
    fresh_ = true;
  }
  // One reported.
  void reported(uint64_t now_ns) {
    if (on_ || cpus_ < 2) return;
    run_ = alone_ && now_ns - resumed_ns_ <= kQuickNs ? run_ + 1 : 0;
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
    pay(2);
  }
  // A call taken while both spun waits for something.
  void blocked() {
    if (on_) pay(3);
  }

 private:
  void pay(int credit) {
    credit_ -= credit;
    if (credit_ > 0) return;
    on_ = false;
    run_ = 0;
    needed_ = paid_ >= kWorthwhile ? kFirstRun : std::min(needed_ * 2, kLongestRun);
  }

  int cpus_;
  bool on_ = false;
  bool alone_ = false;  // the thread resumed last runs alone, as it did before
  int tid_ = 0;
  bool fresh_ = false;
  int run_ = 0;
  int needed_ = kFirstRun;
  int credit_ = 0;
  uint64_t paid_ = 0;
  uint64_t resumed_ns_ = 0;
};

}  // namespace uk::seccomp
