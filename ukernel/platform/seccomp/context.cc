#include "ukernel/platform/seccomp/context.h"

#include <linux/audit.h>
#include <signal.h>

#include <cstring>

#include "base/check.h"
#include "ukernel/platform/seccomp/seccomp_platform.h"
#include "ukernel/platform/stub/fault.h"
#include "ukernel/platform/stub/safe_regs.h"

namespace uk::seccomp {
namespace {

constexpr uint64_t kTrapFlag = 0x100;
constexpr uint64_t kSyscallBytes = 2;  // of `syscall`, `int 0x80` and `sysenter`
constexpr uint64_t kNoSys = static_cast<uint64_t>(-38);
constexpr int kSysSeccomp = 1;  // SYS_SECCOMP

// The host would take these for its own wish to restart a call.
bool is_restart_code(uint64_t rax) {
  return rax >= static_cast<uint64_t>(-516) && rax <= static_cast<uint64_t>(-512);
}

}  // namespace

SeccompContext::SeccompContext(SeccompSpace& space, std::unique_ptr<GuestThread> guest,
                               const arch::UserRegs& regs, const arch::FpState& fp)
    : space_(space), guest_(std::move(guest)), regs_(stub::safe_regs(regs)), fp_(fp) {
  guest_->set_ids({});  // those of its last owner are there, or worse
}

SeccompContext::~SeccompContext() { space_.take_back(std::move(guest_)); }

int SeccompContext::host_tid() const { return thread().tid(); }

void SeccompContext::set_ids(const CallerIds& ids) {
  if (ids == ids_) return;
  ids_ = ids;
  guest_->set_ids(ids);
}

Trap SeccompContext::gone() { return stub::simple_trap(Trap::Kind::kGone); }

Trap SeccompContext::run(Park& park) {
  if (space_.broken() || thread().dead()) return gone();
  if (kicked_) {
    kicked_ = false;
    return stub::simple_trap(Trap::Kind::kKicked);
  }
  if (in_call_ && single_step_) {
    // The call's result must be in the registers, as the guest has left the call.
    if (!to_report(park)) return gone();
    in_call_ = false;
    return stub::stepped_over_syscall();
  }
  give_errands();  // from here on it will run
  if (space_.dirty()) {
    call_up();
    (void)space_.flush(park);  // a failure makes it broken
  }
  if (space_.broken()) return gone();
  for (;;) {
    if (!resume(park)) return gone();
    if (kicked_) thread().interrupt();  // the kick came while resume() waited
    resumed();
    if (!thread().wait(park)) return gone();
    if (errands_) {
      errands_ = false;
      space_.errands_over(guest_->errands_made());
      if (space_.dirty()) (void)space_.flush(park);
    }
    Trap t;
    auto meant = decode(park, &t);
    if (!meant) return gone();
    if (*meant) {
      kicked_ = false;
      return t;
    }
  }
}

void SeccompContext::give_errands() {
  if (!space_.dirty()) return;
  const std::vector<stub::Errand> errands = space_.take_errands();
  errands_ = !errands.empty();
  if (errands_) guest_->set_errands(errands);
}

void SeccompContext::call_up() {
  if (new_owner_) thread().call_up();
}

void SeccompContext::kick() {
  kicked_ = true;
  if (thread().running()) thread().interrupt();
}

bool SeccompContext::needs_frame() const {
  // With a signal on its way the host may abandon the call while we answer it: the answer would be
  // lost. Only a frame is safe then.
  return regs_dirty_ || fp_dirty_ || new_owner_ || trap_flag_ != single_step_ ||
         thread().interrupt_pending() || (result_set_ && is_restart_code(result_)) ||
         (errands_ && !thread().gated());
}

Result<> SeccompContext::settle(Park& park) {
  if (!thread().running()) return {};
  if (!thread().wait(park)) return Err(Errno::kSRCH);
  if (thread().state() == Thread::State::kReport && !guest_->frame_ok()) return space_.expel();
  return {};
}

Result<> SeccompContext::resume(Park& park) {
  for (;;) {
    if (thread().dead()) return Err(Errno::kSRCH);
    TRY(settle(park));
    uint64_t value = 0;
    if (thread().state() == Thread::State::kCall) {
      guest_->return_result();
      if (needs_frame() && !return_by_gate()) {
        TRY(to_report(park));
        continue;
      }
      value = result_;
      if (errands_) thread().add_load(UK_ANSWER_ERRANDS);
    } else {
      value = store_frame() | (errands_ ? UK_ANSWER_ERRANDS : 0);
    }
    bool lost;
    TRY(thread().answer(value, &lost));
    if (!lost) break;
    // Interrupted under our hands: what comes next is the same call again, or a report; either is
    // then answered.
  }
  regs_valid_ = regs_dirty_ = fp_dirty_ = new_owner_ = in_call_ = result_set_ = false;
  result_ = kNoSys;
  return {};
}

bool SeccompContext::return_by_gate() {
  if (!thread().came_with_regs() || !regs_valid_ || new_owner_ || trap_flag_ || single_step_ ||
      thread().interrupt_pending()) {
    return false;
  }
  return guest_->set_return(regs_, fp_dirty_ ? &fp_ : nullptr);
}

void SeccompContext::absorb_report() {
  if (regs_valid_) return;
  regs_ = guest_->regs();
  regs_valid_ = true;
  if (guest_->fp_unloaded()) {
    fp_ = guest_->call_fp();
    fp_dirty_ = true;
  }
  if (trap_flag_) regs_.eflags &= ~kTrapFlag;
  if (!in_call_) return;
  // To Linux, and to us, the call is in progress.
  const siginfo_t info = guest_->siginfo();
  if (info.si_signo == SIGSYS && info.si_code == kSysSeccomp) {
    enter_trapped_call(info);
  } else {  // the frame stands at the instruction, to repeat it
    if (trap_flag_) regs_.r11 &= ~kTrapFlag;
    regs_.rip += kSyscallBytes;
    enter_call(regs_.rax);
  }
  take_result();
}

void SeccompContext::take_result() {
  if (!result_set_) return;
  result_set_ = false;
  set_syscall_result(result_);
}

uint64_t SeccompContext::store_frame() {
  absorb_report();
  arch::UserRegs r = regs_;
  if (single_step_) r.eflags |= kTrapFlag;
  trap_flag_ = single_step_;
  if (fp_dirty_) guest_->set_fp(fp_);
  return guest_->set_regs(r, new_owner_);
}

Result<> SeccompContext::to_regs(Park& park) {
  if (!thread().came_with_regs()) return to_report(park);
  if (regs_valid_) return {};
  regs_ = guest_->call_regs();
  regs_valid_ = true;
  enter_call(static_cast<uint32_t>(thread().call().nr));
  take_result();
  return {};
}

Result<> SeccompContext::to_report(Park& park) {
  if (thread().dead()) return Err(Errno::kSRCH);
  TRY(settle(park));
  if (thread().state() == Thread::State::kCall) {
    TRY(thread().leave_call(park));
    if (!guest_->frame_ok()) return space_.expel();
  }
  absorb_report();
  return {};
}

Result<bool> SeccompContext::decode(Park& park, Trap* t) {
  const seccomp_data call = thread().call();
  if (thread().state() == Thread::State::kReport) return decode_report(t);
  if (stub::in_vsyscall_page(call.instruction_pointer)) {
    // The host was about to emulate the call. Its frame stands behind the return; undo that.
    TRY(to_report(park));
    regs_.rip = call.instruction_pointer;
    regs_.rsp -= 8;
    regs_dirty_ = true;
    *t = stub::vsyscall_trap(call.instruction_pointer);
    return true;
  }
  in_call_ = true;
  result_ = kNoSys;
  t->kind = Trap::Kind::kSyscall;
  t->nr = static_cast<uint32_t>(call.nr);
  std::memcpy(t->args, call.args, sizeof t->args);
  t->ip = call.instruction_pointer;
  t->compat = call.arch != AUDIT_ARCH_X86_64;
  return true;
}

Result<bool> SeccompContext::decode_report(Trap* t) {
  if (!guest_->frame_ok()) {
    TRY(space_.expel());
  }
  const int signo = guest_->signo();
  if (signo == kKickSignal || signo == 0) {
    // A kick that comes after another trap means nothing any more.
    *t = stub::simple_trap(Trap::Kind::kKicked);
    return kicked_;
  }
  const siginfo_t info = guest_->siginfo();
  if (!stub::is_fault(info) && (signo != SIGSYS || info.si_code != kSysSeccomp)) return false;
  absorb_report();
  if (signo == SIGSYS) return decode_sigsys(info, t);
  if (signo == SIGILL && info.si_code == SI_KERNEL) {
    decode_uprobe_call(t);
    return true;
  }
  *t = stub::fault_trap(info, regs_.rip, guest_->trapno(), guest_->error_code(), guest_->cr2());
  if (signo == SIGTRAP && guest_->breakpoints().any())
    t->debug_status = TRY(guest_->debug_status());
  return true;
}

// The filter made a signal of the call (direct). The frame stands behind the instruction, but for
// what the host does to a number that looks like its own wish to restart a call: so ip and number
// come from the siginfo.
bool SeccompContext::decode_sigsys(const siginfo_t& info, Trap* t) {
  const uint64_t ip = reinterpret_cast<uint64_t>(info.si_call_addr);
  if (stub::in_vsyscall_page(ip)) {
    // The host has already returned from the call it was about to emulate.
    regs_.rip = ip;
    regs_.rsp -= 8;
    regs_dirty_ = true;
    *t = stub::vsyscall_trap(ip);
    return true;
  }
  enter_trapped_call(info);
  t->kind = Trap::Kind::kSyscall;
  t->nr = static_cast<uint32_t>(info.si_syscall);
  t->ip = ip;
  t->compat = info.si_arch != AUDIT_ARCH_X86_64;
  t->patchable = !t->compat && thread().platform().gate() != 0;
  fill_args(t);
  return true;
}

void SeccompContext::enter_trapped_call(const siginfo_t& info) {
  regs_.rip = reinterpret_cast<uint64_t>(info.si_call_addr);
  enter_call(static_cast<uint32_t>(regs_.rax) == static_cast<uint32_t>(info.si_syscall)
                 ? regs_.rax
                 : static_cast<uint64_t>(static_cast<int64_t>(info.si_syscall)));
  if (trap_flag_) regs_.r11 &= ~kTrapFlag;
}

void SeccompContext::enter_call(uint64_t nr) {
  in_call_ = true;
  regs_.orig_rax = nr;
  regs_.rax = kNoSys;
  regs_dirty_ = true;
}

void SeccompContext::fill_args(Trap* t) const {
  const uint64_t native[6] = {regs_.rdi, regs_.rsi, regs_.rdx, regs_.r10, regs_.r8, regs_.r9};
  const uint64_t i386[6] = {regs_.rbx, regs_.rcx, regs_.rdx, regs_.rsi, regs_.rdi, regs_.rbp};
  std::memcpy(t->args, t->compat ? i386 : native, sizeof t->args);
}

// Linux lets uretprobe(2) and uprobe(2), 335 and 336, pass all seccomp filters (since 6.14): they
// are meant for its own trampolines. From anywhere else the first does nothing but raise this
// signal (the second fails, unseen by us). To a guest it is a call like any other.
void SeccompContext::decode_uprobe_call(Trap* t) {
  constexpr uint64_t kUretprobe = 335;
  enter_call(kUretprobe);
  t->kind = Trap::Kind::kSyscall;
  t->nr = kUretprobe;
  t->ip = regs_.rip;
  fill_args(t);
}

void SeccompContext::set_syscall_result(uint64_t rax) {
  if (regs_valid_) {
    regs_.rax = rax;
    regs_.orig_rax = ~0ull;
    regs_dirty_ = true;
  } else {
    result_ = rax;
    result_set_ = true;
  }
}

Result<arch::UserRegs> SeccompContext::get_regs(Park& park) {
  TRY(to_regs(park));
  return regs_;
}

Result<> SeccompContext::set_regs(Park& park, const arch::UserRegs& regs) {
  TRY(to_regs(park));  // there must be a place to put them
  regs_ = stub::safe_regs(regs);
  regs_dirty_ = true;
  result_set_ = false;
  return {};
}

Result<arch::FpState> SeccompContext::get_fp(Park& park) {
  if (thread().dead()) return Err(Errno::kSRCH);
  if (fp_dirty_) {
    arch::FpState fp = fp_.empty() ? arch::initial_fp_state() : fp_;
    arch::sanitize_fp_state(fp);
    arch::normalize_fp_state(fp);
    return fp;
  }
  if (thread().came_with_fp()) return guest_->call_fp();
  TRY(to_report(park));
  return guest_->fp();
}

Result<> SeccompContext::set_fp(Park& park, const arch::FpState& fp) {
  TRY(to_regs(park));
  fp_ = fp;
  fp_dirty_ = true;
  return {};
}

Result<> SeccompContext::set_breakpoints(Park& park, const arch::Breakpoints& wanted) {
  if (wanted == guest_->breakpoints()) return {};
  // In the handler: no instruction of the guest's is repeated on the way.
  TRY(to_report(park));
  return guest_->set_breakpoints(wanted);
}

}  // namespace uk::seccomp
