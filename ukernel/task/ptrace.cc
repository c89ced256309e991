#include "ukernel/task/ptrace.h"

#include <linux/sched.h>
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>

#include "base/check.h"
#include "ukernel/kernel.h"
#include "ukernel/task/cgroup.h"
#include "ukernel/task/gate_calls.h"
#include "ukernel/task/identity.h"
#include "ukernel/vfs/landlock.h"

namespace uk {
namespace {

constexpr uint64_t kTickNs = 10'000'000;

// SIGCHLD to the tracer, and wait(2).
void tell_tracer(Task& task, int code) {
  ThreadGroup& group = *task.tracer->group;
  const SigAction& action = group.handlers->actions[SIGCHLD];
  if (action.handler != kSigIgn && (action.flags & SA_NOCLDSTOP) == 0) {
    const Usage u = task.usage_now();
    (void)send_signal_group(
        group, siginfo_about(task, *task.tracer, code, (task.trace->status >> 8) & 0x7f,
                             u.utime_ns / kTickNs, u.stime_ns / kTickNs));
  }
  group.child_events.wake_all();
}

bool killed(const Task& task) {
  return task.exit_requested || (task.group->exiting && (task.group->exit_code & 0x7f) == SIGKILL);
}

// Stops until the tracer lets it go on; returns the signal to go on with. A dying task stops only
// `even_dying`, and then only a kill ends it.
int stop(Task& task, int status, const SigInfo& info, int code = CLD_TRAPPED,
         bool even_dying = false) {
  if (!is_traced(task) || (even_dying ? killed(task) : task.must_exit())) return 0;
  TraceState& t = *task.trace;
  t.status = status;
  t.info = info;
  t.stopped = true;
  t.reported = t.listening = false;
  t.resume_signal = 0;
  const TaskState before = task.state;
  task.state = TaskState::kTraced;
  tell_tracer(task, code);
  StandsStill still(task);
  CHECK_OK(t.resumed.wait(
      task.park(),
      [&] { return t.busy == 0 && (!t.stopped || (even_dying ? killed(task) : task.must_exit())); },
      WaitMode::kUninterruptible, kNever, "ptrace_stop"));
  task.state = before;
  t.stopped = t.listening = false;
  t.call = TraceState::Call::kNone;
  return task.must_exit() ? 0 : t.resume_signal;
}

int stop_status(int signo, int event = 0) { return (event << 16) | (signo << 8) | 0x7f; }

SigInfo trap_info(const Task& task, int code) { return siginfo_from(task, task, SIGTRAP, code); }

// After a stop that is not about a signal, the tracer may ask for one.
void inject(Task& task, int signo) {
  if (signo == 0 || task.must_exit()) return;
  const Task* from = is_traced(task) ? task.tracer : &task;
  (void)send_signal(task, siginfo_from(*from, task, signo, SI_USER));
}

}  // namespace

void TraceState::reset() {
  options = 0;
  seized = step = interrupt = stop_seen = stopped = reported = listening = false;
  mode = Mode::kCont;
  call = Call::kNone;
  status = resume_signal = 0;
  message = 0;
}

bool may_access(const Task& task, const Task& target) {
  if (task.group == target.group) return true;
  if (!landlock_may_trace(task.cred(), target.cred())) return false;
  const Cred &a = task.cred(), &b = target.cred();
  bool same = a.uid == b.uid && a.uid == b.euid && a.uid == b.suid && a.gid == b.gid &&
              a.gid == b.egid && a.gid == b.sgid;
  if (a.has_in(b.user_ns.get(), Cap::kSysPtrace)) return true;
  if (!same || a.user_ns != b.user_ns || (b.cap_permitted & ~a.cap_permitted) != 0) return false;
  return !target.mm_ || target.mm_->dumpable;
}

bool trace_work(const Task& task) { return is_traced(task) && task.trace->interrupt; }

void trace_attach(Task& tracer, Task& target, bool seize, uint32_t options) {
  CHECK(!is_traced(target));
  if (!target.trace) target.trace = std::make_unique<TraceState>();
  target.trace->reset();
  target.trace->seized = seize;
  target.trace->options = options;
  target.tracer = &tracer;
  tracer.tracees.push_back(&target);
  tell_ids(target);
  target.group->stop_queue.wake_all();  // a stop of job control becomes one of ours
}

void trace_detach(Task& target, int signo) {
  Task* tracer = std::exchange(target.tracer, nullptr);
  std::erase(tracer->tracees, &target);
  TraceState& t = *target.trace;
  t.interrupt = t.stop_seen = t.step = false;
  if (target.context) target.context->set_single_step(false);
  if (t.stopped) {
    t.resume_signal = signo;
    t.stopped = false;
    t.resumed.wake_all();
  }
}

void trace_resume(Task& target, int signo) {
  TraceState& t = *target.trace;
  if (target.context) target.context->set_single_step(t.step);
  t.resume_signal = signo;
  t.stopped = t.listening = false;
  t.resumed.wake_all();
}

void trace_release_all(Task& tracer) {
  while (!tracer.tracees.empty()) {
    Ref<Task> target(tracer.tracees.back());
    const bool kill = (target->trace->options & PTRACE_O_EXITKILL) != 0;
    trace_detach(*target, 0);
    if (kill) (void)send_signal_group(*target->group, siginfo_kernel(SIGKILL));
  }
}

void trace_ended(Task& task, int status) {
  if (!is_traced(task)) return;
  Task& tracer = *task.tracer;
  const ThreadGroup& group = *task.group;
  if (!task.is_leader() || tracer.group.get() != group.parent) {
    tracer.ended_tracees.push_back({shown_pid(tracer, task.tid),
                                    group.group ? shown_pid(tracer, group.group->pgid) : 0, status,
                                    shown_uid(tracer, task.cred().uid)});
    if (task.is_leader()) {
      const bool exited = (status & 0x7f) == 0;
      (void)send_signal_group(*tracer.group,
                              siginfo_about(task, tracer, exited ? CLD_EXITED : CLD_KILLED,
                                            exited ? (status >> 8) & 0xff : status & 0x7f));
    }
  }
  ThreadGroup& told = *tracer.group;
  trace_detach(task, 0);
  told.child_events.wake_all();
}

void trace_continued(Task& task) {
  if (!is_traced(task)) return;
  TraceState& t = *task.trace;
  t.stop_seen = false;
  if (!t.stopped || !t.listening) return;
  t.listening = t.reported = false;
  t.status = stop_status(SIGTRAP, kTraceEventStop);
  t.info = trap_info(task, SIGTRAP | (kTraceEventStop << 8));
  tell_tracer(task, CLD_TRAPPED);
}

bool trace_signal(Task& task, SigInfo& info) {
  const int signo = stop(task, stop_status(info.signo), info);
  if (signo == 0) return false;
  if (signo == task.trace->info.signo) {
    info = task.trace->info;  // maybe changed by PTRACE_SETSIGINFO
  } else {
    const Task& from = is_traced(task) ? *task.tracer : task;
    info = siginfo_from(from, task, signo, SI_USER);
  }
  if (!task.blocked.has(signo)) return true;
  (void)task.pending.add(info, UINT64_MAX);
  return false;
}

void trace_event(Task& task, int event, uint64_t message, bool even_dying) {
  if (!is_traced(task)) return;
  task.trace->message = message;
  inject(task, stop(task, stop_status(SIGTRAP, event), trap_info(task, SIGTRAP | (event << 8)),
                    CLD_TRAPPED, even_dying));
}

void trace_event_pid(Task& task, int event, int pid) {
  if (!is_traced(task)) return;
  trace_event(task, event, static_cast<uint64_t>(shown_pid(*task.tracer, pid)));
}

void trace_group_stop(Task& task) {
  TraceState& t = *task.trace;
  t.stop_seen = true;
  const int signo = task.group->stop_signal;
  const int event = t.seized ? kTraceEventStop : 0;
  SigInfo info = trap_info(task, signo | (event << 8));
  info.signo = t.seized ? SIGTRAP : signo;
  (void)stop(task, stop_status(signo, event), info, CLD_STOPPED);
}

void trace_interrupted(Task& task) {
  task.trace->interrupt = false;
  (void)stop(task, stop_status(SIGTRAP, kTraceEventStop),
             trap_info(task, SIGTRAP | (kTraceEventStop << 8)));
}

void trace_call(Task& task, TraceState::Call where, uint64_t message) {
  if (!is_traced(task)) return;
  TraceState& t = *task.trace;
  t.call = where;
  if (where == TraceState::Call::kSeccomp) {
    t.message = message;
    inject(task, stop(task, stop_status(SIGTRAP, PTRACE_EVENT_SECCOMP),
                      trap_info(task, SIGTRAP | (PTRACE_EVENT_SECCOMP << 8))));
    return;
  }
  const int signo = SIGTRAP | ((t.options & PTRACE_O_TRACESYSGOOD) != 0 ? 0x80 : 0);
  t.message = where == TraceState::Call::kEntry ? 1 : 2;
  inject(task, stop(task, stop_status(signo), trap_info(task, signo)));
}

void trace_inherit_debug(const Task& parent, Task& child) {
  if (!parent.trace) return;
  const arch::DebugRegs left = parent.trace->debug.for_child();
  if (left == arch::DebugRegs{}) return;
  child.trace = std::make_unique<TraceState>();
  child.trace->debug = left;
}

int trace_clone(Task& parent, Task& child, uint64_t flags, int exit_signal) {
  if (!is_traced(parent) || (flags & CLONE_UNTRACED) != 0) return 0;
  const TraceState& t = *parent.trace;
  int event = PTRACE_EVENT_CLONE;
  if ((flags & CLONE_VFORK) != 0) {
    event = PTRACE_EVENT_VFORK;
  } else if (exit_signal == SIGCHLD) {
    event = PTRACE_EVENT_FORK;
  }
  const bool wanted = (t.options & (1u << event)) != 0;
  if (!wanted && (flags & CLONE_PTRACE) == 0) return 0;
  trace_attach(*parent.tracer, child, t.seized, t.options);
  if (t.seized) {
    child.trace->interrupt = true;
  } else {
    (void)child.pending.add(siginfo_kernel(SIGSTOP), UINT64_MAX);
  }
  return wanted ? event : 0;
}

}  // namespace uk
