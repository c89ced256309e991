#include "ukernel/arch/x86_64/regs.h"

#include <cpuid.h>

#include <algorithm>
#include <cstring>

namespace uk::arch {
namespace {

constexpr size_t kLegacyBytes = 512;
constexpr size_t kHeaderEnd = 576;
constexpr size_t kFcwOffset = 0;
constexpr size_t kMxcsrOffset = 24;
constexpr size_t kMxcsrMaskOffset = 28;
constexpr size_t kX87Registers = 32, kX87End = 160, kXmmEnd = 416;
constexpr size_t kXstateBvOffset = 512;
constexpr uint32_t kInitialMxcsr = 0x1f80;
constexpr uint64_t kX87 = 1, kSse = 2;
// AMX (tile configuration and data) needs a permission Linux grants a process on request; guests
// have none.
constexpr uint64_t kAmx = 3ull << 17;
// Protection keys: guests are given none. A state that denies access to all memory is not for a
// context that the kernel may hand to somebody else.
constexpr uint64_t kPkru = 1ull << 9;

struct Component {
  size_t offset = 0, bytes = 0;
};

struct Layout {
  std::array<Component, 63> components = {};
  uint64_t features = kX87 | kSse;
  size_t bytes = kHeaderEnd;
  size_t host_bytes = kHeaderEnd;
  uint32_t mxcsr_mask = 0xffbf;
  bool xsaveopt = false;
};

uint64_t xgetbv0() {
  uint32_t lo, hi;
  asm volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  return (static_cast<uint64_t>(hi) << 32) | lo;
}

Layout probe() {
  Layout l;
  alignas(16) std::byte fx[kLegacyBytes] = {};
  asm volatile("fxsave64 %0" : "=m"(fx));
  uint32_t mask;
  std::memcpy(&mask, fx + kMxcsrMaskOffset, sizeof mask);
  if (mask != 0) l.mxcsr_mask = mask;

  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & bit_OSXSAVE) == 0) return l;
  l.features = xgetbv0() & ~(kAmx | kPkru);
  for (unsigned i = 2; i < 63; ++i) {
    if (((l.features >> i) & 1) == 0) continue;
    if (!__get_cpuid_count(0xd, i, &a, &b, &c, &d)) break;
    l.components[i] = {b, a};
    l.bytes =
        std::max<size_t>(l.bytes, static_cast<size_t>(a) + b);  // size + offset, SDM vol. 1, 13.4.3
  }
  l.host_bytes = __get_cpuid_count(0xd, 0, &a, &b, &c, &d) ? b : l.bytes;
  l.xsaveopt = __get_cpuid_count(0xd, 1, &a, &b, &c, &d) && (a & 1) != 0;
  return l;
}

// A fact of the machine, the same for all instances.
const Layout& layout() {
  static const Layout l = probe();
  return l;
}

// Copies the components of `bv`, and MXCSR.
void copy_components(std::byte* to, const std::byte* from, uint64_t bv) {
  auto copy = [&](size_t offset, size_t bytes) { std::memcpy(to + offset, from + offset, bytes); };
  copy(kMxcsrOffset, sizeof(uint32_t));
  if ((bv & kX87) != 0) {
    copy(0, kMxcsrOffset);
    copy(kX87Registers, kX87End - kX87Registers);
  }
  if ((bv & kSse) != 0) copy(kX87End, kXmmEnd - kX87End);
  for (size_t i = 2; i < layout().components.size(); ++i) {
    const Component& c = layout().components[i];
    if (((bv >> i) & 1) != 0) copy(c.offset, c.bytes);
  }
}

}  // namespace

size_t xsave_bytes() { return layout().bytes; }
size_t host_xsave_bytes() { return layout().host_bytes; }
uint64_t xfeatures() { return layout().features; }

FpState initial_fp_state() {
  FpState fp(xsave_bytes());
  const uint16_t fcw = 0x37f;
  std::memcpy(fp.data() + kFcwOffset, &fcw, sizeof fcw);
  std::memcpy(fp.data() + kMxcsrOffset, &kInitialMxcsr, sizeof kInitialMxcsr);
  std::memcpy(fp.data() + kMxcsrMaskOffset, &layout().mxcsr_mask, sizeof(uint32_t));
  const uint64_t bv = kX87 | kSse;
  std::memcpy(fp.data() + kXstateBvOffset, &bv, sizeof bv);
  return fp;
}

