// Restartable sequences (rseq(2)): the guest's per-thread area with the CPU it runs on, and the
// critical section that is given up when the thread was moved, preempted or interrupted by a
// signal. The area is guest memory: untrusted; a bad one is SIGSEGV. Functions may suspend.
#pragma once

#include "ukernel/task/task.h"

namespace uk {

// rseq(2) itself. Errors: kINVAL, kPERM (wrong signature), kBUSY (registered already), kFAULT.
Result<> register_rseq(Task& task, uint64_t addr, uint32_t len, int flags, uint32_t sig);
// Before user mode: tells the thread its CPU, and gives up a critical section that was disturbed.
void update_rseq(Task& task);
// A handler is about to run: `regs` is moved out of a critical section.
void abort_rseq(Task& task, arch::UserRegs& regs);

}  // namespace uk
