#include "syscalls/ns.h"

#include <fcntl.h>
#include <sched.h>

#include "syscalls/fs_common.h"
#include "syscalls/process.h"
#include "ukernel/ipc/namespace.h"
#include "ukernel/task/nsfs.h"
#include "ukernel/task/pid_ns.h"
#include "ukernel/task/pidfd.h"
#include "ukernel/task/time_ns.h"
#include "ukernel/task/user_ns.h"

namespace uk {
namespace {

// What setns(2) will give the task; nothing changes before all has been checked.
struct Joining {
  NewNamespaces spaces;
  Ref<FsInfo> fs;  // of the mount namespace
  bool leaves_ipc = false;
};

// May the task enter a namespace that `owner` owns, with its credentials as they will be?
Result<> may_join(const Task& task, const Joining& j, const Namespace& ns) {
  const Cred& cred = j.spaces.cred ? *j.spaces.cred : task.cred();
  if (!cred.has_in(ns.owner.get(), Cap::kSysAdmin) ||
      !cred.has_in(cred.user_ns.get(), Cap::kSysAdmin)) {
    return Err(Errno::kPERM);
  }
  return {};
}

Result<> join_mounts(Task& task, Joining& j, Ref<MountNamespace> ns) {
  const Cred& cred = j.spaces.cred ? *j.spaces.cred : task.cred();
  if (!cred.has_in(cred.user_ns.get(), Cap::kSysChroot)) return Err(Errno::kPERM);
  if (ns->anonymous || !ns->root) return Err(Errno::kINVAL);
  if (task.fs_->ref_count() != 1) return Err(Errno::kINVAL);  // shared by CLONE_FS
  j.fs = task.fs_->copy();
  j.fs->root = j.fs->cwd = task.kernel.vfs.follow_mounts(Path(ns->root, ns->root->root));
  j.spaces.mounts = std::move(ns);
  return {};
}

// Only into a descendant's, since the capability is needed there already.
Result<> join_user(const Task& task, Joining& j, const Ref<Namespace>& ns) {
  const Cred& cred = task.cred();
  const bool initial = ns == task.kernel.nsfs->initial(NsKind::kUser);
  Ref<UserNamespace> to = initial ? nullptr : static_ref_cast<UserNamespace>(ns);
  if (to == cred.user_ns || task.group->live > 1 || task.fs_->ref_count() != 1)
    return Err(Errno::kINVAL);
  if (!cred.has_in(to.get(), Cap::kSysAdmin)) return Err(Errno::kPERM);
  j.spaces.cred = cred_in(cred, std::move(to));
  return {};
}

// For the children to come; never a way up.
Result<> join_pid(const Task& task, Joining& j, const Ref<Namespace>& ns) {
  const bool initial = ns == task.kernel.nsfs->initial(NsKind::kPid);
  Ref<PidNamespace> to = initial ? nullptr : static_ref_cast<PidNamespace>(ns);
  if (!pid_ns_within(to.get(), pid_ns_of(task).get())) return Err(Errno::kINVAL);
  if (!j.spaces.more) j.spaces.more = copy_ns_set(task);
  j.spaces.more->pid_for_children = std::move(to);
  return {};
}

// With the memory, which must be nobody else's.
Result<> join_time(const Task& task, Joining& j, const Ref<Namespace>& ns) {
  bool alone = task.group->live == 1;
  task.kernel.pids.each_task(
      [&](const Task& t) { alone = alone && (&t == &task || t.mm_ != task.mm_); });
  if (!alone) return Err(Errno::kUSERS);
  TRY(may_join(task, j, *ns));
  const bool initial = ns == task.kernel.nsfs->initial(NsKind::kTime);
  if (!j.spaces.more) j.spaces.more = copy_ns_set(task);
  j.spaces.more->time = initial ? nullptr : static_ref_cast<TimeNamespace>(ns);
  j.spaces.more->time_for_children = j.spaces.more->time;
  return {};
}

Result<> join(Task& task, Joining& j, const Ref<Namespace>& ns) {
  if (ns->kind == NsKind::kUser) return join_user(task, j, ns);
  if (ns->kind == NsKind::kTime) return join_time(task, j, ns);
  TRY(may_join(task, j, *ns));
  switch (ns->kind) {
    case NsKind::kUts:
      j.spaces.uts = static_ref_cast<UtsInfo>(ns);
      return {};
    case NsKind::kIpc:
      j.spaces.ipc = static_ref_cast<IpcNamespace>(ns);
      j.leaves_ipc = true;
      return {};
    case NsKind::kMnt:
      return join_mounts(task, j, static_ref_cast<MountNamespace>(ns));
    case NsKind::kPid:
      return join_pid(task, j, ns);
    case NsKind::kUser:
    case NsKind::kTime:
      UNREACHABLE();  // they have rules of their own, above
    case NsKind::kNet:
      return {};  // the initial one
    case NsKind::kCgroup:
      if (!j.spaces.more) j.spaces.more = copy_ns_set(task);
      j.spaces.more->cgroup = ns == task.kernel.nsfs->initial(NsKind::kCgroup)
                                  ? nullptr
                                  : static_ref_cast<CgroupNamespace>(ns);
      return {};
  }
  UNREACHABLE();
}

Result<> commit(Task& task, Joining& j) {
  TimeNamespace* time = j.spaces.more ? j.spaces.more->time.get() : nullptr;
  if (j.spaces.more && time != time_ns_of(task))
    TRY(enter_clock(task.park(), task.kernel, task.mm(), task.mm_limits(), time));
  if (j.leaves_ipc) leave_sem_undo(task);
  if (j.fs) task.fs_ = std::move(j.fs);
  j.spaces.install(task);
  return {};
}

// By a process: all the kinds that `kinds` names at once.
Result<> join_process(Task& task, const ThreadGroup& group, uint64_t kinds) {
  if (kinds == 0 || (kinds & ~kNsFlags) != 0) return Err(Errno::kINVAL);
  const Task* target = group.leader;
  if (target == nullptr || !target->mounts_) return Err(Errno::kSRCH);
  if (!may_access(task, *target)) return Err(Errno::kPERM);
  constexpr NsKind kOrder[] = {NsKind::kUser, NsKind::kMnt,    NsKind::kUts, NsKind::kIpc,
                               NsKind::kPid,  NsKind::kCgroup, NsKind::kNet, NsKind::kTime};
  Joining j;
  for (NsKind kind : kOrder) {
    if ((kinds & ns_clone_flag(kind)) != 0) TRY(join(task, j, namespace_of(*target, kind)));
  }
  return commit(task, j);
}

}  // namespace

Result<int64_t> sys_setns(Task& task, Fd fd, int kinds) {
  Ref<File> file = TRY(task.fds().get_io(fd));
  const auto wanted = static_cast<uint32_t>(kinds);
  if (Ref<Namespace> ns = namespace_of(*file)) {
    if (wanted != 0 && wanted != ns_clone_flag(ns->kind)) return Err(Errno::kINVAL);
    Joining j;
    TRY(join(task, j, ns));
    return zero(commit(task, j));
  }
  auto group = pidfd_group(*file);
  if (!group) return Err(Errno::kINVAL);
  return zero(join_process(task, **group, wanted));
}

}  // namespace uk
