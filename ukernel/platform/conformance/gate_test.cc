// Calls through the gate (direct): the same as by the instruction, whatever interrupts them.
#include <cstring>
#include <map>
#include <random>
#include <sstream>
#include <string>

#include "gtest/gtest.h"
#include "hostio/sys/file.h"
#include "hostio/sys/process.h"
#include "ukernel/platform/conformance/guest_code.h"
#include "ukernel/platform/conformance/world.h"

namespace uk::conformance {
namespace {

class Gate : public testing::Test {
 protected:
  void SetUp() override {
    if (sys::usable_cpus() < 2) GTEST_SKIP() << "one CPU: there is no gate";
    ASSERT_NE(world_.platform().gate(), 0u);
  }

  std::unique_ptr<GuestContext> context(Guest& g, Park& park) {
    auto c = g.context(park);
    arch::UserRegs r = g.start_regs();
    r.r15 = world_.platform().gate();
    r.r12 = 0;
    CHECK_OK(c->set_regs(park, r));
    return c;
  }
  void kick_after(GuestContext& c, uint64_t ns) {
    ++kickers_;
    world_.reactor().spawn("kick", [this, &c, ns](Park& p) {
      const Deadline at{world_.reactor().now_ns() + ns};
      while (world_.reactor().now_ns() < at.at_ns) p.suspend(at);
      c.kick();
      --kickers_;
    });
  }
  void await_kickers(Park& park) {
    while (kickers_ > 0) park.yield();
  }
  void check_call(const Trap& t, uint64_t count) {
    ASSERT_EQ(t.kind, Trap::Kind::kSyscall);
    ASSERT_EQ(t.nr, count % 256);
    for (uint64_t i = 0; i < 6; ++i) ASSERT_EQ(t.args[i], 11 * (i + 1));
    ASSERT_FALSE(t.compat);
  }

