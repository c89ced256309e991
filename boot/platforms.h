// The platforms that exist, in one place.
#pragma once

#include "ukernel/platform/registry.h"

namespace uk::boot {

void register_platforms(PlatformRegistry& registry);

}  // namespace uk::boot
