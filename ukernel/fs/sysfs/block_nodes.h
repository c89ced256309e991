// /sys/block, /sys/class/block, /sys/dev/block and what they point to: the block devices, with the
// attributes that lsblk(8), blkid(8) and fdisk(8) read.
#pragma once

#include "ukernel/fs/sysfs/sys_node.h"

namespace uk {
class BlockDevices;
}

namespace uk::sysfs {

// Makes the nodes, and makes them anew whenever the set of devices has changed. `disks` outlives
// the superblock.
void follow_block_devices(Super& super, BlockDevices& disks);

}  // namespace uk::sysfs