  World world_{"direct"};
  int kickers_ = 0;
};

// Changes that the guest makes by itself.
class Errands : public Gate {
 protected:
  static constexpr uint64_t kFirst = kData + 4 * kPage;
  using By = GuestSpace::By;
  // The permissions of the page on the host, "" if it is not mapped.
  static std::string host_rights(const Guest& g, uint64_t addr) {
    const std::string maps =
        *sys::read_file(("/proc/" + std::to_string(g.space->host_pid()) + "/maps").c_str());
    std::istringstream lines(maps);
    uint64_t from, to;
    char dash;
    std::string rights, rest;
    while (lines >> std::hex >> from >> dash >> to >> rights && std::getline(lines, rest)) {
      if (addr >= from && addr < to) return rights;
    }
    return "";
  }
};

TEST_F(Errands, AreMadeOnTheWayFromACallOrAReport) {
  for (Blob code : {blob::gated, blob::syscalls}) {
    world_.run([&](Park& park) {
      Guest g(world_, park, code);
      auto c = context(g, park);
      uint64_t sum = 0;
      for (uint64_t i = 0; i < 250; ++i) {
        check_call(c->run(park), i);
        if (i % 100 == 50) g.space->protect(kFirst, 2 * kPage, Prot::kRead, By::kGuest);
        if (i % 100 == 60) {
          EXPECT_EQ(host_rights(g, kFirst), "r--s");
          g.space->unmap(kFirst, kPage, By::kGuest);
          g.space->unmap(kFirst + 4 * kPage, kPage, By::kGuest);
          EXPECT_TRUE(g.space->dirty());
        }
        if (i % 100 == 61) {
          EXPECT_EQ(host_rights(g, kFirst), "");
          EXPECT_EQ(host_rights(g, kFirst + kPage), "r--s");
          EXPECT_EQ(host_rights(g, kFirst + 4 * kPage), "");
          EXPECT_FALSE(g.space->dirty());
          EXPECT_TRUE(g.space->unconfirmed());
        }
        if (i % 100 == 70) {
          EXPECT_TRUE(g.space->flush(park));
          EXPECT_FALSE(g.space->unconfirmed());
          g.space->map(kData, 16 * kPage, Prot::kRead | Prot::kWrite, g.data.fd(), 0, false);
        }
        c->set_syscall_result(i);
        sum += i;
      }
      EXPECT_EQ(c->get_regs(park)->r12, sum - 249);
    });
  }
}

TEST_F(Errands, AreMadeWhateverInterruptsThem) {
  world_.run([&](Park& park) {
    Guest g(world_, park, blob::gated);
    auto c = context(g, park);
    std::mt19937 random(7);
    uint64_t sum = 0, count = 0;
    for (int i = 0; i < 4000; ++i) {
      for (uint64_t k = 0; k < 12; ++k) {
        g.space->unmap(kFirst + k * kPage, kPage, By::kGuest);
        ++k;
        g.space->protect(kFirst + k * kPage, kPage, Prot::kRead, By::kGuest);
      }
      // One that comes too late ends the next run at once.
      if (i % 2 == 0) kick_after(*c, random() % 60'000);
      Trap t = c->run(park);
      // A kick that comes before it runs leaves all as it was.
      EXPECT_TRUE(!g.space->dirty() || t.kind == Trap::Kind::kKicked);
      if (i % 64 == 0 && !g.space->dirty()) {
        EXPECT_EQ(host_rights(g, kFirst), "");
        EXPECT_EQ(host_rights(g, kFirst + kPage), "r--s");
      }
      await_kickers(park);
      if (t.kind == Trap::Kind::kSyscall) {
        check_call(t, count++);
        c->set_syscall_result(count);
        sum += count;
      } else {
        ASSERT_EQ(t.kind, Trap::Kind::kKicked);
      }
      g.space->map(kData, 16 * kPage, Prot::kRead | Prot::kWrite, g.data.fd(), 0, false);
      ASSERT_TRUE(g.space->flush(park));
    }
    Trap t = c->run(park);
    if (t.kind == Trap::Kind::kKicked) t = c->run(park);
    check_call(t, count);
    EXPECT_EQ(c->get_regs(park)->r12, sum);
    EXPECT_GT(count, 100u);
  });
}

// Another thread might map something there before it is made.
TEST_F(Errands, OfTwoThreadsAreNotTheirs) {
  world_.run([&](Park& park) {
    Guest g(world_, park, blob::gated);
    auto c = context(g, park);
    auto d = context(g, park);
    (void)c->run(park);
    g.space->unmap(kFirst, kPage, By::kGuest);
    c->set_syscall_result(0);
    (void)c->run(park);
    EXPECT_EQ(host_rights(g, kFirst), "");
    EXPECT_FALSE(g.space->unconfirmed());
  });
}

TEST_F(Gate, CallsArriveAndReturn) {
  world_.run([&](Park& park) {
    Guest g(world_, park, blob::gated);
    auto c = context(g, park);
    uint64_t sum = 0, gated = 0, ip = 0;
    for (uint64_t i = 0; i < 5000; ++i) {
      Trap t = c->run(park);
      check_call(t, i);
      if (ip == 0) ip = t.ip;
      ASSERT_EQ(t.ip, ip);
      gated += !t.patchable;
      sum += i * 7;
      c->set_syscall_result(i * 7);
    }
    EXPECT_GT(gated, 200u) << "the gate is hardly ever used";
    (void)c->run(park);
    arch::UserRegs r = *c->get_regs(park);
    EXPECT_EQ(r.r12, sum);
    EXPECT_EQ(r.orig_rax, 5000u % 256);
    EXPECT_EQ(r.rax, static_cast<uint64_t>(-38));
    EXPECT_EQ(r.rip, ip);
    EXPECT_EQ(r.gs_base, 0u);
  });
}

// Also when they are asked for while the reactor goes to sleep and wakes, so that calls come by the
// slot, by a notification, and in between.
TEST_F(Gate, RegistersAreThereWhenAsked) {
  constexpr uint64_t kCalls = 6000;
  world_.run([&](Park& park) {
    Guest g(world_, park, blob::gated);
    auto c = context(g, park);
    uint64_t sum = 0;
    for (uint64_t i = 0; i < kCalls; ++i) {
      check_call(c->run(park), i);
      if (i % 3 == 0) {
        arch::UserRegs r = *c->get_regs(park);
        ASSERT_EQ(r.rbx, i);
        ASSERT_EQ(r.orig_rax, i % 256);
        ASSERT_EQ(r.rdi, 11u);
        ASSERT_EQ(r.r10, 44u);
        r.rax = i;
        ASSERT_TRUE(c->set_regs(park, r));
      }
      if (i % 40 == 39) {
        const Deadline at{world_.reactor().now_ns() + 100'000};
        while (world_.reactor().now_ns() < at.at_ns) park.suspend(at);
      }
      sum += i;
      if (i % 3 != 0) c->set_syscall_result(i);
    }
    (void)c->run(park);
    EXPECT_EQ(c->get_regs(park)->r12, sum);
  });
}

// Kicks at every moment: on the way into the gate, while it waits, and on the way out.
TEST_F(Gate, NoKickLosesOrRepeatsACall) {
  std::mt19937 random(1);
  world_.run([&](Park& park) {
    Guest g(world_, park, blob::gated);
    auto c = context(g, park);
    uint64_t sum = 0, calls = 0, kicks = 0;
    for (int i = 0; i < 20000; ++i) {
      if (i % 4 == 0) kick_after(*c, random() % 20'000);
      Trap t = c->run(park);
      if (t.kind == Trap::Kind::kKicked) {
        ++kicks;
        continue;
      }
      check_call(t, calls);
      // Some calls take long enough for the thread to park.
      if (i % 200 == 0) {
        const Deadline at{world_.reactor().now_ns() + 300'000};
        while (world_.reactor().now_ns() < at.at_ns) park.suspend(at);
      }
      sum += calls + 1;
      c->set_syscall_result(calls + 1);
      ++calls;
    }
    await_kickers(park);
    Trap t = c->run(park);
    while (t.kind == Trap::Kind::kKicked) t = c->run(park);
    check_call(t, calls);
    arch::UserRegs r = *c->get_regs(park);
    EXPECT_EQ(r.r12, sum);
    EXPECT_EQ(r.rbx, calls);
    EXPECT_GT(kicks, 20u);
  });
}

// Calls whose results are known never arrive, and kicks in the middle of them do no harm.
TEST_F(Gate, KnownIdsAreAnsweredThere) {
  const CallerIds ids = {.known = true,
                         .pid = 1001,
                         .tid = 1002,
                         .uid = 1003,
                         .gid = 1004,
                         .euid = 1005,
                         .egid = 0xfffffffe};
  const std::map<uint64_t, uint64_t> known = {{39, ids.pid},  {186, ids.tid},  {102, ids.uid},
                                              {104, ids.gid}, {107, ids.euid}, {108, ids.egid}};
  std::mt19937 random(2);
  world_.run([&](Park& park) {
    Guest g(world_, park, blob::gated);
    auto c = context(g, park);
    uint64_t sum = 0, count = 0, answered = 0;
    bool on = false;
    for (int i = 0; i < 20000; ++i) {
      if (i % 5 == 0) kick_after(*c, random() % 20'000);
      Trap t = c->run(park);
      if (t.kind == Trap::Kind::kKicked) continue;
      while (on && known.contains(count % 256)) {
        sum += known.at(count++ % 256);
        ++answered;
      }
      check_call(t, count);
      sum += count + 1;
      c->set_syscall_result(count + 1);
      if (++count % 777 == 0) {
        on = !on;
        c->set_ids(on ? ids : CallerIds());
      }
    }
    await_kickers(park);
    EXPECT_GT(answered, 100u);
    c->set_ids({});
    Trap t = c->run(park);
    while (t.kind == Trap::Kind::kKicked) t = c->run(park);
    // What was answered before that is known by its count.
    arch::UserRegs r = *c->get_regs(park);
    for (; on && count < r.rbx; ++count) sum += known.at(count % 256);
    EXPECT_EQ(r.rbx, count);
    EXPECT_EQ(r.r12, sum);
  });
}

// The next owner of the thread is somebody else.
TEST_F(Gate, KnownIdsAreOfOneContext) {
  world_.run([&](Park& park) {
    Guest g(world_, park, blob::gated);
    for (int i = 0; i < 20; ++i) {
      auto c = context(g, park);
      for (uint64_t k = 0; k < 60; ++k) {
        check_call(c->run(park), k);
        c->set_syscall_result(0);
      }
      c->set_ids({.known = true, .pid = 1, .tid = 1, .uid = 1, .gid = 1, .euid = 1, .egid = 1});
      check_call(c->run(park), 60);
    }
  });
}

// Stepping never sees the inside of the gate.
TEST_F(Gate, StepsEndAtTheInstruction) {
  world_.run([&](Park& park) {
    Guest g(world_, park, blob::gated);
    auto c = context(g, park);
    for (uint64_t i = 0; i < 100; ++i) {
      check_call(c->run(park), i);
      c->set_syscall_result(1);
    }
    check_call(c->run(park), 100);
    c->set_syscall_result(1);
    c->set_single_step(true);
    int calls = 0;
    for (int i = 0; i < 200; ++i) {
      Trap t = c->run(park);
      arch::UserRegs r = *c->get_regs(park);
      ASSERT_LT(r.rip, kCode + kPage);
      ASSERT_GE(r.rip, kCode);
      if (t.kind == Trap::Kind::kSyscall) {
        ++calls;
        c->set_syscall_result(1);
      } else {
        ASSERT_EQ(t.kind, Trap::Kind::kException);
        ASSERT_EQ(t.signo, SIGTRAP);
      }
    }
    EXPECT_GT(calls, 5);
  });
}

// All registers come with calls that may change them, and are loaded on return. Kicks at every
// moment of that see either the old ones or the new ones.
TEST_F(Gate, RegistersComeAndGoWithTheCall) {
  constexpr uint64_t kNumbers[] = {15, 56, 57, 58, 59, 62, 200, 234};
  constexpr size_t kXmm15 = 160 + 15 * 16, kXstateBv = 512;
  std::mt19937_64 random(3);
  world_.run([&](Park& park) {
    Guest g(world_, park, blob::gated);
    auto c = context(g, park);
    check_call(c->run(park), 0);
    arch::UserRegs want = *c->get_regs(park);
    uint64_t xmm = 0, next = 0, gated = 0, kicks = 0;
    auto change = [&] {
      arch::FpState fp = *c->get_fp(park);
      fp[kXstateBv] |= std::byte{3};
      xmm = random();
      std::memcpy(&fp[kXmm15], &xmm, sizeof xmm);
      want = *c->get_regs(park);
      for (uint64_t* r : {&want.r13, &want.r14, &want.rbp, &want.rsp, &want.r12}) *r = random();
      want.rsp >>= 17;  // an address
      ASSERT_TRUE(c->set_fp(park, fp));
      ASSERT_TRUE(c->set_regs(park, want));
    };
    auto choose = [&] {
      next = kNumbers[random() % std::size(kNumbers)];
      want = *c->get_regs(park);
      want.rbx = next - 1;
      want.rax = 0;
      ASSERT_TRUE(c->set_regs(park, want));
    };
    change();
    choose();
    for (int i = 0; i < 20000; ++i) {
      if (i % 3 == 0) kick_after(*c, random() % 15'000);
      Trap t = c->run(park);
      if (i % 97 == 0) {
        const Deadline at{world_.reactor().now_ns() + 100'000};
        while (world_.reactor().now_ns() < at.at_ns) park.suspend(at);
      }
      const bool kicked = t.kind == Trap::Kind::kKicked;
      if (kicked) {
        ++kicks;
      } else {
        check_call(t, next);
        gated += !t.patchable;
      }
      arch::UserRegs r = *c->get_regs(park);
      for (auto member : {&arch::UserRegs::r13, &arch::UserRegs::r14, &arch::UserRegs::rbp,
                          &arch::UserRegs::rsp, &arch::UserRegs::r12}) {
        ASSERT_EQ(r.*member, want.*member) << "turn " << i << (kicked ? ", kicked" : "");
      }
      ASSERT_EQ(r.rdi, 11u);
      ASSERT_EQ(r.rsi, 22u);
      ASSERT_EQ(r.rdx, 33u);
      ASSERT_EQ(r.r10, 44u);
      ASSERT_EQ(r.r8, 55u);
      ASSERT_EQ(r.r9, 66u);
      if (i % 5 == 4) {  // the extended state is not asked for
        if (!kicked) choose();
        continue;
      }
      uint64_t now;
      const arch::FpState fp = *c->get_fp(park);
      std::memcpy(&now, &fp[kXmm15], sizeof now);
      ASSERT_EQ(now, xmm) << "turn " << i << (kicked ? ", kicked" : "");
      if (!kicked || i % 2 == 0) change();
      if (!kicked) choose();
    }
    await_kickers(park);
    EXPECT_GT(gated, 500u);
    EXPECT_GT(kicks, 20u);
  });
}

// Contexts end in calls, and their stubs serve others.
TEST_F(Gate, EndsInTheMiddle) {
  world_.run([&](Park& park) {
    for (int i = 0; i < 60; ++i) {
      Guest g(world_, park, blob::gated);
      auto c = context(g, park), d = context(g, park);
      for (uint64_t k = 0; k < 100; ++k) {
        check_call(c->run(park), k);
        c->set_syscall_result(0);
      }
      check_call(c->run(park), 100);
      check_call(d->run(park), 0);
      if (i % 3 == 0) {
        const Deadline at{world_.reactor().now_ns() + 300'000};
        while (world_.reactor().now_ns() < at.at_ns) park.suspend(at);
      }
    }
  });
}

}  // namespace
}  // namespace uk::conformance
