#include "ukernel/task/seccomp.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_format.h"
#include "ukernel/kernel.h"
#include "ukernel/task/ptrace.h"
#include "ukernel/task/seccomp_listener.h"

namespace uk {
namespace {

constexpr size_t kScratch = 16, kMaxPathInsns = 32768, kPerFilter = 4;

bool valid_alu(uint16_t code, uint32_t k) {
  const bool constant = BPF_SRC(code) == BPF_K;
  switch (BPF_OP(code)) {
    case BPF_ADD:
    case BPF_SUB:
    case BPF_MUL:
    case BPF_OR:
    case BPF_AND:
    case BPF_XOR:
      return true;
    case BPF_DIV:
    case BPF_MOD:
      return !constant || k != 0;
    case BPF_LSH:
    case BPF_RSH:
      return !constant || k < 32;
    case BPF_NEG:
      return constant;
    default:
      return false;
  }
}

// `left`: how many instructions follow this one.
bool valid(const SeccompFilter::Insn& i, size_t left) {
  switch (BPF_CLASS(i.code)) {
    case BPF_LD:
      if (i.code == (BPF_LD | BPF_W | BPF_ABS))
        return i.k % sizeof(uint32_t) == 0 && i.k < sizeof(SeccompData);
      if (i.code == (BPF_LD | BPF_MEM)) return i.k < kScratch;
      return i.code == (BPF_LD | BPF_W | BPF_LEN) || i.code == (BPF_LD | BPF_IMM);
    case BPF_LDX:
      if (i.code == (BPF_LDX | BPF_MEM)) return i.k < kScratch;
      return i.code == (BPF_LDX | BPF_W | BPF_LEN) || i.code == (BPF_LDX | BPF_IMM);
    case BPF_ST:
    case BPF_STX:
      return (i.code & ~BPF_CLASS(i.code)) == 0 && i.k < kScratch;
    case BPF_ALU:
      return valid_alu(i.code, i.k);
    case BPF_JMP:
      if (i.code == (BPF_JMP | BPF_JA)) return i.k < left;
      switch (BPF_OP(i.code)) {
        case BPF_JEQ:
        case BPF_JGT:
        case BPF_JGE:
        case BPF_JSET:
          return i.jump_true < left && i.jump_false < left;
        default:
          return false;
      }
    case BPF_RET:
      return i.code == (BPF_RET | BPF_K) || i.code == (BPF_RET | BPF_A);
    default:
      return i.code == (BPF_MISC | 0x00) || i.code == (BPF_MISC | 0x80);  // TAX, TXA
  }
}

uint32_t alu(uint16_t op, uint32_t a, uint32_t b) {
  switch (op) {
    case BPF_ADD:
      return a + b;
    case BPF_SUB:
      return a - b;
    case BPF_MUL:
      return a * b;
    case BPF_DIV:
      return b != 0 ? a / b : 0;
    case BPF_MOD:
      return b != 0 ? a % b : 0;
    case BPF_OR:
      return a | b;
    case BPF_AND:
      return a & b;
    case BPF_XOR:
      return a ^ b;
    case BPF_LSH:
      return b < 32 ? a << b : 0;
    case BPF_RSH:
      return b < 32 ? a >> b : 0;
    default:
      return -a;  // BPF_NEG
  }
}

bool jumps(uint16_t op, uint32_t a, uint32_t b) {
  switch (op) {
    case BPF_JEQ:
      return a == b;
    case BPF_JGT:
      return a > b;
    case BPF_JGE:
      return a >= b;
    default:
      return (a & b) != 0;  // BPF_JSET
  }
}

}  // namespace

Result<Ref<SeccompFilter>> SeccompFilter::create(std::vector<Insn> program,
                                                 Ref<SeccompFilter> previous, bool log) {
  if (program.empty() || program.size() > kMaxInsns) return Err(Errno::kINVAL);
  for (size_t i = 0; i < program.size(); ++i)
    if (!valid(program[i], program.size() - i - 1)) return Err(Errno::kINVAL);
  if (BPF_CLASS(program.back().code) != BPF_RET) return Err(Errno::kINVAL);
  const size_t insns = program.size() + (previous ? previous->path_insns_ + kPerFilter : 0);
  if (insns > kMaxPathInsns) return Err(Errno::kNOMEM);
  auto filter = make_ref<SeccompFilter>(std::move(program));
  filter->previous_ = std::move(previous);
  filter->path_insns_ = insns;
  filter->log_ = log;
  return filter;
}

SeccompFilter::SeccompFilter(std::vector<Insn> program) : program_(std::move(program)) {}

// A long chain must not be taken down by recursion.
SeccompFilter::~SeccompFilter() {
  if (notifier_) notifier_->filter_gone();
  Ref<SeccompFilter> next = std::move(previous_);
  while (next && next->ref_count() == 1) next = Ref<SeccompFilter>(std::move(next->previous_));
}

bool SeccompFilter::descends_from(const SeccompFilter* other) const {
  const SeccompFilter* f = this;
  while (f != nullptr && f != other) f = f->previous_.get();
  return f == other;
}

void SeccompFilter::set_notifier(Ref<SeccompNotifier> n) { notifier_ = std::move(n); }

bool SeccompFilter::listened() const {
  const SeccompFilter* f = this;
  while (f != nullptr && !(f->notifier_ && f->notifier_->listened())) f = f->previous_.get();
  return f != nullptr;
}

uint32_t SeccompFilter::run(const SeccompData& data, const SeccompFilter** by) const {
  // The lower action wins, where killing the process counts as negative.
  auto action = [](uint32_t r) { return static_cast<int32_t>(r & SECCOMP_RET_ACTION_FULL); };
  uint32_t result = SECCOMP_RET_ALLOW;
  for (const SeccompFilter* f = this; f != nullptr; f = f->previous_.get()) {
    const uint32_t r = f->run_one(data);
    if (action(r) >= action(result)) continue;
    result = r;
    *by = f;
  }
  return result;
}

uint32_t SeccompFilter::run_one(const SeccompData& data) const {
  uint32_t a = 0, x = 0, scratch[kScratch] = {};
  for (size_t at = 0;; ++at) {  // jumps go forward only, and the last instruction returns
    const Insn& i = program_[at];
    switch (BPF_CLASS(i.code)) {
      case BPF_LD:
      case BPF_LDX: {
        uint32_t v = i.k;
        if (BPF_MODE(i.code) == BPF_ABS)
          std::memcpy(&v, reinterpret_cast<const std::byte*>(&data) + i.k, sizeof v);
        if (BPF_MODE(i.code) == BPF_MEM) v = scratch[i.k];
        if (BPF_MODE(i.code) == BPF_LEN) v = sizeof(SeccompData);
        (BPF_CLASS(i.code) == BPF_LD ? a : x) = v;
        break;
      }
      case BPF_ST:
        scratch[i.k] = a;
        break;
      case BPF_STX:
        scratch[i.k] = x;
        break;
      case BPF_ALU:
        a = alu(BPF_OP(i.code), a, BPF_SRC(i.code) == BPF_K ? i.k : x);
        break;
      case BPF_JMP:
        if (BPF_OP(i.code) == BPF_JA) {
          at += i.k;
        } else {
          const bool yes = jumps(BPF_OP(i.code), a, BPF_SRC(i.code) == BPF_K ? i.k : x);
          at += yes ? i.jump_true : i.jump_false;
        }
        break;
      case BPF_RET:
        return BPF_RVAL(i.code) == BPF_K ? i.k : a;
      default:
        (i.code & 0x80) != 0 ? a = x : x = a;
        break;
    }
  }
}

namespace {

constexpr uint64_t kRead = 0, kWrite = 1, kSigreturn = 15, kExit = 60;

int64_t error(Errno e) { return -static_cast<int64_t>(e); }

SigInfo sigsys(const Trap& trap, uint64_t ip, uint32_t data) {
  SigInfo info;
  info.signo = SIGSYS;
  info.code = 1;  // SYS_SECCOMP
  info.err = static_cast<int32_t>(data);
  constexpr size_t kCallAddr = 16, kSyscall = 24, kArch = 28;
  siginfo_set_u64(info, kCallAddr, ip);
  siginfo_set_u32(info, kSyscall, static_cast<uint32_t>(trap.nr));
  siginfo_set_u32(info, kArch, AUDIT_ARCH_X86_64);
  return info;
}

void end_thread(Task& task, int status) {
  if (task.group->live == 1) return begin_exit_group(*task.group, status);
  begin_exit_thread(task, status);
}

}  // namespace

std::optional<Result<int64_t>> before_filtered_call(Task& task, Trap& trap) {
  if (task.seccomp_mode == SECCOMP_MODE_STRICT) {
    if (trap.nr == kRead || trap.nr == kWrite || trap.nr == kSigreturn || trap.nr == kExit)
      return std::nullopt;
    end_thread(task, SIGKILL);
    return 0;
  }
  Result<arch::UserRegs> regs = task.context->get_regs(task.park());
  if (!regs) {
    begin_exit_group(*task.group, SIGKILL);
    return 0;
  }
  SeccompData data{static_cast<int32_t>(trap.nr), AUDIT_ARCH_X86_64, regs->rip, {}};
  std::copy(std::begin(trap.args), std::end(trap.args), data.args);
  Ref<SeccompFilter> filter = task.seccomp;
  const SeccompFilter* by = nullptr;
  const uint32_t answer = filter->run(data, &by);
  const uint32_t value = answer & SECCOMP_RET_DATA;
  switch (answer & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_ALLOW:
      return std::nullopt;
    case SECCOMP_RET_LOG:
      task.kernel.log.info(absl::StrFormat("%s[%d]: seccomp: call %d at %#x", task.comm, task.tid,
                                           trap.nr, data.ip));
      return std::nullopt;
    case SECCOMP_RET_ERRNO: {
      constexpr uint32_t kMaxErrno = 4095;
      return -static_cast<int64_t>(std::min(value, kMaxErrno));
    }
    case SECCOMP_RET_TRAP:
      force_signal(task, sigsys(trap, data.ip, value));
      return static_cast<int64_t>(trap.nr);  // the handler finds the number of the call in rax
    case SECCOMP_RET_TRACE: {
      if (!is_traced(task) || (task.trace->options & PTRACE_O_TRACESECCOMP) == 0)
        return error(Errno::kNOSYS);
      trace_call(task, TraceState::Call::kSeccomp, value);
      regs = task.context->get_regs(task.park());
      if (!regs || task.must_exit()) return 0;
      trap.nr = regs->orig_rax;
      const uint64_t args[] = {regs->rdi, regs->rsi, regs->rdx, regs->r10, regs->r8, regs->r9};
      std::copy(std::begin(args), std::end(args), std::begin(trap.args));
      if (static_cast<int64_t>(trap.nr) < 0) return static_cast<int64_t>(regs->rax);
      return std::nullopt;
    }
    case SECCOMP_RET_USER_NOTIF:
      if (by == nullptr || by->notifier() == nullptr) return error(Errno::kNOSYS);
      if (auto told = by->notifier()->hand_over(task, data);
          !told || *told || is_restart(told->error()))
        return told;
      return error(Errno::kNOSYS);
    case SECCOMP_RET_KILL_THREAD:
      end_thread(task, SIGSYS);
      return 0;
    default:
      begin_exit_group(*task.group, SIGSYS);
      return 0;
  }
}

}  // namespace uk
