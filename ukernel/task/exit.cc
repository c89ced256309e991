#include "ukernel/task/exit.h"

#include <signal.h>

#include <algorithm>

#include "absl/strings/str_format.h"
#include "base/check.h"
#include "ukernel/ipc/namespace.h"
#include "ukernel/kernel.h"
#include "ukernel/mm/futex.h"
#include "ukernel/task/acct.h"
#include "ukernel/task/cgroup.h"
#include "ukernel/task/identity.h"
#include "ukernel/task/job_control.h"
#include "ukernel/task/pi_futex.h"
#include "ukernel/task/process_events.h"
#include "ukernel/task/ptrace.h"
#include "ukernel/task/seccomp.h"
#include "ukernel/task/timers.h"

namespace uk {
namespace {

constexpr uint64_t kTickNs = 10'000'000;  // clock_t of siginfo
constexpr uint64_t kInitGraceNs = 5 * kNsPerSec;

// Who gets the children of a process that ends: the nearest ancestor that asked for them
// (PR_SET_CHILD_SUBREAPER), or init; in its own pid namespace.
ThreadGroup* find_reaper(ThreadGroup& dying) {
  const PidTable& pids = dying.kernel.pids;
  const PidNamespace* ns = pids.ns_of(dying.tgid);
  for (ThreadGroup* p = dying.parent; p != nullptr && pids.ns_of(p->tgid) == ns; p = p->parent)
    if (p->child_subreaper && !p->exiting && p->live > 0) return p;
  if (ns != nullptr && ns->init != nullptr) return ns->init == &dying ? nullptr : ns->init;
  Task* init = dying.kernel.init();
  return init == nullptr || init->group.get() == &dying ? nullptr : init->group.get();
}

bool wants_no_zombies(const ThreadGroup& parent) {
  const SigAction& a = parent.handlers->actions[SIGCHLD];
  return a.handler == kSigIgn || (a.flags & SA_NOCLDWAIT) != 0;
}

int child_code(int status) {
  return (status & 0x7f) == 0 ? CLD_EXITED : (status & 0x80) != 0 ? CLD_DUMPED : CLD_KILLED;
}
int child_status(int status) { return (status & 0x7f) == 0 ? (status >> 8) & 0xff : status & 0x7f; }

// The last thread of the group has ended: tells the parent. True: nobody will wait for it.
bool notify_parent(ThreadGroup& group) {
  ThreadGroup* parent = group.parent;
  if (parent == nullptr) return false;
  bool autoreap = false;
  int signo = group.exit_signal;
  if (signo == SIGCHLD) autoreap = wants_no_zombies(*parent);
  bool ignored = signo == SIGCHLD && parent->handlers->actions[SIGCHLD].handler == kSigIgn;
  if (signo > 0 && !ignored) {
    Usage u = group.usage();
    SigInfo info =
        siginfo_about(*group.leader, *parent->leader, child_code(group.exit_code),
                      child_status(group.exit_code), u.utime_ns / kTickNs, u.stime_ns / kTickNs);
    info.signo = signo;
    (void)send_signal_group(*parent, info);
  }
  parent->child_events.wake_all();
  return autoreap;
}

// All threads have ended. `leader_ended`: the leader is a zombie (it always is by now).
void become_zombie(ThreadGroup& group) {
  group.zombie = true;
  if (!group.exiting) group.exit_code = group.leader->exit_code;
  group.leader->state = TaskState::kZombie;
  trace_ended(*group.leader, group.exit_code);
  group.exit_queue.wake_all();
  // pid 1 has no parent; it stays as it is until the instance ends.
  if (notify_parent(group)) release_group(group);
}

void give_children_away(ThreadGroup& group) {
  ThreadGroup* reaper = find_reaper(group);
  std::vector<ThreadGroup*> children = std::exchange(group.children, {});
  std::vector<ThreadGroup*> reapable;
  for (ThreadGroup* child : children) {
    child->parent = reaper;
    if (reaper == nullptr) continue;
    reaper->children.push_back(child);
    child->adopted = reaper->tgid == 1;
    if (child->leader->parent_death_signal != 0) {
      (void)send_signal_group(*child, siginfo_from(*group.leader, *child->leader,
                                                   child->leader->parent_death_signal, SI_USER));
    }
    child->exit_signal = SIGCHLD;
    if (child->zombie && notify_parent(*child)) reapable.push_back(child);
  }
  hang_up_orphans(group, children);
  for (ThreadGroup* child : reapable) release_group(*child);
}

// pid 1 ends: the instance does. Everything else is killed first, so that files are closed.
void end_instance(Task& task) {
  Kernel& k = task.kernel;
  task.group->handlers->actions[SIGCHLD].handler = kSigIgn;  // nobody is left to wait
  k.pids.max_tasks = 0;                                      // and nobody comes
  k.pids.each_group([&](ThreadGroup& g) {
    if (&g != task.group.get()) begin_exit_group(g, SIGKILL);
  });
  Deadline until{k.clock.monotonic_ns() + kInitGraceNs};
  std::vector<ThreadGroup*> zombies;
  k.pids.each_group([&](ThreadGroup& g) {
    if (g.zombie && &g != task.group.get()) zombies.push_back(&g);
  });
  for (ThreadGroup* g : zombies) release_group(*g);
  if (!task.group->child_events.wait(
          task.park(),
          [&] { return k.pids.count() <= static_cast<int>(task.group->threads.size()); },
          WaitMode::kUninterruptible, until, "zap_pid_ns")) {
    k.log.warn(absl::StrFormat("%d tasks did not end with init; %s", k.pids.count() - 1, k.dump()));
  }
}

void end_session_leader(ThreadGroup& group) {
  Ref<Session> session = group.group->session;
  if (session->sid != group.tgid) return;
  if (session->leader_gone) std::exchange(session->leader_gone, nullptr)(*session);
}

}  // namespace

void drop_files(Park& park, Ref<FdTable> files) {
  if (files && --files->users == 0) files->close_all(park);
}

// What the kernel does by itself for the task, and for the address space if nobody else has it.
void end_async(Task& task) {
  if (std::unique_ptr<TaskAsync> mine = std::move(task.async)) mine->end(task.park());
  if (!task.mm().async) return;
  bool shared = false;
  task.kernel.pids.each_task([&](Task& t) { shared |= &t != &task && t.mm_ == task.mm_; });
  if (!shared) std::exchange(task.mm().async, nullptr)->end(task.park());
}

void leave_user_space(Task& task) {
  Park& park = task.park();
  if (!task.mm_) return;
  end_async(task);
  if (uint64_t list = std::exchange(task.robust_list, 0); list != 0)
    task.kernel.futexes->exit_robust_list(park, task.mm(), list, shown_pid(task, task.tid));
  task.kernel.pi_futexes->release_all(task);
  if (uint64_t addr = std::exchange(task.clear_child_tid, 0); addr != 0) {
    // Only when somebody else may look (set_tid_address(2)).
    uint32_t zero = 0;
    if (task.mm().ref_count() > 1 &&
        task.mm().copy_out(park, addr, std::as_bytes(std::span(&zero, 1))))
      (void)task.kernel.futexes->wake(park, task.mm(), addr, /*process_private=*/false, 1, ~0u);
  }
}

void leave_stub(Task& task) {
  AddressSpace& mm = task.mm();
  if (mm.ref_count() == 1 && mm.trust() == task.cred_.get() && !task.seccomp && !task.trace)
    mm.leave_stub();
}

void finish_vfork(Task& task) {
  task.vfork_parent = nullptr;
  task.vfork_done.wake_all();
}

void begin_exit_group(ThreadGroup& group, int status) {
  if (group.exiting) return;
  group.exiting = true;
  group.exit_code = status;
  group.stop_signal = 0;
  for (Task* t : group.threads)
    if (!t->exiting) t->notify();
  group.stop_queue.wake_all();
}

void begin_exit_thread(Task& task, int status) {
  task.exit_code = status;
  task.exit_requested = true;
  task.notify();
}

Result<> become_only_thread(Task& task) {
  ThreadGroup& group = *task.group;
  if (group.exiting || group.exec_task != nullptr) return Err(Errno::kRestartNoIntr);
  group.exec_task = &task;
  for (Task* t : group.threads) {
    if (t == &task || t->exiting) continue;
    t->exit_requested = true;
    t->notify();
  }
  group.stop_queue.wake_all();
  size_t rest = task.is_leader() ? 1 : 2;  // the old leader stays until it is replaced
  Result<> r = group.thread_ended.wait(
      task.park(),
      [&] {
        return group.threads.size() <= rest &&
               (task.is_leader() || group.leader->context == nullptr) && group.live == 1;
      },
      WaitMode::kKillable, kNever, "de_thread");
  group.exec_task = nullptr;
  if (!r) return Err(Errno::kRestartNoIntr);
  if (!task.is_leader()) {
    // The caller takes over the leader's number and place; the old leader goes without a trace.
    Task* old = group.leader;
    group.dead_threads.add(old->usage_now());
    group.leader = &task;
    task.kernel.cgroups->number_released(group);
    task.kernel.pids.renumber(task, group.tgid);
    task.start_ns = group.start_ns;
  }
  group.exit_signal = SIGCHLD;
  return {};
}

void release_group(ThreadGroup& group) {
  Kernel& k = group.kernel;
  Ref<ThreadGroup> keep(&group);
  if (group.parent != nullptr) std::erase(group.parent->children, &group);
  group.parent = nullptr;
  leave_pgrp(group);
  Task* leader = std::exchange(group.leader, nullptr);
  leader->state = TaskState::kDead;
  k.cgroups->number_released(group);
  k.pids.remove(leader->tid);
  if (Task* init = k.init(); init != nullptr && init->exiting) init->group->child_events.wake_all();
}

// The undo list's last user undoes what semop(2) did under SEM_UNDO.
void leave_ipc(Task& task) {
  if (task.sem_undo) task.sem_undo->pid = task.tgid();
  task.sem_undo.reset();
}

void exit_task(Task& task) {
  Park& park = task.park();
  Kernel& k = task.kernel;
  Ref<ThreadGroup> group = task.group;
  Ref<Task> self(&task);
  if (is_traced(task) && (task.trace->options & PTRACE_O_TRACEEXIT) != 0)
    trace_event(task, PTRACE_EVENT_EXIT,
                static_cast<uint64_t>(group->exiting ? group->exit_code : task.exit_code), true);
  k.cgroups->thread_ended(task);
  k.vcpus.set_group(task.sched, nullptr);
  task.exiting = true;
  bool last = --group->live == 0;
  if (group->exiting) task.exit_code = group->exit_code;
  if (!last && !group->exiting) retarget_pending(task);
  if (last) {
    group->timers->clear();
    group->timers->set(0, {});
  }
  thread_left_stop(*group);
  if (last && k.accounting) account_end(park, task);
  tell_watchers({ProcessEvent::Kind::kEnding, task, nullptr, last});

  trace_release_all(task);
  leave_user_space(task);
  if (task.mm_) {
    task.usage.max_rss_pages = std::max(task.usage.max_rss_pages, task.mm().stats().peak_rss_pages);
    leave_stub(task);
  }
  task.left_mm.reset();
  // The memory is given back when who waits for this has been told, and goes on already; unless
  // somebody may be short of it.
  Ref<AddressSpace> mm = std::move(task.mm_);  // outlives the context
  k.pi_futexes->gone();
  std::unique_ptr<GuestContext> context = std::move(task.context);
  const bool scarce = k.mem->free_pages() < k.mem->total_pages() / 16;
  if (scarce || group->tgid == 1 || is_namespace_init(*group)) {
    context.reset();
    mm.reset();
  }
  finish_vfork(task);
  drop_files(park, std::exchange(task.fds_, nullptr));
  leave_ipc(task);
  task.fs_.reset();
  task.exe_file.reset();
  task.exe = Path();
  if (last && group->tgid == 1) end_instance(task);
  if (last && is_namespace_init(*group)) end_pid_namespace(task);
  task.mounts_.reset();
  task.ipc_.reset();
  task.seccomp.reset();  // its listener hears of it

  if (last) {
    end_session_leader(*group);
    give_children_away(*group);
  }
  task.state = TaskState::kZombie;
  tell_watchers({ProcessEvent::Kind::kExit, task});
  if (!task.is_leader()) {
    trace_ended(task, task.exit_code);
    group->dead_threads.add(task.usage_now());
    std::erase(group->threads, &task);
    k.cgroups->number_released(*group);
    k.pids.remove(task.tid);
  }
  group->thread_ended.wake_all();
  // The leader's zombie stands for the group until the last thread has come to this point.
  --group->unfinished;
  if (group->unfinished != 0) return;
  become_zombie(*group);
  if (group->tgid == 1 && k.on_exit) k.on_exit(group->exit_code);
  if (mm) park.yield();
}

}  // namespace uk
