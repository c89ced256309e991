// The notify platform: a seccomp filter turns every call of a guest into a notification to the
// kernel; signals (faults, kicks) enter a handler in the stub. One wake-up each way. All of it is
// in platform/seccomp; here it is registered. Called from boot/. Nothing suspends.
#pragma once

#include "ukernel/platform/registry.h"

namespace uk::notify {

void register_notify(PlatformRegistry& registry);

}  // namespace uk::notify
