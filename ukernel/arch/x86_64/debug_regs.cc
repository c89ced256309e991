#include "ukernel/arch/x86_64/debug_regs.h"

#include "base/errno.h"

namespace uk::arch {
namespace {

constexpr uint64_t kTaskSizeMax = 0x7ffffffff000;
constexpr unsigned kExecute = 0, kPort = 2;
constexpr unsigned kTypesAt = 16;  // four bits each: type, length
constexpr uint64_t kBytes[] = {1, 2, 8, 4};

}  // namespace

uint64_t DebugRegs::read(unsigned n) const {
  if (n < kBreakpoints) return breakpoints_[n].addr;
  if (n == kDebugStatus) return status_ ^ kStatusReserved;
  return n == kDebugControl ? control_ : 0;
}

Result<> DebugRegs::check(const Breakpoint& b) {
  if (b.type == kPort || (b.type == kExecute && b.len != 0)) return Err(Errno::kINVAL);
  const uint64_t bytes = kBytes[b.len];
  if (b.addr >= kTaskSizeMax || b.addr % bytes != 0) return Err(Errno::kINVAL);
  return {};
}

Result<> DebugRegs::write(unsigned n, uint64_t value) {
  if (n < kBreakpoints) {
    Breakpoint b = breakpoints_[n];
    b.made = true;
    b.addr = value;
    TRY(check(b));
    breakpoints_[n] = b;
    return {};
  }
  if (n == kDebugStatus) {
    status_ = value ^ kStatusReserved;
    return {};
  }
  return n == kDebugControl ? write_control(value) : Err(Errno::kIO);
}

Result<> DebugRegs::write_control(uint64_t value) {
  std::array<Breakpoint, kBreakpoints> wanted = breakpoints_;
  for (unsigned i = 0; i < kBreakpoints; ++i) {
    Breakpoint& b = wanted[i];
    const uint64_t bits = value >> (kTypesAt + 4 * i);
    b.enabled = (value >> (2 * i) & 3) != 0;
    if (!b.made && !b.enabled) continue;  // its type is not looked at
    b.made = true;
    b.type = bits & 3;
    b.len = bits >> 2 & 3;
    TRY(check(b));
  }
  breakpoints_ = wanted;
  control_ = value;
  return {};
}

Breakpoints DebugRegs::armed(uint64_t limit) const {
  Breakpoints out;
  for (unsigned i = 0; i < kBreakpoints; ++i) {
    const Breakpoint& b = breakpoints_[i];
    if (!b.enabled || b.addr >= limit) continue;
    out.addr[i] = b.addr;
    const uint64_t bits = b.type | b.len << 2;
    out.control |= bits << (kTypesAt + 4 * i) | uint64_t{1} << (2 * i);
  }
  return out;
}

DebugRegs DebugRegs::for_child() const {
  DebugRegs child;
  child.status_ = status_;
  child.control_ = control_;
  return child;
}

}  // namespace uk::arch
