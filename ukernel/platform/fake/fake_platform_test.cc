#include "ukernel/platform/fake/fake_platform.h"

#include <signal.h>

#include "gtest/gtest.h"
#include "hostio/ring.h"
#include "hostio/sys/file.h"
#include "ukernel/sched/host_clock.h"
#include "ukernel/sched/reactor.h"

namespace uk::fake {
namespace {

constexpr uint64_t kText = 0x1000, kVar = 0x5008;

class FakePlatformTest : public testing::Test {
 protected:
  FakePlatformTest() {
    (void)sys::ftruncate(memory_.get(), 1 << 16);
    platform_.at(kText, [](Cpu& c) { return c.syscall(7, {1, 2, 3}); });
    platform_.at(kText + 2, [](Cpu& c) -> std::optional<Trap> {
      uint64_t v;
      if (auto fault = c.load(kVar, &v)) return fault;
      if (auto fault = c.store(kVar, v + c.regs.rax)) return fault;
      c.jump(kText);
      return std::nullopt;
    });
    platform_.at(kText + 0x100, [](Cpu& c) -> std::optional<Trap> {
      c.spin();
      return std::nullopt;
    });
  }
  void on_fiber(std::function<void(Park&)> body) {
    reactor_.spawn("test", [&](Park& park) {
      body(park);
      reactor_.stop();
    });
    reactor_.run();
  }
  std::unique_ptr<FakeSpace> space(Park& park) {
    std::unique_ptr<FakeSpace> s(static_cast<FakeSpace*>(platform_.new_space(park, {})->release()));
    s->map(0x1000, 0x1000, Prot::kRead | Prot::kExec, memory_.get(), 0, false);
    return s;
  }
  static arch::UserRegs at(uint64_t rip) {
    arch::UserRegs r;
    r.rip = rip;
    return r;
  }

  HostClock clock_;
  std::unique_ptr<hostio::Ring> ring_ = hostio::make_ring();
  Reactor reactor_{*ring_, clock_};
  sys::Fd memory_ = std::move(*sys::memfd_create("fake"));
  FakePlatform platform_;
};

TEST_F(FakePlatformTest, CallsFaultsAndMemory) {
  on_fiber([&](Park& park) {
    auto s = space(park);
    auto c = std::move(*s->new_context(park, at(kText), {}));
    Trap t = c->run(park);
    ASSERT_EQ(t.kind, Trap::Kind::kSyscall);
    EXPECT_EQ(t.nr, 7u);
    EXPECT_EQ(t.args[2], 3u);
    EXPECT_EQ(c->get_regs(park)->orig_rax, 7u);
    c->set_syscall_result(5);
    t = c->run(park);
    ASSERT_EQ(t.kind, Trap::Kind::kPageFault);
    EXPECT_EQ(t.addr, kVar);
    EXPECT_EQ(t.access, Access::kRead);
    s->map(0x5000, 0x1000, Prot::kRead, memory_.get(), 0x2000, false);
    t = c->run(park);
    EXPECT_EQ(t.access, Access::kWrite);
    EXPECT_EQ(t.code, SEGV_ACCERR);
    s->protect(0x5000, 0x1000, Prot::kRead | Prot::kWrite);
    ASSERT_EQ(c->run(park).kind, Trap::Kind::kSyscall);
    uint64_t v = 0;
    (void)sys::pread(memory_.get(), std::as_writable_bytes(std::span(&v, 1)), 0x2008);
    EXPECT_EQ(v, 5u);
    s->unmap_all();
    EXPECT_EQ(c->run(park).access, Access::kExec);
  });
}

TEST_F(FakePlatformTest, KickEndsSpinning) {
  on_fiber([&](Park& park) {
    auto s = space(park);
    auto c = std::move(*s->new_context(park, at(kText + 0x100), {}));
    reactor_.spawn("kicker", [&](Park&) { c->kick(); });
    EXPECT_EQ(c->run(park).kind, Trap::Kind::kKicked);
    c->kick();  // before it runs
    EXPECT_EQ(c->run(park).kind, Trap::Kind::kKicked);
  });
}

TEST_F(FakePlatformTest, SingleStepCountsTheSyscall) {
  on_fiber([&](Park& park) {
    auto s = space(park);
    s->map(0x5000, 0x1000, Prot::kRead | Prot::kWrite, memory_.get(), 0x2000, false);
    auto c = std::move(*s->new_context(park, at(kText), {}));
    c->set_single_step(true);
    ASSERT_EQ(c->run(park).kind, Trap::Kind::kSyscall);
    c->set_syscall_result(1);
    Trap t = c->run(park);
    EXPECT_EQ(t.signo, SIGTRAP);
    EXPECT_EQ(c->get_regs(park)->rip, kText + 2);
    EXPECT_EQ(c->run(park).signo, SIGTRAP);
    EXPECT_EQ(c->get_regs(park)->rip, kText);
  });
}

TEST_F(FakePlatformTest, DeathAndRefusedChanges) {
  on_fiber([&](Park& park) {
    auto s = space(park);
    auto c = std::move(*s->new_context(park, at(kText + 0x100), {}));
    reactor_.spawn("killer", [&](Park&) { s->die(); });
    EXPECT_EQ(c->run(park).kind, Trap::Kind::kGone);
    EXPECT_FALSE(c->get_regs(park));
    c.reset();
    auto s2 = space(park);
    auto c2 = std::move(*s2->new_context(park, at(kText), {}));
    s2->fail_next_flush(Errno::kNOMEM);
    EXPECT_EQ(c2->run(park).kind, Trap::Kind::kGone);
  });
}

}  // namespace
}  // namespace uk::fake
