// Debug registers: hardware breakpoints and watchpoints of a thread, as ptrace(2) shows them in
// struct user's u_debugreg and as a processor takes them (Intel SDM vol. 3, 18.2; Linux
// arch/x86/kernel/ptrace.c says what it refuses).
//
// Ownership: who keeps a DebugRegs; plain values. Nothing suspends. Untrusted: what is written.
#pragma once

#include <array>
#include <cstdint>

#include "base/result.h"

namespace uk::arch {

inline constexpr unsigned kBreakpoints = 4, kDebugStatus = 6, kDebugControl = 7;
inline constexpr uint64_t kStatusStep = 0x4000;          // BS
inline constexpr uint64_t kStatusBreakpoints = 0xf;      // B0 to B3
inline constexpr uint64_t kStatusReserved = 0xffff0ff0;  // DR6's bits that are one when nothing is

// What a thread's processor is to stop at: DR0 to DR3, and of DR7 what enables them.
struct Breakpoints {
  std::array<uint64_t, kBreakpoints> addr = {};
  uint64_t control = 0;
  bool any() const { return control != 0; }
  bool operator==(const Breakpoints&) const = default;
};

// The registers of one thread as its tracer writes and reads them.
class DebugRegs {
 public:
  uint64_t read(unsigned n) const;
  // Errors: kINVAL: an address outside what a process can have, one that is not a multiple of its
  // length, a type that does not exist; kIO: no such register. Nothing has changed then.
  Result<> write(unsigned n, uint64_t value);
  // Without those at or above `limit`, where the guest has nothing.
  Breakpoints armed(uint64_t limit) const;
  // A debug exception came, with these bits of DR6.
  void note_exception(uint64_t status) { status_ = status; }
  // What a new thread of this one begins with: as on Linux the words are copied, the breakpoints
  // are not.
  DebugRegs for_child() const;
  bool operator==(const DebugRegs&) const = default;

 private:
  // Linux makes one when its address or, first, its enabling is written, and keeps it.
  struct Breakpoint {
    bool made = false, enabled = false;
    uint64_t addr = 0;
    uint8_t type = 1;  // as in DR7: 0 execute, 1 write, 2 port, 3 read or write
    uint8_t len = 0;   // as in DR7: 0 one byte, 1 two, 2 eight, 3 four
    bool operator==(const Breakpoint&) const = default;
  };
  static Result<> check(const Breakpoint& b);
  Result<> write_control(uint64_t value);

  std::array<Breakpoint, kBreakpoints> breakpoints_ = {};
  uint64_t status_ = 0;  // DR6 with one for what happened, also where the processor has zero
  uint64_t control_ = 0;
};

}  // namespace uk::arch
