// The life of a guest thread, on its fiber: deliver signals, wait for a virtual CPU, run the guest
// until it traps, give the CPU back, answer the trap; again, until it has to end.
#include <signal.h>

#include <bit>

#include "absl/strings/str_format.h"
#include "base/check.h"
#include "ukernel/kernel.h"
#include "ukernel/task/cgroup.h"
#include "ukernel/task/exit.h"
#include "ukernel/task/gate_calls.h"
#include "ukernel/task/identity.h"
#include "ukernel/task/memory_group.h"
#include "ukernel/task/ptrace.h"
#include "ukernel/task/rseq.h"
#include "ukernel/task/seccomp.h"
#include "ukernel/task/signal_delivery.h"
#include "ukernel/task/timers.h"

namespace uk {
namespace {

constexpr uint64_t kMaxErrno = 4095;
constexpr int kPageFaultVector = 14;
constexpr uint64_t kExecve = 59, kExecveat = 322;

// A traced task has a new image: PTRACE_EVENT_EXEC, or the SIGTRAP of old.
void trace_exec(Task& task) {
  if (!is_traced(task)) return;
  if (task.trace->step) task.context->set_single_step(true);
  if ((task.trace->options & PTRACE_O_TRACEEXEC) != 0) {
    trace_event_pid(task, PTRACE_EVENT_EXEC, task.tid);
  } else if (!task.trace->seized) {
    (void)send_signal(task, siginfo_from(task, task, SIGTRAP, SI_USER));
  }
}

// Runs the call that `trap` asks for. Restart errors come back as they are.
Result<int64_t> dispatch(Task& task, const Trap& trap) {
  SyscallDispatcher* calls = task.kernel.syscalls;
  if (trap.compat || calls == nullptr) return Err(Errno::kNOSYS);
  return calls->dispatch(task, trap.nr, trap.args);
}

// A call was cut short by a signal. Says what the guest sees when a handler runs: the call again,
// or EINTR (signal(7), "Interruption of system calls").
bool restarts_behind_handler(Errno e, const SigAction& action) {
  return e == Errno::kRestartNoIntr ||
         (e == Errno::kRestartSys && (action.flags & SA_RESTART) != 0);
}

void interrupted_by_handler(Task& task, Errno e, CaughtSignal caught) {
  Result<arch::UserRegs> regs = task.context->get_regs(task.park());
  if (!regs) return begin_exit_group(*task.group, SIGKILL);
  if (restarts_behind_handler(e, caught.action)) {
    regs->rax = regs->orig_rax;
    regs->rip -= 2;  // the syscall instruction
  } else {
    regs->rax = static_cast<uint64_t>(-static_cast<int64_t>(Errno::kINTR));
  }
  run_handlers(task, std::move(caught), *regs);
}

// Without `rax` the registers show the result already.
void result_with_handler(Task& task, std::optional<uint64_t> rax, CaughtSignal caught) {
  Result<arch::UserRegs> regs = task.context->get_regs(task.park());
  if (!regs) return begin_exit_group(*task.group, SIGKILL);
  if (rax) regs->rax = *rax;
  run_handlers(task, std::move(caught), *regs);
}

// The registers of a traced task show the result before it stops or takes a signal, as its tracer
// may change them. `stop`: the tracer wants to see the end of calls.
void show_result(Task& task, uint64_t rax) {
  Result<arch::UserRegs> regs = task.context->get_regs(task.park());
  if (!regs) return begin_exit_group(*task.group, SIGKILL);
  regs->rax = rax;
  if (!task.context->set_regs(task.park(), *regs)) return begin_exit_group(*task.group, SIGKILL);
}

void end_of_traced_call(Task& task) {
  if (!is_traced(task)) return;
  if (task.trace->step) {
    Result<arch::UserRegs> regs = task.context->get_regs(task.park());
    if (regs) force_signal(task, siginfo_fault(SIGTRAP, TRAP_TRACE, regs->rip));
  }
  if (task.trace->mode == TraceState::Mode::kSyscall) trace_call(task, TraceState::Call::kExit);
}

// What the tracer or a filter made of the call: it may be another one.
bool reread_call(Task& task, Trap& trap, uint64_t* rax) {
  Result<arch::UserRegs> regs = task.context->get_regs(task.park());
  if (!regs) {
    begin_exit_group(*task.group, SIGKILL);
    return false;
  }
  trap.nr = regs->orig_rax;
  const uint64_t args[] = {regs->rdi, regs->rsi, regs->rdx, regs->r10, regs->r8, regs->r9};
  std::copy(std::begin(args), std::end(args), std::begin(trap.args));
  *rax = regs->rax;
  return static_cast<int64_t>(trap.nr) >= 0;
}

// Tracer and filters before a call. Its result if it is not to be made.
std::optional<Result<int64_t>> before_call(Task& task, Trap& trap) {
  uint64_t rax = 0;
  if (is_traced(task) && task.trace->mode != TraceState::Mode::kCont) {
    const bool emulated = task.trace->mode == TraceState::Mode::kSysemu;
    trace_call(task, TraceState::Call::kEntry);
    if (task.must_exit()) return 0;
    if (!reread_call(task, trap, &rax) || emulated) return static_cast<int64_t>(rax);
  }
  if (task.seccomp_mode != 0) return before_filtered_call(task, trap);
  return std::nullopt;
}

void handle_syscall(Task& task, const Trap& original) {
  Trap trap = original;
  task.syscall_nr = static_cast<int64_t>(trap.nr);
  std::copy(std::begin(trap.args), std::end(trap.args), task.syscall_args.begin());
  task.regs_replaced = false;
  if (trap.patchable) note_costly_call(task, trap);
  std::optional<Result<int64_t>> given;
  bool told = is_traced(task) && task.trace->mode != TraceState::Mode::kCont;
  if (is_traced(task) || task.seccomp_mode != 0) [[unlikely]] {
    given = before_call(task, trap);
    if (task.must_exit()) return;
  }
  Result<int64_t> r = given ? *given : dispatch(task, trap);
  while (!r && is_restart(r.error()) && !task.must_exit()) {
    std::optional<CaughtSignal> caught = take_signal(task);
    if (task.must_exit()) return;
    if (caught) {
      task.syscall_nr = -1;
      if (is_traced(task) && task.trace->mode == TraceState::Mode::kSyscall) {
        show_result(task, static_cast<uint64_t>(-static_cast<int64_t>(r.error())));
        end_of_traced_call(task);
        if (task.must_exit()) return;
      }
      return interrupted_by_handler(task, r.error(), std::move(*caught));
    }
    // No handler: the call goes on, without the guest's taking part.
    if (task.saved_blocked) task.blocked = *std::exchange(task.saved_blocked, std::nullopt);
    if (given) {  // a filter's listener did not answer: it is asked again
      given = before_filtered_call(task, trap);
      if (task.must_exit()) return;
      r = given ? *given : dispatch(task, trap);
      continue;
    }
    // A tracer that came meanwhile sees the call begin, as Linux makes it anew (there a sleep by
    // the name of restart_syscall).
    if (!told && is_traced(task) && task.trace->mode == TraceState::Mode::kSyscall) {
      told = true;
      trace_call(task, TraceState::Call::kEntry);
      if (task.must_exit()) return;
    }
    bool block = r.error() == Errno::kRestartBlock && task.restart_block;
    r = block ? task.restart_block(task) : dispatch(task, trap);
  }
  task.syscall_nr = -1;
  if (task.must_exit()) return;
  if (task.regs_replaced) {  // the loop delivers signals
    const bool exec = r && (trap.nr == kExecve || trap.nr == kExecveat);
    if (exec) trace_exec(task);
    return end_of_traced_call(task);
  }
  uint64_t rax =
      r ? static_cast<uint64_t>(*r) : static_cast<uint64_t>(-static_cast<int64_t>(r.error()));
  CHECK(r || static_cast<uint64_t>(r.error()) <= kMaxErrno);
  // A mask that was for the wait only (ppoll, epoll_pwait) ends before signals are looked at,
  // unless one of them ended the wait.
  if (task.saved_blocked && (r || r.error() != Errno::kINTR))
    task.blocked = *std::exchange(task.saved_blocked, std::nullopt);
  const bool shown = is_traced(task);
  if (shown) {
    show_result(task, rax);
    end_of_traced_call(task);
    if (task.must_exit()) return;
  }
  if (signal_work(task)) {
    std::optional<CaughtSignal> caught = take_signal(task);
    if (task.must_exit()) return;
    if (caught)
      return result_with_handler(task, shown ? std::nullopt : std::optional(rax),
                                 std::move(*caught));
  }
  if (task.saved_blocked) task.blocked = *std::exchange(task.saved_blocked, std::nullopt);
  if (!shown) task.context->set_syscall_result(rax);
}

// The error code of a page fault for the signal frame: a platform without one leaves it 0, and mm's
// tables say what they can. A write is told apart only where the page is there to be read.
uint64_t fault_error_code(Task& task, const Trap& trap, int code) {
  constexpr uint64_t kPresent = 1, kWrite = 2, kUser = 4, kFetch = 16;
  if (trap.error_code != 0) return trap.error_code;
  uint64_t e = kUser;
  if (code == SEGV_ACCERR) e |= kPresent;
  bool readable = false;
  task.mm().each_vma([&](const VmaInfo& v) {
    if (trap.addr >= v.start && trap.addr < v.end) readable = any(v.prot & Prot::kRead);
  });
  if (trap.access == Access::kExec) return e | kFetch;
  if (trap.access == Access::kWrite || (trap.access == Access::kUnknown && readable)) e |= kWrite;
  return e;
}

void handle_page_fault(Task& task, const Trap& trap) {
  ++task.usage.min_faults;
  auto r = task.mm().fault(task.park(), trap.addr, trap.access, static_cast<uint64_t>(task.tid));
  if (r || r.error().signo == 0) return;
  hide_thunk(task, trap);
  task.fault_trapno = kPageFaultVector;
  task.fault_error = fault_error_code(task, trap, r.error().code);
  task.fault_addr = trap.addr;
  SigInfo info = siginfo_fault(r.error().signo, r.error().code, trap.addr);
  constexpr size_t kAddressBits = 24;  // si_addr_lsb
  if (info.signo == SIGBUS && info.code == BUS_MCEERR_AR)
    siginfo_set_u32(info, kAddressBits, std::countr_zero(kPageSize));
  force_signal(task, info);
}

void handle_exception(Task& task, const Trap& trap) {
  hide_thunk(task, trap);
  task.fault_trapno = static_cast<uint64_t>(trap.trapno);
  task.fault_error = trap.error_code;
  task.fault_addr = trap.addr;
  if (trap.debug_status != 0 && task.trace) task.trace->debug.note_exception(trap.debug_status);
  int signo = trap.signo > 0 && trap.signo <= kSignals ? trap.signo : SIGSEGV;
  force_signal(task, siginfo_fault(signo, trap.code, trap.addr));
}

void handle_trap(Task& task, const Trap& trap) {
  switch (trap.kind) {
    case Trap::Kind::kSyscall:
      return handle_syscall(task, trap);
    case Trap::Kind::kPageFault:
      return handle_page_fault(task, trap);
    case Trap::Kind::kException:
      return handle_exception(task, trap);
    case Trap::Kind::kKicked:
      return hide_thunk(task, trap);
    case Trap::Kind::kGone:
      task.kernel.log.err(
          absl::StrFormat("%s[%d]: its host thread is gone; killed", task.comm, task.tid));
      return begin_exit_group(*task.group, SIGKILL);
  }
}

// What passed since the trap, less what the fiber waited, was the kernel's time; the guest's
// begins. The clock is read once on the way in, and on the way out when the guest is already
// running.
void begin_user_time(Task& task) {
  if (std::exchange(task.resumed, true)) return;
  const uint64_t now = task.kernel.clock.monotonic_ns();
  const uint64_t spent = now - task.trapped_ns;
  const uint64_t idle = task.park().fiber().suspended_ns() - task.waited_ns;
  task.usage.stime_ns += spent > idle ? spent - idle : 0;
  task.kernel.vcpus.begins(task.sched, now);
  task.user_enter_ns = now;
  task.left_mm.reset();
}

// User mode, from the moment a virtual CPU is there.
Trap run_guest(Task& task) {
  Kernel& k = task.kernel;
  task.user_enter_ns = task.sched.entered_ns();
  k.before_user_mode(task.user_enter_ns);
  if (task.group->timers->any_cpu()) task.group->timers->check_cpu();
  ++task.user_entries;
  tell_ids(task);
  task.in_user = true;
  task.resumed = false;
  const uint64_t system_before = task.usage.stime_ns;
  if (!task.context->on_resumed) task.context->on_resumed = [&task] { begin_user_time(task); };
  Trap trap = task.context->run(task.park());
  begin_user_time(task);  // if it never went there
  task.in_user = false;
  task.rseq_disturbed = task.rseq_disturbed || trap.kind != Trap::Kind::kSyscall;
  if (k.left_user_watchers != 0) k.left_user.wake_all();
  uint64_t before = task.sched.run_ns;
  task.trapped_ns = k.vcpus.leave(task.sched);
  task.waited_ns = task.park().fiber().suspended_ns();
  // The shortest stay ever seen is what coming and going costs: that is the kernel's time.
  uint64_t spent = task.sched.run_ns - before;
  k.switch_ns = std::min(k.switch_ns, spent);
  task.sched.run_ns -= std::min(k.switch_ns, spent);
  task.usage.stime_ns += std::min(k.switch_ns, spent);
  if (task.group->cgroup)
    k.cgroups->charge_cpu(*task.group, task.sched.run_ns - before,
                          task.usage.stime_ns - system_before);
  ++k.context_switches;
  if (task.group->timers->any_cpu()) task.group->timers->check_cpu();
  return trap;
}

}  // namespace

void run_loop(Task& task, Park& park) {
  task.trapped_ns = task.kernel.clock.monotonic_ns();
  task.waited_ns = park.fiber().suspended_ns();
  while (!task.must_exit()) {
    if (signal_work(task) || task.saved_blocked) {
      deliver_signals(task);
      continue;
    }
    const bool at_once = park.fiber().suspended_ns() == task.waited_ns;
    if (!task.kernel.vcpus.enter(park, task.sched, at_once ? task.trapped_ns : 0)) continue;
    if (task.rseq_addr != 0) update_rseq(task);
    if (task.must_exit() || signal_work(task) || task.sched.preempted()) {
      task.kernel.vcpus.begins(task.sched, task.kernel.clock.monotonic_ns());
      task.kernel.vcpus.leave(task.sched);
      continue;
    }
    const Trap trap = run_guest(task);
    handle_trap(task, trap);
    if (task.group->cgroup) heed_memory_high(task);
  }
  exit_task(task);
}

}  // namespace uk
