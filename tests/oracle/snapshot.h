// The state that a sequence leaves: the file tree of its scratch directory, as text.
//
// Called by the supervisor when nothing of the sequence runs any more. Does not follow links, opens
// nothing but regular files and directories.
#pragma once

#include <string>

namespace oracle {

// One line a name, sorted: type, mode, owner, links, size, blocks, times set by the sequence,
// attributes, contents.
std::string tree(int directory);
// Removes everything in it.
void clear(int directory);

}  // namespace oracle
