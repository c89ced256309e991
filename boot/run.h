// `ukernel run`: builds an instance from its options, boots it, and ends it. The composition root:
// the only place that knows every implementation.
#pragma once

#include "boot/options.h"

namespace uk::boot {

// Runs the instance to its end. Returns the exit status of the command (see cli in README.md): the
// guest's own, 128+N for a signal, 125 for an error of ukernel's own, 126 not executable, 127 not
// found; errors are one line on stderr.
int run_instance(const RunOptions& options);

}  // namespace uk::boot
