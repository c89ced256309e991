// The reactor: the one host thread that runs the whole kernel. One loop, one screenful
// (reactor.cc): run ready fibers, expire timers, collect guest traps, submit to the ring, drain
// completions, sleep only if all of that is empty. It uses no CPU when idle. One place sleeps:
// Ring::wait.
//
// Ownership: the Kernel owns the reactor; the reactor owns its fibers. Ring, Clock and sources are
// borrowed.
#pragma once

#include <signal.h>

#include <functional>
#include <memory>
#include <string>

#include "base/list.h"
#include "base/ref.h"
#include "ukernel/sched/clock.h"
#include "ukernel/sched/fiber.h"
#include "ukernel/sched/timer.h"

namespace uk {

namespace hostio {
class Ring;
}
class StackPool;

// Something besides the ring from which events come (a platform's traps).
class EventSource : public ListNode<> {
 public:
  virtual ~EventSource() = default;
  // Takes, without blocking, what has happened, and wakes the fibers concerned. True if anything
  // was taken. Without wake_signals(): called every turn, so it should see from memory that there
  // is nothing. With them: called while pending(), after a sleep that a signal ended, and now and
  // then while the loop has no time to sleep; so it may make a host call and must take all there
  // is.
  virtual bool collect() = 0;
  // True while an event may come that the ring will not report; then the loop lets the signals of
  // wake_signals() interrupt its sleep.
  virtual bool pending() const { return false; }
  // Signals that announce an event, e.g. SIGCHLD. Asked once. add_source() blocks them on the
  // reactor thread, but for its sleep, and gives them a handler that ends it;
  // ~Reactor() unblocks them.
  virtual void wake_signals(sigset_t&) const {}
  // sa_flags of these signals' handlers. Asked once.
  virtual int signal_flags() const { return 0; }
  // Asked when nothing is left to do: spin on collect() for up to this many ns before sleeping. 0:
  // do not.
  virtual uint64_t spin_ns() { return 0; }
  // Asked once in a spin that has lasted for a while in vain. True: something was begun for which
  // the loop shall sleep now, as it needs the CPU.
  virtual bool use_idle_time() { return false; }
  // The loop is about to sleep: the last look. False: something was there, so it must not. True is
  // followed by woke_up().
  virtual bool fall_asleep() { return true; }
  virtual void woke_up() {}

 private:
  friend class Reactor;
  bool by_signal_ = false;
};

class Reactor {
 public:
  Reactor(hostio::Ring& ring, Clock& clock);
  ~Reactor();

  // Starts a fiber; it first runs at the next turn of the loop.
  Ref<Fiber> spawn(std::string name, Fiber::Main main);
  // Runs until stop(). Returns with fibers possibly still suspended; destroying the reactor unwinds
  // none of them (their stacks are freed, their host operations cancelled), so end tasks first.
  void run();
  void stop() { stopping_ = true; }
  // One turn of the loop; sleeps only if may_sleep and nothing is ready. For tests and run(). True
  // if work was done.
  bool turn(bool may_sleep);

  // Runs `work` on a worker thread (it must touch no kernel state) and suspends the fiber until it
  // is done. For host calls that may block and have no ring form.
  void offload(Park& park, const std::function<void()>& work);

  // On the reactor thread. The source leaves by its destruction.
  void add_source(EventSource& s);
  TimerQueue& timers() { return timers_; }
  Clock& clock() { return clock_; }
  hostio::Ring& ring() { return ring_; }
  uint64_t now_ns() { return clock_.monotonic_ns(); }
  // The fiber that runs now, or null between fibers.
  Fiber* current() const { return current_; }
  // For dumps: calls f for each live fiber.
  void each_fiber(const std::function<void(Fiber&)>& f);

 private:
  friend class Fiber;
  friend class Park;
  struct Impl;  // stacks, worker pool, signal mask
  void make_ready(Fiber& f);
  bool run_ready();
  void run_fiber(Fiber& f);
  bool collect(bool all);
  bool sleep();
  bool spin(uint64_t for_ns);
  bool all_fall_asleep();
  StackPool& stacks();

  hostio::Ring& ring_;
  Clock& clock_;
  TimerQueue timers_;
  List<Fiber> ready_;
  List<EventSource> sources_;
  Fiber* current_ = nullptr;
  bool stopping_ = false;
  bool signalled_ = false;  // a signal ended the last sleep
  int turns_unlooked_ = 0;  // since sources announced by signals were asked
  std::unique_ptr<Impl> impl_;
};

}  // namespace uk
