// sysfs, as much of it as programs read to learn about processors and memory (sysfs(5)): a tree of
// constant texts made at mount. Nothing here suspends.
#pragma once

#include "ukernel/vfs/vfs.h"

namespace uk {

// Registers the file system type "sysfs". `cpus`: virtual CPUs of the instance.
void register_sysfs(Vfs& vfs, int cpus);

}  // namespace uk
