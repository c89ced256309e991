// Namespaces a task can have of its own, and how clone(2), unshare(2) and setns(2) get them.
// Reactor-owned; nothing suspends.
#pragma once

#include "ukernel/task/cgroup.h"
#include "ukernel/task/task.h"

namespace uk {

class PidNamespace;
class TimeNamespace;

// Those that are rarer than a name: a task without a set has the initial ones, as whose member is
// null. Shared by tasks, so changed by copy.
class NsSet final : public RefCounted {
 public:
  NsSet();
  ~NsSet() override;
  Ref<NsSet> copy() const;
  Ref<PidNamespace> pid, pid_for_children;
  Ref<TimeNamespace> time, time_for_children;
  Ref<CgroupNamespace> cgroup;
};
// One that nobody else has, like the task's.
Ref<NsSet> copy_ns_set(const Task& task);

// The namespaces that clone(2) and unshare(2) can make.
constexpr uint64_t kCloneNewTime = 0x80;  // newer than <sched.h>; not of clone(2)
constexpr uint64_t kNsFlags = 0x7e020080;
constexpr uint64_t kNsCanMake = 0x3e020080;  // all but CLONE_NEWNET

// What a task gets with its new namespaces; null members stay as they are.
struct NewNamespaces {
  Ref<Cred> cred;
  Ref<UtsInfo> uts;
  Ref<IpcNamespace> ipc;
  Ref<MountNamespace> mounts;
  Ref<NsSet> more;
  // Gives them to `task`; `fs` of make_namespaces() is to become its own as well.
  void install(Task& task);
};

// Makes the namespaces that `flags` (CLONE_NEW*) name, as copies of `task`'s. With CLONE_NEWNS the
// root and working directory of `fs`, which must not be shared, move into the new one. Those of
// numbers and times are for the children. kINVAL for kinds that do not exist, kPERM, kNOSPC.
Result<NewNamespaces> make_namespaces(const Task& task, uint64_t flags, FsInfo& fs);

// The rarer ones of a new task; `set`: its parent's, or what make_namespaces() made of it.
// CLONE_VM in `flags`: it shares the parent's memory, and so its clocks.
Ref<NsSet> child_ns_set(Ref<NsSet> set, uint64_t flags);

// Of what kind `kind` the task is; the one its children will have if `for_children`. Null: it has
// ended, or nobody is in that one yet.
Ref<Namespace> namespace_of(const Task& task, NsKind kind, bool for_children = false);

}  // namespace uk
