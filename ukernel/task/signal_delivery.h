// Taking signals on the way to user mode: stops, default actions, and frames for handlers
// (sigaction(2), signal(7)). Runs on the task's own fiber; may suspend (stops, writing the frame).
#pragma once

#include <optional>

#include "base/result.h"
#include "ukernel/task/task.h"

namespace uk {

// A signal that a handler of the guest is to get.
struct CaughtSignal {
  SigInfo info;
  SigAction action;
};

// True if the way to user mode leads through take_signal().
bool signal_work(const Task& task);
// Takes what is pending: stops here, drops what is ignored, begins the end of the group; returns
// the first signal that has a handler, or nothing.
std::optional<CaughtSignal> take_signal(Task& task);
// Pushes the frame of `caught` and of every further handler that is due; `regs` is where the guest
// would go on. When a frame cannot be written the task gets SIGSEGV instead.
void run_handlers(Task& task, CaughtSignal caught, arch::UserRegs regs);
// Signals after a trap that was not a system call, or after one whose result is set.
void deliver_signals(Task& task);
// rt_sigreturn(2): everything comes back from the frame at the guest's stack pointer.
Result<> restore_sigframe(Task& task);
// sigaltstack(2): kINVAL, kNOMEM; kPERM while the guest runs on it (`sp`).
Result<> set_altstack(Task& task, const Task::AltStack& stack, uint64_t sp);
bool on_altstack(const Task& task, uint64_t sp);

}  // namespace uk
