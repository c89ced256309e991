// The direct platform: a seccomp filter turns every call of a guest into a signal to itself, and
// the stub's handler reports it through memory shared with the kernel, where kernel and guest spin
// for each other on two CPUs as long as that pays; else by a seccomp notification. With one CPU it
// is notify under another name. All of it is in platform/seccomp; here it is registered. Called
// from boot/. Nothing suspends.
#pragma once

#include "ukernel/platform/registry.h"

namespace uk::direct {

void register_direct(PlatformRegistry& registry);

}  // namespace uk::direct
