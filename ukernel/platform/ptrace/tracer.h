// Threads under ptrace(2) and their wait statuses. A stop comes as the completion of a waitid that
// the ring makes for each running thread: SIGCHLD and wait4(2) would cost a tenth of the whole
// system call it is for. Where the ring has no waitid (before Linux 6.7), and for deaths of
// threads that do not run, the Tracer is the reactor's event source: it collects what waitpid
// reports. Either wakes the fiber that waits for the thread.
//
// Ownership: the platform owns the Tracer; each Tracee belongs to a space or context. Everything is
// called on the reactor thread, which is the host's tracer thread. Tracee::wait() suspends.
// Untrusted: stops come in any order, and threads die at any moment.
#pragma once

#include <signal.h>
#include <sys/ptrace.h>

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <unordered_set>

#include "base/ref.h"
#include "base/result.h"
#include "hostio/ring.h"
#include "ukernel/arch/x86_64/debug_regs.h"
#include "ukernel/platform/stub/placement.h"
#include "ukernel/sched/fiber.h"
#include "ukernel/sched/reactor.h"

namespace uk::ptrace {

class Tracer;

class Tracee {
 public:
  // kMm: an mm thread, which runs for moments only, by our order.
  enum class Kind { kGuest, kMm };
  Tracee(Tracer& tracer, int tid, Kind kind);
  ~Tracee();
  Tracee(const Tracee&) = delete;
  Tracee& operator=(const Tracee&) = delete;

  int tid() const { return tid_; }
  bool running() const { return state_ == State::kRunning; }
  // Dead, or killed and about to be.
  bool dead() const { return state_ == State::kDead || dying_; }
  // Of the last stop, as waitpid gives it; valid when neither running nor dead.
  int status() const { return status_; }
  bool at_syscall() const;     // a stop by PTRACE_SYSEMU
  bool at_event_stop() const;  // new, interrupted or group-stopped
  int stop_signal() const;

  // Resumes by `request` (PTRACE_CONT, PTRACE_SYSEMU...), discarding any signal. Error: kSRCH: it
  // was killed.
  Result<> resume(long request);
  // Makes a running thread stop soon.
  void interrupt();
  // Suspends until it is stopped or dead; false when dead.
  bool wait(Park& park);

  // For a thread whose first stop was awaited by other means.
  void set_stopped() { set_state(State::kStopped); }

  // Calls on the stopped thread. Error: kSRCH.
  Result<> call(long request, uint64_t addr, void* data);
  // The breakpoints of the stopped thread: of its last owner, until set anew.
  const arch::Breakpoints& breakpoints() const { return breakpoints_; }
  Result<> set_breakpoints(const arch::Breakpoints& wanted);

 private:
  friend class Tracer;
  enum class State { kRunning, kStopped, kDead };
  // The ring's waitid for this thread.
  class Watch final : public hostio::Completion {
   public:
    explicit Watch(Tracee& t) : t_(t) {}
    void start();

   private:
    void complete(int32_t res, bool more) override;
    Tracee& t_;
    siginfo_t info_;
  };
  void set_state(State s);

  Tracer& tracer_;
  int tid_;
  Kind kind_;
  State state_ = State::kStopped;
  stub::Placement::Seat seat_;
  bool dying_ = false;
  int status_ = 0;
  arch::Breakpoints breakpoints_;
  Fiber* waiter_ = nullptr;
  Watch watch_{*this};
};

class Tracer final : public EventSource {
 public:
  explicit Tracer(Reactor& reactor);
  stub::Placement& placement() { return placement_; }
  bool collect() override;
  bool pending() const override { return true; }  // stubs may die at any time
  void wake_signals(sigset_t& set) const override { sigaddset(&set, SIGCHLD); }
  int signal_flags() const override { return by_ring_ ? SA_NOCLDSTOP : 0; }

  // Kills a stub; its threads are reaped as they are collected.
  void kill_stub(int pid);
  // Waits (blocking the host thread) until all killed stubs are reaped. For shutdown.
  void drain();

 private:
  friend class Tracee;
  void take(int tid, int status);
  bool take_one(int tid);

  hostio::Ring& ring_;
  const bool by_ring_;  // stops come through the ring
  stub::Placement placement_;
  int running_ = 0;         // tracees
  int running_guests_ = 0;  // of these, guest threads
  int last_ = 0;            // the thread resumed last
  std::unordered_map<int, Tracee*> tracees_;
  // Stops of threads that are not registered yet: a new thread may stop before its creator has told
  // its number.
  std::unordered_map<int, int> early_;
  std::unordered_set<int> killed_;  // stubs, until reaped
};

}  // namespace uk::ptrace
