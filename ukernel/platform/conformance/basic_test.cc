// The first conformance cases: one guest thread, its calls, registers and faults.
#include <signal.h>

#include "gtest/gtest.h"
#include "ukernel/platform/conformance/guest_code.h"
#include "ukernel/platform/conformance/platforms.h"
#include "ukernel/platform/conformance/world.h"

namespace uk::conformance {
namespace {

class Basic : public testing::TestWithParam<const char*> {
 protected:
  World world_{GetParam()};
};

TEST_P(Basic, SyscallNumbersArgumentsAndResults) {
  world_.run([&](Park& park) {
    Guest g(world_, park, blob::syscalls);
    auto c = g.context(park);
    uint64_t sum = 0;
    for (uint64_t i = 0; i < 100; ++i) {
      Trap t = c->run(park);
      ASSERT_EQ(t.kind, Trap::Kind::kSyscall);
      EXPECT_EQ(t.nr, i);
      EXPECT_FALSE(t.compat);
      const uint64_t expected[6] = {11, 22, 33, 44, 55, 66};
      for (int a = 0; a < 6; ++a) EXPECT_EQ(t.args[a], expected[a]);
      arch::UserRegs r = *c->get_regs(park);
      EXPECT_EQ(r.rax, static_cast<uint64_t>(-38));
      EXPECT_EQ(r.orig_rax, i);
      EXPECT_EQ(r.rip, t.ip);
      EXPECT_EQ(r.rcx, t.ip);
      EXPECT_EQ(r.r12, sum);
      EXPECT_EQ(r.rbx, i);
      c->set_syscall_result(i * 7);
      sum += i * 7;
    }
    c.reset();
  });
}

// No get_regs() between: the cheap path.
TEST_P(Basic, ResultsWithoutRegisterAccess) {
  world_.run([&](Park& park) {
    Guest g(world_, park, blob::syscalls);
    arch::UserRegs start = g.start_regs(0, kCode + 2);  // behind the clearing of rbx
    start.rbx = 1000;
    auto c = std::move(*g.space->new_context(park, start, {}));
    uint64_t sum = 0;
    for (uint64_t i = 0; i < 1000; ++i) {
      Trap t = c->run(park);
      ASSERT_EQ(t.kind, Trap::Kind::kSyscall)
          << "call " << i << ": signal " << t.signo << ", code " << t.code;
      ASSERT_EQ(t.nr, 1000 + i);
      c->set_syscall_result(i);
      sum += i;
    }
    ASSERT_EQ(c->run(park).kind, Trap::Kind::kSyscall);
    EXPECT_EQ(c->get_regs(park)->r12, sum);
  });
}

TEST_P(Basic, EveryRegisterSurvives) {
  world_.run([&](Park& park) {
    Guest g(world_, park, blob::registers);
    arch::UserRegs r = g.start_regs();
    uint64_t v = 0x0101010101010101;
    for (uint64_t* p : {&r.rbx, &r.rdx, &r.rsi, &r.rdi, &r.rbp, &r.r8, &r.r9, &r.r10, &r.r12,
                        &r.r13, &r.r14, &r.r15})
      *p = v *= 3;
    r.fs_base = 0x123456789000;
    r.gs_base = 0x765432100000;
    r.rax = 500;
    auto c = std::move(*g.space->new_context(park, r, {}));
    for (int i = 0; i < 20; ++i) {
      Trap t = c->run(park);
      ASSERT_EQ(t.kind, Trap::Kind::kSyscall);
      arch::UserRegs s = *c->get_regs(park);
      EXPECT_EQ(s.rbx, r.rbx + i);
      EXPECT_EQ(s.rdx, r.rdx + i);
      EXPECT_EQ(s.rsi, r.rsi + i);
      EXPECT_EQ(s.rdi, r.rdi + i);
      EXPECT_EQ(s.rbp, r.rbp + i);
      EXPECT_EQ(s.r8, r.r8 + i);
      EXPECT_EQ(s.r9, r.r9 + i);
      EXPECT_EQ(s.r10, r.r10 + i);
      EXPECT_EQ(s.r12, r.r12 + i);
      EXPECT_EQ(s.r13, r.r13 + i);
      EXPECT_EQ(s.r14, r.r14 + i);
      EXPECT_EQ(s.r15, r.r15 + i);
      EXPECT_EQ(s.rsp, r.rsp);
      EXPECT_EQ(s.fs_base, r.fs_base);
      EXPECT_EQ(s.gs_base, r.gs_base);
      EXPECT_EQ(s.cs, 0x33u);
      EXPECT_EQ(s.ss, 0x2bu);
      c->set_syscall_result(7);
    }
  });
}

TEST_P(Basic, SetRegsInASyscall) {
  world_.run([&](Park& park) {
    Guest g(world_, park, blob::registers);
    auto c = g.context(park);
    for (int i = 0; i < 20; ++i) {
      Trap t = c->run(park);
      ASSERT_EQ(t.kind, Trap::Kind::kSyscall);
      arch::UserRegs r = *c->get_regs(park);
      if (i > 0) {
        EXPECT_EQ(r.orig_rax, 101u);
        EXPECT_EQ(r.rbx, 0x5001u);
        EXPECT_EQ(r.rcx, t.ip);
        EXPECT_EQ(r.r15, 0x6001u);
        EXPECT_EQ(r.fs_base, 0x7000u);
      }
      c->set_syscall_result(1);  // overridden
      r.rax = 100;
      r.rbx = 0x5000;
      r.r15 = 0x6000;
      r.fs_base = 0x7000;
      ASSERT_TRUE(c->set_regs(park, r));
    }
  });
}

// As the run loop restarts a call: back to the instruction with the number in rax.
TEST_P(Basic, RestartsACall) {
  world_.run([&](Park& park) {
    Guest g(world_, park, blob::syscalls);
    auto c = g.context(park);
    for (int i = 0; i < 10; ++i) {
      Trap t = c->run(park);
      ASSERT_EQ(t.kind, Trap::Kind::kSyscall);
      ASSERT_EQ(t.nr, 0u);
      arch::UserRegs r = *c->get_regs(park);
      r.rip -= 2;
      r.rax = r.orig_rax;
      ASSERT_TRUE(c->set_regs(park, r));
    }
  });
}

TEST_P(Basic, PageFaultsAreServedAndRetried) {
  world_.run([&](Park& park) {
    Guest g(world_, park, blob::touch);
    const uint64_t addr = 0x10000000;
    auto c = g.context(park, addr + 8);
    Trap t = c->run(park);
    ASSERT_EQ(t.kind, Trap::Kind::kPageFault);
    EXPECT_EQ(t.addr, addr + 8);
    EXPECT_EQ(t.signo, SIGSEGV);
    EXPECT_EQ(t.trapno, 14);
    EXPECT_TRUE(t.access == Access::kRead || t.access == Access::kUnknown);
    Memory m(1);
    m.at(8) = 41;
    g.space->map(addr, kPage, Prot::kRead, m.fd(), 0, false);
    t = c->run(park);
    ASSERT_EQ(t.kind, Trap::Kind::kPageFault);
    EXPECT_EQ(t.addr, addr + 8);
    EXPECT_TRUE(t.access == Access::kWrite || t.access == Access::kUnknown);
    EXPECT_EQ(c->get_regs(park)->rax, 41u);
    EXPECT_EQ(c->get_regs(park)->orig_rax, ~0ull);
    g.space->protect(addr, kPage, Prot::kRead | Prot::kWrite);
    t = c->run(park);
    ASSERT_EQ(t.kind, Trap::Kind::kSyscall);
    EXPECT_EQ(m.at(8), 42u);
  });
}

INSTANTIATE_TEST_SUITE_P(Platforms, Basic, platforms());

}  // namespace
}  // namespace uk::conformance
