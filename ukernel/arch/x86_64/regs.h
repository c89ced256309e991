// The machine state of a guest thread on x86-64, as the kernel handles it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace uk::arch {

// General registers. The order and size are Linux's struct user_regs_struct (ptrace(2)), so that it
// can be handed to a guest's PTRACE_GETREGS as it is.
struct UserRegs {
  uint64_t r15 = 0, r14 = 0, r13 = 0, r12 = 0, rbp = 0, rbx = 0, r11 = 0, r10 = 0, r9 = 0, r8 = 0;
  uint64_t rax = 0, rcx = 0, rdx = 0, rsi = 0, rdi = 0;
  uint64_t orig_rax = ~0ull;  // the system call number while in one, else -1
  uint64_t rip = 0, cs = 0x33, eflags = 0x202, rsp = 0, ss = 0x2b;
  uint64_t fs_base = 0, gs_base = 0;
  uint64_t ds = 0, es = 0, fs = 0, gs = 0;

  bool operator==(const UserRegs&) const = default;
};
static_assert(sizeof(UserRegs) == 27 * 8);

// Extended state in the XSAVE standard (non-compacted) format, xsave_bytes() long; empty means the
// initial state.
using FpState = std::vector<std::byte>;

// The features of XCR0 that guests have: those the host enabled, but for AMX and protection keys.
uint64_t xfeatures();
// Size of the XSAVE area for these (CPUID.0DH).
size_t xsave_bytes();
// The same for all that the host enabled: what its own kernel saves and wants to be given.
size_t host_xsave_bytes();
// A valid initial FpState (FCW 0x37f, MXCSR 0x1f80).
FpState initial_fp_state();
// Makes a guest-written area loadable by XRSTOR: reserved bits, unknown features and MXCSR bits are
// cleared.
void sanitize_fp_state(FpState& fp);
// Gives components that XSTATE_BV says are in their initial state that state, whatever the area
// holds there.
void normalize_fp_state(FpState& fp);
// The state in `area`, xsave_bytes() as XSAVE or XSAVEOPT left them (or a guest, who may go on
// writing), made loadable and with its initial components as they are. Reads no more of the area
// than it holds: memory that another processor wrote is dear.
FpState read_fp_state(std::span<const std::byte> area);
// The opposite, for XRSTOR. `fp` is loadable, or empty.
void write_fp_state(std::span<std::byte> area, const FpState& fp);
// True if the processor has XSAVEOPT.
bool has_xsaveopt();
// Keeps only the flags a guest may set itself (CF PF AF ZF SF TF DF OF RF NT AC ID).
uint64_t sanitize_eflags(uint64_t eflags);

}  // namespace uk::arch
