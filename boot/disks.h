// The disks of `--disk`: opens their files and adds them to the instance.
#pragma once

#include <string>

#include "boot/options.h"
#include "ukernel/kernel.h"

namespace uk::boot {

// Adds them all. Returns "" or "WHAT: WHY; WHAT TO DO". Before /dev is there.
std::string add_disks(Park& park, Kernel& kernel, const RunOptions& options);

}  // namespace uk::boot
