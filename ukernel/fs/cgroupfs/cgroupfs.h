// The cgroup2 filesystem (cgroups(7)): the files of the kernel's one tree of control groups
// (task/cgroup.h). All mounts show the same tree, from the root of the mounter's cgroup namespace.
#pragma once

namespace uk {

class Kernel;
void register_cgroupfs(Kernel& kernel);

}  // namespace uk
