// Replay: finds the complete transactions of a log and writes what they hold to its places. What
// was being written when the power went, the last transaction, has no good commit block and is left
// out.
//
// Everything is checked before anything is written: a log that is damaged in the middle, or says to
// write outside the file system or into the log itself, changes nothing.
//
// Ownership: borrows all. Suspends. The log is hostile: the walk ends after one turn, memory is
// bounded by the number of the log's blocks.
#pragma once

#include "ukernel/dev/jbd2/format.h"
#include "ukernel/dev/jbd2/log_place.h"

namespace uk::jbd2 {

struct Replayed {
  uint32_t transactions = 0;
  uint64_t blocks = 0;         // written to their places
  uint64_t revoked = 0;        // left out as a later transaction says
  uint32_t next_sequence = 0;  // that no block of the log has
};

// Does not change the log; what is written is not flushed. kUCLEAN: the log is damaged. Else the
// device's error.
Result<Replayed> replay_log(Park& park, BlockDevice& device, const LogPlace& place,
                            const Super& super);

}  // namespace uk::jbd2
