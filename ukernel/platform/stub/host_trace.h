// Debug registers of a stub's thread, which the host sets for a tracer alone. HostTrace makes the
// reactor thread its tracer for a moment where it is none: ptrace(2) leaves the breakpoints in
// force when it detaches.
//
// Ownership: whoever makes a HostTrace; the calling thread must be the one that ends it. It blocks
// until the thread has stopped (some 10 us). Untrusted: the thread may die at any moment.
#pragma once

#include "base/result.h"
#include "ukernel/arch/x86_64/debug_regs.h"

namespace uk::stub {

// Of a thread that is stopped and traced by the caller: `now` is what it has, brought to `wanted`.
// After an error (kNOSPC: the host has no breakpoints to give; kSRCH) it has none.
Result<> load_breakpoints(int tid, arch::Breakpoints& now, const arch::Breakpoints& wanted);
// The bits of DR6 that the last debug exception left. Error: kSRCH.
Result<uint64_t> debug_status(int tid);

class HostTrace {
 public:
  // The thread may be anywhere; a host call that it waits in begins anew afterwards. Errors: as
  // ptrace(2) has them when the host forbids it (kPERM); kSRCH.
  static Result<HostTrace> begin(int tid);
  HostTrace(HostTrace&& other) noexcept;
  HostTrace& operator=(HostTrace&&) = delete;
  ~HostTrace();

 private:
  HostTrace(int tid, int signo) : tid_(tid), signo_(signo) {}
  int tid_;    // 0: moved from
  int signo_;  // that it stopped to take
};

}  // namespace uk::stub
