#include "syscalls/ns.h"

#include <fcntl.h>
#include <sched.h>

#include "syscalls/fs_common.h"
#include "syscalls/process.h"
#include "ukernel/ipc/namespace.h"
#include "ukernel/task/namespaces.h"
#include "ukernel/task/nsfs.h"
#include "ukernel/task/pidfd.h"
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

Result<> join(Task& task, Joining& j, const Ref<Namespace>& ns) {
  if (ns->kind == NsKind::kUser) return join_user(task, j, ns);
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
    case NsKind::kUser:
      UNREACHABLE();  // join()
    case NsKind::kNet:
    case NsKind::kPid:
    case NsKind::kCgroup:
      return {};  // the initial one
    case NsKind::kTime:
      return task.group->live > 1 ? Err(Errno::kUSERS) : Result<>();
  }
  UNREACHABLE();
}

void commit(Task& task, Joining& j) {
  if (j.leaves_ipc) leave_sem_undo(task);
  if (j.fs) task.fs_ = std::move(j.fs);
  j.spaces.install(task);
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
  commit(task, j);
  return {};
}

}  // namespace

Result<int64_t> sys_setns(Task& task, Fd fd, int kinds) {
  Ref<File> file = TRY(task.fds().get_io(fd));
  const auto wanted = static_cast<uint32_t>(kinds);
  if (Ref<Namespace> ns = namespace_of(*file)) {
    if (wanted != 0 && wanted != ns_clone_flag(ns->kind)) return Err(Errno::kINVAL);
    Joining j;
    TRY(join(task, j, ns));
    commit(task, j);
    return 0;
  }
  auto group = pidfd_group(*file);
  if (!group) return Err(Errno::kINVAL);
  return zero(join_process(task, **group, wanted));
}

}  // namespace uk
