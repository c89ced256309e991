// Fibers: one stackful flow of control for each guest task and each kernel daemon, all run by the
// one reactor thread. Between two suspension points nothing else runs. Park is the proof that a
// function runs on a fiber and may suspend: only functions that take Park& may. fiber.cc is the
// only user of Boost.Context.
//
// Ownership: the Reactor owns fibers; a fiber ends when its function returns. Stacks are pooled,
// guard-paged, kFiberStackBytes each. A fiber is never destroyed while suspended, except by the
// Reactor at shutdown.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/list.h"
#include "base/ref.h"
#include "ukernel/sched/clock.h"
#include "ukernel/sched/timer.h"

namespace uk {

class Reactor;
class Fiber;

constexpr size_t kFiberStackBytes = 128 * 1024;

// How a wait may be cut short. (signal(7), wait_event_killable in Linux.)
enum class WaitMode : uint8_t {
  kInterruptible,    // any signal that would be delivered
  kKillable,         // only a fatal one
  kUninterruptible,  // nothing
};

// Says whether a wait of this fiber should end early; implemented by the task that owns the fiber.
class Interruptor {
 public:
  virtual ~Interruptor() = default;
  virtual bool should_interrupt(WaitMode mode) const = 0;
};

class Park {
 public:
  Fiber& fiber() const { return fiber_; }
  Reactor& reactor() const { return reactor_; }

  // Suspends until Fiber::wake() or the deadline, whichever is first. May also return for no
  // reason: callers loop over a predicate (use WaitQueue::wait). Returns at once if a wake came
  // since the last suspend.
  void suspend(Deadline deadline = kNever);
  // The same without a deadline, and not counted in Fiber::suspended_ns(): two looks at the clock
  // less, for waits that come with every system call.
  void suspend_uncounted();
  // Lets every other ready fiber run once.
  void yield();
  bool interrupted(WaitMode mode) const;

 private:
  friend class Fiber;
  Park(Fiber& fiber, Reactor& reactor) : fiber_(fiber), reactor_(reactor) {}
  Fiber& fiber_;
  Reactor& reactor_;
};

class Fiber : public RefCounted, public ListNode<>, public ListNode<struct LiveTag> {
 public:
  using Main = std::function<void(Park&)>;

  const std::string& name() const { return name_; }
  void set_name(std::string name) { name_ = std::move(name); }
  bool done() const { return state_ == State::kDone; }
  // Makes the fiber ready (now or, if it runs, at its next suspend). Callable from any code on the
  // reactor thread.
  void wake();
  // Not owned; null for daemons, which are never interrupted.
  void set_interruptor(const Interruptor* i) { interruptor_ = i; }
  const Interruptor* interruptor() const { return interruptor_; }
  // What the fiber waits for, for dumps and /proc/PID/wchan; a string literal.
  const char* wait_reason() const { return wait_reason_; }
  void set_wait_reason(const char* why) { wait_reason_ = why; }
  // How long it has not run since it began to, less suspend_uncounted(): its owner accounts the
  // rest.
  uint64_t suspended_ns() const { return suspended_ns_; }

 private:
  friend class Reactor;
  friend class Park;
  struct Switch;  // Boost.Context state
  enum class State : uint8_t { kReady, kRunning, kSuspended, kDone };
  Fiber(Reactor& reactor, std::string name, Main main);
  ~Fiber() override;
  // Switches to the fiber until it suspends or ends; called by the reactor.
  void resume();
  // Switches back to the reactor.
  void switch_out();
  // Takes what a finished (or abandoned) fiber no longer needs.
  void release_stack();

  Reactor& reactor_;
  std::string name_;
  Main main_;
  std::unique_ptr<Switch> switch_;
  Timer sleep_timer_;  // the deadline of suspend()
  const Interruptor* interruptor_ = nullptr;
  const char* wait_reason_ = nullptr;
  State state_ = State::kReady;
  bool wake_pending_ = false;  // a wake came while it ran
  uint64_t suspended_ns_ = 0;
};

}  // namespace uk
