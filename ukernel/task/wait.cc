#include "ukernel/task/wait.h"

#include <signal.h>
#include <sys/wait.h>

#include <optional>

#include "base/check.h"
#include "ukernel/kernel.h"
#include "ukernel/task/exit.h"
#include "ukernel/task/identity.h"
#include "ukernel/task/ptrace.h"

namespace uk {
namespace {

constexpr int kWAll = 0x40000000;                       // __WALL
constexpr int kWClone = static_cast<int>(0x80000000u);  // __WCLONE

bool matches(const ThreadGroup& child, const WaitRequest& r) {
  if (r.which == WaitRequest::Which::kPid && child.tgid != r.id) return false;
  if (r.which == WaitRequest::Which::kPgrp && (!child.group || child.group->pgid != r.id))
    return false;
  if ((r.options & kWAll) != 0) return true;
  bool is_clone = child.exit_signal != SIGCHLD;
  return is_clone == ((r.options & kWClone) != 0);
}

WaitResult describe(const ThreadGroup& parent, const ThreadGroup& child) {
  WaitResult w;
  w.pid = pid_in(parent, child.tgid);
  w.uid = shown_uid(*parent.leader, child.leader->cred().uid);
  w.usage = child.usage();
  w.usage.add(child.dead_children);
  return w;
}

void set_ending(WaitResult& w, int status) {
  w.status = status;
  const bool exited = (status & 0x7f) == 0;
  w.code = exited ? CLD_EXITED : (status & 0x80) != 0 ? CLD_DUMPED : CLD_KILLED;
  w.value = exited ? (status >> 8) & 0xff : status & 0x7f;
}

WaitResult reap(ThreadGroup& parent, ThreadGroup& child, bool keep) {
  WaitResult w = describe(parent, child);
  set_ending(w, child.exit_code);
  if (!keep) {
    parent.dead_children.add(w.usage);
    release_group(child);
  }
  return w;
}

// What can be told of this child now.
std::optional<WaitResult> report(ThreadGroup& parent, ThreadGroup& child, const WaitRequest& r) {
  bool keep = (r.options & WNOWAIT) != 0;
  if (child.zombie) {
    if ((r.options & WEXITED) == 0) return std::nullopt;
    return reap(parent, child, keep);
  }
  const bool traced_by_parent =
      is_traced(*child.leader) && child.leader->tracer->group.get() == &parent;
  if ((r.options & WSTOPPED) != 0 && !traced_by_parent && child.stop_complete &&
      !child.stop_reported) {
    WaitResult w = describe(parent, child);
    w.value = child.stop_signal;
    w.status = (child.stop_signal << 8) | 0x7f;
    w.code = CLD_STOPPED;
    if (!keep) child.stop_reported = true;
    return w;
  }
  if ((r.options & WCONTINUED) != 0 && child.continue_pending) {
    WaitResult w = describe(parent, child);
    w.value = SIGCONT;
    w.status = 0xffff;
    w.code = CLD_CONTINUED;
    if (!keep) child.continue_pending = false;
    return w;
  }
  return std::nullopt;
}

bool names(const WaitRequest& r, int id, int tid, int pgid) {
  return r.which == WaitRequest::Which::kAny ||
         (r.which == WaitRequest::Which::kPid ? tid == id : pgid == id);
}

// What can be told of those that `tracer` traces.
std::optional<WaitResult> report_traced(Task& tracer, const WaitRequest& r, bool* any) {
  const bool keep = (r.options & WNOWAIT) != 0;
  for (Task* t : tracer.tracees) {
    if (!names(r, r.id, t->tid, t->group->group ? t->group->group->pgid : 0)) continue;
    *any = true;
    TraceState& s = *t->trace;
    if (!s.stopped || s.reported || (!r.trace_stops && (r.options & WSTOPPED) == 0)) continue;
    WaitResult w;
    w.pid = shown_pid(tracer, t->tid);
    w.uid = shown_uid(tracer, t->cred().uid);
    w.status = s.status;
    w.value = s.status >> 8;
    w.code = CLD_TRAPPED;
    w.usage = t->usage_now();
    if (!keep) s.reported = true;
    return w;
  }
  for (auto it = tracer.ended_tracees.begin(); it != tracer.ended_tracees.end(); ++it) {
    if (!names(r, r.shown, it->tid, it->pgid)) continue;
    *any = true;
    if ((r.options & WEXITED) == 0) continue;
    WaitResult w;
    w.pid = it->tid;
    w.uid = it->uid;
    set_ending(w, it->status);
    if (!keep) tracer.ended_tracees.erase(it);
    return w;
  }
  return std::nullopt;
}

}  // namespace

Result<WaitResult> wait_for_child(Task& task, const WaitRequest& request) {
  Ref<ThreadGroup> group = task.group;
  std::optional<Result<WaitResult>> done;
  auto look = [&] {
    bool any = false;
    for (ThreadGroup* child : group->children) {
      if (!matches(*child, request)) continue;
      // A child that only can end is of interest even when its end is not.
      any = any || !child->zombie || (request.options & WEXITED) != 0;
      if (std::optional<WaitResult> w = report(*group, *child, request)) {
        done = *w;
        return true;
      }
    }
    for (Task* t : group->threads) {
      if (std::optional<WaitResult> w = report_traced(*t, request, &any)) {
        done = *w;
        return true;
      }
    }
    if (!any) done = Err(Errno::kCHILD);
    return done.has_value();
  };
  if (look()) return *done;
  if ((request.options & WNOHANG) != 0) return WaitResult{};
  TRY(group->child_events.wait(task.park(), look, WaitMode::kInterruptible, kNever, "do_wait"));
  return *done;
}

}  // namespace uk
