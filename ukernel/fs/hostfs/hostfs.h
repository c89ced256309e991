// hostfs: a directory of the host as a filesystem. Names are resolved one component at a time below
// an O_PATH descriptor of the directory, never through a host symlink, so nothing outside is
// reachable. Host devices, fifos and sockets are never opened: as inodes they carry type and number
// only, and the vfs opens the guest's own device of that number.
//
// Made by boot only: it is no filesystem type of mount(2), for a guest may not choose host paths.
// Ownership: the superblock owns the root descriptor and a bounded cache of descriptors; inodes are
// shared by (device, inode) number. Host calls on names are made at once, without suspending;
// reading and writing file contents may suspend. What the host says (names, sizes, types) is
// untrusted.
#pragma once

#include <string>

#include "base/ref.h"
#include "base/result.h"
#include "ukernel/vfs/vfs.h"

namespace uk {

struct HostFsOptions {
  bool writable = false;
  // The tree does not change behind our back (or we need not see it at once): names and attributes
  // are cached for good. Otherwise they are asked for again when they are a few ms old.
  bool stable = true;
  // Host descriptors kept open at most; 0: half of RLIMIT_NOFILE, at most 4096.
  size_t max_fds = 0;
};

// The directory `host_path`. Errors of opening it.
Result<Ref<SuperBlock>> make_hostfs(Vfs& vfs, const std::string& host_path,
                                    const HostFsOptions& options, Ref<Inode>* root);

}  // namespace uk
