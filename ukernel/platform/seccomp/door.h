// Where reports through slots come in (direct): looks at the slots of running guest threads each
// turn of the reactor's loop and while it spins, and tells the stubs through the published page
// whether anybody looks. On platforms without slots nothing is ever watched.
//
// Ownership: the platform owns it; it lists threads and does not own them. Reactor thread only;
// nothing suspends. Untrusted: the slots (slot.h).
#pragma once

#include <functional>

#include "base/list.h"
#include "ukernel/platform/seccomp/spin_policy.h"
#include "ukernel/platform/stub/layout.h"
#include "ukernel/sched/reactor.h"
#include "ukernel/sched/timer.h"

namespace uk::seccomp {

class Thread;

class Door final : public EventSource {
 public:
  // `running`: guest threads that run; `batches`: mm threads that do. Kept by the platform. `idle`:
  // see use_idle_time().
  Door(Clock& clock, TimerQueue& timers, int cpus, const int& running, const int& batches,
       std::function<bool()> idle);
  ~Door() override;
  // From when on stubs can be told. Without slots this is never called.
  void open(stub::Published& published);

  // A thread with a slot runs, or its report is held. It leaves the lists by itself.
  void watch(Thread& t) { running_.push_back(t); }
  void hold(Thread& t) { held_.push_back(t); }

  // A guest thread was resumed, or reported. Return the time, or 0 while all spin: then nobody
  // looks at it.
  uint64_t resumed();
  uint64_t reported();
  bool spins() const { return policy_.on(); }
  // How long a stub waits by spinning while we spin too, in turns of its loop.
  uint32_t patience() const { return patience_; }

  // EventSource
  bool collect() override;
  uint64_t spin_ns() override;
  bool use_idle_time() override;
  bool fall_asleep() override;
  void woke_up() override { publish(); }

 private:
  bool look();
  void publish();
  void let_loose();

  Clock& clock_;
  SpinPolicy policy_;
  const int& running_guests_;
  const int& batches_;
  const std::function<bool()> idle_;
  stub::Published* published_ = nullptr;
  uint32_t patience_ = 0;  // in the stub's turns
  bool spinning_ = false;
  // Guests that compute shall not go on to share a CPU because a reactor that sleeps wants its own.
  const int cpus_;
  Timer loose_;
  uint64_t looks_that_found_ = 0, found_when_armed_ = 0;
  List<Thread> running_, held_;
};

}  // namespace uk::seccomp
