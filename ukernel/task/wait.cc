#include "ukernel/task/wait.h"

#include <signal.h>
#include <sys/wait.h>

#include <optional>

#include "base/check.h"
#include "ukernel/kernel.h"
#include "ukernel/task/exit.h"

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

WaitResult describe(const ThreadGroup& child) {
  WaitResult w;
  w.pid = child.tgid;
  w.uid = child.leader->cred().uid;
  w.usage = child.usage();
  w.usage.add(child.dead_children);
  return w;
}

WaitResult reap(ThreadGroup& parent, ThreadGroup& child, bool keep) {
  WaitResult w = describe(child);
  w.status = child.exit_code;
  bool exited = (w.status & 0x7f) == 0;
  w.code = exited ? CLD_EXITED : (w.status & 0x80) != 0 ? CLD_DUMPED : CLD_KILLED;
  w.value = exited ? (w.status >> 8) & 0xff : w.status & 0x7f;
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
  if ((r.options & WSTOPPED) != 0 && child.stop_complete && !child.stop_reported) {
    WaitResult w = describe(child);
    w.value = child.stop_signal;
    w.status = (child.stop_signal << 8) | 0x7f;
    w.code = CLD_STOPPED;
    if (!keep) child.stop_reported = true;
    return w;
  }
  if ((r.options & WCONTINUED) != 0 && child.continue_pending) {
    WaitResult w = describe(child);
    w.value = SIGCONT;
    w.status = 0xffff;
    w.code = CLD_CONTINUED;
    if (!keep) child.continue_pending = false;
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
    if (!any) done = Err(Errno::kCHILD);
    return done.has_value();
  };
  if (look()) return *done;
  if ((request.options & WNOHANG) != 0) return WaitResult{};
  TRY(group->child_events.wait(task.park(), look, WaitMode::kInterruptible, kNever, "do_wait"));
  return *done;
}

}  // namespace uk
