// A guest thread as a task sees it. On notify a system call is one notification and one answer;
// everything that touches registers goes through the signal handler's frame (a signal more when the
// thread is in a call). On direct every trap has that frame.
//
// Ownership: the task owns the context; the space lends the thread and takes it back.
// Reactor-owned; get_regs(), set_regs(), get_fp(), set_fp() may suspend too.
#pragma once

#include <memory>

#include "ukernel/platform/platform.h"
#include "ukernel/platform/seccomp/guest_thread.h"

namespace uk::seccomp {

class SeccompSpace;

class SeccompContext final : public GuestContext {
 public:
  // `guest` stands in a report.
  SeccompContext(SeccompSpace& space, std::unique_ptr<GuestThread> guest,
                 const arch::UserRegs& regs, const arch::FpState& fp);
  ~SeccompContext() override;

  Trap run(Park& park) override;
  void call_up() override;
  void kick() override;
  void set_syscall_result(uint64_t rax) override;
  Result<arch::UserRegs> get_regs(Park& park) override;
  Result<> set_regs(Park& park, const arch::UserRegs& regs) override;
  Result<arch::FpState> get_fp(Park& park) override;
  Result<> set_fp(Park& park, const arch::FpState& fp) override;
  void set_single_step(bool on) override { single_step_ = on; }
  Result<> set_breakpoints(Park& park, const arch::Breakpoints& wanted) override;
  void set_ids(const CallerIds& ids) override;
  void leave_cpu() override { thread().tell_to_park(); }
  int host_tid() const override;

 private:
  Thread& thread() const { return guest_->thread(); }
  // A signal may have overtaken a call in the gate: awaits its report then. Error: kSRCH.
  Result<> settle(Park& park);
  // Brings the thread from a call to the handler's report; then regs_ is valid. Error: kSRCH.
  Result<> to_report(Park& park);
  // The same, but from a call that came with its registers.
  Result<> to_regs(Park& park);
  // Has the call return with the state set; false: it cannot.
  bool return_by_gate();
  // Lets the guest go on with the state set. Error: kSRCH.
  Result<> resume(Park& park);
  bool needs_frame() const;
  // Returns the answer to give.
  uint64_t store_frame();
  // In a report: takes the registers from the frame, unless they are known.
  void absorb_report();
  // True when the notification means something to the guest.
  Result<bool> decode(Park& park, Trap* t);
  Result<bool> decode_report(Trap* t);
  bool decode_sigsys(const siginfo_t& info, Trap* t);
  void decode_uprobe_call(Trap* t);
  // A result set before the registers were known.
  void take_result();
  // The registers are to be those of a thread in call `nr`.
  void enter_call(uint64_t nr);
  // The same, of a report of the call's signal.
  void enter_trapped_call(const siginfo_t& info);
  void fill_args(Trap* t) const;
  Trap gone();
  // Instead of flushing the space, if they are all it has to do.
  void give_errands();

  SeccompSpace& space_;
  std::unique_ptr<GuestThread> guest_;
  arch::UserRegs regs_;
  arch::FpState fp_;
  CallerIds ids_;
  bool regs_valid_ = true;  // regs_ is the guest's state
  bool regs_dirty_ = true;  // ... and newer than the frame
  bool fp_dirty_ = true;    // fp_ is newer than the frame
  bool errands_ = false;    // the guest makes some when it goes on
  bool new_owner_ = true;   // segments must be cleared
  bool in_call_ =
      false;  // the last trap was a system call, still unanswered by a return to the guest
  bool result_set_ = false;  // result_ is its result
  bool kicked_ = false;
  bool single_step_ = false;  // wanted
  bool trap_flag_ = false;    // set by us in the guest's flags
  uint64_t result_ = 0;
};

}  // namespace uk::seccomp
