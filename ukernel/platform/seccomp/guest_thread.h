// A guest thread: the host thread and its signal stack, where the handler's
// frame is read and edited. Lent to a context; when given back it is brought to the handler and
// waits there for its next owner.
#pragma once

#include <signal.h>

#include <optional>
#include <span>

#include "ukernel/arch/x86_64/sigframe.h"
#include "ukernel/platform/platform.h"
#include "ukernel/platform/seccomp/thread.h"
#include "ukernel/platform/stub/stack_pages.h"

namespace uk::seccomp {

class GuestThread {
 public:
  // `stack_address`: where the stub maps `stack`.
  GuestThread(SeccompPlatform& platform, int tgid, int tid, const stub::Stack& stack,
              uint64_t stack_address)
      : thread_(platform, tgid, tid, Thread::Kind::kGuest, slot_of(platform, stack)),
        stack_(stack),
        stack_address_(stack_address) {
    if (slot()) slot().set_address(stack_address);
  }

  Thread& thread() { return thread_; }

  // The frame a new thread begins with, written to its stack; returns the ucontext's address.
  static uint64_t prepare(const stub::Stack& stack, uint64_t stack_address);

  // In a report: the signal it is about; 0: a new thread's first.
  int signo() const { return static_cast<int>(thread_.call().args[0]); }
  // In a report. False: the frame does not lie on the thread's own stack, or the handler was
  // entered from stub code: only a guest that jumps there itself does that.
  bool frame_ok() const;
  arch::UserRegs regs() const;
  siginfo_t siginfo() const;
  int trapno() const { return static_cast<int>(word(kTrapno)); }
  uint64_t error_code() const { return word(kErr); }
  uint64_t cr2() const { return word(kCr2); }
  arch::FpState fp() const;
  // Returns the answer that puts them in force. `clear`: the thread has a new owner.
  uint64_t set_regs(const arch::UserRegs& regs, bool clear);
  void set_fp(const arch::FpState& fp);  // empty: initial

  // Of a call that came with all registers: these. And what it shall return with; false: it must be
  // a report for that. `fp`, if not null, the same.
  arch::UserRegs call_regs() const;
  arch::FpState call_fp() const;
  bool set_return(const arch::UserRegs& regs, const arch::FpState* fp);
  void return_result() {  // with its result alone
    returns_.reset();
    thread_.set_load(0);
  }
  // In a report that came before the state to return with was loaded: take call_fp() for the
  // frame's.
  bool fp_unloaded() const;

  // The breakpoints of the thread, in a report: of its last owner, until set anew. The host repeats
  // the report's notification: to answer the last one may be too late.
  const arch::Breakpoints& breakpoints() const { return breakpoints_; }
  Result<> set_breakpoints(const arch::Breakpoints& wanted);
  Result<uint64_t> debug_status();

  void set_errands(std::span<const stub::Errand> errands) { slot().set_errands(errands); }
  bool errands_made() const { return slot().errands_made(); }
  void set_ids(const CallerIds& ids);
  // Clears the whole signal stack but for an empty frame where the handler expects its own. False:
  // there is no room for one, as only a forged frame leaves it.
  bool scrub();

 private:
  static Slot slot_of(SeccompPlatform& platform, const stub::Stack& stack);
  Slot slot() const { return slot_of(thread_.platform(), stack_); }
  // Offsets in a ucontext (struct sigcontext_64 begins at 40).
  static constexpr size_t kErr = 40 + 152, kTrapno = 40 + 160, kCr2 = 40 + 176, kFpState = 40 + 184;
  uint64_t word(size_t offset) const;
  std::byte* at(uint64_t address) const {
    return stack_.bytes().data() + (address - stack_address_);
  }
  bool on_stack(uint64_t address, uint64_t len) const;
  // The real GS base for the guest's: where calls go through the gate, one that the guest does not
  // use (0) leads to the slot.
  uint64_t host_gs(uint64_t guest_gs) const;
  arch::UserRegs frame_regs() const;  // as the host has them
  // A signal in the gate: as if it had come at the site's call instruction, or behind it when the
  // result is there.
  void leave_gate(arch::UserRegs& r) const;
  bool answered(const Slot::Interrupted& i) const;
  // The fp area the frame names, or null when that does not fit the stack.
  std::byte* fp_area() const;

  Thread thread_;
  const stub::Stack& stack_;
  uint64_t stack_address_;
  arch::Breakpoints breakpoints_;
  uint64_t fs_base_ = 0, gs_base_ = 0;  // as last set
  // What the call through the gate that was last answered returns with, but for its result.
  struct Return {
    arch::UserRegs regs;
    bool fp;
  };
  std::optional<Return> returns_;
};

}  // namespace uk::seccomp
