#include "ukernel/arch/x86_64/sigframe.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace uk::arch {
namespace {

constexpr uint32_t kXstateMagic1 = 0x46505853;
constexpr uint32_t kXstateMagic2 = 0x46505845;
constexpr size_t kMagic2Bytes = 4;
constexpr size_t kSwReservedOffset = 464;
constexpr size_t kXstateHeaderOffset = 512;
constexpr size_t kXstateMinBytes = 576;

// struct sigcontext_64.
struct SigContext {
  uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
  uint64_t rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
  uint16_t cs, gs, fs, ss;
  uint64_t err, trapno, oldmask, cr2;
  uint64_t fpstate;
  uint64_t reserved[8];
};
static_assert(sizeof(SigContext) == 256);

struct Frame {
  uint64_t restorer;
  uint64_t uc_flags;
  uint64_t uc_link;
  uint64_t stack_sp;
  int32_t stack_flags;
  uint32_t stack_pad;
  uint64_t stack_size;
  SigContext mc;
  uint64_t sigmask;
  std::byte siginfo[kSiginfoBytes];
};
static_assert(sizeof(Frame) == kSigFrameBytes);
static_assert(offsetof(Frame, siginfo) == 312);

// struct _fpx_sw_bytes, the software-reserved bytes of the legacy area.
struct FpSwBytes {
  uint32_t magic1;
  uint32_t extended_size;
  uint64_t xfeatures;
  uint32_t xstate_size;
  uint32_t padding[7];
};
static_assert(sizeof(FpSwBytes) == 48);

constexpr uint64_t kClearedByDelivery = 0x400 | 0x10000 | 0x100;  // DF, RF, TF

FpSwBytes sw_bytes(std::span<const std::byte> legacy) {
  FpSwBytes sw;
  std::memcpy(&sw, legacy.data() + kSwReservedOffset, sizeof sw);
  return sw;
}

bool extended(const FpSwBytes& sw) {
  return sw.magic1 == kXstateMagic1 && sw.xstate_size >= kXstateMinBytes &&
         sw.xstate_size <= host_xsave_bytes() && sw.xstate_size <= sw.extended_size;
}

}  // namespace

size_t max_sigframe_bytes() {
  return kRedZoneBytes + 63 + xsave_bytes() + kMagic2Bytes + kSigFrameBytes + 15 + 8;
}

SigFrameLayout layout_sigframe(uint64_t sp, bool switched) {
  SigFrameLayout l;
  if (!switched) sp -= kRedZoneBytes;
  l.fp = (sp - (xsave_bytes() + kMagic2Bytes)) & ~63ull;
  l.end = l.fp + xsave_bytes() + kMagic2Bytes;
  l.frame = ((l.fp - kSigFrameBytes) & ~15ull) - 8;
  l.uc = l.frame + offsetof(Frame, uc_flags);
  l.info = l.frame + offsetof(Frame, siginfo);
  return l;
}

void build_sigframe_head(std::span<std::byte, kSigFrameBytes> out, const SigFrameContent& c,
                         uint64_t fp) {
  const UserRegs& r = c.regs;
  Frame f = {};
  f.restorer = c.restorer;
  f.uc_flags = kUcFpXstate | kUcSigcontextSs | kUcStrictRestoreSs;
  f.stack_sp = c.altstack.sp;
  f.stack_flags = c.altstack.flags;
  f.stack_size = c.altstack.size;
  f.mc = {.r8 = r.r8,
          .r9 = r.r9,
          .r10 = r.r10,
          .r11 = r.r11,
          .r12 = r.r12,
          .r13 = r.r13,
          .r14 = r.r14,
          .r15 = r.r15,
          .rdi = r.rdi,
          .rsi = r.rsi,
          .rbp = r.rbp,
          .rbx = r.rbx,
          .rdx = r.rdx,
          .rax = r.rax,
          .rcx = r.rcx,
          .rsp = r.rsp,
          .rip = r.rip,
          .eflags = r.eflags,
          .cs = static_cast<uint16_t>(r.cs),
          .gs = 0,
          .fs = 0,
          .ss = static_cast<uint16_t>(r.ss),
          .err = c.error_code,
          .trapno = c.trapno,
          .oldmask = c.sigmask,
          .cr2 = c.cr2,
          .fpstate = fp,
          .reserved = {}};
  f.sigmask = c.sigmask;
  std::memcpy(f.siginfo, c.siginfo.data(), kSiginfoBytes);
  std::memcpy(out.data(), &f, sizeof f);
}

