// clone(2), fork(2), vfork(2), clone3(2): a new task from a running one.
#include <linux/sched.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>

#include "base/check.h"
#include "ukernel/ipc/namespace.h"
#include "ukernel/kernel.h"
#include "ukernel/mm/policy.h"
#include "ukernel/task/cgroup.h"
#include "ukernel/task/exit.h"
#include "ukernel/task/keys.h"
#include "ukernel/task/pid_ns.h"
#include "ukernel/task/pidfd.h"
#include "ukernel/task/process_events.h"
#include "ukernel/task/ptrace.h"
#include "ukernel/task/seccomp.h"
#include "ukernel/task/time_ns.h"

namespace uk {
namespace {

Result<> validate(Task& parent, const CloneArgs& a) {
  uint64_t f = a.flags;
  auto has = [&](uint64_t bits) { return (f & bits) == bits; };
  if (has(CLONE_THREAD) && !has(CLONE_SIGHAND)) return Err(Errno::kINVAL);
  if (has(CLONE_SIGHAND) && !has(CLONE_VM)) return Err(Errno::kINVAL);
  if (has(CLONE_SIGHAND | CLONE_CLEAR_SIGHAND)) return Err(Errno::kINVAL);
  if (has(CLONE_FS) && (f & (CLONE_NEWNS | CLONE_NEWUSER)) != 0) return Err(Errno::kINVAL);
  if (has(CLONE_THREAD) && (f & (CLONE_NEWPID | CLONE_NEWUSER)) != 0) return Err(Errno::kINVAL);
  if (has(CLONE_NEWIPC | CLONE_SYSVSEM)) return Err(Errno::kINVAL);
  if (has(CLONE_PIDFD | CLONE_THREAD)) return Err(Errno::kINVAL);
  if (has(CLONE_PARENT) && parent.group->unkillable) return Err(Errno::kINVAL);
  if (has(CLONE_THREAD) && parent.more_ns &&
      parent.more_ns->pid_for_children != parent.more_ns->pid)
    return Err(Errno::kINVAL);
  if (a.exit_signal > kSignals) return Err(Errno::kINVAL);
  return {};
}

// RLIMIT_NPROC counts the tasks of a user.
Result<> check_process_limit(Task& parent) {
  const Cred& c = parent.cred();
  uint64_t limit = parent.rlimit(RLIMIT_NPROC).cur;
  if (limit == UINT64_MAX || c.uid == 0 || c.has(Cap::kSysResource) || c.has(Cap::kSysAdmin))
    return {};
  uint64_t n = 0;
  parent.kernel.pids.each_task([&](Task& t) { n += t.cred_->uid == c.uid; });
  return n >= limit ? Err(Errno::kAGAIN) : Result<>{};
}

// A thread number that goes back unless the task is made.
class NewTid {
 public:
  explicit NewTid(PidTable& pids) : pids_(pids) {}
  ~NewTid() {
    if (tid_ != 0) pids_.unreserve(tid_);
  }
  // In `ns`, where the task will be.
  Result<int> take(const Task& parent, const CloneArgs& a, PidNamespace* ns) {
    if (!a.set_tid.empty()) TRY(check_wanted(parent, a.set_tid, ns));
    return tid_ = TRY(pids_.alloc(ns, a.set_tid));
  }
  void keep() { tid_ = 0; }

