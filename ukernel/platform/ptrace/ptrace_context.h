// A guest thread under ptrace: PTRACE_SYSEMU runs it to its next system call, fault or kick, and no
// system call of it ever reaches the host. The reference platform: what it does, the others must
// do.
//
// Ownership: the task owns the context; the space lends the thread and takes it back.
// Reactor-owned; run() suspends.
#pragma once

#include <memory>

#include "ukernel/platform/platform.h"
#include "ukernel/platform/ptrace/tracer.h"
#include "ukernel/platform/stub/fault.h"

namespace uk::ptrace {

class PtraceSpace;

class PtraceContext final : public GuestContext {
 public:
  PtraceContext(PtraceSpace& space, std::unique_ptr<Tracee> thread, const arch::UserRegs& regs);
  ~PtraceContext() override;

  Trap run(Park& park) override;
  void kick() override;
  void set_syscall_result(uint64_t rax) override;
  Result<arch::UserRegs> get_regs(Park& park) override;
  Result<> set_regs(Park& park, const arch::UserRegs& regs) override;
  Result<arch::FpState> get_fp(Park& park) override;
  Result<> set_fp(Park& park, const arch::FpState& fp) override;
  void set_single_step(bool on) override { single_step_ = on; }
  Result<> set_breakpoints(Park& park, const arch::Breakpoints& wanted) override;
  int host_tid() const override { return thread_->tid(); }

 private:
  // The host thread is dying or dead: once said, it stays said, even before the host has told of
  // the death.
  bool lost() const { return gone_ || thread_->dead(); }
  Trap gone() {
    gone_ = true;
    regs_valid_ = false;
    return stub::simple_trap(Trap::Kind::kGone);
  }

  Result<> load_regs();
  Result<> store_regs();
  // Describes the stop; nothing when it means nothing to the guest and the thread should go on.
  Result<bool> decode(Trap* t);
  Result<bool> decode_syscall(Trap* t);
  Result<bool> decode_signal(Trap* t);
  void decode_vsyscall(const siginfo_t& info, Trap* t);

  PtraceSpace& space_;
  std::unique_ptr<Tracee> thread_;
  arch::UserRegs regs_;
  bool regs_valid_ = false;  // regs_ is the thread's state
  bool regs_dirty_ = false;  // ... and newer than the host's
  bool result_set_ = false;  // rax_ is to be stored before running
  bool in_syscall_ = false;  // the last trap was a system call
  bool kicked_ = false;
  bool single_step_ = false;
  uint64_t rax_ = 0;
  uint64_t last_fault_addr_ = 0,
           last_fault_ip_ = 0;  // to tell a repeated fetch fault from its data
  bool gone_ = false;
};

}  // namespace uk::ptrace
