// Mounts the guest's file tree: the root as --root and --overlay say, then /dev, /proc, /sys, /tmp,
// and --mount directories.
#pragma once

#include <string>

#include "boot/options.h"
#include "ukernel/kernel.h"

namespace uk::boot {

// Registers every filesystem and device with the kernel's Vfs and mounts. Returns "" or a sentence
// for the user.
std::string mount_root(Park& park, Kernel& kernel, const RunOptions& options);

// The view of the namespace's root with `cred`.
FsContext kernel_root_context(Kernel& kernel, const Ref<Cred>& cred);

}  // namespace uk::boot
