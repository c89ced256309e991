#include "ukernel/task/signal_delivery.h"

#include <signal.h>

#include <algorithm>

#include "absl/strings/str_format.h"
#include "base/check.h"
#include "ukernel/kernel.h"
#include "ukernel/task/cgroup.h"
#include "ukernel/task/coredump.h"
#include "ukernel/task/job_control.h"
#include "ukernel/task/process_events.h"
#include "ukernel/task/ptrace.h"
#include "ukernel/task/timers.h"

namespace uk {
namespace {

bool taken_from(SigQueue& queue, SigSet wanted, std::optional<SigInfo>& out) {
  if (!out) out = queue.take(wanted);
  return out.has_value();
}

// The default action of a signal that is neither caught nor ignored. True: the caller looks for the
// next one.
void default_action(Task& task, const SigInfo& info) {
  ThreadGroup& group = *task.group;
  int signo = info.signo;
  if (kDefaultIgnored.has(signo)) return;
  if (group.unkillable && !kUnblockable.has(signo)) return;
  if (kStopSignals.has(signo)) {
    // POSIX: the terminal's stop signals do nothing to a process that nobody could continue.
    if (signo == SIGSTOP || !is_orphaned(*group.group)) begin_stop(group, signo);
    return;
  }
  if (kSynchronous.has(signo) && info.code > 0 && info.code != SI_USER) {
    arch::UserRegs regs = task.context->get_regs(task.park()).value_or(arch::UserRegs());
    task.kernel.log.info(absl::StrFormat(
        "%s[%d]: signal %d (code %d) at address %#x ends it; ip %#x sp %#x", task.comm, task.tid,
        signo, info.code, task.fault_addr, regs.rip, regs.rsp));
    task.mm().each_vma([&](const VmaInfo& v) {
      if (regs.rip < v.start || regs.rip >= v.end) return;
      task.kernel.log.info(absl::StrFormat("%s[%d]: ip is %s+%#x", task.comm, task.tid,
                                           v.name.empty() ? "(no file)" : v.name,
                                           regs.rip - v.start + v.offset));
    });
  }
  begin_exit_group(group, signo);
  if (kDefaultCore.has(signo)) {
    tell_watchers({ProcessEvent::Kind::kCoredump, task});
    if (dump_core(task, info)) group.exit_code = signo | 0x80;
  }
}

}  // namespace

bool signal_work(const Task& task) {
  const bool stop = task.group->stop_signal != 0 && !(is_traced(task) && task.trace->stop_seen);
  return stop || trace_work(task) || !task.deliverable().empty() || must_freeze(task);
}

std::optional<CaughtSignal> take_signal(Task& task) {
  ThreadGroup& group = *task.group;
  while (!task.must_exit()) {
    if (trace_work(task)) {
      trace_interrupted(task);
      continue;
    }
    if (group.stop_signal != 0 && !(is_traced(task) && task.trace->stop_seen)) {
      stop_here(task);
      continue;
    }
    if (must_freeze(task)) {
      freeze_here(task);
      continue;
    }
    std::optional<SigInfo> info;
    if (!taken_from(task.pending, ~task.blocked, info) &&
        !taken_from(group.pending, ~task.blocked, info))
      return std::nullopt;
    if (info->code == SI_TIMER) group.timers->signal_taken(*info);
    if (is_traced(task) && info->signo != SIGKILL && !trace_signal(task, *info)) continue;
    SigAction& action = group.handlers->actions[info->signo];
    if (action.handler == kSigIgn) continue;
    if (action.handler == kSigDfl) {
      default_action(task, *info);
      continue;
    }
    CaughtSignal caught{*info, action};
    if ((action.flags & SA_RESETHAND) != 0) action.handler = kSigDfl;
    return caught;
  }
  return std::nullopt;
}

void deliver_signals(Task& task) {
  std::optional<CaughtSignal> caught = take_signal(task);
  if (task.must_exit()) return;
  if (!caught) {
    // sigsuspend and friends without a handler: their mask was for the wait only.
    if (task.saved_blocked) task.blocked = *std::exchange(task.saved_blocked, std::nullopt);
    return;
  }
  Result<arch::UserRegs> regs = task.context->get_regs(task.park());
  if (!regs) return begin_exit_group(*task.group, SIGKILL);
  run_handlers(task, std::move(*caught), *regs);
}

}  // namespace uk
