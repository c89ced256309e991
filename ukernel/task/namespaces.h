// Namespaces a task can have of its own. Reactor-owned; nothing suspends.
#pragma once

#include "ukernel/task/task.h"

namespace uk {

// A copy of the mounts for `task` (CLONE_NEWNS); its root and working directory move into it. Its
// FsInfo must not be shared.
void new_mount_namespace(Task& task);

}  // namespace uk
