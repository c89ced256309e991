#include "boot/platforms.h"

#include "ukernel/platform/direct/direct_platform.h"
#include "ukernel/platform/notify/notify_platform.h"
#include "ukernel/platform/ptrace/ptrace_platform.h"

namespace uk::boot {

void register_platforms(PlatformRegistry& registry) {
  ptrace::register_ptrace(registry);
  notify::register_notify(registry);
  direct::register_direct(registry);
}

}  // namespace uk::boot
