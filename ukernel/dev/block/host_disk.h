// A disk in a host file (or on a host block device): requests go through the reactor's ring, so
// that many are in flight at once. The file is locked for as long as it is used: exclusively, or
// shared by those that only read.
//
// Ownership: the Disk owns its backend, which owns the descriptor. What the file holds is untrusted
// and not looked at here. Errors are the host's: kIO of the host is the guest's kIO; a file that
// has shrunk gives kIO beyond its end.
#pragma once

#include <memory>
#include <string>

#include "hostio/sys/fd.h"
#include "ukernel/dev/block/request.h"

namespace uk {

class Reactor;

struct HostDiskOptions {
  bool read_only = false;
  bool sync = false;    // every write is on stable storage when it is done (O_DSYNC)
  bool direct = false;  // past the host's page cache (O_DIRECT)
};

// kAGAIN: the file is in use by somebody who locked it. kINVAL: neither file nor block device, or
// the host's filesystem has no O_DIRECT. Else open(2)'s.
Result<std::unique_ptr<BlockBackend>> open_host_disk(Reactor& reactor, const std::string& path,
                                                     const HostDiskOptions& options);

// Locks an image for as long as `fd` is open: against all others, or, shared, against those that
// write. kAGAIN: it is in use, for half a second in which the thread waits; kINVAL: neither file
// nor block device. Not on the reactor's thread while a guest runs.
Result<> lock_host_image(int fd, bool exclusive);

}  // namespace uk
