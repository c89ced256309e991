#include "ukernel/platform/stub/host_trace.h"

#include <sys/ptrace.h>
#include <sys/user.h>

#include <cstddef>
#include <utility>

#include "hostio/sys/process.h"

namespace uk::stub {
namespace {

uintptr_t place_of(unsigned n) { return offsetof(struct user, u_debugreg) + n * sizeof(uint64_t); }

Result<> poke(int tid, unsigned n, uint64_t value) {
  TRY(sys::ptrace(PTRACE_POKEUSER, tid, place_of(n), value));
  return {};
}

// With all of them off, addresses may be written in any order.
Result<> try_load(int tid, const arch::Breakpoints& now, const arch::Breakpoints& wanted) {
  if (now.any()) TRY(poke(tid, arch::kDebugControl, 0));
  if (!wanted.any()) return {};
  for (unsigned i = 0; i < arch::kBreakpoints; ++i)
    if (wanted.addr[i] != 0) TRY(poke(tid, i, wanted.addr[i]));
  return poke(tid, arch::kDebugControl, wanted.control);
}

}  // namespace

Result<> load_breakpoints(int tid, arch::Breakpoints& now, const arch::Breakpoints& wanted) {
  Result<> r = try_load(tid, now, wanted);
  if (!r && r.error() != Errno::kSRCH) {
    (void)poke(tid, arch::kDebugControl, 0);
    r = Err(Errno::kNOSPC);
  }
  now = r ? wanted : arch::Breakpoints{};
  return r;
}

Result<uint64_t> debug_status(int tid) {
  uint64_t dr6 = 0;
  TRY(sys::ptrace(PTRACE_PEEKUSER, tid, place_of(arch::kDebugStatus),
                  reinterpret_cast<uintptr_t>(&dr6)));
  return (dr6 ^ arch::kStatusReserved) & (arch::kStatusStep | arch::kStatusBreakpoints);
}

Result<HostTrace> HostTrace::begin(int tid) {
  TRY(sys::ptrace(PTRACE_SEIZE, tid, 0, 0));
  (void)sys::ptrace(PTRACE_INTERRUPT, tid, 0, 0);  // fails only for one that is dying
  for (;;) {
    int status = 0;
    const Result<pid_t> r = sys::waitpid(tid, &status, __WALL);
    if (!r && r.error() == Errno::kINTR) continue;
    if (!r || !WIFSTOPPED(status)) return Err(Errno::kSRCH);
    return HostTrace(tid, status >> 16 == PTRACE_EVENT_STOP ? 0 : WSTOPSIG(status));
  }
}

HostTrace::HostTrace(HostTrace&& other) noexcept
    : tid_(std::exchange(other.tid_, 0)), signo_(other.signo_) {}

HostTrace::~HostTrace() {
  if (tid_ != 0) (void)sys::ptrace(PTRACE_DETACH, tid_, 0, static_cast<uintptr_t>(signo_));
}

}  // namespace uk::stub
