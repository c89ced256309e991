#include "syscalls/prctl.h"

#include <asm/prctl.h>
#include <linux/prctl.h>

#include <cstring>

#include "syscalls/process.h"
#include "syscalls/seccomp.h"
#include "ukernel/kernel.h"
#include "ukernel/task/gate_calls.h"
#include "ukernel/task/process_events.h"
#include "ukernel/task/rseq.h"

namespace uk {
namespace {

constexpr size_t kCommBytes = 16;
constexpr size_t kRobustHeadBytes = 24;

Result<int64_t> set_name(Task& task, uint64_t addr) {
  // Up to 15 bytes, shorter when a NUL comes first; bytes behind that need not be readable.
  Result<std::string> name = task.mm().copy_in_string(task.park(), addr, kCommBytes - 1);
  if (!name && name.error() == Errno::kNAMETOOLONG) {
    std::string text(kCommBytes - 1, '\0');
    if (TRY(task.mm().copy_in(task.park(), std::as_writable_bytes(std::span(text)), addr)) !=
        text.size())
      return Err(Errno::kFAULT);
    name = text;
  }
  task.set_comm(TRY(std::move(name)));
  tell_watchers({ProcessEvent::Kind::kComm, task});
  return 0;
}

Result<int64_t> get_name(Task& task, uint64_t addr) {
  std::array<char, kCommBytes> name{};
  std::memcpy(name.data(), task.comm.data(), std::min(task.comm.size(), kCommBytes - 1));
  TRY(UserOut<std::array<char, kCommBytes>>{{addr}}.put(task.park(), task.mm(), name));
  return 0;
}

template <class T>
Result<int64_t> put(Task& task, uint64_t addr, T value) {
  TRY(UserOut<T>{{addr}}.put(task.park(), task.mm(), value));
  return 0;
}

Result<int64_t> drop_bounding(Task& task, uint64_t cap) {
  if (!task.cred().raised(Cap::kSetpcap)) return Err(Errno::kPERM);
  if (cap > kLastCap) return Err(Errno::kINVAL);
  Ref<Cred> c = task.cred().copy();
  c->cap_bounding &= ~(1ull << cap);
  task.set_cred(std::move(c));
  return 0;
}

Result<int64_t> ambient(Task& task, uint64_t op, uint64_t cap, uint64_t rest) {
  if (op == PR_CAP_AMBIENT_CLEAR_ALL) {
    if ((cap | rest) != 0) return Err(Errno::kINVAL);
    Ref<Cred> c = task.cred().copy();
    c->cap_ambient = 0;
    task.set_cred(std::move(c));
    return 0;
  }
  if (rest != 0 || cap > kLastCap) return Err(Errno::kINVAL);
  const Cred& old = task.cred();
  uint64_t bit = 1ull << cap;
  if (op == PR_CAP_AMBIENT_IS_SET) return (old.cap_ambient & bit) != 0;
  if (op != PR_CAP_AMBIENT_RAISE && op != PR_CAP_AMBIENT_LOWER) return Err(Errno::kINVAL);
  constexpr uint32_t kNoAmbientRaise = 0x40;
  if (op == PR_CAP_AMBIENT_RAISE && ((old.cap_permitted & old.cap_inheritable & bit) == 0 ||
                                     (old.securebits & kNoAmbientRaise) != 0))
    return Err(Errno::kPERM);
  Ref<Cred> c = old.copy();
  c->cap_ambient = op == PR_CAP_AMBIENT_RAISE ? c->cap_ambient | bit : c->cap_ambient & ~bit;
  task.set_cred(std::move(c));
  return 0;
}

Result<int64_t> set_securebits(Task& task, uint64_t bits) {
  constexpr uint32_t kAll = 0xff, kLocks = 0xaa;
  const Cred& old = task.cred();
  auto next = static_cast<uint32_t>(bits);
  uint32_t locked = (old.securebits & kLocks) >> 1;
  if ((bits & ~uint64_t{kAll}) != 0 || ((old.securebits ^ next) & locked) != 0 ||
      (old.securebits & kLocks & ~next) != 0 || !old.raised(Cap::kSetpcap))
    return Err(Errno::kPERM);
  Ref<Cred> c = old.copy();
  c->securebits = next;
  task.set_cred(std::move(c));
  return 0;
}

Result<int64_t> no_new_privs(Task& task, uint64_t a, uint64_t rest) {
  if (a != 1 || rest != 0) return Err(Errno::kINVAL);
  Ref<Cred> c = task.cred().copy();
  c->no_new_privs = true;
  task.set_cred(std::move(c));
  return 0;
}

}  // namespace

Result<int64_t> sys_prctl(Task& task, int option, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
  switch (option) {
    case PR_SET_PDEATHSIG:
      if (a > kSignals) return Err(Errno::kINVAL);
      task.parent_death_signal = static_cast<int>(a);
      return 0;
    case PR_GET_PDEATHSIG:
      return put<int32_t>(task, a, task.parent_death_signal);
    case PR_GET_DUMPABLE:
      return task.mm().dumpable;
    case PR_SET_DUMPABLE:
      if (a > 1) return Err(Errno::kINVAL);
      task.mm().dumpable = a != 0;
      return 0;
    case PR_GET_KEEPCAPS:
      return task.keep_caps;
    case PR_SET_KEEPCAPS:
      if (a > 1) return Err(Errno::kINVAL);
      task.keep_caps = a != 0;
      return 0;
    case PR_SET_NAME:
      return set_name(task, a);
    case PR_GET_NAME:
      return get_name(task, a);
    case PR_GET_TIMING:
      return 0;  // PR_TIMING_STATISTICAL
    case PR_SET_TIMING:
      return a == 0 ? Result<int64_t>(0) : Err(Errno::kINVAL);
    case PR_CAPBSET_READ:
      if (a > kLastCap) return Err(Errno::kINVAL);
      return (task.cred().cap_bounding >> a) & 1;
    case PR_CAPBSET_DROP:
      return drop_bounding(task, a);
    case PR_GET_SECUREBITS:
      return task.cred().securebits | (task.keep_caps ? 1u << 4 /* SECBIT_KEEP_CAPS */ : 0u);
    case PR_SET_SECUREBITS:
      return set_securebits(task, a);
    case PR_GET_TSC:
      return put<int32_t>(task, a, PR_TSC_ENABLE);
    case PR_SET_TIMERSLACK:
      task.timer_slack_ns = a == 0 ? task.default_timer_slack_ns : a;
      return 0;
    case PR_GET_TIMERSLACK:
      return static_cast<int64_t>(task.timer_slack_ns);
    case PR_SET_CHILD_SUBREAPER:
      task.group->child_subreaper = a != 0;
      return 0;
    case PR_GET_CHILD_SUBREAPER:
      return put<int32_t>(task, a, task.group->child_subreaper);
    case PR_SET_NO_NEW_PRIVS:
      return no_new_privs(task, a, b | c | d);
    case PR_GET_NO_NEW_PRIVS:
      if ((a | b | c | d) != 0) return Err(Errno::kINVAL);
      return task.cred().no_new_privs;
    case PR_GET_TID_ADDRESS:
      return put<uint64_t>(task, a, task.clear_child_tid);
    case PR_GET_SECCOMP:
      return task.seccomp_mode;
    case PR_SET_SECCOMP:
      return set_seccomp(task, a, {b});
    case PR_GET_THP_DISABLE:
      return (a | b | c | d) == 0 ? Result<int64_t>(0) : Err(Errno::kINVAL);
    case PR_SET_MM:
      return set_mm(task, a, b, c, d);
    case PR_CAP_AMBIENT:
      return ambient(task, a, b, c | d);
    default:
      return Err(Errno::kINVAL);
  }
}

Result<int64_t> sys_arch_prctl(Task& task, int code, UserAddr addr) {
  Park& park = task.park();
  bool set = code == ARCH_SET_FS || code == ARCH_SET_GS;
  if (!set && code != ARCH_GET_FS && code != ARCH_GET_GS) return Err(Errno::kINVAL);
  if (set && addr.addr >= task.mm().user_limit()) return Err(Errno::kPERM);
  arch::UserRegs regs = TRY(task.context->get_regs(park));
  bool fs = code == ARCH_SET_FS || code == ARCH_GET_FS;
  uint64_t& base = fs ? regs.fs_base : regs.gs_base;
  if (!set) return put<uint64_t>(task, addr.addr, base);
  if (!fs && addr.addr != 0) {
    restore_call_sites(park, task);
    regs = TRY(task.context->get_regs(park));
  }
  base = addr.addr;
  regs.rax = 0;
  TRY(task.context->set_regs(park, regs));
  task.regs_replaced = true;
  return 0;
}

Result<int64_t> sys_personality(Task& task, uint32_t persona) {
  uint32_t old = task.personality;
  if (persona != 0xffffffff) task.personality = persona;
  return old;
}

Result<int64_t> sys_set_robust_list(Task& task, UserAddr head, size_t len) {
  if (len != kRobustHeadBytes) return Err(Errno::kINVAL);
  task.robust_list = head.addr;
  task.robust_list_len = len;
  return 0;
}

Result<int64_t> sys_get_robust_list(Task& task, int pid, UserOut<uint64_t> head,
                                    UserOut<uint64_t> len) {
  Task* t = TRY(find_task(task, pid));
  if (!may_access(task, *t)) return Err(Errno::kPERM);
  uint64_t list = t->robust_list;
  TRY(len.put(task.park(), task.mm(), kRobustHeadBytes));
  TRY(head.put(task.park(), task.mm(), list));
  return 0;
}

Result<int64_t> sys_rseq(Task& task, UserAddr rseq, uint32_t len, int flags, uint32_t sig) {
  TRY(register_rseq(task, rseq.addr, len, flags, sig));
  return 0;
}

}  // namespace uk
