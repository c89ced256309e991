// Timers of a process: the three interval timers (getitimer(2)), POSIX timers (timer_create(2)) and
// the limit of CPU time (RLIMIT_CPU). Wall-clock ones are reactor timers; those on CPU time are
// looked at when a thread leaves user mode and by one reactor timer while a thread is there, so an
// idle process costs nothing.
//
// Ownership: the ThreadGroup owns its Timers. Reactor-owned; nothing here suspends.
#pragma once

#include <map>
#include <memory>

#include "ukernel/sched/timer.h"
#include "ukernel/task/task.h"

namespace uk {

struct ItimerValue {  // ns; 0: disarmed
  uint64_t value = 0, interval = 0;
};

// sigevent as timer_create takes it.
struct TimerEvent {
  int notify = 0;  // SIGEV_SIGNAL 0, NONE 1, THREAD_ID 4
  int signo = 14;
  uint64_t value = 0;
  int tid = 0;  // a kernel number
};

class PosixTimer {
 public:
  PosixTimer(ThreadGroup& group, int id, int clock, int cpu_tid, const TimerEvent& event);
  // Its signal goes with it when it is still queued, as in new versions of Linux.
  ~PosixTimer() { drop_signal(); }
  PosixTimer(const PosixTimer&) = delete;
  PosixTimer& operator=(const PosixTimer&) = delete;
  // at 0: disarmed. Wall timers: `at` on the monotonic clock; CPU timers: on the CPU clock.
  // `late_ns`: how long before `at` it was really due (its clock may reach back further).
  void arm(uint64_t at, uint64_t interval, uint64_t late_ns = 0);
  ItimerValue left() const;
  void expire(uint64_t now);
  // Its signal was taken: counts overruns into `info`, arms the next period.
  void taken(SigInfo& info);
  uint64_t now() const;
  bool cpu() const { return cpu_; }
  bool cpu_expired() const { return cpu_ && at_ != 0 && !waiting_ && now() >= at_; }
  void set_value(uint64_t value) { event_.value = value; }
  int overrun() const { return last_overrun_; }

  const int id;
  const int clock;

 private:
  void drop_signal();
  ThreadGroup& group_;
  TimerEvent event_;
  bool cpu_;
  int cpu_tid_;
  uint64_t at_ = 0, interval_ = 0, late_ = 0;
  bool waiting_ = false;  // its signal is queued; armed again when that is taken
  int last_overrun_ = 0;
  Timer timer_;
  friend struct ThreadGroup::Timers;
};

struct ThreadGroup::Timers {
  explicit Timers(ThreadGroup& group);
  ThreadGroup& group;

  ItimerValue get(int which) const;
  ItimerValue set(int which, ItimerValue value);  // returns the old one
  // CPU time has passed, or a thread is about to run: sends what is due, arms the watch timer.
  void check_cpu();
  bool any_cpu() const;
  void clear();  // execve: POSIX timers go, interval timers stay
  Result<PosixTimer*> create(int clock, int cpu_tid, const TimerEvent& event);
  PosixTimer* find(int id) const;
  void signal_taken(SigInfo& info);

  std::map<int, std::unique_ptr<PosixTimer>> posix;
  bool cpu_limit_sent = false;
  uint64_t next_cpu_limit_ns = 0;

 private:
  void real_expired();
  uint64_t cpu_now(int which) const;
  ItimerValue real_, virt_, prof_;  // value: the time of expiry on its clock
  Timer real_timer_, cpu_watch_;
  int next_id_ = 0;
};

}  // namespace uk
