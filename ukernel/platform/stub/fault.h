// Turns the host's description of a fault (siginfo; where known, vector and error code) into a
// Trap. Pure.
#pragma once

#include <signal.h>

#include "ukernel/platform/platform.h"

namespace uk::stub {

// True if `info` was made by a CPU exception of the thread itself, not sent by anyone.
bool is_fault(const siginfo_t& info);

// Without an error code (ptrace): vector guessed from the signal; access unknown but for fetches,
// where addr == rip.
Trap fault_trap(const siginfo_t& info, uint64_t rip);

// With vector, error code and CR2 from a signal frame.
Trap fault_trap(const siginfo_t& info, uint64_t rip, int trapno, uint64_t error_code, uint64_t cr2);

// A trap that is only its kind.
Trap simple_trap(Trap::Kind kind);
// What single-stepping over a system call ends with.
Trap stepped_over_syscall();
// A fetch from the host's vsyscall page: to the guest there is none.
bool in_vsyscall_page(uint64_t ip);
Trap vsyscall_trap(uint64_t ip);

}  // namespace uk::stub
