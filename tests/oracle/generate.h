// Makes a sequence of calls out of a seed: the same on every machine, and without knowing what the
// calls will do.
//
// Kept out, because Linux itself does not always answer the same: waiting for time, two processes
// at work at once, what depends on addresses the kernel chooses.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/oracle/call.h"

namespace oracle {

// `only` is a set of Domain bits that the sequence may be about; 0 is all.
std::vector<Call> generate(uint64_t seed, uint64_t number, int length, uint32_t only);

}  // namespace oracle
