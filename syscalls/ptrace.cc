#include "syscalls/ptrace.h"

#include <elf.h>
#include <linux/audit.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/user.h>

#include <algorithm>
#include <cstring>

#include "syscalls/fs_common.h"
#include "syscalls/process.h"
#include "ukernel/task/gate_calls.h"
#include "ukernel/task/pid_ns.h"
#include "ukernel/task/process_events.h"
#include "ukernel/task/ptrace.h"
#include "ukernel/task/seccomp.h"

namespace uk {
namespace {

constexpr int64_t kGetRegset = 0x4204, kSetRegset = 0x4205, kSeize = 0x4206, kInterrupt = 0x4207,
                  kListen = 0x4208, kGetSigmask = 0x420a, kSetSigmask = 0x420b,
                  kGetSyscallInfo = 0x420e, kPeekSiginfo = 0x4209, kGetFilter = 0x420c,
                  kGetFilterMetadata = 0x420d, kSysemu = 31, kSysemuStep = 32;
constexpr uint64_t kOptions = PTRACE_O_MASK;
constexpr uint32_t kXstate = 0x202;  // NT_X86_XSTATE
constexpr uint64_t kUserBytes = sizeof(struct user);
constexpr size_t kFpLegacy = 512;

// The tracee while a request uses its context: it stays stopped and keeps its context.
class Held {
 public:
  explicit Held(Task& target) : target_(&target) { ++target.trace->busy; }
  ~Held() {
    --target_->trace->busy;
    target_->trace->resumed.wake_all();
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

 private:
  Ref<Task> target_;
};

Result<Task*> tracee_of(Task& task, int pid, bool must_be_stopped) {
  Task* target = task_by_number(task, pid);
  if (target == nullptr || !is_traced(*target) || target->tracer->group != task.group)
    return Err(Errno::kSRCH);
  if (must_be_stopped && !is_trace_stopped(*target)) return Err(Errno::kSRCH);
  return target;
}

Result<int64_t> traceme(Task& task) {
  ThreadGroup* parent = task.group->parent;
  if (is_traced(task) || parent == nullptr || parent->leader == nullptr || parent->zombie)
    return Err(Errno::kPERM);
  trace_attach(*parent->leader, task, false, 0);
  restore_call_sites(task.park(), task);
  return 0;
}

Result<int64_t> attach(Task& task, int pid, bool seize, uint64_t addr, uint64_t options) {
  Task* target = task_by_number(task, pid);
  if (target == nullptr) return Err(Errno::kSRCH);
  if (seize && (addr != 0 || (options & ~kOptions) != 0)) return Err(Errno::kIO);
  if (target->group == task.group || is_traced(*target)) return Err(Errno::kPERM);
  if (!may_access(task, *target)) return Err(Errno::kPERM);
  if (target->exiting || target->state == TaskState::kZombie) return Err(Errno::kPERM);
  trace_attach(task, *target, seize, seize ? static_cast<uint32_t>(options) : 0);
  tell_watchers({ProcessEvent::Kind::kPtrace, *target, &task});
  if (!seize) (void)send_signal(*target, siginfo_kernel(SIGSTOP));
  restore_call_sites(task.park(), *target);
  return 0;
}

// ---- memory

Result<int64_t> peek(Task& task, Task& target, uint64_t addr, UserAddr to) {
  Ref<AddressSpace> mm = target.mm_ref();
  uint64_t word = 0;
  Result<size_t> n =
      mm->force_copy_in(task.park(), std::as_writable_bytes(std::span(&word, 1)), addr);
  if (!n || *n != sizeof word) return Err(Errno::kIO);
  return zero(UserOut<uint64_t>{to}.put(task.park(), task.mm(), word));
}

Result<int64_t> poke(Task& task, Task& target, uint64_t addr, uint64_t word) {
  Ref<AddressSpace> mm = target.mm_ref();
  Result<size_t> n = mm->force_copy_out(task.park(), addr, std::as_bytes(std::span(&word, 1)));
  if (!n || *n != sizeof word) return Err(Errno::kIO);
  return 0;
}

// ---- registers

Result<> check_regs(const AddressSpace& mm, const arch::UserRegs& regs) {
  if (regs.fs_base >= mm.user_limit() || regs.gs_base >= mm.user_limit()) return Err(Errno::kIO);
  return {};
}

Result<int64_t> get_regs(Task& task, Task& target, UserAddr to) {
  const arch::UserRegs regs = TRY(target.context->get_regs(task.park()));
  return zero(UserOut<arch::UserRegs>{to}.put(task.park(), task.mm(), regs));
}

Result<int64_t> set_regs(Task& task, Task& target, const arch::UserRegs& regs) {
  TRY(check_regs(target.mm(), regs));
  if (regs.gs_base != 0) restore_call_sites(task.park(), target);
  return zero(target.context->set_regs(task.park(), regs));
}

Result<int64_t> get_fp(Task& task, Task& target, UserAddr to, size_t at_most, size_t* got) {
  arch::FpState fp = TRY(target.context->get_fp(task.park()));
  if (fp.empty()) fp = arch::initial_fp_state();
  const size_t n = std::min(at_most, fp.size());
  if (got != nullptr) *got = n;
  return zero(UserOut<std::byte>{to}.put_array(task.park(), task.mm(), std::span(fp).first(n)));
}

// The legacy area, or all of it.
Result<int64_t> set_fp(Task& task, Task& target, UserAddr from, size_t bytes) {
  arch::FpState fp = TRY(target.context->get_fp(task.park()));
  if (fp.empty()) fp = arch::initial_fp_state();
  const auto given =
      TRY(UserIn<std::byte>{from}.get_array(task.park(), task.mm(), std::min(bytes, fp.size())));
  std::copy(given.begin(), given.end(), fp.begin());
  if (given.size() <= kFpLegacy) {  // x87 and SSE are in use then
    fp[kFpLegacy] |= std::byte{3};
  }
  arch::sanitize_fp_state(fp);
  return zero(target.context->set_fp(task.park(), fp));
}

Result<int64_t> regset(Task& task, Task& target, bool set, uint64_t type, UserAddr at) {
  UserIovec iov = TRY(UserIn<UserIovec>{at}.get(task.park(), task.mm()));
  size_t n = 0;
  if (type == NT_PRSTATUS) {
    if (iov.len % sizeof(uint64_t) != 0) return Err(Errno::kINVAL);
    n = std::min<uint64_t>(iov.len, sizeof(arch::UserRegs));
    arch::UserRegs regs = TRY(target.context->get_regs(task.park()));
    auto bytes = std::as_writable_bytes(std::span(&regs, 1)).first(n);
    if (set) {
      const auto given = TRY(UserIn<std::byte>{{iov.base}}.get_array(task.park(), task.mm(), n));
      std::copy(given.begin(), given.end(), bytes.begin());
      TRY(set_regs(task, target, regs));
    } else {
      TRY(UserOut<std::byte>{{iov.base}}.put_array(task.park(), task.mm(), bytes));
    }
  } else if (type == NT_PRFPREG || type == kXstate) {
    const size_t most = type == NT_PRFPREG ? kFpLegacy : arch::xsave_bytes();
    n = std::min<uint64_t>(iov.len, most);
    if (set) {
      TRY(set_fp(task, target, {iov.base}, n));
    } else {
      TRY(get_fp(task, target, {iov.base}, n, &n));
    }
  } else {
    return Err(Errno::kINVAL);
  }
  iov.len = n;
  return zero(UserOut<UserIovec>{at}.put(task.park(), task.mm(), iov));
}

// The words of struct user: registers, then what is always zero here, last the debug registers.
constexpr uint64_t kDebugRegs = offsetof(struct user, u_debugreg);

Result<int64_t> peek_user(Task& task, Task& target, uint64_t offset, UserAddr to) {
  if (offset % sizeof(uint64_t) != 0 || offset >= kUserBytes) return Err(Errno::kIO);
  uint64_t word = 0;
  if (offset < sizeof(arch::UserRegs)) {
    const arch::UserRegs regs = TRY(target.context->get_regs(task.park()));
    std::memcpy(&word, reinterpret_cast<const std::byte*>(&regs) + offset, sizeof word);
  } else if (offset >= kDebugRegs) {
    word = target.trace->debug.read(static_cast<unsigned>((offset - kDebugRegs) / sizeof word));
  }
  return zero(UserOut<uint64_t>{to}.put(task.park(), task.mm(), word));
}

Result<int64_t> poke_debug(Task& task, Task& target, unsigned n, uint64_t word) {
  arch::DebugRegs regs = target.trace->debug;
  TRY(regs.write(n, word));
  TRY(target.context->set_breakpoints(task.park(), regs.armed(target.mm().user_limit())));
  target.trace->debug = regs;
  return 0;
}

Result<int64_t> poke_user(Task& task, Task& target, uint64_t offset, uint64_t word) {
  if (offset % sizeof(uint64_t) != 0 || offset >= kUserBytes) return Err(Errno::kIO);
  if (offset >= kDebugRegs)
    return poke_debug(task, target, static_cast<unsigned>((offset - kDebugRegs) / sizeof word),
                      word);
  if (offset >= sizeof(arch::UserRegs)) return Err(Errno::kIO);
  arch::UserRegs regs = TRY(target.context->get_regs(task.park()));
  std::memcpy(reinterpret_cast<std::byte*>(&regs) + offset, &word, sizeof word);
  return set_regs(task, target, regs);
}

// ---- what the stop is about

struct SyscallInfo {  // struct ptrace_syscall_info
  uint8_t op = 0, pad[3] = {};
  uint32_t arch = AUDIT_ARCH_X86_64;
  uint64_t ip = 0, sp = 0;
  uint64_t words[8] = {};
};

Result<int64_t> syscall_info(Task& task, Task& target, uint64_t size, UserAddr to) {
  const TraceState& t = *target.trace;
  const arch::UserRegs regs = TRY(target.context->get_regs(task.park()));
  SyscallInfo info;
  info.op = static_cast<uint8_t>(t.call);
  info.ip = regs.rip;
  info.sp = regs.rsp;
  size_t bytes = offsetof(SyscallInfo, words);
  const uint64_t args[] = {regs.orig_rax, regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9};
  if (t.call == TraceState::Call::kEntry || t.call == TraceState::Call::kSeccomp) {
    std::copy(std::begin(args), std::end(args), info.words);
    bytes += sizeof args;
    if (t.call == TraceState::Call::kSeccomp) {
      info.words[7] = t.message & UINT32_MAX;
      bytes += sizeof(uint32_t);
    }
  } else if (t.call == TraceState::Call::kExit) {
    constexpr int64_t kMaxErrno = 4095;
    const auto value = static_cast<int64_t>(regs.rax);
    info.words[0] = regs.rax;
    info.words[1] = value < 0 && value >= -kMaxErrno;
    bytes += sizeof(int64_t) + 1;
  }
  UserOut<std::byte> out{to};
  TRY(out.put_array(task.park(), task.mm(),
                    std::as_bytes(std::span(&info, 1)).first(std::min<uint64_t>(size, bytes))));
  return static_cast<int64_t>(bytes);
}

Result<int64_t> signal_mask(Task& task, Task& target, bool set, uint64_t size, UserAddr at) {
  if (size != sizeof(uint64_t)) return Err(Errno::kINVAL);
  if (!set) return zero(UserOut<uint64_t>{at}.put(task.park(), task.mm(), target.blocked.bits()));
  const uint64_t bits = TRY(UserIn<uint64_t>{at}.get(task.park(), task.mm()));
  set_blocked(target, SigSet(bits));
  return 0;
}

// ---- filters (PTRACE_SECCOMP_GET_FILTER, PTRACE_SECCOMP_GET_METADATA)

// The filter number `index`, from the oldest.
Result<const SeccompFilter*> filter_at(Task& task, Task& target, uint64_t index) {
  if (!task.cred().has(Cap::kSysAdmin) || task.seccomp_mode != 0) return Err(Errno::kACCES);
  if (!target.seccomp) return Err(Errno::kINVAL);
  auto count = static_cast<uint64_t>(target.seccomp->count());
  if (index >= count) return Err(Errno::kNOENT);
  const SeccompFilter* f = target.seccomp.get();
  for (count -= index; count > 1; --count) f = f->previous();
  return f;
}

Result<int64_t> get_filter(Task& task, Task& target, uint64_t index, UserAddr to) {
  const SeccompFilter* f = TRY(filter_at(task, target, index));
  const std::vector<SeccompFilter::Insn> program = f->program();  // the filter may go meanwhile
  if (to)
    TRY(UserOut<SeccompFilter::Insn>{to}.put_array(task.park(), task.mm(), std::span(program)));
  return static_cast<int64_t>(program.size());
}

struct FilterMetadata {  // struct seccomp_metadata
  uint64_t index, flags;
};

Result<int64_t> get_filter_metadata(Task& task, Task& target, uint64_t size, UserAddr at) {
  if (!task.cred().has(Cap::kSysAdmin) || task.seccomp_mode != 0) return Err(Errno::kACCES);
  size = std::min<uint64_t>(size, sizeof(FilterMetadata));
  if (size < sizeof(uint64_t)) return Err(Errno::kINVAL);
  const uint64_t index = TRY(UserIn<uint64_t>{at}.get(task.park(), task.mm()));
  const SeccompFilter* f = TRY(filter_at(task, target, index));
  constexpr uint64_t kFilterLog = 2;  // SECCOMP_FILTER_FLAG_LOG
  const FilterMetadata m{index, f->log() ? kFilterLog : 0};
  TRY(UserOut<std::byte>{at}.put_array(task.park(), task.mm(),
                                       std::as_bytes(std::span(&m, 1)).first(size)));
  return static_cast<int64_t>(size);
}

// ---- signals that wait (PTRACE_PEEKSIGINFO)

struct PeekSiginfoArgs {
  uint64_t offset;
  uint32_t flags;
  int32_t count;
};

Result<int64_t> peek_siginfo(Task& task, Task& target, UserAddr args_at, UserAddr to) {
  const auto args = TRY(UserIn<PeekSiginfoArgs>{args_at}.get(task.park(), task.mm()));
  constexpr uint32_t kShared = 1;
  if ((args.flags & ~kShared) != 0 || args.count < 0) return Err(Errno::kINVAL);
  const std::vector<SigInfo> queued =
      ((args.flags & kShared) != 0 ? target.group->pending : target.pending).all();
  int64_t done = 0;
  for (uint64_t i = args.offset; i < queued.size() && done < args.count; ++i, ++done) {
    const UserOut<SigInfo> out{{to.addr + static_cast<uint64_t>(done) * sizeof(SigInfo)}};
    if (Result<> r = out.put(task.park(), task.mm(), queued[i]); !r) {
      if (done == 0) return Err(r.error());
      break;
    }
  }
  return done;
}

// ---- going on

Result<int64_t> resume(Task& target, int64_t request, uint64_t signo) {
  if (signo > kSignals) return Err(Errno::kIO);
  TraceState& t = *target.trace;
  t.mode = request == PTRACE_SYSCALL                      ? TraceState::Mode::kSyscall
           : request == kSysemu || request == kSysemuStep ? TraceState::Mode::kSysemu
                                                          : TraceState::Mode::kCont;
  t.step = request == PTRACE_SINGLESTEP || request == kSysemuStep;
  trace_resume(target, static_cast<int>(signo));
  return 0;
}

Result<int64_t> listen(Task& target) {
  TraceState& t = *target.trace;
  if (!t.seized || (t.status >> 16) != kTraceEventStop) return Err(Errno::kIO);
  if (target.group->stop_signal == 0) return resume(target, PTRACE_CONT, 0);
  t.listening = true;
  return 0;
}

// Requests to a stopped tracee, which stays as it is meanwhile.
Result<int64_t> inspect(Task& task, Task& target, int64_t request, UserAddr addr, UserAddr data) {
  Held held(target);
  Park& park = task.park();
  TraceState& t = *target.trace;
  switch (request) {
    case PTRACE_PEEKTEXT:
    case PTRACE_PEEKDATA:
      return peek(task, target, addr.addr, data);
    case PTRACE_POKETEXT:
    case PTRACE_POKEDATA:
      return poke(task, target, addr.addr, data.addr);
    case PTRACE_PEEKUSER:
      return peek_user(task, target, addr.addr, data);
    case PTRACE_POKEUSER:
      return poke_user(task, target, addr.addr, data.addr);
    case PTRACE_GETREGS:
      return get_regs(task, target, data);
    case PTRACE_SETREGS: {
      const arch::UserRegs regs = TRY(UserIn<arch::UserRegs>{data}.get(park, task.mm()));
      return set_regs(task, target, regs);
    }
    case PTRACE_GETFPREGS:
      return get_fp(task, target, data, kFpLegacy, nullptr);
    case PTRACE_SETFPREGS:
      return set_fp(task, target, data, kFpLegacy);
    case kGetRegset:
    case kSetRegset:
      return regset(task, target, request == kSetRegset, addr.addr, data);
    case PTRACE_SETOPTIONS:
      if ((data.addr & ~kOptions) != 0) return Err(Errno::kINVAL);
      t.options = static_cast<uint32_t>(data.addr);
      return 0;
    case PTRACE_GETEVENTMSG:
      return zero(UserOut<uint64_t>{data}.put(park, task.mm(), t.message));
    case PTRACE_GETSIGINFO:
      if ((t.status >> 16) == kTraceEventStop && target.group->stop_signal != 0)
        return Err(Errno::kINVAL);
      return zero(UserOut<SigInfo>{data}.put(park, task.mm(), t.info));
    case PTRACE_SETSIGINFO:
      t.info = TRY(UserIn<SigInfo>{data}.get(park, task.mm()));
      return 0;
    case kGetSigmask:
    case kSetSigmask:
      return signal_mask(task, target, request == kSetSigmask, addr.addr, data);
    case kGetSyscallInfo:
      return syscall_info(task, target, addr.addr, data);
    case kPeekSiginfo:
      return peek_siginfo(task, target, addr, data);
    case kGetFilter:
      return get_filter(task, target, addr.addr, data);
    case kGetFilterMetadata:
      return get_filter_metadata(task, target, addr.addr, data);
    default:
      return Err(Errno::kIO);
  }
}

}  // namespace

Result<int64_t> sys_ptrace(Task& task, int64_t request, int pid, UserAddr addr, UserAddr data) {
  switch (request) {
    case PTRACE_TRACEME:
      return traceme(task);
    case PTRACE_ATTACH:
      return attach(task, pid, false, 0, 0);
    case kSeize:
      return attach(task, pid, true, addr.addr, data.addr);
    case PTRACE_KILL: {
      Task* target = TRY(tracee_of(task, pid, false));
      (void)send_signal(*target, siginfo_kernel(SIGKILL));
      return 0;
    }
    case kInterrupt: {
      Task* target = TRY(tracee_of(task, pid, false));
      if (!target->trace->seized) return Err(Errno::kIO);
      target->trace->interrupt = true;
      target->notify();
      return 0;
    }
    default:
      break;
  }
  Task* target = TRY(tracee_of(task, pid, true));
  switch (request) {
    case PTRACE_CONT:
    case PTRACE_SYSCALL:
    case PTRACE_SINGLESTEP:
    case kSysemu:
    case kSysemuStep:
      return resume(*target, request, data.addr);
    case PTRACE_DETACH:
      if (data.addr > kSignals) return Err(Errno::kIO);
      trace_detach(*target, static_cast<int>(data.addr));
      tell_watchers({ProcessEvent::Kind::kPtrace, *target});
      return 0;
    case kListen:
      return listen(*target);
    default:
      return inspect(task, *target, request, addr, data);
  }
}

}  // namespace uk
