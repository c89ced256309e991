// The disks of `--disk`, and those plugged later: opens their files and adds them to the instance.
#pragma once

#include <string>

#include "boot/options.h"
#include "ukernel/kernel.h"

namespace uk::boot {

// Adds one, without stopping a guest that runs. Returns "" or "WHY; WHAT TO DO".
std::string add_disk(Park& park, Kernel& kernel, const DiskSpec& disk);
// Adds them all. Returns "" or "WHAT: WHY; WHAT TO DO". Before /dev is there.
std::string add_disks(Park& park, Kernel& kernel, const RunOptions& options);

}  // namespace uk::boot