void build_sigframe(std::span<std::byte> out, const SigFrameLayout& l, const SigFrameContent& c) {
  CHECK(out.size() >= l.bytes());
  std::fill_n(out.begin() + kSigFrameBytes, l.bytes() - kSigFrameBytes, std::byte{0});
  build_sigframe_head(out.first<kSigFrameBytes>(), c, l.fp);

  std::byte* fp = out.data() + (l.fp - l.frame);
  FpState initial;
  std::span<const std::byte> state = c.fp;
  if (state.empty()) {
    initial = initial_fp_state();
    state = initial;
  }
  std::memcpy(fp, state.data(), std::min(state.size(), xsave_bytes()));
  FpSwBytes sw = {.magic1 = kXstateMagic1,
                  .extended_size = static_cast<uint32_t>(xsave_bytes() + kMagic2Bytes),
                  .xfeatures = xfeatures(),
                  .xstate_size = static_cast<uint32_t>(xsave_bytes()),
                  .padding = {}};
  std::memcpy(fp + kSwReservedOffset, &sw, sizeof sw);
  // Linux says so too: a program that edits the frame's x87 or SSE state need not know the header.
  uint64_t bv;
  std::memcpy(&bv, fp + kXstateHeaderOffset, sizeof bv);
  bv |= 3;
  std::memcpy(fp + kXstateHeaderOffset, &bv, sizeof bv);
  std::memcpy(fp + xsave_bytes(), &kXstateMagic2, kMagic2Bytes);
}

UserRegs handler_regs(const UserRegs& interrupted, const SigFrameLayout& l, uint64_t handler,
                      int signo) {
  UserRegs r = interrupted;
  r.rip = handler;
  r.rsp = l.frame;
  r.rdi = static_cast<uint64_t>(signo);
  r.rsi = l.info;
  r.rdx = l.uc;
  r.rax = 0;
  r.orig_rax = ~0ull;
  r.cs = 0x33;
  r.ss = 0x2b;
  r.eflags &= ~kClearedByDelivery;
  return r;
}

ParsedSigFrame parse_sigframe(std::span<const std::byte, kSigFrameBytes> frame,
                              const UserRegs& current) {
  Frame f;
  std::memcpy(&f, frame.data(), sizeof f);
  const SigContext& m = f.mc;
  ParsedSigFrame p;
  UserRegs& r = p.regs;
  r = current;
  r.r8 = m.r8, r.r9 = m.r9, r.r10 = m.r10, r.r11 = m.r11, r.r12 = m.r12, r.r13 = m.r13,
  r.r14 = m.r14, r.r15 = m.r15;
  r.rdi = m.rdi, r.rsi = m.rsi, r.rbp = m.rbp, r.rbx = m.rbx, r.rdx = m.rdx, r.rax = m.rax,
  r.rcx = m.rcx;
  r.rsp = m.rsp, r.rip = m.rip;
  // restore_sigcontext in Linux: only these flags come from the frame.
  constexpr uint64_t kFixEflags = 0x50dd5 | 0x10000;
  r.eflags = sanitize_eflags((current.eflags & ~kFixEflags) | (m.eflags & kFixEflags));
  r.cs = m.cs | 3u;
  r.ss = (f.uc_flags & kUcStrictRestoreSs) != 0 ? m.ss | 3u : 0x2b;
  r.orig_rax = ~0ull;
  p.sigmask = f.sigmask;
  p.altstack = {.sp = f.stack_sp, .flags = f.stack_flags, .size = f.stack_size};
  p.fp_addr = m.fpstate;
  return p;
}

size_t sigframe_fp_bytes(std::span<const std::byte, kFpLegacyBytes> legacy) {
  FpSwBytes sw = sw_bytes(legacy);
  return extended(sw) ? sw.xstate_size + kMagic2Bytes : kFpLegacyBytes;
}

Result<FpState> parse_sigframe_fp(std::span<const std::byte> bytes) {
  if (bytes.size() < kFpLegacyBytes) return Err(Errno::kINVAL);
  FpSwBytes sw = sw_bytes(bytes);
  FpState fp(xsave_bytes());
  uint64_t bv = 3;  // without a valid extended state Linux restores x87 and SSE and resets the rest
  size_t take = kFpLegacyBytes;
  if (extended(sw)) {
    if (bytes.size() < sw.xstate_size + kMagic2Bytes) return Err(Errno::kINVAL);
    uint32_t magic2;
    std::memcpy(&magic2, bytes.data() + sw.xstate_size, sizeof magic2);
    if (magic2 == kXstateMagic2) {
      std::memcpy(&bv, bytes.data() + kXstateHeaderOffset, sizeof bv);
      bv &= sw.xfeatures;
      take = std::min<size_t>(sw.xstate_size, fp.size());
    }
  }
  std::memcpy(fp.data(), bytes.data(), take);
  std::memset(fp.data() + kSwReservedOffset, 0, sizeof(FpSwBytes));
  if (fp.size() >= kXstateHeaderOffset + sizeof bv)
    std::memcpy(fp.data() + kXstateHeaderOffset, &bv, sizeof bv);
  sanitize_fp_state(fp);
  return fp;
}

}  // namespace uk::arch
