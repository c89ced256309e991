// Sending signals: who gets one, what is dropped, and what SIGCONT and SIGKILL do at once
// (signal(7), kill(2)). Nothing here suspends.
#include <signal.h>

#include "base/check.h"
#include "ukernel/kernel.h"
#include "ukernel/task/identity.h"
#include "ukernel/task/job_control.h"
#include "ukernel/task/task.h"
#include "ukernel/vfs/landlock.h"

namespace uk {
namespace {

// A signal without effect is not queued, unless it is blocked: the action may change before it is
// unblocked.
bool dropped(const Task& t, int signo) {
  if (t.blocked.has(signo) || t.waited_for.has(signo)) return false;
  if (t.tracer != nullptr && signo != SIGKILL) return false;  // its tracer sees all of them
  // Of what would end or stop init only what cannot be refused has an effect; of that, what comes
  // from its own namespace never gets here (signal_from()).
  if (t.group->unkillable && !kUnblockable.has(signo) &&
      t.group->handlers->actions[signo].handler == kSigDfl) {
    return true;
  }
  return t.group->ignores(signo);
}

void remove_from_all(ThreadGroup& group, SigSet which) {
  group.pending.remove(which);
  for (Task* t : group.threads) t->pending.remove(which);
}

// What a signal does when it is sent, before anybody takes it. False: it is not to be queued.
bool prepare(ThreadGroup& group, const Task& to, int signo) {
  if (group.exiting || group.zombie) return false;
  if (kStopSignals.has(signo)) {
    remove_from_all(group, sig_bits({SIGCONT}));
  } else if (signo == SIGCONT) {
    remove_from_all(group, kStopSignals);
    continue_group(group);
  }
  return !dropped(to, signo);
}

bool kills_at_once(const ThreadGroup& group, const Task& taker, int signo) {
  if (signo == SIGKILL) return true;
  if (group.unkillable) return false;
  return group.handlers->actions[signo].handler == kSigDfl && !kDefaultIgnored.has(signo) &&
         !kStopSignals.has(signo) && !kDefaultCore.has(signo) && !taker.waited_for.has(signo) &&
         taker.tracer == nullptr;
}

// A stopped thread takes nothing but SIGKILL: what would end it waits until it is continued.
bool wants(const Task& t, int signo) {
  if (t.exiting) return false;
  return signo == SIGKILL || (!t.blocked.has(signo) && t.state != TaskState::kStopped);
}

// Wakes the thread that will take a queued signal.
void complete(ThreadGroup& group, Task& preferred, bool whole_group, int signo) {
  Task* taker = wants(preferred, signo) ? &preferred : nullptr;
  if (whole_group) {
    for (Task* t : group.threads) {
      t->signal_queue.wake_all();
      if (taker == nullptr && wants(*t, signo)) taker = t;
    }
  } else {
    preferred.signal_queue.wake_all();
  }
  if (taker == nullptr) return;
  if (kills_at_once(group, *taker, signo)) {
    begin_exit_group(group, signo);
  } else {
    taker->notify();
  }
}

Result<> send(ThreadGroup& group, Task& to, bool whole_group, const SigInfo& info) {
  if (!prepare(group, to, info.signo)) return {};
  SigQueue& queue = whole_group ? group.pending : to.pending;
  constexpr int kSigPendingLimit = 11;  // RLIMIT_SIGPENDING
  if (!queue.add(info, group.rlimits[kSigPendingLimit].cur)) return Err(Errno::kAGAIN);
  complete(group, to, whole_group, info.signo);
  return {};
}

}  // namespace

Result<> send_signal(Task& to, const SigInfo& info) { return send(*to.group, to, false, info); }

Result<> send_signal_group(ThreadGroup& to, const SigInfo& info) {
  if (to.leader == nullptr) return {};
  return send(to, *to.leader, true, info);
}

int send_signal_pgrp(ProcessGroup& to, const SigInfo& info) {
  int sent = 0;
  for (ThreadGroup* g : to.members) sent += send_signal_group(*g, info).has_value();
  return sent;
}

void retarget_pending(Task& leaving) {
  ThreadGroup& group = *leaving.group;
  if (group.pending.pending().empty()) return;
  for (Task* t : group.threads)
    if (t != &leaving && !t->exiting && !t->deliverable().empty()) t->notify();
}

void set_blocked(Task& task, SigSet blocked) {
  SigSet newly = blocked & ~task.blocked;
  task.blocked = blocked & ~kUnblockable;
  if (!newly.empty() && task.group->live > 1) retarget_pending(task);
}

namespace {

// What the sender said of itself, as its namespaces have it, becomes what the receiver knows.
void translate_sender(const Task& from, const Task& to, bool known, SigInfo& info) {
  if (info.code == SI_TIMER || info.code == SI_SIGIO || info.code > 0) return;  // nothing of it
  if (!known) siginfo_set_u32(info, kSigInfoPid, 0);
  const UserNamespace* mine = from.cred().user_ns.get();
  if (mine == to.cred().user_ns.get()) return;
  const std::optional<uint32_t> uid = kernel_uid(mine, siginfo_u32(info, kSigInfoUid));
  siginfo_set_u32(info, kSigInfoUid, uid ? shown_uid(to, *uid) : kOverflowId);
}

}  // namespace

Result<> signal_from(const Task& from, Task& to, SigInfo info, bool whole_group) {
  const bool known = pid_in(*to.group, from.tgid()) != 0;
  translate_sender(from, to, known, info);
  if (known && to.group->unkillable && kUnblockable.has(info.signo)) return {};  // from inside
  return whole_group ? send_signal_group(*to.group, info) : send_signal(to, info);
}

bool may_signal(const Task& from, const Task& to, int signo) {
  if (from.group == to.group) return true;
  if (!landlock_in_scope(from.cred(), to.cred(), landlock::kScopeSignal)) return false;
  const Cred &a = from.cred(), &b = to.cred();
  if (a.euid == b.suid || a.euid == b.uid || a.uid == b.suid || a.uid == b.uid) return true;
  if (a.has_in(b.user_ns.get(), Cap::kKill)) return true;
  return signo == SIGCONT && from.group->group->session == to.group->group->session;
}

void force_signal(Task& to, const SigInfo& info) {
  ThreadGroup& group = *to.group;
  if (group.exiting) return;
  SigAction& action = group.handlers->actions[info.signo];
  if (to.blocked.has(info.signo) || action.handler == kSigIgn) {
    action.handler = kSigDfl;
    to.blocked.remove(info.signo);
  }
  if (action.handler == kSigDfl) group.unkillable = false;  // even pid 1 dies of its own faults
  (void)to.pending.add(info, UINT64_MAX);
  complete(group, to, false, info.signo);
}

}  // namespace uk
