// /dev/kmsg: the kernel's log as records, and lines of the guest's own in it. Registered by boot/;
// who may read is syslog(2)'s matter: CAP_SYSLOG.
#pragma once

#include <memory>

#include "ukernel/vfs/kernel_log.h"
#include "ukernel/vfs/vfs.h"

namespace uk {

void register_kmsg(Vfs& vfs, std::shared_ptr<KernelLog> log);

}  // namespace uk
