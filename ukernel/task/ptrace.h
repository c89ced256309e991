// ptrace(2): what a traced task keeps, and the stops that its tracer sees. The requests themselves
// are in syscalls/ptrace.cc.
//
// Ownership: a task owns its TraceState, once it has one until its end; tracer and tracees know
// each other by pointer and part when either ends. Stops suspend the tracee's own fiber; the rest
// does not suspend. DEVIATION: any thread of the tracer's process may make requests, not the tracer
// alone.
#pragma once

#include <sys/ptrace.h>

#include <cstdint>

#include "ukernel/task/task.h"

namespace uk {

constexpr int kTraceEventStop = 128;  // PTRACE_EVENT_STOP

// Means something while Task::tracer is set.
struct TraceState {
  enum class Mode : uint8_t { kCont, kSyscall, kSysemu };
  enum class Call : uint8_t { kNone, kEntry, kExit, kSeccomp };
  uint32_t options = 0;  // PTRACE_O_*
  bool seized = false;
  Mode mode = Mode::kCont;
  bool step = false;
  bool interrupt = false;  // PTRACE_INTERRUPT: it is to stop soon
  bool stop_seen = false;  // it was told of its group's stop, and made to go on
  // The stop it is in.
  bool stopped = false;
  bool reported = false;   // wait(2) told of it
  bool listening = false;  // PTRACE_LISTEN: stopped with its group, and not to be looked at
  Call call = Call::kNone;
  int status = 0;         // as wait(2) tells it
  uint64_t message = 0;   // PTRACE_GETEVENTMSG
  SigInfo info;           // PTRACE_GETSIGINFO
  int resume_signal = 0;  // what the tracer wants it to go on with
  arch::DebugRegs debug;  // outlives the tracer
  int busy = 0;           // requests that use its context: it stays until they are done
  WaitQueue resumed;
  void reset();
};

inline bool is_traced(const Task& task) { return task.tracer != nullptr; }
// It is stopped for its tracer, who may look at it.
inline bool is_trace_stopped(const Task& task) {
  return is_traced(task) && task.trace->stopped && !task.trace->listening;
}
// It has to stop for its tracer before it goes to user mode or sleeps.
bool trace_work(const Task& task);

// May `task` look into and change `target` (ptrace(2), "Ptrace access mode checking")?
bool may_access(const Task& task, const Task& target);

void trace_attach(Task& tracer, Task& target, bool seize, uint32_t options);
// The target goes on with `signo` (0 none), traced by nobody.
void trace_detach(Task& target, int signo);
// Out of its stop.
void trace_resume(Task& target, int signo);
// The tracer ends: its tracees go free, or die with it (PTRACE_O_EXITKILL).
void trace_release_all(Task& tracer);
// The tracee ends. `status` as wait(2): told to a tracer that is not the parent.
void trace_ended(Task& task, int status);
// The job control stop of its group is over.
void trace_continued(Task& task);

// ---- stops; on the tracee's own fiber
// A signal is about to be delivered. False: the tracer took it away.
bool trace_signal(Task& task, SigInfo& info);
void trace_event(Task& task, int event, uint64_t message, bool even_dying = false);
// The same with a number as message, which the tracer gets as its namespace has it.
void trace_event_pid(Task& task, int event, int pid);
void trace_group_stop(Task& task);
void trace_interrupted(Task& task);
// Around a system call. The tracer may change registers; kSeccomp: `message` is the filter's data.
void trace_call(Task& task, TraceState::Call where, uint64_t message = 0);
// The child of clone(2) begins with what its parent's debug registers leave it, traced or not.
void trace_inherit_debug(const Task& parent, Task& child);
// What clone(2) makes of a traced parent's child before it runs; the event to report, 0 none.
int trace_clone(Task& parent, Task& child, uint64_t flags, int exit_signal);

}  // namespace uk
