// The signal frame of Linux/x86-64 (struct rt_sigframe of arch/x86/include/asm/sigframe.h in Linux;
// psABI) as bytes: laying it out below a stack pointer, filling it, and reading it back for
// rt_sigreturn(2). Pure functions on buffers: the caller copies to and from guest memory. Nothing
// suspends, nothing is owned. Untrusted: everything read from a frame. What the functions return is
// safe to hand to GuestContext::set_regs/set_fp.
//
// Delivery:  l = layout_sigframe(sp, switched); check l.frame..l.end fits the stack;
// build_sigframe(buf, l, content);
//            copy buf to l.frame; set_regs(handler_regs(...)).
// Return:    read kSigFrameBytes at rsp - 8; parse_sigframe(); when fp_addr != 0 read
// kFpLegacyBytes there, ask
//            sigframe_fp_bytes() how many to read in all, read them, parse_sigframe_fp(); when 0,
//            an empty FpState.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "ukernel/arch/x86_64/regs.h"

namespace uk::arch {

constexpr size_t kRedZoneBytes = 128;
constexpr size_t kSiginfoBytes = 128;
constexpr size_t kSigFrameBytes =
    440;  // return address, ucontext (304), siginfo; the fp state lies above
constexpr size_t kFpLegacyBytes = 512;

constexpr uint64_t kUcFpXstate = 1;
constexpr uint64_t kUcSigcontextSs = 2;
constexpr uint64_t kUcStrictRestoreSs = 4;

// stack_t without its padding.
struct SigStack {
  uint64_t sp = 0;
  int32_t flags = 0;
  uint64_t size = 0;
};

// Guest addresses of the parts of a frame.
struct SigFrameLayout {
  uint64_t frame = 0;  // the handler's rsp
  uint64_t uc = 0;
  uint64_t info = 0;
  uint64_t fp = 0;   // 64-byte aligned
  uint64_t end = 0;  // one behind the last byte
  size_t bytes() const { return end - frame; }
};

// The largest stack a frame can take, alignment and red zone included: AT_MINSIGSTKSZ.
size_t max_sigframe_bytes();

// `sp`: the interrupted rsp, or the end of the alternate stack when the handler switches to it
// (`switched`: then there is no red zone). `frame` may have wrapped around for a hostile sp: check
// that frame < sp and that the range is writable.
SigFrameLayout layout_sigframe(uint64_t sp, bool switched);

struct SigFrameContent {
  UserRegs regs;                  // as interrupted
  std::span<const std::byte> fp;  // XSAVE standard format; empty: the initial state
  std::span<const std::byte, kSiginfoBytes> siginfo;
  uint64_t sigmask = 0;  // to be restored
  SigStack altstack;
  uint64_t restorer = 0;                         // sa_restorer
  uint64_t trapno = 0, error_code = 0, cr2 = 0;  // of the last fault, else 0
};

// Fills out[0, l.bytes()), the image of guest memory at l.frame.
void build_sigframe(std::span<std::byte> out, const SigFrameLayout& l, const SigFrameContent& c);

// Only the part below the fp state, with `fp` as its address (0: none).
void build_sigframe_head(std::span<std::byte, kSigFrameBytes> out, const SigFrameContent& c,
                         uint64_t fp);

// Registers at the handler's first instruction.
UserRegs handler_regs(const UserRegs& interrupted, const SigFrameLayout& l, uint64_t handler,
                      int signo);

struct ParsedSigFrame {
  UserRegs regs;         // orig_rax = -1; fs_base, gs_base and data segments are those of `current`
  uint64_t sigmask = 0;  // SIGKILL and SIGSTOP not yet removed
  SigStack altstack;
  uint64_t fp_addr = 0;  // 0: initial state
};

// `frame`: kSigFrameBytes as read from the guest. Never fails: any bytes are a frame (a bad rip
// faults when it runs).
ParsedSigFrame parse_sigframe(std::span<const std::byte, kSigFrameBytes> frame,
                              const UserRegs& current);

// Bytes to read at fp_addr, given the first kFpLegacyBytes there: more than these when an extended
// state follows.
size_t sigframe_fp_bytes(std::span<const std::byte, kFpLegacyBytes> legacy);
// Error: kINVAL when shorter than sigframe_fp_bytes() said.
Result<FpState> parse_sigframe_fp(std::span<const std::byte> bytes);

}  // namespace uk::arch
