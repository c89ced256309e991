// Who uses a disk, in words for who wants to take it away: mounts, processes, loop devices, a
// mirror.
//
// Ownership: nothing is kept; nothing suspends, so it is true until the caller suspends. Names of
// processes and places are the guest's.
#pragma once

#include <string>

#include "ukernel/kernel.h"

namespace uk {
class Disk;
}

namespace uk::boot {

// "vdc1 is mounted on /mnt; vdc is open in process 12 (sh)". "": nobody.
std::string disk_users(Kernel& kernel, const Disk& disk);

}  // namespace uk::boot
