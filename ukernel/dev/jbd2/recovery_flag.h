// The flag in ext4's superblock (INCOMPAT_RECOVER, "needs_recovery") that tells Linux and e2fsck to
// look into the journal. It is set, on stable storage, before the first commit and cleared after
// the log was emptied for the last time.
//
// Who keeps a copy of the superblock in memory must set the flag there too, or a commit of that
// copy clears it. Suspends. The superblock is the image's word.
#pragma once

#include "ukernel/dev/block/disk.h"

namespace uk::jbd2 {

// kUCLEAN: there is no ext4 on the device. Else the device's error.
Result<bool> needs_recovery(Park& park, BlockDevice& device);
Result<> set_needs_recovery(Park& park, BlockDevice& device, bool on);

}  // namespace uk::jbd2
