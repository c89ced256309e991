#include "ukernel/task/namespaces.h"

#include "ukernel/kernel.h"

namespace uk {

void new_mount_namespace(Task& task) {
  FsInfo& fs = *task.fs_;
  task.mounts_ = task.kernel.vfs.copy_namespace(*task.mounts_, [&](Mount& old, Mount& copy) {
    for (Path* p : {&fs.root, &fs.cwd}) {
      if (p->mount.get() == &old) p->mount = Ref<Mount>(&copy);
    }
  });
}

}  // namespace uk
