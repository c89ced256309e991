// sysfs, as much of it as programs read to learn about processors, memory and block devices
// (sysfs(5)). Nothing here suspends.
#pragma once

#include "ukernel/vfs/vfs.h"

namespace uk {

class BlockDevices;

// Registers the file system type "sysfs". `cpus`: virtual CPUs of the instance.
void register_sysfs(Vfs& vfs, int cpus, BlockDevices& disks);

}  // namespace uk
