#include "ukernel/task/namespaces.h"

#include <sched.h>

#include "ukernel/ipc/namespace.h"
#include "ukernel/kernel.h"
#include "ukernel/task/nsfs.h"
#include "ukernel/task/user_ns.h"

namespace uk {

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
  // DEVIATION: there are no network namespaces; see docs/CAVEATS.md.
  if ((flags & ~kNsCanMake) != 0) return Err(Errno::kINVAL);
  if ((flags & CLONE_NEWUSER) != 0) out.cred = TRY(new_user_namespace(task));
  const Cred& cred = out.cred ? *out.cred : task.cred();
  if (!cred.has_in(cred.user_ns.get(), Cap::kSysAdmin)) return Err(Errno::kPERM);
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
  if ((flags & CLONE_NEWNS) != 0) {
    out.mounts = TRY(
        task.kernel.vfs.copy_namespace(task.mounts(), cred.user_ns, [&](Mount& old, Mount& copy) {
          for (Path* p : {&fs.root, &fs.cwd}) {
            if (p->mount.get() == &old) p->mount = Ref<Mount>(&copy);
          }
        }));
    TRY(own(*out.mounts));
  }
  return out;
}

Ref<Namespace> namespace_of(const Task& task, NsKind kind, bool) {
  if (!task.mounts_) return nullptr;
  switch (kind) {
    case NsKind::kUts:
      return task.uts_;
    case NsKind::kIpc:
      return task.ipc_;
    case NsKind::kMnt:
      return task.mounts_;
    case NsKind::kUser:
      return task.kernel.nsfs->user(task.cred().user_ns);
    default:
      return task.kernel.nsfs->initial(kind);
  }
}

}  // namespace uk
