#include "ukernel/platform/stub/fault.h"

namespace uk::stub {
namespace {

// Vectors (Intel SDM vol. 3, 6.3.1).
enum : int {
  kDe = 0,
  kDb = 1,
  kBp = 3,
  kUd = 6,
  kSs = 12,
  kGp = 13,
  kPf = 14,
  kMf = 16,
  kAc = 17,
  kXm = 19
};

int guess_vector(const siginfo_t& i) {
  switch (i.si_signo) {
    case SIGFPE:
      return i.si_code == FPE_INTDIV ? kDe : kXm;
    case SIGILL:
      return kUd;
    case SIGTRAP:
      return i.si_code == SI_KERNEL ? kBp : kDb;
    case SIGBUS:
      return i.si_code == BUS_ADRALN ? kAc : i.si_code == SI_KERNEL ? kSs : kPf;
    default:
      return i.si_code == SI_KERNEL ? kGp : kPf;
  }
}

}  // namespace

bool is_fault(const siginfo_t& i) {
  switch (i.si_signo) {
    case SIGSEGV:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
    case SIGTRAP:
      return i.si_code > 0;
    default:
      return false;
  }
}

Trap fault_trap(const siginfo_t& i, uint64_t rip) {
  Trap t;
  t.ip = rip;
  t.signo = i.si_signo;
  t.code = i.si_code;
  t.addr = reinterpret_cast<uint64_t>(i.si_addr);
  t.trapno = guess_vector(i);
  if (i.si_signo == SIGSEGV && (i.si_code == SEGV_MAPERR || i.si_code == SEGV_ACCERR)) {
    t.kind = Trap::Kind::kPageFault;
    t.access = t.addr == rip ? Access::kExec : Access::kUnknown;
  } else {
    t.kind = Trap::Kind::kException;
    if (i.si_code == SI_KERNEL) t.addr = 0;
    if (i.si_signo == SIGTRAP && i.si_code == TRAP_TRACE) t.debug_status = arch::kStatusStep;
  }
  return t;
}

Trap fault_trap(const siginfo_t& i, uint64_t rip, int trapno, uint64_t error_code, uint64_t cr2) {
  Trap t = fault_trap(i, rip);
  t.trapno = trapno;
  t.error_code = error_code;
  if (t.kind == Trap::Kind::kPageFault && trapno == kPf) {
    t.addr = cr2;
    t.access = (error_code & 16) != 0  ? Access::kExec
               : (error_code & 2) != 0 ? Access::kWrite
                                       : Access::kRead;
  }
  return t;
}

Trap simple_trap(Trap::Kind kind) {
  Trap t;
  t.kind = kind;
  return t;
}

// As Linux does it (user_single_step_report).
Trap stepped_over_syscall() {
  Trap t;
  t.kind = Trap::Kind::kException;
  t.signo = SIGTRAP;
  t.code = TRAP_BRKPT;
  t.trapno = kDb;
  return t;
}

bool in_vsyscall_page(uint64_t ip) { return (ip & ~4095ull) == 0xffffffffff600000; }

Trap vsyscall_trap(uint64_t ip) {
  Trap t;
  t.kind = Trap::Kind::kPageFault;
  t.addr = t.ip = ip;
  t.access = Access::kExec;
  t.signo = SIGSEGV;
  t.code = SEGV_MAPERR;
  t.trapno = kPf;
  t.error_code = 0x14;  // user, fetch
  return t;
}

}  // namespace uk::stub
