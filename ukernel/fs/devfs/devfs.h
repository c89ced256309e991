// /dev: a tmpfs filled with the usual device nodes, links and directories. Registered as type
// "devtmpfs". What opening a node does is the device's registration (Vfs::register_device).
//
// Ownership: the nodes are ordinary tmpfs inodes, owned by the mount. Both functions' walks may
// suspend.
#pragma once

#include "base/result.h"
#include "ukernel/vfs/vfs.h"

namespace uk {

class BlockDevices;

constexpr uint32_t kDiskMode = 0660;  // of a block device's node

// Needs the type "tmpfs" to be registered by the time of a mount. A mount has nodes for the block
// devices there are when it is made.
void register_devfs(Vfs& vfs, BlockDevices& disks);

// Mounts /dev, /dev/pts (if the type "devpts" is registered) and /dev/shm. kNOENT: the root has no
// /dev.
Result<> mount_dev(Park& park, Vfs& vfs, const FsContext& ctx);

}  // namespace uk
