// The platforms that exist, in one place. Holds nothing and suspends nowhere; the registry is the
// caller's.
#pragma once

#include "ukernel/platform/registry.h"

namespace uk::boot {

void register_platforms(PlatformRegistry& registry);

}  // namespace uk::boot
