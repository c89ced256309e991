// Many contexts and spaces: parallel running, kicks, sharing, destruction at bad moments, stubs
// that die.
#include <signal.h>

#include <algorithm>
#include <vector>

#include "gtest/gtest.h"
#include "hostio/sys/process.h"
#include "ukernel/platform/conformance/guest_code.h"
#include "ukernel/platform/conformance/platforms.h"
#include "ukernel/platform/conformance/world.h"
#include "ukernel/sched/wait_queue.h"

namespace uk::conformance {
namespace {

class Threads : public testing::TestWithParam<const char*> {
 protected:
  World world_{GetParam()};

  // Lets `body` run on n fibers at once; returns when all are done.
  void parallel(Park& park, int n, std::function<void(Park&, int)> body) {
    int left = n;
    WaitQueue done;
    for (int i = 0; i < n; ++i)
      world_.reactor().spawn("parallel", [&, i](Park& p) {
        body(p, i);
        --left;
        done.wake_all();
      });
    (void)done.wait(
        park, [&] { return left == 0; }, WaitMode::kUninterruptible);
  }
  void after(uint64_t ns, std::function<void()> f) {
    world_.reactor().spawn("after", [this, ns, f](Park& p) {
      const Deadline at{world_.reactor().now_ns() + ns};
      while (world_.reactor().now_ns() < at.at_ns) p.suspend(at);
      f();
    });
  }
};

TEST_P(Threads, KickBringsBackASpinningGuest) {
  world_.run([&](Park& park) {
    Guest g(world_, park, blob::spin);
    auto c = g.context(park);
    uint64_t last = 0;
    for (int i = 0; i < 50; ++i) {
      after(200'000, [&] { c->kick(); });
      Trap t = c->run(park);
      ASSERT_EQ(t.kind, Trap::Kind::kKicked);
      arch::UserRegs r = *c->get_regs(park);
      EXPECT_GE(r.rbx, last);
      last = r.rbx;
    }
    EXPECT_GT(last, 0u);
  });
}

// However much a CPU of its own was worth to the reactor before.
TEST_P(Threads, GuestsThatComputeDoNotShareACpu) {
  if (sys::usable_cpus() < 2) GTEST_SKIP() << "there is only one";
  world_.run([&](Park& park) {
    Guest calls(world_, park, blob::syscalls), one(world_, park, blob::spin),
        two(world_, park, blob::spin);
    auto caller = calls.context(park), first = one.context(park), second = two.context(park);
    for (int i = 0; i < 500; ++i) {
      ASSERT_EQ(caller->run(park).kind, Trap::Kind::kSyscall);
      caller->set_syscall_result(0);
    }
    bool apart = false;
    parallel(park, 3, [&](Park& p, int i) {
      if (i < 2) {
        EXPECT_EQ((i == 0 ? first : second)->run(p).kind, Trap::Kind::kKicked);
        return;
      }
      const uint64_t end = world_.reactor().now_ns() + 10'000'000'000;
      while (!apart && world_.reactor().now_ns() < end) {
        const Deadline at{world_.reactor().now_ns() + 1'000'000};
        while (world_.reactor().now_ns() < at.at_ns) p.suspend(at);
        cpu_set_t both = CHECK_OK(sys::sched_getaffinity(first->host_tid()));
        const cpu_set_t other = CHECK_OK(sys::sched_getaffinity(second->host_tid()));
        CPU_OR(&both, &both, &other);
        apart = CPU_COUNT(&both) >= 2;
      }
      first->kick();
      second->kick();
    });
    EXPECT_TRUE(apart);
  });
}

TEST_P(Threads, KicksBeforeAndTogetherWithOtherTraps) {
  world_.run([&](Park& park) {
    Guest g(world_, park, blob::syscalls);
    auto c = g.context(park);
    uint64_t calls = 0, kicks = 0;
    for (int i = 0; i < 500; ++i) {
      if (i % 3 == 0) c->kick();
      if (i % 5 == 0) world_.reactor().spawn("kick", [&](Park&) { c->kick(); });
      Trap t = c->run(park);
      if (t.kind == Trap::Kind::kKicked) {
        ++kicks;
        continue;
      }
      ASSERT_EQ(t.kind, Trap::Kind::kSyscall);
      ASSERT_EQ(t.nr, calls);
      ++calls;
      c->set_syscall_result(0);
      park.yield();  // let every kicker run while c is its own
    }
    EXPECT_GT(kicks, 100u);
    EXPECT_GT(calls, 200u);
  });
}

// An answer given before a kick must not be lost or given twice.
TEST_P(Threads, ResultSurvivesAKick) {
  world_.run([&](Park& park) {
    Guest g(world_, park, blob::syscalls);
    auto c = g.context(park);
    uint64_t sum = 0;
    for (uint64_t i = 0; i < 200; ++i) {
      Trap t = c->run(park);
      while (t.kind == Trap::Kind::kKicked) t = c->run(park);
      ASSERT_EQ(t.kind, Trap::Kind::kSyscall);
      ASSERT_EQ(t.nr, i);
      c->set_syscall_result(i * 3);
      sum += i * 3;
      if (i % 2 == 0) c->kick();
      if (i % 4 == 1) {
        c->kick();
        ASSERT_EQ(c->run(park).kind, Trap::Kind::kKicked);
        ASSERT_TRUE(c->get_regs(park));
      }
    }
    Trap t = c->run(park);
    while (t.kind == Trap::Kind::kKicked) t = c->run(park);
    EXPECT_EQ(c->get_regs(park)->r12, sum);
  });
}

TEST_P(Threads, ManyContextsInOneSpaceRunInParallel) {
  constexpr int kThreads = 24;
  world_.run([&](Park& park) {
    Guest g(world_, park, blob::increment);
    std::vector<std::unique_ptr<GuestContext>> cs;
    for (int i = 0; i < kThreads; ++i) cs.push_back(g.context(park, kData));
    parallel(park, kThreads, [&](Park& p, int i) {
      for (int round = 0; round < 20; ++round) {
        arch::UserRegs r = g.start_regs(kData);
        r.rsi = 1000;
        ASSERT_TRUE(cs[i]->set_regs(p, r));
        ASSERT_EQ(cs[i]->run(p).kind, Trap::Kind::kSyscall);
      }
    });
    EXPECT_EQ(g.data.at(0), kThreads * 20 * 1000u);
  });
}

TEST_P(Threads, ThousandsOfContextsOverTime) {
  world_.run([&](Park& park) {
    Guest g(world_, park, blob::syscalls);
    for (int i = 0; i < 3000; ++i) {
      auto c = g.context(park);
      Trap t = c->run(park);
      ASSERT_EQ(t.kind, Trap::Kind::kSyscall) << i;
      ASSERT_EQ(t.nr, 0u);
    }
  });
}

TEST_P(Threads, HundredsOfSpacesOverTime) {
  world_.run([&](Park& park) {
    for (int i = 0; i < 300; ++i) {
      Guest g(world_, park, blob::syscalls);
      auto c = g.context(park);
      ASSERT_EQ(c->run(park).kind, Trap::Kind::kSyscall) << i;
    }
  });
}

// A space may get the process of an earlier one: of that guest's memory and threads nothing may be
// left.
TEST_P(Threads, UsedStubsAreClean) {
  world_.run([&](Park& park) {
    Memory secret(1);
    secret.at(0) = 0x5ec2e7;
    std::vector<int> pids;
    for (int i = 0; i < 40; ++i) {
      {
        Guest g(world_, park, blob::touch);
        for (int t = 0; t < 3; ++t) {
          g.space->map(0x800000, kPage, Prot::kRead | Prot::kWrite, secret.fd(), 0, true);
          auto c = g.context(park, 0x800000), d = g.context(park, 0x800000);
          ASSERT_EQ(c->run(park).kind, Trap::Kind::kSyscall);
          if (t == 1) c->set_single_step(true);
          ASSERT_EQ(d->run(park).kind, Trap::Kind::kSyscall);
        }
        pids.push_back(g.space->host_pid());
      }
      const uint64_t frozen = secret.at(0);
      Guest h(world_, park, blob::touch);
      auto c = h.context(park, 0x800000);
      Trap t = c->run(park);
      ASSERT_EQ(t.kind, Trap::Kind::kPageFault);
      EXPECT_EQ(t.addr, 0x800000u);
      EXPECT_EQ(secret.at(0), frozen);
      pids.push_back(h.space->host_pid());
    }
    std::ranges::sort(pids);
    EXPECT_LT(std::ranges::unique(pids).begin() - pids.begin(), 40) << "stubs are not used again";
  });
}

// Nothing of an earlier owner may show in a new context, be its thread new or used.
TEST_P(Threads, NewContextsStartClean) {
  world_.run([&](Park& park) {
    for (int round = 0; round < 3; ++round) {
      Guest g(world_, park, blob::fpu);
      for (int i = 0; i < 4; ++i) {
        arch::UserRegs r = g.start_regs(77);
        r.r8 = kData;
        r.fs_base = r.gs_base = 0x1000;
        r.rbx = r.rbp = r.r9 = r.r12 = r.r13 = r.r14 = r.r15 = 0x7777777777777777;
        auto c = std::move(*g.space->new_context(park, r, {}));
        ASSERT_EQ(c->run(park).kind, Trap::Kind::kSyscall);
        ASSERT_EQ(c->run(park).kind, Trap::Kind::kSyscall);
        c.reset();
        arch::UserRegs plain = g.start_regs();
        auto d = std::move(*g.space->new_context(park, plain, {}));
        ASSERT_EQ(d->run(park).kind, Trap::Kind::kSyscall);
        arch::UserRegs s = *d->get_regs(park);
        for (uint64_t v : {s.rbx, s.rbp, s.r8, s.r9, s.r10, s.r12, s.r13, s.r14, s.r15, s.rdx,
                           s.rsi, s.fs_base, s.gs_base})
          EXPECT_EQ(v, 0u);
        arch::FpState fp = *d->get_fp(park);
        for (size_t b = 160 + 48; b < 160 + 15 * 16; ++b)
          ASSERT_EQ(fp[b], std::byte{0}) << b;  // xmm3..xmm14
      }
    }
  });
}

TEST_P(Threads, SpacesShareMemory) {
  world_.run([&](Park& park) {
    Guest a(world_, park, blob::increment), b(world_, park, blob::increment);
    Memory shared(1);
    for (Guest* g : {&a, &b})
      g->space->map(0x800000, kPage, Prot::kRead | Prot::kWrite, shared.fd(), 0, true);
    Guest* gs[] = {&a, &b};
    parallel(park, 2, [&](Park& p, int i) {
      arch::UserRegs r = gs[i]->start_regs(0x800000);
      r.rsi = 5000;
      auto c = std::move(*gs[i]->space->new_context(p, r, {}));
      ASSERT_EQ(c->run(p).kind, Trap::Kind::kSyscall);
    });
    EXPECT_EQ(shared.at(0), 10000u);
  });
}

// Changes reach a thread that is running, and are in force when flush() returns.
TEST_P(Threads, ProtectionAndUnmappingReachRunningThreads) {
  world_.run([&](Park& park) {
    Guest g(world_, park, blob::store_loop);
    Memory m(1);
    g.space->map(0x800000, kPage, Prot::kRead | Prot::kWrite, m.fd(), 0, false);
    auto c = g.context(park, 0x800000);
    for (int i = 0; i < 20; ++i) {
      Trap t;
      bool back = false;
      WaitQueue q;
      world_.reactor().spawn("runner", [&](Park& p) {
        t = c->run(p);
        back = true;
        q.wake_all();
      });
      park.yield();
      if (i % 2 == 0)
        g.space->protect(0x800000, kPage, Prot::kRead);
      else
        g.space->unmap(0x800000, kPage);
      ASSERT_TRUE(g.space->flush(park));
      const uint64_t frozen = m.at(0);
      (void)q.wait(
          park, [&] { return back; }, WaitMode::kUninterruptible);
      EXPECT_EQ(m.at(0), frozen);
      ASSERT_EQ(t.kind, Trap::Kind::kPageFault);
      EXPECT_EQ(t.addr, 0x800000u);
      g.space->map(0x800000, kPage, Prot::kRead | Prot::kWrite, m.fd(), 0, false);
      ASSERT_TRUE(g.space->flush(park));
    }
  });
}

TEST_P(Threads, BatchesLargerThanAPage) {
  world_.run([&](Park& park) {
    Guest g(world_, park, blob::touch);
    Memory m(16);
    for (int i = 0; i < 500; ++i)  // every other page, so that nothing merges
      g.space->map(0x1000000 + i * 2 * kPage, kPage, Prot::kRead | Prot::kWrite, m.fd(),
                   (i % 16) * kPage, i % 2);
    ASSERT_TRUE(g.space->flush(park));
    auto c = g.context(park);
    for (int i = 0; i < 500; i += 7) {
      ASSERT_TRUE(c->set_regs(park, g.start_regs(0x1000000 + i * 2 * kPage)));
      ASSERT_EQ(c->run(park).kind, Trap::Kind::kSyscall);
    }
    g.space->unmap_all();
    Trap t = c->run(park);
    ASSERT_EQ(t.kind, Trap::Kind::kPageFault);
    EXPECT_EQ(t.access, Access::kExec);
  });
}

TEST_P(Threads, RefusedChangeIsReported) {
  world_.run([&](Park& park) {
    Guest g(world_, park, blob::syscalls);
    auto c = g.context(park);
    g.space->map(0x800000, kPage, Prot::kRead, 9999, 0, false);  // no such descriptor
    EXPECT_FALSE(g.space->flush(park));
    EXPECT_EQ(c->run(park).kind, Trap::Kind::kGone);
  });
}

TEST_P(Threads, ContextsDestroyedWhileTheyRun) {
  world_.run([&](Park& park) {
    Guest g(world_, park, blob::spin);
    for (int i = 0; i < 200; ++i) {
      auto c = g.context(park);
      world_.reactor().spawn("kick", [&](Park&) { c->kick(); });
      ASSERT_EQ(c->run(park).kind, Trap::Kind::kKicked);
    }
    // Their space too, with kicks in flight.
    for (int i = 0; i < 50; ++i) {
      Guest h(world_, park, blob::spin);
      auto c = h.context(park);
      world_.reactor().spawn("kick", [&](Park&) {
        c->kick();
        c->kick();
      });
      ASSERT_EQ(c->run(park).kind, Trap::Kind::kKicked);
      c->kick();
    }
  });
}

TEST_P(Threads, StubKilledFromOutside) {
  world_.run([&](Park& park) {
    for (int i = 0; i < 10; ++i) {
      Guest g(world_, park, i % 2 == 0 ? blob::spin : blob::syscalls);
      auto c = g.context(park), idle = g.context(park);
      if (i % 2 == 0) {
        after(300'000, [&] { (void)sys::kill(g.space->host_pid(), SIGKILL); });
      } else {
        ASSERT_EQ(c->run(park).kind, Trap::Kind::kSyscall);
        (void)sys::kill(g.space->host_pid(), SIGKILL);
        c->set_syscall_result(0);
      }
      Trap t = c->run(park);
      ASSERT_EQ(t.kind, Trap::Kind::kGone);
      EXPECT_EQ(idle->run(park).kind, Trap::Kind::kGone);
      EXPECT_FALSE(c->get_regs(park));
      EXPECT_FALSE(c->set_regs(park, g.start_regs()));
      EXPECT_FALSE(c->get_fp(park));
      EXPECT_FALSE(g.space->new_context(park, g.start_regs(), {}));
      g.space->unmap(kData, kPage);
      EXPECT_FALSE(g.space->flush(park));
      EXPECT_EQ(c->run(park).kind, Trap::Kind::kGone);
      c->kick();
    }
    // The platform lives on.
    Guest g(world_, park, blob::syscalls);
    auto c = g.context(park);
    EXPECT_EQ(c->run(park).kind, Trap::Kind::kSyscall);
  });
}

// Nothing, but that notify may lose the answer that a signal meets, and sees the call again
// (docs/CAVEATS.md).
TEST_P(Threads, SignalsFromOutsideMeanNothing) {
  world_.run([&](Park& park) {
    const bool may_repeat = world_.platform().name() == "notify";
    Guest g(world_, park, blob::syscalls);
    auto c = g.context(park);
    const int pid = g.space->host_pid();
    uint64_t n = 0;
    for (int sig = 1; sig < 32; ++sig) {
      if (sig == SIGKILL) continue;
      (void)sys::kill(pid, sig);
      (void)sys::tgkill(pid, c->host_tid(), sig);
      for (int i = 0; i < 3; ++i) {
        Trap t = c->run(park);
        ASSERT_EQ(t.kind, Trap::Kind::kSyscall) << "signal " << sig;
        if (may_repeat && n > 0 && t.nr == n - 1) --n;
        ASSERT_EQ(t.nr, n++) << "signal " << sig;
        c->set_syscall_result(0);
        (void)sys::kill(pid, SIGCONT);
      }
      g.space->protect(kData, kPage, sig % 2 ? Prot::kRead : Prot::kNone);
      ASSERT_TRUE(g.space->flush(park)) << "signal " << sig;
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Platforms, Threads, platforms());

}  // namespace
}  // namespace uk::conformance