 private:
  // clone3(2), "The set_tid array": one number for each namespace from the innermost up.
  Result<> check_wanted(const Task& parent, std::span<const int> wanted, const PidNamespace* ns) {
    if (wanted.size() > static_cast<size_t>(level_of(ns)) + 1) return Err(Errno::kINVAL);
    const Cred& cred = parent.cred();
    for (int tid : wanted) {
      if (tid < 1 || tid >= (ns != nullptr ? ns->pid_max : pids_.pid_max))
        return Err(Errno::kINVAL);
      if (tid != 1 && ns != nullptr && ns->init == nullptr) return Err(Errno::kINVAL);
      const UserNamespace* owner = ns != nullptr ? ns->owner.get() : nullptr;
      if (!cred.has_in(owner, Cap::kSysAdmin) && !cred.has_in(owner, Cap::kCheckpointRestore))
        return Err(Errno::kPERM);
      if (ns != nullptr) ns = ns->parent.get();
    }
    return {};
  }
  PidTable& pids_;
  int tid_ = 0;
};

// The group that the new task will be in; null: the root. CLONE_INTO_CGROUP: what writing to
// cgroup.procs asks for is asked here too.
Result<Ref<Cgroup>> group_for_child(Task& parent, const CloneArgs& a) {
  if ((a.flags & CLONE_INTO_CGROUP) == 0) return parent.group->cgroup;
  Cgroups& all = *parent.kernel.cgroups;
  Ref<File> file = TRY(parent.fds().get(static_cast<int>(a.cgroup)));
  Ref<Cgroup> to = all.files ? all.files->of_directory(*file) : nullptr;
  if (!to) return Err(Errno::kBADF);
  if (to->dead) return Err(Errno::kNOENT);
  if (to.get() == &all.of(*parent.group)) return to;
  TRY(all.files->may_attach(parent.park(), *to, parent.cred()));
  // A thread cannot be elsewhere than its process.
  if ((a.flags & CLONE_THREAD) != 0) return Err(Errno::kOPNOTSUPP);
  TRY(Cgroups::check_target(*to));
  return to;
}

Ref<ThreadGroup> new_group(Task& parent, const CloneArgs& a, int tgid) {
  ThreadGroup& from = *parent.group;
  auto group = make_ref<ThreadGroup>(parent.kernel);
  group->tgid = tgid;
  if ((a.flags & CLONE_SIGHAND) != 0) {
    group->handlers = from.handlers;
  } else {
    group->handlers = from.handlers->copy();
  }
  if ((a.flags & CLONE_CLEAR_SIGHAND) != 0) {
    for (SigAction& action : group->handlers->actions)
      if (action.handler != kSigIgn) action = {};
  }
  group->rlimits = from.rlimits;
  group->oom_score_adj = from.oom_score_adj;
  group->exit_signal =
      (a.flags & CLONE_PARENT) != 0 ? from.exit_signal : static_cast<int>(a.exit_signal);
  group->start_ns = parent.kernel.uptime_ns();
  return group;
}

void inherit(Task& child, const Task& parent, const CloneArgs& a, Ref<FsInfo> fs,
             NewNamespaces& spaces) {
  child.comm = parent.comm;
  child.exe_name = parent.exe_name;
  child.exe = parent.exe;
  child.exe_file = parent.exe_file;
  child.cred_ = keys_for_child(parent.cred_, (a.flags & CLONE_THREAD) != 0);
  child.mounts_ = parent.mounts_;
  child.uts_ = parent.uts_;
  child.ipc_ = parent.ipc_;
  spaces.install(child);
  if ((a.flags & CLONE_SYSVSEM) != 0) child.sem_undo = parent.sem_undo;
  child.io_priority = parent.io_priority;
  child.mem_policy = parent.mem_policy;
  child.seccomp_mode = parent.seccomp_mode;
  child.seccomp = parent.seccomp;
  child.fs_ = std::move(fs);
  if ((a.flags & CLONE_FILES) != 0) {
    child.fds_ = parent.fds_;
    ++child.fds_->users;
  } else {
    child.fds_ = parent.fds_->copy();
  }
  child.blocked = parent.blocked;
  bool new_stack = (a.flags & (CLONE_VM | CLONE_VFORK)) == CLONE_VM;
  if (!new_stack) child.altstack = parent.altstack;
  child.personality = parent.personality;
  child.timer_slack_ns = child.default_timer_slack_ns = parent.timer_slack_ns;
  child.sched.nice = parent.sched.nice;
  child.sched.sched_class = parent.sched.sched_class;
  child.sched.rt_priority = parent.sched.rt_priority;
  child.sched.affinity = parent.sched.affinity;
  child.reset_on_fork = false;
  if (parent.reset_on_fork) {
    child.sched.sched_class = SchedClass::kOther;
    child.sched.rt_priority = 0;
    child.sched.nice = std::max(child.sched.nice, 0);
  }
  child.sched.vruntime = parent.sched.vruntime;
  child.keep_caps = parent.keep_caps;
  child.fault_addr = 0;
  if ((a.flags & CLONE_CHILD_CLEARTID) != 0) child.clear_child_tid = a.child_tid;
  if ((a.flags & CLONE_VM) == 0) {
    child.rseq_addr = parent.rseq_addr;
    child.rseq_len = parent.rseq_len;
    child.rseq_sig = parent.rseq_sig;
  }
}

arch::UserRegs child_regs(arch::UserRegs regs, const CloneArgs& a) {
  regs.rax = 0;
  regs.orig_rax = ~0ull;
  if (a.stack != 0) regs.rsp = a.stack + a.stack_size;
  if ((a.flags & CLONE_SETTLS) != 0) regs.fs_base = a.tls;
  return regs;
}

void link_family(Task& child, Task& parent, const CloneArgs& a) {
  ThreadGroup& group = *child.group;
  if ((a.flags & CLONE_THREAD) != 0) return;
  group.leader = &child;
  ThreadGroup* from = parent.group.get();
  ThreadGroup* father = (a.flags & CLONE_PARENT) != 0 ? from->parent : from;
  CHECK(father != nullptr);
  group.parent = father;
  father->children.push_back(&group);
  if (PidNamespace* ns = parent.kernel.pids.ns_of(group.tgid); ns != nullptr && !ns->init) {
    ns->init = &group;
    group.unkillable = true;
  }
  join_pgrp(group, from->group);
}

// Number of the child to where the caller wants it. A bad address is ignored, as Linux does.
void store_tid(Park& park, AddressSpace& mm, uint64_t addr, int tid) {
  uint32_t value = static_cast<uint32_t>(tid);
  (void)mm.copy_out(park, addr, std::as_bytes(std::span(&value, 1)));
}

Result<> wait_for_vfork(Task& parent, Task& child) {
  StandsStill still(parent);
  Result<> r = child.vfork_done.wait(
      parent.park(), [&] { return child.vfork_parent == nullptr; }, WaitMode::kKillable, kNever,
      "wait_for_vfork_done");
  child.vfork_parent = nullptr;
  return r;
}

}  // namespace

Result<int> do_clone(Task& parent, const CloneArgs& a) {
  Park& park = parent.park();
  Kernel& k = parent.kernel;
  TRY(validate(parent, a));
  // A fork takes part in a group stop or end first, so that no child slips through.
  if (parent.must_exit() || !parent.deliverable().empty()) return Err(Errno::kRestartNoIntr);
  TRY(check_process_limit(parent));
  if ((a.flags & CLONE_FILES) == 0) TRY(parent.fds().check_copy(k.vfs.settings.nr_open));
  bool thread = (a.flags & CLONE_THREAD) != 0;

  Ref<FsInfo> fs = (a.flags & CLONE_FS) != 0 ? parent.fs_ : parent.fs_->copy();
  NewNamespaces spaces = TRY(make_namespaces(parent, a.flags, *fs));
  spaces.more = child_ns_set(spaces.more ? std::move(spaces.more) : parent.more_ns, a.flags);
  ForkCharge charge =
      TRY(ForkCharge::take(k, TRY(group_for_child(parent, a)), (a.flags & CLONE_INTO_CGROUP) == 0));
  NewTid reserved(k.pids);
  const int tid = TRY(reserved.take(parent, a, spaces.more ? spaces.more->pid.get() : nullptr));
  arch::UserRegs regs = child_regs(TRY(parent.context->get_regs(park)), a);
  arch::FpState fp = TRY(parent.context->get_fp(park));
  Ref<AddressSpace> mm = (a.flags & CLONE_VM) != 0
                             ? parent.mm_ref()
                             : TRY(parent.mm().fork(park, parent.mm_limits(), parent.cred_));
  std::unique_ptr<GuestContext> context = TRY(mm->guest().new_context(park, regs, fp));

  if (spaces.more && spaces.more->time.get() != time_ns_of(parent))
    TRY(enter_clock(park, k, *mm, parent.mm_limits(), spaces.more->time.get()));
  Ref<ThreadGroup> group = thread ? parent.group : new_group(parent, a, tid);
  if ((a.flags & CLONE_PIDFD) != 0) {
    int fd = TRY(install_pidfd(parent, group, 0));
    uint32_t value = static_cast<uint32_t>(fd);
    Result<size_t> n = parent.mm().copy_out(park, a.pidfd, std::as_bytes(std::span(&value, 1)));
    if (!n || *n != sizeof value) {
      (void)parent.fds().close(park, fd);
      return Err(Errno::kFAULT);
    }
  }
  // Nothing that fails follows, except that the group may have begun to end meanwhile.
  if (parent.must_exit()) return Err(Errno::kRestartNoIntr);
  if (const PidNamespace* ns = k.pids.ns_of(tid); ns != nullptr && ns->closed)
    return Err(Errno::kNOMEM);
  if ((a.flags & CLONE_SYSVSEM) != 0 && !parent.sem_undo) parent.sem_undo = make_ref<SemUndo>();
  auto child = make_ref<Task>(k, group, tid);
  inherit(*child, parent, a, std::move(fs), spaces);
  child->mm_ = mm;
  child->context = std::move(context);
  if ((a.flags & CLONE_VFORK) != 0) child->vfork_parent = &parent;
  link_family(*child, parent, a);
  charge.keep(*child, *parent.group);
  reserved.keep();
  k.pids.add(child);
  ++k.forks;
  const int shown = shown_pid(parent, tid);
  if ((a.flags & CLONE_PARENT_SETTID) != 0) store_tid(park, parent.mm(), a.parent_tid, shown);
  if ((a.flags & CLONE_CHILD_SETTID) != 0)
    store_tid(park, *mm, a.child_tid, shown_pid(*child, tid));
  mm.reset();
  trace_inherit_debug(parent, *child);
  tell_watchers({ProcessEvent::Kind::kFork, *child, &parent});
  const int event = trace_clone(parent, *child, a.flags, static_cast<int>(a.exit_signal));
  start_task(*child);
  if (event != 0) trace_event_pid(parent, event, tid);
  if ((a.flags & CLONE_VFORK) != 0) {
    (void)wait_for_vfork(parent, *child);
    if (is_traced(parent) && (parent.trace->options & PTRACE_O_TRACEVFORKDONE) != 0)
      trace_event_pid(parent, PTRACE_EVENT_VFORK_DONE, tid);
  }
  return shown;
}

}  // namespace uk
