// Which host CPU stub threads run on. Waking a thread on another, sleeping CPU costs several times
// the whole system call it is for, and the host's scheduler, seeing an idle CPU, does just that. So
// while one guest thread runs at a time, it, the mm threads and the reactor stay together on one
// CPU (they alternate anyway); as soon as a second runs beside it, the second may go anywhere.
// While the reactor and guests spin for each other (direct), all of these stay off its CPU. Now and
// then the reactor is let loose, so that the host can move the company to a better CPU.
//
// Ownership: the platform's. Reactor thread only; nothing suspends. On a single CPU it does
// nothing.
#pragma once

#include <sched.h>

#include <cstdint>

#include "ukernel/sched/clock.h"

namespace uk::stub {

class Placement {
 public:
  // Where a thread was put.
  struct Seat {
    int cpu = kAnywhere;
    int alone = 0;  // resumed so many times in a row with no other running
  };
  static constexpr int kAnywhere = -1;
  static constexpr int kApart = -2;  // and less: anywhere but on CPU kApart - seat.cpu

  explicit Placement(Clock& clock);
  // The reactor thread gets its CPUs back.
  ~Placement();

  // Before the thread is resumed; `others`: guest threads that run now. `apart`: not on the
  // reactor's CPU.
  void before_resume(int tid, Seat& seat, int others, bool apart = false);
  // A thread that runs was put apart, and need not be any longer.
  void let_loose(int tid, Seat& seat) {
    if (active_ && seat.cpu <= kApart) put(tid, seat, kAnywhere);
  }
  // A thread made now by an mm thread of ours is on its CPU.
  Seat inherited() const { return {.cpu = cpu_, .alone = 0}; }

 private:
  void place_reactor();
  void put(int tid, Seat& seat, int cpu);

  Clock& clock_;
  cpu_set_t allowed_;
  bool active_ = false;
  int cpu_ = kAnywhere;  // the reactor's, while pinned
  uint32_t resumes_ = 0;
  uint64_t loose_at_ns_ = 0;
};

}  // namespace uk::stub
