#include "ukernel/task/job_control.h"

#include <signal.h>

#include <algorithm>

#include "base/check.h"
#include "ukernel/kernel.h"
#include "ukernel/task/cgroup.h"
#include "ukernel/task/identity.h"
#include "ukernel/task/ptrace.h"

namespace uk {
namespace {

// SIGCHLD for a stop or a continuation (sigaction(2), SA_NOCLDSTOP), and wait(2).
void tell_parent(ThreadGroup& group, int code, int status) {
  ThreadGroup* parent = group.parent;
  if (parent == nullptr || group.leader == nullptr) return;
  // A parent that traces the child hears of its stops as its tracer.
  if (is_traced(*group.leader) && group.leader->tracer->group.get() == parent) return;
  const SigAction& action = parent->handlers->actions[SIGCHLD];
  if (action.handler != kSigIgn && (action.flags & SA_NOCLDSTOP) == 0) {
    Usage u = group.usage();
    (void)send_signal_group(*parent,
                            siginfo_about(*group.leader, *parent->leader, code, status,
                                          u.utime_ns / 10'000'000, u.stime_ns / 10'000'000));
  }
  parent->child_events.wake_all();
}

void maybe_complete(ThreadGroup& group) {
  if (group.stop_signal == 0 || group.stop_complete || group.stopped_threads < group.live) return;
  group.stop_complete = true;
  group.stop_reported = false;
  tell_parent(group, CLD_STOPPED, group.stop_signal);
}

}  // namespace

void continue_group(ThreadGroup& group) {
  if (group.stop_signal == 0) return;
  bool complete = group.stop_complete;
  group.stop_signal = 0;
  group.stop_complete = false;
  group.stop_queue.wake_all();
  for (Task* t : group.threads) trace_continued(*t);
  if (!complete) return;
  group.continue_pending = true;
  tell_parent(group, CLD_CONTINUED, SIGCONT);
}

void begin_stop(ThreadGroup& group, int signo) {
  if (group.exiting || group.stop_signal != 0) return;
  group.stop_signal = signo;
  group.stop_complete = false;
  group.continue_pending = false;
  for (Task* t : group.threads) {
    if (t->exiting) continue;
    if (is_traced(*t)) t->trace->stop_seen = false;
    t->notify();
  }
}

void stop_here(Task& task) {
  ThreadGroup& group = *task.group;
  if (group.stop_signal == 0 || task.must_exit()) return;
  ++group.stopped_threads;
  task.state = TaskState::kStopped;
  StandsStill still(task);
  maybe_complete(group);
  if (is_traced(task)) {
    trace_group_stop(task);
  } else {
    CHECK_OK(group.stop_queue.wait(
        task.park(), [&] { return group.stop_signal == 0 || task.must_exit() || is_traced(task); },
        WaitMode::kUninterruptible, kNever, "do_signal_stop"));
  }
  --group.stopped_threads;
  task.state = TaskState::kRunning;
}

void thread_left_stop(ThreadGroup& group) {
  if (group.live > 0) maybe_complete(group);
}

bool is_orphaned(const ProcessGroup& pgrp, const ThreadGroup* leaving) {
  return std::none_of(pgrp.members.begin(), pgrp.members.end(), [&](const ThreadGroup* g) {
    if (g == leaving || g->zombie || g->parent == nullptr || g->adopted) return false;
    return g->parent->group->session == pgrp.session && g->parent->group.get() != &pgrp;
  });
}

bool has_stopped(const ProcessGroup& pgrp) {
  return std::any_of(pgrp.members.begin(), pgrp.members.end(),
                     [](const ThreadGroup* g) { return g->stop_signal != 0; });
}

namespace {

// `pgrp` lost the tie that `parent` gave through `child`.
void maybe_hang_up(ProcessGroup& pgrp, const ThreadGroup& child, const ThreadGroup* parent,
                   const ThreadGroup* leaving) {
  if (parent == nullptr || parent->group.get() == &pgrp ||
      parent->group->session != child.group->session)
    return;
  if (!is_orphaned(pgrp, leaving) || !has_stopped(pgrp)) return;
  send_signal_pgrp(pgrp, siginfo_kernel(SIGHUP));
  send_signal_pgrp(pgrp, siginfo_kernel(SIGCONT));
}

}  // namespace

void hang_up_orphans(ThreadGroup& leaving, const std::vector<ThreadGroup*>& children) {
  maybe_hang_up(*leaving.group, leaving, leaving.parent, &leaving);
  for (ThreadGroup* child : children) maybe_hang_up(*child->group, *child, &leaving, nullptr);
}

namespace {

// `old` lost a member: an empty group goes, and its session when that was its last group.
void maybe_forget(Kernel& k, Ref<ProcessGroup> old) {
  if (!old || !old->members.empty()) return;
  k.pids.forget_pgrp(old->pgid);
  bool used = false;
  k.pids.each_group(
      [&](ThreadGroup& g) { used = used || (g.group && g.group->session == old->session); });
  if (!used) k.pids.forget_session(old->session->sid);
}

}  // namespace

void leave_pgrp(ThreadGroup& group) {
  if (!group.group) return;
  std::erase(group.group->members, &group);
  maybe_forget(group.kernel, std::exchange(group.group, nullptr));
}

void join_pgrp(ThreadGroup& group, Ref<ProcessGroup> to) {
  if (group.group == to) return;
  to->members.push_back(&group);
  Ref<ProcessGroup> old = std::exchange(group.group, std::move(to));
  if (old) std::erase(old->members, &group);
  maybe_forget(group.kernel, std::move(old));
}

Ref<ProcessGroup> new_pgrp(ThreadGroup& group, Ref<Session> session) {
  auto pgrp = make_ref<ProcessGroup>();
  pgrp->pgid = group.tgid;
  pgrp->session = std::move(session);
  group.kernel.pids.add_pgrp(pgrp);
  join_pgrp(group, pgrp);
  return pgrp;
}

}  // namespace uk
