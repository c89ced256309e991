// The pieces of guest_code.S, by name. Each is position-independent and starts with rdi = its
// argument.
#pragma once

#include "ukernel/platform/conformance/world.h"

#define UK_GUEST_BLOB(name)                                   \
  extern "C" const char guest_##name[], guest_##name##_end[]; \
  inline const ::uk::conformance::Blob name = {guest_##name, guest_##name##_end}

namespace uk::conformance::blob {
UK_GUEST_BLOB(syscalls);
UK_GUEST_BLOB(gated);
UK_GUEST_BLOB(registers);
UK_GUEST_BLOB(spin);
UK_GUEST_BLOB(touch);
UK_GUEST_BLOB(store_loop);
UK_GUEST_BLOB(faults);
UK_GUEST_BLOB(fpu);
UK_GUEST_BLOB(lock_out);
UK_GUEST_BLOB(scribble);
UK_GUEST_BLOB(steps);
UK_GUEST_BLOB(increment);
UK_GUEST_BLOB(entries);
}  // namespace uk::conformance::blob
