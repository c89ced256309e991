// The seccomp filters of stubs, as BPF programs (seccomp(2)). Pure.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <vector>

namespace uk::stub {

// Calls the mm thread makes, from stub code only; the reports of stub code (UK_NR_*) get `report`,
// everything else, whatever its architecture, `otherwise` (SECCOMP_RET_ values). `code` is the
// page-aligned address of the code page.
std::vector<sock_filter> stub_filter(uint64_t code, uint32_t report, uint32_t otherwise);

// The second filter of a guest thread (not on ptrace): of the stub's code it may only make the
// calls of the signal handlers (report, park, set its own bases, return) and, with `errands`,
// those; others fail with ENOSYS. What is not stub code is left to stub_filter().
std::vector<sock_filter> guest_thread_filter(uint64_t area, bool errands);

// That filter lets an errand (stub/abi.h) pass for this range.
bool may_be_errand(uint64_t area, uint64_t addr, uint64_t len);

}  // namespace uk::stub
