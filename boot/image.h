// `ukernel image`: makes images and copy-on-write files, looks at them, commits and rebases them.
//
// Ownership: nothing is kept. Blocks. Files are untrusted (ukernel/dev/cow).
#pragma once

#include <string>
#include <vector>

namespace uk::boot {

// The words after "image". Returns the exit status: 0; 1 when `check` has found something wrong;
// 125 for an error, which is said on standard error.
int image_command(const std::vector<std::string>& args);

}  // namespace uk::boot
