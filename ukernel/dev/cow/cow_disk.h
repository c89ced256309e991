// A disk whose writes go to a copy-on-write file and whose other contents are read from a backing
// file, which is never written. A request that is the first to write to a cluster brings the rest
// of it along. What a flush has confirmed is in the file for good: data first, then the map that
// names it; a crash loses at most what was not flushed.
//
// Ownership: the Disk owns its backend, which owns both descriptors and their locks (the
// copy-on-write file exclusively, the backing file shared with readers). Contents are untrusted
// (format.h).
#pragma once

#include <memory>
#include <string>

#include "ukernel/dev/block/host_disk.h"
#include "ukernel/dev/block/request.h"
#include "ukernel/dev/cow/cow_file.h"

namespace uk {

// Opens `cow` for the backing file `backing`, or makes it, in our format, if there is no such file
// and the disk may be written. On failure `why` is "FILE: WHY; WHAT TO DO". Blocks the thread.
Result<std::unique_ptr<BlockBackend>> open_cow_disk(Reactor& reactor, const std::string& backing,
                                                    const std::string& cow,
                                                    const HostDiskOptions& options,
                                                    std::string& why);

}  // namespace uk
