// Frames of signal handlers in guest memory, and the way back from them. The layout is
// arch/x86_64/sigframe.h's.
#include <signal.h>

#include <cstddef>

#include "base/check.h"
#include "ukernel/arch/x86_64/sigframe.h"
#include "ukernel/kernel.h"
#include "ukernel/task/rseq.h"
#include "ukernel/task/signal_delivery.h"

namespace uk {
namespace {

constexpr uint64_t kSaRestorer = 0x04000000;
constexpr int kSsAutodisarm = static_cast<int>(1u << 31);
constexpr int kSsFlagBits = kSsAutodisarm;

int altstack_status(const Task& task, uint64_t sp) {
  if (task.altstack.size == 0) return SS_DISABLE;
  return on_altstack(task, sp) ? SS_ONSTACK : 0;
}

// Writes one frame and changes regs to the handler's start. kFAULT: there is no room for it.
Result<> push_frame(Task& task, const CaughtSignal& caught, arch::UserRegs& regs,
                    const arch::FpState& fp) {
  const SigAction& action = caught.action;
  if ((action.flags & kSaRestorer) == 0) return Err(Errno::kFAULT);
  bool was_on = on_altstack(task, regs.rsp);
  bool switches = (action.flags & SA_ONSTACK) != 0 && altstack_status(task, regs.rsp) == 0;
  uint64_t sp = switches ? task.altstack.sp + task.altstack.size : regs.rsp;
  arch::SigFrameLayout at = arch::layout_sigframe(sp, switches);
  if (at.frame >= sp || at.end > task.mm().user_limit()) return Err(Errno::kFAULT);
  if ((was_on || switches) && at.frame < task.altstack.sp &&
      (task.altstack.flags & SS_DISABLE) == 0)
    return Err(Errno::kFAULT);  // runs out of the alternate stack

  SigSet mask = task.saved_blocked.value_or(task.blocked);
  arch::SigFrameContent content{
      .regs = regs,
      .fp = fp,
      .siginfo = std::as_bytes(std::span<const SigInfo, 1>(&caught.info, 1)),
      .sigmask = mask.bits(),
      .altstack = {.sp = task.altstack.sp,
                   .flags = altstack_status(task, regs.rsp) | (task.altstack.flags & kSsFlagBits),
                   .size = task.altstack.size},
      .restorer = action.restorer,
      .trapno = task.fault_trapno,
      .error_code = task.fault_error,
      .cr2 = task.fault_addr};
  std::vector<std::byte> image(at.bytes());
  arch::build_sigframe(image, at, content);
  size_t n = TRY(task.mm().copy_out(task.park(), at.frame, image));
  if (n != image.size()) return Err(Errno::kFAULT);

  if (switches && (task.altstack.flags & kSsAutodisarm) != 0) task.altstack = {};
  regs = arch::handler_regs(regs, at, action.handler, caught.info.signo);
  task.saved_blocked.reset();
  SigSet now = task.blocked | SigSet(action.mask);
  if ((action.flags & SA_NODEFER) == 0) now.add(caught.info.signo);
  set_blocked(task, now);
  return {};
}

// A frame that does not fit, or cannot be read back (force_sigsegv in Linux).
void bad_frame(Task& task, int signo) {
  if (signo == SIGSEGV) task.group->handlers->actions[SIGSEGV].handler = kSigDfl;
  task.fault_addr = 0;
  force_signal(task, siginfo_kernel(SIGSEGV));
}

}  // namespace

bool on_altstack(const Task& task, uint64_t sp) {
  const Task::AltStack& s = task.altstack;
  if ((s.flags & kSsAutodisarm) != 0) return false;
  return sp > s.sp && sp - s.sp <= s.size;
}

void run_handlers(Task& task, CaughtSignal caught, arch::UserRegs regs) {
  Park& park = task.park();
  Result<arch::FpState> fp = task.context->get_fp(park);
  if (!fp) return begin_exit_group(*task.group, SIGKILL);
  bool pushed = false;
  abort_rseq(task, regs);
  std::optional<CaughtSignal> next(std::move(caught));
  while (next) {
    if (Result<> r = push_frame(task, *next, regs, *fp); !r) {
      bad_frame(task, next->info.signo);
    } else {
      pushed = true;
      fp->clear();  // handlers start with the initial state
    }
    next = take_signal(task);
  }
  if (task.must_exit()) return;
  if (!task.context->set_regs(park, regs) ||
      (pushed && !task.context->set_fp(park, arch::FpState{})))
    begin_exit_group(*task.group, SIGKILL);
}

Result<> restore_sigframe(Task& task) {
  Park& park = task.park();
  arch::UserRegs current = TRY(task.context->get_regs(park));
  auto read = [&](uint64_t addr, std::span<std::byte> to) -> Result<> {
    size_t n = TRY(task.mm().copy_in(park, to, addr));
    if (n != to.size()) return Err(Errno::kFAULT);
    return {};
  };
  auto restore = [&]() -> Result<> {
    std::array<std::byte, arch::kSigFrameBytes> frame;
    TRY(read(current.rsp - 8, frame));
    arch::ParsedSigFrame parsed = arch::parse_sigframe(frame, current);
    arch::FpState fp;
    if (parsed.fp_addr != 0) {
      std::vector<std::byte> bytes(arch::kFpLegacyBytes);
      TRY(read(parsed.fp_addr, bytes));
      bytes.resize(arch::sigframe_fp_bytes(
          std::span<const std::byte, arch::kFpLegacyBytes>(bytes.data(), arch::kFpLegacyBytes)));
      TRY(read(parsed.fp_addr, bytes));
      fp = TRY(arch::parse_sigframe_fp(bytes));
    }
    task.blocked = SigSet(parsed.sigmask) & ~kUnblockable;
    task.saved_blocked.reset();
    TRY(task.context->set_regs(park, parsed.regs));
    TRY(task.context->set_fp(park, fp));
    // Errors are ignored, as Linux does (restore_altstack).
    (void)set_altstack(
        task,
        {.sp = parsed.altstack.sp, .size = parsed.altstack.size, .flags = parsed.altstack.flags},
        parsed.regs.rsp);
    return {};
  };
  task.regs_replaced = true;
  if (Result<> r = restore(); !r) bad_frame(task, SIGSEGV);
  return {};
}

Result<> set_altstack(Task& task, const Task::AltStack& stack, uint64_t sp) {
  constexpr uint64_t kMinSigStack = 2048;
  int mode = stack.flags & ~kSsFlagBits;
  if (on_altstack(task, sp)) return Err(Errno::kPERM);
  if (mode != SS_DISABLE && mode != SS_ONSTACK && mode != 0) return Err(Errno::kINVAL);
  if (mode == SS_DISABLE) {
    task.altstack = {.sp = 0, .size = 0, .flags = stack.flags};
    return {};
  }
  if (stack.size < kMinSigStack) return Err(Errno::kNOMEM);
  task.altstack = {.sp = stack.sp, .size = stack.size, .flags = stack.flags & kSsFlagBits};
  return {};
}

}  // namespace uk
