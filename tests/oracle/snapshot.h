// The state that a sequence leaves: the file tree of its scratch directory, as text.
//
// Called by the supervisor when nothing of the sequence runs any more. Does not follow links, opens
// nothing but regular files and directories.
#pragma once

#include <string>

namespace oracle {

// One line a name, sorted: type, mode, owner, links, size, blocks, times set by the sequence,
// attributes, contents.
// Blocks are left out at will: a write that faults may leave one behind, as Linux takes the page
// first.
std::string tree(int directory, bool blocks);
// Removes everything in it.
void clear(int directory);

}  // namespace oracle
