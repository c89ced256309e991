// Registers and signal frames against the machine and against frames the host's own kernel makes.
#include <signal.h>
#include <ucontext.h>

#include <cstring>
#include <vector>

#include "gtest/gtest.h"
#include "ukernel/arch/x86_64/debug_regs.h"
#include "ukernel/arch/x86_64/regs.h"
#include "ukernel/arch/x86_64/sigframe.h"

namespace uk::arch {
namespace {

TEST(DebugRegs, ArmsWhatIsEnabledBelowTheLimit) {
  DebugRegs regs;
  constexpr uint64_t kLimit = 0x10000;
  EXPECT_TRUE(regs.write(0, 0x1000));
  EXPECT_TRUE(regs.write(1, kLimit));
  EXPECT_TRUE(regs.write(2, 0x2008));
  EXPECT_FALSE(regs.armed(kLimit).any());
  // 1 byte written (globally enabled), 1 executed, 8 read or written.
  EXPECT_TRUE(regs.write(kDebugControl, 0x0b010016));
  const Breakpoints armed = regs.armed(kLimit);
  EXPECT_EQ(armed.control, 0x0b010011u) << "1 is too high";
  EXPECT_EQ(armed.addr[0], 0x1000u);
  EXPECT_EQ(armed.addr[2], 0x2008u);
  EXPECT_EQ(armed.addr[1], 0u);
  EXPECT_EQ(regs.read(kDebugControl), 0x0b010016u);
  EXPECT_FALSE(regs.write(2, 0x2004)) << "not a multiple of 8";
  EXPECT_EQ(regs.armed(kLimit), armed);
  EXPECT_FALSE(regs.for_child().armed(kLimit).any());
  EXPECT_EQ(regs.for_child().read(kDebugControl), 0x0b010016u);
}

TEST(Fp, InitialStateLoads) {
  FpState fp = initial_fp_state();
  ASSERT_EQ(fp.size(), xsave_bytes());
  alignas(64) static std::byte saved[16384], area[16384];
  ASSERT_LE(xsave_bytes(), sizeof area);
  std::memcpy(area, fp.data(), fp.size());
  const uint64_t all = xfeatures();
  asm volatile("xsave64 %0\n xrstor64 %1\n xrstor64 %0\n"
               : "+m"(saved)
               : "m"(area), "a"(static_cast<uint32_t>(all)), "d"(static_cast<uint32_t>(all >> 32)));
}

TEST(Fp, SanitizeMakesGarbageLoadable) {
  alignas(64) static std::byte saved[16384], area[16384];
  unsigned seed = 1;
  for (int round = 0; round < 200; ++round) {
    FpState fp(xsave_bytes());
    for (auto& b : fp) b = static_cast<std::byte>(rand_r(&seed) >> 7);
    sanitize_fp_state(fp);
    std::memcpy(area, fp.data(), fp.size());
    const uint64_t all = xfeatures();
    asm volatile("xsave64 %0\n xrstor64 %1\n xrstor64 %0\n"
                 : "+m"(saved)
                 : "m"(area), "a"(static_cast<uint32_t>(all)),
                   "d"(static_cast<uint32_t>(all >> 32)));
  }
  FpState shorter(100);
  sanitize_fp_state(shorter);
  EXPECT_EQ(shorter, initial_fp_state());
}

TEST(Fp, WrittenLoadedSavedAndReadItIsTheSame) {
  if (!has_xsaveopt()) GTEST_SKIP() << "no XSAVEOPT here";
  alignas(64) static std::byte ours[16384], area[16384], out[16384];
  const uint64_t all = xfeatures();
  unsigned seed = 2;
  for (int round = 0; round < 400; ++round) {
    FpState fp(xsave_bytes());
    for (auto& b : fp) b = static_cast<std::byte>(rand_r(&seed) >> 7);
    // The header: some components, often few.
    uint64_t bv = static_cast<uint64_t>(rand_r(&seed)) & all;
    if (round % 2 == 0) bv &= 7;
    std::memcpy(&fp[512], &bv, sizeof bv);
    sanitize_fp_state(fp);
    const bool initial = round % 10 == 0;
    if (initial) fp.clear();
    write_fp_state(area, fp);
    std::fill(std::begin(out) + 512, std::begin(out) + 576, std::byte{0});
    asm volatile("xsave64 %0\n xrstor64 %2\n xsaveopt64 %1\n stmxcsr 24+%1\n xrstor64 %0\n"
                 : "+m"(ours), "+m"(out)
                 : "m"(area), "a"(static_cast<uint32_t>(all)),
                   "d"(static_cast<uint32_t>(all >> 32)));
    FpState want = initial ? initial_fp_state() : fp, got = read_fp_state(out);
    normalize_fp_state(want);
    for (FpState* f : {&want, &got}) std::fill(f->begin() + 512, f->begin() + 520, std::byte{0});
    // The processor does not keep all of the x87 area's unused bytes.
    auto from = [](const FpState& f) { return std::vector<std::byte>(f.begin() + 160, f.end()); };
    auto legacy_end = [](std::vector<std::byte>& v) {
      std::fill(v.begin() + 416 - 160, v.begin() + 512 - 160, std::byte{0});
    };
    std::vector<std::byte> a = from(want), b = from(got);
    legacy_end(a);
    legacy_end(b);
    ASSERT_EQ(a, b) << "round " << round;
    ASSERT_TRUE(std::equal(want.begin() + 24, want.begin() + 28, got.begin() + 24)) << "MXCSR";
    auto fcw = [](const FpState& f) {
      uint16_t v;
      std::memcpy(&v, f.data(), sizeof v);
      return v & 0x1f3f;  // without reserved bits
    };
    ASSERT_EQ(fcw(want), fcw(got));
  }
}

TEST(Eflags, OnlyTheGuestsOwn) {
  EXPECT_EQ(sanitize_eflags(~0ull) & 0x3000, 0u);  // IOPL
  EXPECT_EQ(sanitize_eflags(0), 0x202u);
  EXPECT_EQ(sanitize_eflags(0x40), 0x242u);
}

SigFrameContent content(std::span<const std::byte, kSiginfoBytes> info) {
  SigFrameContent c{.regs = {}, .fp = {}, .siginfo = info, .altstack = {}};
  uint64_t v = 0x1111;
  for (uint64_t* r : {&c.regs.r8, &c.regs.r9, &c.regs.r10, &c.regs.r11, &c.regs.r12, &c.regs.r13,
                      &c.regs.r14, &c.regs.r15, &c.regs.rdi, &c.regs.rsi, &c.regs.rbp, &c.regs.rbx,
                      &c.regs.rdx, &c.regs.rax, &c.regs.rcx, &c.regs.rsp, &c.regs.rip})
    *r = v += 0x1111;
  c.regs.eflags = 0x246;
  c.regs.fs_base = 0x5000;
  c.sigmask = 0xabcdef;
  c.altstack = {.sp = 0x7000, .flags = 2, .size = 0x9000};
  c.restorer = 0x123456;
  c.trapno = 14, c.error_code = 6, c.cr2 = 0xdead000;
  return c;
}

TEST(SigFrame, LayoutRules) {
  for (uint64_t sp = 0x7fff0000; sp < 0x7fff0000 + 200; ++sp) {
    SigFrameLayout l = layout_sigframe(sp, false);
    EXPECT_EQ(l.frame % 16, 8u);
    EXPECT_EQ(l.fp % 64, 0u);
    EXPECT_LE(l.end + kRedZoneBytes, sp);
    EXPECT_GE(l.fp, l.frame + kSigFrameBytes);
    EXPECT_GE(l.frame + max_sigframe_bytes(), sp);
    EXPECT_LE(layout_sigframe(sp, true).end, sp);
  }
}

TEST(SigFrame, IsWhatLibcSees) {
  std::byte info[kSiginfoBytes] = {};
  info[0] = std::byte{11};
  SigFrameContent c = content(info);
  SigFrameLayout l = layout_sigframe(0x7fff1000, false);
  std::vector<std::byte> image(l.bytes());
  build_sigframe(image, l, c);
  ucontext_t uc;
  std::memcpy(&uc, image.data() + (l.uc - l.frame), 304);
  EXPECT_EQ(static_cast<uint64_t>(uc.uc_mcontext.gregs[REG_RIP]), c.regs.rip);
  EXPECT_EQ(static_cast<uint64_t>(uc.uc_mcontext.gregs[REG_R15]), c.regs.r15);
  EXPECT_EQ(static_cast<uint64_t>(uc.uc_mcontext.gregs[REG_CR2]), c.cr2);
  EXPECT_EQ(uc.uc_mcontext.gregs[REG_TRAPNO], 14);
  EXPECT_EQ(uc.uc_mcontext.gregs[REG_ERR], 6);
  EXPECT_EQ(uc.uc_mcontext.gregs[REG_CSGSFS], 0x002b000000000033);
  EXPECT_EQ(reinterpret_cast<uint64_t>(uc.uc_mcontext.fpregs), l.fp);
  EXPECT_EQ(uc.uc_stack.ss_size, 0x9000u);
  EXPECT_EQ(uc.uc_stack.ss_flags, 2);
  uint64_t mask;
  std::memcpy(&mask, &uc.uc_sigmask, 8);
  EXPECT_EQ(mask, c.sigmask);
  EXPECT_EQ(image[l.info - l.frame], std::byte{11});
}

TEST(SigFrame, RoundTrip) {
  std::byte info[kSiginfoBytes] = {};
  SigFrameContent c = content(info);
  FpState fp = initial_fp_state();
  fp[160] = std::byte{0x5a};  // xmm0
  c.fp = fp;
  SigFrameLayout l = layout_sigframe(0x7fff1000, false);
  std::vector<std::byte> image(l.bytes());
  build_sigframe(image, l, c);
  UserRegs now;
  now.fs_base = c.regs.fs_base;
  ParsedSigFrame p = parse_sigframe(std::span(image).first<kSigFrameBytes>(), now);
  EXPECT_EQ(p.regs, c.regs);
  EXPECT_EQ(p.sigmask, c.sigmask);
  EXPECT_EQ(p.altstack.sp, c.altstack.sp);
  EXPECT_EQ(p.fp_addr, l.fp);
  auto at_fp = std::span(image).subspan(l.fp - l.frame);
  ASSERT_EQ(sigframe_fp_bytes(at_fp.first<kFpLegacyBytes>()), at_fp.size());
  Result<FpState> back = parse_sigframe_fp(at_fp);
  ASSERT_TRUE(back);
  EXPECT_EQ(*back, fp);
}

TEST(SigFrame, LyingFpHeadersFallBackToLegacy) {
  std::byte info[kSiginfoBytes] = {};
  SigFrameContent c = content(info);
  SigFrameLayout l = layout_sigframe(0x7fff1000, false);
  std::vector<std::byte> image(l.bytes());
  build_sigframe(image, l, c);
  auto at_fp = std::span(image).subspan(l.fp - l.frame);
  const uint32_t huge = 0x7fffffff;
  std::memcpy(at_fp.data() + 464 + 16, &huge, 4);  // xstate_size
  EXPECT_EQ(sigframe_fp_bytes(at_fp.first<kFpLegacyBytes>()), kFpLegacyBytes);
  EXPECT_TRUE(parse_sigframe_fp(at_fp.first(kFpLegacyBytes)));
  EXPECT_FALSE(parse_sigframe_fp(at_fp.first(100)));
}

// What the host's kernel pushes for us must read as ours do.
uint64_t g_fp_bytes, g_expected_bytes, g_uc_flags;
bool g_parsed;
void on_signal(int, siginfo_t*, void* ctx) {
  auto* uc = static_cast<ucontext_t*>(ctx);
  auto* frame = reinterpret_cast<const std::byte*>(uc) - 8;
  UserRegs now;
  ParsedSigFrame p =
      parse_sigframe(std::span<const std::byte, kSigFrameBytes>(frame, kSigFrameBytes), now);
  g_uc_flags = uc->uc_flags;
  auto* fp = reinterpret_cast<const std::byte*>(p.fp_addr);
  g_fp_bytes = sigframe_fp_bytes(std::span<const std::byte, kFpLegacyBytes>(fp, kFpLegacyBytes));
  g_expected_bytes = host_xsave_bytes() + 4;
  g_parsed = parse_sigframe_fp({fp, g_fp_bytes}).has_value() &&
             p.regs.rip == static_cast<uint64_t>(uc->uc_mcontext.gregs[REG_RIP]);
}

TEST(SigFrame, HostFrameParses) {
  struct sigaction sa = {};
  sa.sa_sigaction = on_signal;
  sa.sa_flags = SA_SIGINFO;
  sigaction(SIGUSR1, &sa, nullptr);
  raise(SIGUSR1);
  EXPECT_TRUE(g_parsed);
  EXPECT_EQ(g_uc_flags, 7u);
  EXPECT_EQ(g_fp_bytes, g_expected_bytes);
}

}  // namespace
}  // namespace uk::arch
