#include "syscalls/process.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>

#include <algorithm>
#include <cstring>

#include "syscalls/extensible.h"
#include "syscalls/fs_common.h"
#include "syscalls/ns.h"
#include "ukernel/ipc/namespace.h"
#include "ukernel/task/autogroup.h"
#include "ukernel/task/exit.h"
#include "ukernel/task/identity.h"
#include "ukernel/task/job_control.h"
#include "ukernel/task/pidfd.h"
#include "ukernel/task/process_events.h"

namespace uk {
namespace {

constexpr uint64_t kCsignal = 0xff;
constexpr size_t kClone3Min = 64;

// struct clone_args of clone3(2).
struct UserCloneArgs {
  uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
      set_tid_size, cgroup;
};
static_assert(sizeof(UserCloneArgs) == 88);

Result<CloneArgs> check_clone3(Task& task, const UserCloneArgs& u) {
  constexpr uint64_t kKnown = 0xffffffffull | CLONE_CLEAR_SIGHAND | CLONE_INTO_CGROUP;
  if ((u.flags & ~kKnown) != 0 || (u.flags & (CLONE_DETACHED | (kCsignal & ~kCloneNewTime))) != 0)
    return Err(Errno::kINVAL);
  if (u.set_tid_size > 32 || (u.set_tid == 0) != (u.set_tid_size == 0)) return Err(Errno::kINVAL);
  if ((u.exit_signal & ~kCsignal) != 0 || u.exit_signal > kSignals) return Err(Errno::kINVAL);
  if ((u.flags & (CLONE_THREAD | CLONE_PARENT)) != 0 && u.exit_signal != 0)
    return Err(Errno::kINVAL);
  if ((u.stack == 0) != (u.stack_size == 0)) return Err(Errno::kINVAL);
  if (u.stack > task.mm().user_limit() || u.stack_size > task.mm().user_limit() - u.stack)
    return Err(Errno::kINVAL);
  CloneArgs a{.flags = u.flags,
              .pidfd = u.pidfd,
              .child_tid = u.child_tid,
              .parent_tid = u.parent_tid,
              .exit_signal = u.exit_signal,
              .stack = u.stack,
              .stack_size = u.stack_size,
              .tls = u.tls,
              .cgroup = u.cgroup,
              .set_tid = {}};
  if ((u.flags & CLONE_INTO_CGROUP) != 0 && u.cgroup > INT_MAX) return Err(Errno::kINVAL);
  if (u.set_tid_size != 0) {
    std::vector<int32_t> tids =
        TRY(UserIn<int32_t>{{u.set_tid}}.get_array(task.park(), task.mm(), u.set_tid_size));
    a.set_tid.assign(tids.begin(), tids.end());
  }
  return a;
}

}  // namespace

Result<int64_t> sys_fork(Task& task) { return TRY(do_clone(task, {.exit_signal = SIGCHLD})); }

Result<int64_t> sys_vfork(Task& task) {
  return TRY(do_clone(task, {.flags = CLONE_VFORK | CLONE_VM, .exit_signal = SIGCHLD}));
}

Result<int64_t> sys_clone(Task& task, Hex flags, UserAddr stack, UserAddr parent_tid,
                          UserAddr child_tid, UserAddr tls) {
  CloneArgs a;
  a.flags = flags.value & 0xffffffff & ~kCsignal;
  a.exit_signal = flags.value & kCsignal;
  a.stack = stack.addr;
  a.parent_tid = parent_tid.addr;
  a.pidfd = parent_tid.addr;  // shared by both flags
  a.child_tid = child_tid.addr;
  a.tls = tls.addr;
  if ((a.flags & CLONE_PIDFD) != 0 && (a.flags & (CLONE_PARENT_SETTID | CLONE_DETACHED)) != 0)
    return Err(Errno::kINVAL);
  return TRY(do_clone(task, a));
}

Result<int64_t> sys_clone3(Task& task, UserAddr args, size_t size) {
  UserCloneArgs u = TRY(fetch_extensible<UserCloneArgs>(task, args, size, kClone3Min));
  return TRY(do_clone(task, TRY(check_clone3(task, u))));
}

// What semop(2) did under SEM_UNDO is undone when the last user of the list leaves it.
void leave_sem_undo(Task& task) {
  if (task.sem_undo) task.sem_undo->pid = task.tgid();
  task.sem_undo.reset();
}

Result<int64_t> sys_unshare(Task& task, Hex flags) {
  constexpr uint64_t kPlain = CLONE_FS | CLONE_FILES | CLONE_SYSVSEM;
  constexpr uint64_t kAlone = CLONE_THREAD | CLONE_SIGHAND | CLONE_VM;  // no effect when alone
  uint64_t f = flags.value;
  if ((f & ~(kPlain | kAlone | kNsFlags)) != 0) return Err(Errno::kINVAL);
  if ((f & kAlone) != 0 && task.group->live > 1) return Err(Errno::kINVAL);
  if ((f & CLONE_NEWUSER) != 0 && task.group->live > 1) return Err(Errno::kINVAL);
  const bool own_files = (f & CLONE_FILES) != 0 && task.fds_->users > 1;
  if (own_files) TRY(task.fds_->check_copy(task.kernel.vfs.settings.nr_open));
  const bool own_fs = (f & (CLONE_FS | CLONE_NEWNS | CLONE_NEWUSER)) != 0;
  Ref<FsInfo> fs = own_fs ? task.fs_->copy() : task.fs_;
  NewNamespaces spaces = TRY(make_namespaces(task, f, *fs));
  if ((f & (CLONE_NEWIPC | CLONE_SYSVSEM)) != 0) leave_sem_undo(task);
  task.fs_ = std::move(fs);
  spaces.install(task);
  if (own_files) {
    Ref<FdTable> own = task.fds_->copy();
    drop_files(task.park(), std::exchange(task.fds_, std::move(own)));
  }
  return 0;
}

Result<int64_t> sys_exit(Task& task, int status) {
  begin_exit_thread(task, (status & 0xff) << 8);
  return 0;
}

Result<int64_t> sys_exit_group(Task& task, int status) {
  begin_exit_group(*task.group, (status & 0xff) << 8);
  return 0;
}

Result<Task*> find_task(Task& task, int tid) {
  if (tid == 0) return &task;
  Task* found = task_by_number(task, tid);
  if (found == nullptr) return Err(Errno::kSRCH);
  return found;
}

Result<int64_t> sys_getpid(Task& task) { return shown_pid(task, task.tgid()); }
Result<int64_t> sys_gettid(Task& task) { return shown_pid(task, task.tid); }
Result<int64_t> sys_getppid(Task& task) {
  return task.group->parent != nullptr ? shown_pid(task, task.group->parent->tgid) : 0;
}
Result<int64_t> sys_getpgrp(Task& task) { return shown_pid(task, task.group->group->pgid); }

namespace {

Result<ThreadGroup*> find_group(Task& task, int pid) {
  Task* t = TRY(find_task(task, pid));
  if (!t->group->group) return Err(Errno::kSRCH);
  return t->group.get();
}

}  // namespace

Result<int64_t> sys_getpgid(Task& task, int pid) {
  return shown_pid(task, TRY(find_group(task, pid))->group->pgid);
}

Result<int64_t> sys_getsid(Task& task, int pid) {
  return shown_pid(task, TRY(find_group(task, pid))->group->session->sid);
}

Result<int64_t> sys_setpgid(Task& task, int pid, int pgid) {
  ThreadGroup& self = *task.group;
  if (pgid < 0) return Err(Errno::kINVAL);
  pid = pid == 0 ? self.tgid : kernel_pid(task, pid);
  pgid = pgid == 0 ? pid : kernel_pid(task, pgid);
  Task* t = task.kernel.pids.task(pid);
  if (t == nullptr) return Err(Errno::kSRCH);
  if (!t->is_leader()) return Err(Errno::kINVAL);
  ThreadGroup& target = *t->group;
  if (target.parent == &self) {
    if (target.group->session != self.group->session) return Err(Errno::kPERM);
    if (target.did_exec) return Err(Errno::kACCES);
  } else if (&target != &self) {
    return Err(Errno::kSRCH);
  }
  if (target.group->session->sid == target.tgid) return Err(Errno::kPERM);  // a session's leader
  Ref<ProcessGroup> to = task.kernel.pids.pgrp(pgid);
  if (pgid != pid && (!to || to->session != self.group->session)) return Err(Errno::kPERM);
  if (to) {
    join_pgrp(target, to);
  } else {
    new_pgrp(target, target.group->session);
  }
  return 0;
}

Result<int64_t> sys_setsid(Task& task) {
  ThreadGroup& group = *task.group;
  PidTable& pids = task.kernel.pids;
  if (pids.pgrp(group.tgid) || group.group->session->sid == group.tgid) return Err(Errno::kPERM);
  auto session = make_ref<Session>();
  session->sid = group.tgid;
  session->autogroup = std::make_shared<Autogroup>(task.kernel);
  pids.add_session(session);
  Ref<Session> old = group.group->session;  // its autogroup is ours until regroup()
  new_pgrp(group, session);
  regroup(group);
  tell_watchers({ProcessEvent::Kind::kSid, *group.leader});
  return shown_pid(task, group.tgid);
}

Result<int64_t> sys_set_tid_address(Task& task, UserAddr addr) {
  task.clear_child_tid = addr.addr;
  return shown_pid(task, task.tid);
}

Result<int64_t> sys_pidfd_open(Task& task, int pid, Hex flags) {
  if ((flags.value & 0xffffffff & ~uint64_t{O_NONBLOCK}) != 0 || pid <= 0)
    return Err(Errno::kINVAL);
  Task* t = task_by_number(task, pid);
  if (t == nullptr) return Err(Errno::kSRCH);
  if (!t->is_leader()) return Err(Errno::kINVAL);
  return TRY(install_pidfd(task, t->group, static_cast<int>(flags.value)));
}

Result<int64_t> sys_pidfd_getfd(Task& task, Fd pidfd, Fd target, Hex flags) {
  if ((flags.value & 0xffffffff) != 0) return Err(Errno::kINVAL);
  Ref<File> file = TRY(task.fds().get(pidfd));
  Ref<ThreadGroup> group = TRY(pidfd_group(*file));
  if (group->leader == nullptr || !group->leader->fds_) return Err(Errno::kSRCH);
  if (!may_access(task, *group->leader)) return Err(Errno::kPERM);
  return install_fd(task, TRY(group->leader->fds().get(target)), true);
}

Result<int64_t> sys_pidfd_send_signal(Task& task, Fd pidfd, Signo sig, UserIn<SigInfo> info,
                                      Hex flags) {
  if ((flags.value & 0xffffffff) != 0) return Err(Errno::kINVAL);
  Ref<File> file = TRY(task.fds().get(pidfd));
  Ref<ThreadGroup> group = TRY(process_of(*file));
  if (sig < 0 || sig > kSignals) return Err(Errno::kINVAL);
  if (!pid_ns_within(task.kernel.pids.ns_of(group->tgid), pid_ns_of(task).get()))
    return Err(Errno::kINVAL);
  SigInfo what = siginfo_from(task, task, sig, SI_USER);
  if (info) {
    what = TRY(info.get(task.park(), task.mm()));
    if (what.signo != sig) return Err(Errno::kINVAL);
    if ((what.code >= 0 || what.code == SI_TKILL) && group != task.group) return Err(Errno::kPERM);
  }
  if (group->leader == nullptr) return Err(Errno::kSRCH);
  if (!may_signal(task, *group->leader, sig)) return Err(Errno::kPERM);
  if (sig == 0) return 0;
  return zero(signal_from(task, *group->leader, what, true));
}

}  // namespace uk
