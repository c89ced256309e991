// The seccomp filters of stubs, as BPF programs (seccomp(2)). Pure.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <vector>

namespace uk::stub {

// Calls the mm thread makes, from stub code only; everything else, whatever its architecture, gets
// `otherwise` (a SECCOMP_RET_ value). `code` is the page-aligned address of the code page.
std::vector<sock_filter> stub_filter(uint64_t code, uint32_t otherwise);

// The second filter of a guest thread on notify: of the stub's code it may only make the calls of
// the signal handler (report, set its own bases, return); others fail with ENOSYS. What is not stub
// code is left to stub_filter().
std::vector<sock_filter> guest_thread_filter(uint64_t area);

}  // namespace uk::stub