void sanitize_fp_state(FpState& fp) {
  if (fp.empty()) return;
  if (fp.size() < kHeaderEnd) {
    fp = initial_fp_state();
    return;
  }
  fp.resize(xsave_bytes());
  uint32_t mxcsr;
  std::memcpy(&mxcsr, fp.data() + kMxcsrOffset, sizeof mxcsr);
  mxcsr &= layout().mxcsr_mask;
  std::memcpy(fp.data() + kMxcsrOffset, &mxcsr, sizeof mxcsr);
  std::memcpy(fp.data() + kMxcsrMaskOffset, &layout().mxcsr_mask, sizeof(uint32_t));
  uint64_t bv;
  std::memcpy(&bv, fp.data() + kXstateBvOffset, sizeof bv);
  bv &= xfeatures();
  // XCOMP_BV and the reserved bytes must be zero in the standard format (SDM vol. 1, 13.4.2, 13.8).
  std::memset(fp.data() + kXstateBvOffset, 0, kHeaderEnd - kXstateBvOffset);
  std::memcpy(fp.data() + kXstateBvOffset, &bv, sizeof bv);
}

void normalize_fp_state(FpState& fp) {
  if (fp.size() != xsave_bytes()) return;
  uint64_t bv;
  std::memcpy(&bv, fp.data() + kXstateBvOffset, sizeof bv);
  const FpState initial = initial_fp_state();
  if ((bv & kX87) == 0) {
    // The legacy area's start, but for MXCSR and its mask, which belong to SSE.
    std::memcpy(fp.data(), initial.data(), kMxcsrOffset);
    std::memcpy(fp.data() + kX87Registers, initial.data() + kX87Registers, kX87End - kX87Registers);
  }
  if ((bv & kSse) == 0) std::memset(fp.data() + kX87End, 0, kXmmEnd - kX87End);
  for (size_t i = 2; i < layout().components.size(); ++i) {
    const Component& c = layout().components[i];
    if (((bv >> i) & 1) == 0) std::memset(fp.data() + c.offset, 0, c.bytes);
  }
}

FpState read_fp_state(std::span<const std::byte> area) {
  FpState fp = initial_fp_state();
  if (area.size() < fp.size()) return fp;
  uint64_t bv;
  std::memcpy(&bv, area.data() + kXstateBvOffset, sizeof bv);
  copy_components(fp.data(), area.data(), bv & xfeatures());
  bv |= kX87 | kSse;
  std::memcpy(fp.data() + kXstateBvOffset, &bv, sizeof bv);
  sanitize_fp_state(fp);
  return fp;
}

void write_fp_state(std::span<std::byte> area, const FpState& fp) {
  if (area.size() < xsave_bytes()) return;
  std::byte* to = area.data();
  uint64_t bv = 0;
  if (fp.size() == xsave_bytes()) {
    std::memcpy(&bv, fp.data() + kXstateBvOffset, sizeof bv);
    copy_components(to, fp.data(), bv);
  } else {
    std::memcpy(to + kMxcsrOffset, &kInitialMxcsr, sizeof kInitialMxcsr);
  }
  std::memcpy(to + kMxcsrMaskOffset, &layout().mxcsr_mask, sizeof(uint32_t));
  std::memset(to + kXstateBvOffset, 0, kHeaderEnd - kXstateBvOffset);
  std::memcpy(to + kXstateBvOffset, &bv, sizeof bv);
}

bool has_xsaveopt() { return layout().xsaveopt; }

uint64_t sanitize_eflags(uint64_t eflags) {
  // CF PF AF ZF SF TF DF OF NT RF AC ID; IF and the always-one bit are forced.
  constexpr uint64_t kGuest = 0x1 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x800 | 0x4000 |
                              0x10000 | 0x40000 | 0x200000;
  return (eflags & kGuest) | 0x202;
}

}  // namespace uk::arch
