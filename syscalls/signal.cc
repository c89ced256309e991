#include "syscalls/signal.h"

#include <signal.h>

#include <algorithm>

#include "syscalls/fs_common.h"
#include "ukernel/task/identity.h"
#include "ukernel/task/signal_delivery.h"
#include "ukernel/task/timers.h"

namespace uk {
namespace {

constexpr size_t kSetBytes = 8;

bool valid(int sig) { return sig >= 0 && sig <= kSignals; }

// A new action may make a pending signal one that is ignored: POSIX wants it gone.
void drop_ignored(ThreadGroup& group, int sig) {
  if (!group.ignores(sig)) return;
  group.pending.remove(sig_bits({sig}));
  for (Task* t : group.threads) t->pending.remove(sig_bits({sig}));
}

}  // namespace

Result<int64_t> sys_rt_sigaction(Task& task, Signo sig, UserIn<SigAction> act,
                                 UserOut<SigAction> old, size_t size) {
  if (size != kSetBytes) return Err(Errno::kINVAL);
  if (sig < 1 || sig > kSignals) return Err(Errno::kINVAL);
  if (act && kUnblockable.has(sig)) return Err(Errno::kINVAL);
  SigAction next;
  if (act) next = TRY(act.get(task.park(), task.mm()));
  SigAction before = task.group->handlers->actions[sig];
  if (act) {
    // Bits that mean nothing here are not given back (SA_UNSUPPORTED of sigaction(2)).
    constexpr uint64_t kKnown = SA_NOCLDSTOP | SA_NOCLDWAIT | SA_SIGINFO | SA_ONSTACK | SA_RESTART |
                                SA_NODEFER | SA_RESETHAND | 0x04000000 /* SA_RESTORER */;
    next.flags &= kKnown;
    next.mask &= ~kUnblockable.bits();
    task.group->handlers->actions[sig] = next;
    drop_ignored(*task.group, sig);
  }
  if (old) TRY(old.put(task.park(), task.mm(), before));
  return 0;
}

Result<int64_t> sys_rt_sigprocmask(Task& task, int how, UserIn<uint64_t> set, UserOut<uint64_t> old,
                                   size_t size) {
  if (size != kSetBytes) return Err(Errno::kINVAL);
  SigSet before = task.blocked, next = before;
  if (set) {
    SigSet given(TRY(set.get(task.park(), task.mm())));
    switch (how) {
      case SIG_BLOCK:
        next = before | given;
        break;
      case SIG_UNBLOCK:
        next = before & ~given;
        break;
      case SIG_SETMASK:
        next = given;
        break;
      default:
        return Err(Errno::kINVAL);
    }
    set_blocked(task, next);
  }
  if (old) TRY(old.put(task.park(), task.mm(), before.bits()));
  return 0;
}

Result<int64_t> sys_rt_sigpending(Task& task, UserOut<uint64_t> set, size_t size) {
  if (size > kSetBytes) return Err(Errno::kINVAL);
  uint64_t bits = ((task.pending.pending() | task.group->pending.pending()) & task.blocked).bits();
  size_t n = TRY(
      task.mm().copy_out(task.park(), set.addr, std::as_bytes(std::span(&bits, 1)).first(size)));
  return n == size ? Result<int64_t>(0) : Err(Errno::kFAULT);
}

Result<int64_t> sys_rt_sigsuspend(Task& task, UserIn<uint64_t> mask, size_t size) {
  if (size != kSetBytes) return Err(Errno::kINVAL);
  uint64_t bits = TRY(mask.get(task.park(), task.mm()));
  task.saved_blocked = task.blocked;
  task.blocked = SigSet(bits) & ~kUnblockable;
  return sys_pause(task);
}

Result<int64_t> sys_pause(Task& task) {
  WaitQueue nothing;
  Result<> r = nothing.wait(
      task.park(), [] { return false; }, WaitMode::kInterruptible, kNever, "pause");
  return r ? Result<int64_t>(0) : Err(Errno::kRestartNoHand);
}

Result<int64_t> sys_rt_sigtimedwait(Task& task, UserIn<uint64_t> set, UserOut<SigInfo> info,
                                    UserIn<UserTimespec> timeout, size_t size) {
  if (size != kSetBytes) return Err(Errno::kINVAL);
  Park& park = task.park();
  SigSet wanted = SigSet(TRY(set.get(park, task.mm()))) & ~kUnblockable;
  Deadline until = kNever;
  if (timeout) {
    std::optional<uint64_t> ns = to_ns(TRY(timeout.get(park, task.mm())));
    if (!ns) return Err(Errno::kINVAL);
    until.at_ns = task.kernel.clock.monotonic_ns() + *ns;
  }
  std::optional<SigInfo> got;
  auto take = [&] {
    got = task.pending.take(wanted);
    if (!got) got = task.group->pending.take(wanted);
    return got.has_value();
  };
  if (!take()) {
    // While it waits the signals count as not blocked for the sender; none of them is delivered.
    task.waited_for = wanted;
    SigSet blocked = task.blocked;
    task.blocked = task.blocked | wanted;
    Result<> r =
        task.signal_queue.wait(park, take, WaitMode::kInterruptible, until, "sigtimedwait");
    task.waited_for = SigSet();
    task.blocked = blocked;
    if (!r) return Err(r.error() == Errno::kTIMEDOUT ? Errno::kAGAIN : Errno::kINTR);
  }
  if (got->code == SI_TIMER) task.group->timers->signal_taken(*got);
  if (info) TRY(info.put(park, task.mm(), *got));
  return got->signo;
}

namespace {

// The info of rt_sigqueueinfo: the kernel's own codes are not for programs, except to themselves.
Result<SigInfo> fetch_siginfo(Task& task, UserIn<SigInfo> from, int sig, int target_tgid) {
  SigInfo info = TRY(from.get(task.park(), task.mm()));
  info.signo = sig;
  if ((info.code >= 0 || info.code == SI_TKILL) && target_tgid != shown_pid(task, task.tgid()))
    return Err(Errno::kPERM);
  return info;
}

Result<int64_t> signal_one(Task& task, Task* to, const SigInfo& info, bool whole_group) {
  if (to == nullptr) return Err(Errno::kSRCH);
  int sig = info.signo;
  if (!valid(sig)) return Err(Errno::kINVAL);
  if (!may_signal(task, *to, sig)) return Err(Errno::kPERM);
  if (sig == 0) return 0;
  if (to->state == TaskState::kZombie || to->state == TaskState::kDead) {
    if (!whole_group && !to->is_leader()) return Err(Errno::kSRCH);
  }
  return zero(signal_from(task, *to, info, whole_group));
}

SigInfo from_user(Task& task, int sig, int code) {
  return siginfo_from(task, task, sig, code);  // signal_from() translates
}

Result<int64_t> kill_many(Task& task, int pid, int sig) {
  SigInfo info = from_user(task, sig, SI_USER);
  int found = 0, allowed = 0;
  std::vector<ThreadGroup*> targets;
  if (pid == -1) {
    each_group_in(task.kernel, pid_ns_of(task).get(), [&](ThreadGroup& g) {
      if (shown_pid(task, g.tgid) != 1 && &g != task.group.get()) targets.push_back(&g);
    });
  } else if (Ref<ProcessGroup> group = pid == 0 ? task.group->group : pgrp_by_number(task, -pid)) {
    targets = group->members;
    auto by_number = [](const ThreadGroup* a, const ThreadGroup* b) { return a->tgid < b->tgid; };
    std::sort(targets.begin(), targets.end(), by_number);
  }
  for (ThreadGroup* g : targets) {
    ++found;
    if (!may_signal(task, *g->leader, sig)) continue;
    ++allowed;
    if (sig != 0) TRY(signal_from(task, *g->leader, info, true));
  }
  if (found == 0) return Err(Errno::kSRCH);
  return allowed != 0 || pid == -1 ? Result<int64_t>(0) : Err(Errno::kPERM);
}

}  // namespace

Result<int64_t> sys_rt_sigqueueinfo(Task& task, int pid, Signo sig, UserIn<SigInfo> info) {
  SigInfo what = TRY(fetch_siginfo(task, info, sig, pid));
  return signal_one(task, task_by_number(task, pid), what, true);
}

Result<int64_t> sys_rt_tgsigqueueinfo(Task& task, int tgid, int tid, Signo sig,
                                      UserIn<SigInfo> info) {
  if (tgid <= 0 || tid <= 0) return Err(Errno::kINVAL);
  SigInfo what = TRY(fetch_siginfo(task, info, sig, tgid));
  Task* to = task_by_number(task, tid);
  if (to != nullptr && to->tgid() != kernel_pid(task, tgid)) return Err(Errno::kSRCH);
  return signal_one(task, to, what, false);
}

Result<int64_t> sys_rt_sigreturn(Task& task) {
  TRY(restore_sigframe(task));
  return 0;
}

Result<int64_t> sys_sigaltstack(Task& task, UserIn<UserSigStack> stack, UserOut<UserSigStack> old) {
  uint64_t sp = TRY(task.context->get_regs(task.park())).rsp;
  constexpr int kAutodisarm = static_cast<int>(1u << 31);
  Task::AltStack before = task.altstack;
  int status = before.size == 0 ? SS_DISABLE : on_altstack(task, sp) ? SS_ONSTACK : 0;
  if (stack) {
    UserSigStack s = TRY(stack.get(task.park(), task.mm()));
    TRY(set_altstack(task, {.sp = s.sp, .size = s.size, .flags = s.flags}, sp));
  }
  if (old) {
    UserSigStack out{before.sp, status | (before.flags & kAutodisarm), 0, before.size};
    TRY(old.put(task.park(), task.mm(), out));
  }
  return 0;
}

Result<int64_t> sys_kill(Task& task, int pid, Signo sig) {
  if (pid == INT32_MIN) return Err(Errno::kSRCH);
  if (!valid(sig)) {
    // Whether anybody is there is asked first.
    if (pid > 0 && task_by_number(task, pid) == nullptr) return Err(Errno::kSRCH);
    if (pid < -1 && !pgrp_by_number(task, -pid)) return Err(Errno::kSRCH);
    return Err(Errno::kINVAL);
  }
  if (pid <= 0) return kill_many(task, pid, sig);
  return signal_one(task, task_by_number(task, pid), from_user(task, sig, SI_USER), true);
}

Result<int64_t> sys_tkill(Task& task, int tid, Signo sig) {
  if (tid <= 0) return Err(Errno::kINVAL);
  return signal_one(task, task_by_number(task, tid), from_user(task, sig, SI_TKILL), false);
}

Result<int64_t> sys_tgkill(Task& task, int tgid, int tid, Signo sig) {
  if (tgid <= 0 || tid <= 0) return Err(Errno::kINVAL);
  Task* to = task_by_number(task, tid);
  if (to != nullptr && to->tgid() != kernel_pid(task, tgid)) return Err(Errno::kSRCH);
  return signal_one(task, to, from_user(task, sig, SI_TKILL), false);
}

Result<int64_t> sys_restart_syscall(Task& task) {
  if (!task.restart_block) return Err(Errno::kINTR);
  return task.restart_block(task);
}

}  // namespace uk
