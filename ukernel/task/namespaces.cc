#include "ukernel/task/namespaces.h"

#include <sched.h>

#include "ukernel/ipc/namespace.h"
#include "ukernel/kernel.h"
#include "ukernel/task/nsfs.h"
#include "ukernel/task/pid_ns.h"
#include "ukernel/task/time_ns.h"
#include "ukernel/task/user_ns.h"

namespace uk {
namespace {

// As user namespaces have it, each kind's namespaces lie within each other.
Result<> new_pid_namespace(const Task& task, const Cred& cred, NsSet& set) {
  const Ref<PidNamespace>& active = pid_ns_of(task);
  if (set.pid_for_children != active) return Err(Errno::kINVAL);
  if (!user_ns_within(cred.user_ns.get(), active ? active->owner.get() : nullptr))
    return Err(Errno::kINVAL);
  if (level_of(active.get()) >= PidNamespace::kMaxLevel) return Err(Errno::kNOSPC);
  const int pid_max = active ? active->pid_max : task.kernel.pids.pid_max;
  set.pid_for_children = make_ref<PidNamespace>(active, pid_max);
  return {};
}

void new_time_namespace(NsSet& set) {
  auto ns = make_ref<TimeNamespace>();
  if (const TimeNamespace* from = set.time_for_children.get()) {
    ns->monotonic_ns = from->monotonic_ns;
    ns->boottime_ns = from->boottime_ns;
  }
  set.time_for_children = std::move(ns);
}

}  // namespace

NsSet::NsSet() = default;
NsSet::~NsSet() = default;

Ref<NsSet> NsSet::copy() const {
  auto set = make_ref<NsSet>();
  set->pid = pid;
  set->pid_for_children = pid_for_children;
  set->time = time;
  set->time_for_children = time_for_children;
  set->cgroup = cgroup;
  return set;
}

Ref<NsSet> copy_ns_set(const Task& task) {
  return task.more_ns ? task.more_ns->copy() : make_ref<NsSet>();
}

Ref<NsSet> child_ns_set(Ref<NsSet> set, uint64_t flags) {
  if (!set) return set;
  const bool own_time = (flags & CLONE_VM) == 0 && set->time != set->time_for_children;
  if (set->pid == set->pid_for_children && !own_time) return set;
  Ref<NsSet> own = set->copy();
  own->pid = own->pid_for_children;
  if (own_time) own->time = own->time_for_children;
  return own;
}

void NewNamespaces::install(Task& task) {
  if (cred) {
    task.set_cred(cred);
    task.keep_caps = false;
  }
  if (uts) task.uts_ = uts;
  if (ipc) task.ipc_ = ipc;
  if (mounts) task.mounts_ = mounts;
  if (more) task.more_ns = more;
}

Result<NewNamespaces> make_namespaces(const Task& task, uint64_t flags, FsInfo& fs) {
  NewNamespaces out;
  flags &= kNsFlags;
  if (flags == 0) return out;
  if ((flags & CLONE_NEWUSER) != 0) out.cred = TRY(new_user_namespace(task));
  const Cred& cred = out.cred ? *out.cred : task.cred();
  if (!cred.has_in(cred.user_ns.get(), Cap::kSysAdmin)) return Err(Errno::kPERM);
  // DEVIATION: there are no network namespaces; see docs/CAVEATS.md.
  if ((flags & ~kNsCanMake) != 0) return Err(Errno::kINVAL);
  NsFs& nsfs = *task.kernel.nsfs;
  auto own = [&](Namespace& ns) {
    ns.owner = cred.user_ns;
    return nsfs.admit(ns);
  };
  if ((flags & CLONE_NEWUTS) != 0) {
    out.uts = make_ref<UtsInfo>();
    out.uts->nodename = task.uts().nodename;
    out.uts->domainname = task.uts().domainname;
    TRY(own(*out.uts));
  }
  if ((flags & CLONE_NEWIPC) != 0) {
    out.ipc = task.ipc().fresh();
    TRY(own(*out.ipc));
  }
  if ((flags & (CLONE_NEWCGROUP | CLONE_NEWPID | kCloneNewTime)) != 0) out.more = copy_ns_set(task);
  if ((flags & CLONE_NEWCGROUP) != 0) {
    auto ns = make_ref<CgroupNamespace>(Ref<Cgroup>(&task.kernel.cgroups->of(*task.group)));
    TRY(own(*ns));
    out.more->cgroup = std::move(ns);
  }
  if ((flags & CLONE_NEWNS) != 0) {
    out.mounts = TRY(
        task.kernel.vfs.copy_namespace(task.mounts(), cred.user_ns, [&](Mount& old, Mount& copy) {
          for (Path* p : {&fs.root, &fs.cwd}) {
            if (p->mount.get() == &old) p->mount = Ref<Mount>(&copy);
          }
        }));
    TRY(own(*out.mounts));
  }
  if ((flags & CLONE_NEWPID) != 0) {
    TRY(new_pid_namespace(task, cred, *out.more));
    TRY(own(*out.more->pid_for_children));
  }
  if ((flags & kCloneNewTime) != 0) {
    new_time_namespace(*out.more);
    TRY(own(*out.more->time_for_children));
  }
  return out;
}

Ref<Namespace> namespace_of(const Task& task, NsKind kind, bool for_children) {
  if (!task.mounts_) return nullptr;
  const NsSet* more = task.more_ns.get();
  switch (kind) {
    case NsKind::kUts:
      return task.uts_;
    case NsKind::kIpc:
      return task.ipc_;
    case NsKind::kMnt:
      return task.mounts_;
    case NsKind::kUser:
      return task.kernel.nsfs->user(task.cred().user_ns);
    case NsKind::kPid: {
      if (more == nullptr) break;
      const Ref<PidNamespace>& ns = for_children ? more->pid_for_children : more->pid;
      if (!ns) break;
      const bool empty = ns->init == nullptr && !ns->closed;
      return empty ? nullptr : Ref<Namespace>(ns);
    }
    case NsKind::kTime: {
      if (more == nullptr) break;
      const Ref<TimeNamespace>& ns = for_children ? more->time_for_children : more->time;
      if (!ns) break;
      return ns;
    }
    case NsKind::kCgroup:
      if (more == nullptr || !more->cgroup) break;
      return more->cgroup;
    case NsKind::kNet:
      break;
  }
  return task.kernel.nsfs->initial(kind);
}

}  // namespace uk
