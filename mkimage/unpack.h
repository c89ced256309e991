// Archives as they come: through a pipe, or compressed. What cannot be read at any offset is
// written to a file without a name first, by the host's own gzip, xz, zstd or bzip2.
//
// Ownership: the descriptors are the caller's. Blocks the thread. The contents are untrusted: what
// a compressed archive unpacks to is bounded by the room on the host's disk alone. On failure `why`
// says "WHAT: WHY; WHAT TO DO".
#pragma once

#include "hostio/sys/fd.h"
#include "mkimage/source.h"

namespace uk::mkimage {

// The archive as a regular file that is not compressed. `directory`: where there is room for it.
Result<sys::Fd> plain_archive(sys::Fd archive, const std::string& name,
                              const std::string& directory, const Progress& progress,
                              std::string& why);

}  // namespace uk::mkimage
