#include "ukernel/platform/ptrace/ptrace_context.h"

#include <elf.h>
#include <linux/audit.h>
#include <signal.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstring>

#include "base/check.h"
#include "ukernel/platform/ptrace/ptrace_platform.h"
#include "ukernel/platform/stub/fault.h"
#include "ukernel/platform/stub/host_trace.h"
#include "ukernel/platform/stub/safe_regs.h"

namespace uk::ptrace {
namespace {

constexpr size_t kLongestInstruction = 15;

}  // namespace

PtraceContext::PtraceContext(PtraceSpace& space, std::unique_ptr<Tracee> thread,
                             const arch::UserRegs& regs)
    : space_(space),
      thread_(std::move(thread)),
      regs_(stub::safe_regs(regs)),
      regs_valid_(true),
      regs_dirty_(true) {}

PtraceContext::~PtraceContext() { space_.take_back(std::move(thread_)); }

Trap PtraceContext::run(Park& park) {
  if (space_.dirty()) (void)space_.flush(park);  // a failure makes it broken
  if (space_.broken()) return gone();
  if (kicked_) {
    kicked_ = false;
    return stub::simple_trap(Trap::Kind::kKicked);
  }
  if (in_syscall_ && single_step_) {
    in_syscall_ = false;
    return stub::stepped_over_syscall();
  }
  in_syscall_ = false;
  if (lost() || !store_regs()) return gone();
  regs_valid_ = false;
  for (;;) {
    if (!thread_->resume(single_step_ ? PTRACE_SYSEMU_SINGLESTEP : PTRACE_SYSEMU)) return gone();
    resumed();
    if (!thread_->wait(park)) return gone();
    Trap t;
    auto meant = decode(&t);
    if (!meant) return gone();
    if (*meant) {
      kicked_ = false;
      return t.kind == Trap::Kind::kGone ? gone() : t;
    }
  }
}

void PtraceContext::kick() {
  kicked_ = true;
  thread_->interrupt();
}

Result<bool> PtraceContext::decode(Trap* t) {
  if (thread_->at_syscall()) return decode_syscall(t);
  if (thread_->at_event_stop()) {
    // A kick's, or a stop signal somebody on the host sent, or a kick's that came after another
    // trap.
    *t = stub::simple_trap(Trap::Kind::kKicked);
    return kicked_;
  }
  return decode_signal(t);
}

Result<bool> PtraceContext::decode_syscall(Trap* t) {
  // One call that tells all a handler needs; the other registers are fetched when asked for.
  __ptrace_syscall_info info = {};
  TRY(thread_->call(PTRACE_GET_SYSCALL_INFO, sizeof info, &info));
  if (info.op != PTRACE_SYSCALL_INFO_ENTRY) return Err(Errno::kSRCH);
  t->kind = Trap::Kind::kSyscall;
  t->nr = static_cast<uint32_t>(info.entry.nr);  // Linux takes no more of rax
  std::memcpy(t->args, info.entry.args, sizeof t->args);
  t->ip = info.instruction_pointer;
  t->compat = info.arch != AUDIT_ARCH_X86_64;
  in_syscall_ = true;
  return true;
}

Result<bool> PtraceContext::decode_signal(Trap* t) {
  siginfo_t info = {};
  TRY(thread_->call(PTRACE_GETSIGINFO, 0, &info));
  if (info.si_signo == SIGSYS && info.si_code == 1 /* SYS_SECCOMP */) {
    TRY(load_regs());
    decode_vsyscall(info, t);
    return true;
  }
  if (!stub::is_fault(info)) return false;  // sent by the host's user: not the guest's business
  TRY(load_regs());
  *t = stub::fault_trap(info, regs_.rip);
  if (t->signo == SIGTRAP && thread_->breakpoints().any())
    t->debug_status = TRY(stub::debug_status(thread_->tid()));
  if (t->kind != Trap::Kind::kPageFault) return true;
  // A fetch that runs over a page's end faults behind rip, as a data access does. If mm's cure (by
  // its tables: the page is there and readable) changed nothing, it was a fetch.
  const uint64_t behind = t->addr - regs_.rip;
  if (behind != 0 && behind < kLongestInstruction && t->addr % 4096 == 0 &&
      last_fault_addr_ == t->addr && last_fault_ip_ == regs_.rip)
    t->access = Access::kExec;
  last_fault_addr_ = t->addr;
  last_fault_ip_ = regs_.rip;
  return true;
}

// A call into the vsyscall page, which the host emulates where it has one: the filter stopped it.
// To the guest there is no such page.
void PtraceContext::decode_vsyscall(const siginfo_t& info, Trap* t) {
  const uint64_t at = reinterpret_cast<uint64_t>(info.si_call_addr);
  if (stub::in_vsyscall_page(at)) {
    // The host has already returned from the call.
    regs_.rip = at;
    regs_.rsp -= 8;
    regs_.orig_rax = ~0ull;
    regs_dirty_ = true;
  }
  *t = stub::vsyscall_trap(regs_.rip);
}

void PtraceContext::set_syscall_result(uint64_t rax) {
  if (regs_valid_) {
    regs_.rax = rax;
    regs_.orig_rax = ~0ull;
    regs_dirty_ = true;
  } else {
    rax_ = rax;
    result_set_ = true;
  }
}

Result<> PtraceContext::load_regs() {
  if (regs_valid_) return {};
  if (lost()) return Err(Errno::kSRCH);
  TRY(thread_->call(PTRACE_GETREGS, 0, &regs_));
  if (!in_syscall_) regs_.orig_rax = ~0ull;
  regs_valid_ = true;
  regs_dirty_ = false;
  if (result_set_) {
    result_set_ = false;
    set_syscall_result(rax_);
  }
  return {};
}

Result<> PtraceContext::store_regs() {
  // -512..-516 would make the host restart a system call when a signal comes: then the call number
  // must go too.
  if (result_set_ && rax_ >= static_cast<uint64_t>(-516) && rax_ <= static_cast<uint64_t>(-512))
    TRY(load_regs());
  if (result_set_) {
    result_set_ = false;
    TRY(thread_->call(PTRACE_POKEUSER, offsetof(arch::UserRegs, rax),
                      reinterpret_cast<void*>(rax_)));
  }
  if (regs_dirty_) {
    regs_dirty_ = false;
    arch::UserRegs r = regs_;
    r.orig_rax = ~0ull;
    TRY(thread_->call(PTRACE_SETREGS, 0, &r));
  }
  return {};
}

Result<arch::UserRegs> PtraceContext::get_regs(Park&) {
  TRY(load_regs());
  return regs_;
}

Result<> PtraceContext::set_regs(Park&, const arch::UserRegs& regs) {
  if (lost()) return Err(Errno::kSRCH);
  regs_ = stub::safe_regs(regs);
  regs_valid_ = regs_dirty_ = true;
  result_set_ = false;
  return {};
}

Result<arch::FpState> PtraceContext::get_fp(Park&) {
  if (lost()) return Err(Errno::kSRCH);
  arch::FpState fp(16384);  // the host may have features we mask
  struct iovec iov = {fp.data(), fp.size()};
  TRY(thread_->call(PTRACE_GETREGSET, NT_X86_XSTATE, &iov));
  fp.resize(iov.iov_len);
  arch::sanitize_fp_state(fp);
  arch::normalize_fp_state(fp);
  return fp;
}

Result<> PtraceContext::set_fp(Park&, const arch::FpState& fp) {
  if (lost()) return Err(Errno::kSRCH);
  return space_.store_fp(*thread_, fp);
}

Result<> PtraceContext::set_breakpoints(Park&, const arch::Breakpoints& wanted) {
  if (lost()) return Err(Errno::kSRCH);
  return thread_->set_breakpoints(wanted);
}

}  // namespace uk::ptrace
