// A hostile guest: every way into the host is tried; what must happen is a trap, and nothing on the
// host.
#include <cpuid.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <cstring>
#include <string>

#include "gtest/gtest.h"
#include "hostio/sys/file.h"
#include "hostio/sys/process.h"
#include "ukernel/platform/conformance/guest_code.h"
#include "ukernel/platform/conformance/platforms.h"
#include "ukernel/platform/conformance/world.h"
#include "ukernel/platform/stub/layout.h"
#include "ukernel/sched/wait_queue.h"

namespace uk::conformance {
namespace {

class Hostile : public testing::TestWithParam<const char*> {
 protected:
  World world_{GetParam()};

  static std::string maps(int pid) {
    return *sys::read_file(("/proc/" + std::to_string(pid) + "/maps").c_str());
  }
  // Runs until a trap, at most for a while.
  Trap bounded_run(Park& park, GuestContext& c, uint64_t limit_ns) {
    Timer limit(world_.reactor().timers(), [&] { c.kick(); });
    limit.arm({world_.reactor().now_ns() + limit_ns});
    return c.run(park);
  }
};

TEST_P(Hostile, EveryCallNumberTraps) {
  world_.run([&](Park& park) {
    Guest g(world_, park, blob::registers);
    auto c = g.context(park);
    ASSERT_TRUE(g.space->flush(park));
    const std::string before = maps(g.space->host_pid());
    auto [read_end, write_end] = *sys::pipe2(O_NONBLOCK);
    std::vector<uint64_t> numbers;
    for (uint64_t n = 0; n < 1024; ++n) {
      if (n != 335 && n != 336) numbers.push_back(n);
    }
    for (uint64_t n = 0; n < 600; ++n) numbers.push_back(0x40000000 + n);  // x32
    for (uint64_t n : {~0ull, 0x80000000ull, 0xffffffffull, 0x100000001ull, 0x7fffffffull,
                       0x8000000000000000ull})
      numbers.push_back(n);
    for (uint64_t n : numbers) {
      arch::UserRegs r = g.start_regs();
      r.rax = n;
      r.rdi = static_cast<uint64_t>(
          write_end.get());  // write(pipe, code, 16): visible if it ever happens
      r.rsi = kCode;
      r.rdx = 16;
      ASSERT_TRUE(c->set_regs(park, r));
      Trap t = c->run(park);
      ASSERT_EQ(t.kind, Trap::Kind::kSyscall) << n;
      ASSERT_EQ(static_cast<uint32_t>(t.nr), static_cast<uint32_t>(n));
      c->set_syscall_result(0);
    }
    char buf[16];
    auto n = sys::read(read_end.get(), std::as_writable_bytes(std::span(buf)));
    EXPECT_FALSE(n);
    EXPECT_EQ(maps(g.space->host_pid()), before);
  });
}

// Linux itself exempts uretprobe and uprobe from seccomp; where they are not stopped they must do
// nothing.
TEST_P(Hostile, UprobeCallsDoNothing) {
  world_.run([&](Park& park) {
    Guest g(world_, park, blob::registers);
    auto c = g.context(park);
    ASSERT_TRUE(g.space->flush(park));
    const std::string before = maps(g.space->host_pid());
    for (uint64_t n : {335, 336}) {
      for (int i = 0; i < 100; ++i) {
        arch::UserRegs r = g.start_regs();
        r.rax = n;
        ASSERT_TRUE(c->set_regs(park, r));
        Trap t = c->run(park);
        ASSERT_EQ(t.kind, Trap::Kind::kSyscall) << n;
        // Either this call, or the next one in the guest's loop, after an error.
        if (t.nr != n && t.nr != 335) {
          EXPECT_GT(t.nr, static_cast<uint32_t>(-4095));
        }
      }
    }
    EXPECT_EQ(maps(g.space->host_pid()), before);
  });
}

TEST_P(Hostile, OtherEntriesTrapToo) {
  world_.run([&](Park& park) {
    Guest g(world_, park, blob::entries);
    auto c = g.context(park);
    auto at = [&](int i, uint64_t rdi = 0) {
      EXPECT_TRUE(c->set_regs(park, g.start_regs(rdi, kCode + static_cast<uint64_t>(i) * 32)));
      return bounded_run(park, *c, 10 * kNsPerSec);
    };
    // int 0x80: the 32-bit call 20 is getpid.
    Trap t = at(0);
    if (t.kind == Trap::Kind::kSyscall) {
      EXPECT_TRUE(t.compat);
      EXPECT_EQ(t.nr, 20u);
    } else {
      EXPECT_EQ(t.signo, SIGSEGV);  // a host without 32-bit support
    }
    t = at(1);  // sysenter: AMD refuses it in long mode; Intel's lands in 32-bit code
    EXPECT_TRUE((t.kind == Trap::Kind::kSyscall && t.compat) || t.kind == Trap::Kind::kException ||
                t.kind == Trap::Kind::kPageFault);
    t = at(2);  // vsyscall
    ASSERT_EQ(t.kind, Trap::Kind::kPageFault);
    EXPECT_EQ(t.addr, 0xffffffffff600400);
    EXPECT_EQ(t.access, Access::kExec);
    arch::UserRegs r = *c->get_regs(park);
    EXPECT_EQ(r.rip, 0xffffffffff600400);
    EXPECT_EQ(r.rsp, kData + 16 * kPage - 8);
    // 32-bit code by a far jump: syscall, int 0x80.
    for (uint32_t target : {4, 5}) {
      g.data.at<uint32_t>(0) = static_cast<uint32_t>(kCode) + target * 32;
      g.data.at<uint16_t>(4) = 0x23;
      t = at(3, kData);
      EXPECT_TRUE((t.kind == Trap::Kind::kSyscall && t.compat) || t.kind == Trap::Kind::kException)
          << static_cast<int>(t.kind);
      if (t.kind == Trap::Kind::kSyscall) {
        EXPECT_EQ(t.nr, 20u);
      }
    }
    // And back to normal.
    ASSERT_TRUE(c->set_regs(park, g.start_regs(0, kCode + 2 * 32 + 11)));
    t = c->run(park);
    ASSERT_EQ(t.kind, Trap::Kind::kSyscall);
    EXPECT_EQ(t.nr, 0x777u);
    EXPECT_FALSE(t.compat);
  });
}

// Jumps to every byte of the stub's pages with registers that would do visible things, were a call
// to come through.
TEST_P(Hostile, JumpsIntoEveryByteOfTheStub) {
  world_.run([&](Park& park) {
    auto [read_end, write_end] = *sys::pipe2(O_NONBLOCK);
    Guest victim(world_, park, blob::syscalls);
    auto v = victim.context(park);
    const uint64_t stub = world_.platform().user_limit();
    int gone = 0;
    auto g = std::make_unique<Guest>(world_, park, blob::syscalls);
    std::unique_ptr<GuestContext> c;
    std::string before;
    auto fresh = [&] {
      c.reset();
      g = std::make_unique<Guest>(world_, park, blob::syscalls);
      // The last batch, whose commands an impostor would repeat, is one that would show.
      g->space->unmap(0x800000, kPage);
      ASSERT_TRUE(g->space->flush(park));
      c = g->context(park);
      before = maps(g->space->host_pid());
    };
    fresh();
    struct Call {
      uint64_t nr, a, b, c, d;
    };
    const Call calls[] = {
        {SYS_write, static_cast<uint64_t>(write_end.get()), kCode, 16, 0},
        {SYS_munmap, kData, kPage, 0, 0},
        {SYS_munmap, stub + stub::kPublishedOffset, kPage, 0, 0},
        {SYS_mprotect, kCode, kPage, PROT_READ | PROT_WRITE, 0},
        {SYS_exit_group, 0, 0, 0, 0},
        {SYS_kill, static_cast<uint64_t>(sys::getpid()), SIGKILL, 0, 0},
    };
    // Behind the code are 0xcc bytes, which differ in nothing.
    uint64_t end = static_cast<uint64_t>(stub::uk_stub_end - stub::uk_stub_begin);
    while (end > 0 && stub::uk_stub_begin[end - 1] == '\xcc') --end;
    ASSERT_GT(end, 256u);
    for (uint64_t off = 0; off < end + 8; ++off) {
      for (uint64_t mode = 0; mode < 2; ++mode) {
        Call k = calls[(off + mode) % std::size(calls)];
        // On direct two instructions may unmap the guest's own (ErrandsTakeRightsOnly).
        const bool errand =
            stub + off == stub::stub_address(stub, stub::uk_stub_gate_errand_ip) - 2 ||
            stub + off == stub::stub_address(stub, stub::uk_stub_report_errand_ip) - 2;
        if (errand && k.a == kData && std::string_view(GetParam()) == "direct") k = calls[2];
        arch::UserRegs r = g->start_regs();
        r.rip = stub + off;
        r.rax = k.nr;
        r.rdi = k.a;
        r.rsi = k.b;
        r.rdx = k.c;
        r.r10 = k.d;
        r.r12 = kCode;
        r.r13 = mode;
        r.rbx = kData;  // a command list of the guest's own
        g->data.at(0) = k.nr;
        g->data.at(8) = k.a;
        g->data.at(16) = k.b;
        g->data.at(24) = k.c;
        g->data.at(56) = kCode;
        ASSERT_TRUE(c->set_regs(park, r));
        for (int traps = 0; traps < 3; ++traps) {
          Trap t = bounded_run(park, *c, kNsPerSec / 500);
          if (t.kind == Trap::Kind::kGone) {
            ++gone;
            fresh();
            break;
          }
          if (t.kind != Trap::Kind::kSyscall) break;
          c->set_syscall_result(static_cast<uint64_t>(-38));
        }
        if (off % 16 == 0) {
          ASSERT_EQ(maps(g->space->host_pid()), before) << "offset " << off;
        }
      }
    }
    EXPECT_EQ(maps(g->space->host_pid()), before);
    char buf[16];
    EXPECT_FALSE(sys::read(read_end.get(), std::as_writable_bytes(std::span(buf))));
    // Dying is allowed only to platforms that say why; ptrace has no reason.
    if (std::string_view(GetParam()) == "ptrace") {
      EXPECT_EQ(gone, 0);
    }
    EXPECT_EQ(v->run(park).kind, Trap::Kind::kSyscall) << "another guest is not concerned";
    // And its own mm thread still works.
    g->space->unmap(kData, kPage);
    EXPECT_TRUE(g->space->flush(park));
  });
}

// Where a guest thread makes its errands (direct) it can do no more than to lose rights to its own
// memory.
TEST_P(Hostile, ErrandsTakeRightsOnly) {
  if (std::string_view(GetParam()) == "ptrace") GTEST_SKIP() << "the stub has no such code in use";
  world_.run([&](Park& park) {
    const uint64_t stub = world_.platform().user_limit();
    const bool direct = std::string_view(GetParam()) == "direct";
    const struct {
      uint64_t nr, addr, len, prot;
      bool may;
    } calls[] = {
        {SYS_munmap, kData, kPage, 0, true},
        {SYS_mprotect, kData, kPage, PROT_READ, true},
        {SYS_mprotect, kData, kPage, PROT_READ | PROT_EXEC, true},
        {SYS_mprotect, kData, kPage, PROT_NONE, true},
        {SYS_mprotect, kCode, kPage, PROT_READ | PROT_WRITE, false},
        {SYS_mprotect, kData, kPage, PROT_READ | (1ull << 24), false},
        {SYS_munmap, stub, kPage, 0, false},
        {SYS_munmap, stub + stub::kPublishedOffset, kPage, 0, false},
        {SYS_munmap, kData, stub - kData + stub::kCodeBytes, 0, false},
        {SYS_munmap, stub - kPage, 2 * kPage, 0, false},
        {SYS_mprotect, stub + stub::kStacksOffset, kPage, PROT_READ, false},
        {SYS_mprotect, stub, 2 * kPage, PROT_READ, false},
        {SYS_mmap, kData, kPage, PROT_READ, false},
        {SYS_mremap, kData, kPage, kPage, false},
        {SYS_pkey_mprotect, kData, kPage, PROT_READ, false},
    };
    for (const char* ip : {stub::uk_stub_report_errand_ip, stub::uk_stub_gate_errand_ip}) {
      for (const auto& k : calls) {
        Guest g(world_, park, blob::syscalls);
        auto c = g.context(park);
        ASSERT_TRUE(g.space->flush(park));
        const std::string before = maps(g.space->host_pid());
        arch::UserRegs r = g.start_regs();
        r.rip = stub::stub_address(stub, ip) - 2;
        r.rax = k.nr;
        r.rdi = k.addr;
        r.rsi = k.len;
        r.rdx = k.prot;
        r.r10 = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS;
        r.r8 = kData + 4 * kPage;
        r.r9 = kData + 4 * kPage;  // no more errands
        ASSERT_TRUE(c->set_regs(park, r));
        const Trap t = bounded_run(park, *c, kNsPerSec / 50);
        const bool gone = t.kind == Trap::Kind::kGone;
        const std::string after = maps(g.space->host_pid());
        if (!gone || !after.empty()) {
          EXPECT_EQ(after != before, direct && k.may) << k.nr << " " << k.addr << " " << k.len;
        }
      }
    }
  });
}

// The stub's code and command page cannot be written; what the guest sees there is no secret.
TEST_P(Hostile, StubPagesAreReadOnly) {
  world_.run([&](Park& park) {
    Guest g(world_, park, blob::touch);
    auto c = g.context(park);
    for (uint64_t page : {0, 1}) {
      const uint64_t addr = world_.platform().user_limit() + page * kPage;
      ASSERT_TRUE(c->set_regs(park, g.start_regs(addr)));
      Trap t = c->run(park);
      ASSERT_EQ(t.kind, Trap::Kind::kPageFault);
      EXPECT_EQ(t.addr, addr);
      EXPECT_EQ(c->get_regs(park)->rip, kCode + 3) << "reading went well, writing did not";
    }
    // Above the area there is nothing at all, below it nothing that mm did not map.
    for (uint64_t addr : {0xffffffffff600000ull, 0xffff800000000000ull, 0x7ffffffff000ull}) {
      ASSERT_TRUE(c->set_regs(park, g.start_regs(addr)));
      Trap t = c->run(park);
      EXPECT_TRUE(t.kind == Trap::Kind::kPageFault || t.kind == Trap::Kind::kException);
    }
    const std::string m = maps(g.space->host_pid());
    EXPECT_EQ(m.find("[stack]"), std::string::npos);
    EXPECT_EQ(m.find("[heap]"), std::string::npos);
    EXPECT_EQ(m.find("[vdso]"), std::string::npos);
    EXPECT_EQ(m.find("/usr"), std::string::npos);
  });
}

// A thread that overwrites what another's handler and the kernel tell each other. Both are the
// guest's own threads: it may fool or kill itself, and nothing else.
class Forger {
 public:
  static constexpr uint64_t kSecond = 0x400, kThird = 0x800;  // of the code page
  Forger(World& world, Park& park, Memory& target)
      : world_(world), guest(world, park, blob::syscalls) {
    put(kSecond, blob::store_loop);
    put(kThird, blob::scribble);
    guest.space->map(kTarget, kPage, Prot::kRead | Prot::kWrite, target.fd(), 0, true);
    victim = guest.context(park);
    forger = guest.context(park);
  }
  static constexpr uint64_t kTarget = 0x800000;
  // Quick calls, so that they go through memory where the platform has such a way.
  bool warm_up(Park& park) {
    for (int i = 0; i < 200; ++i) {
      if (victim->run(park).kind != Trap::Kind::kSyscall) return false;
      victim->set_syscall_result(0);
    }
    return true;
  }
  // The forger stores `value` and its successors by `step` at offset `at` of the victim's stack.
  void forge(Park& park, uint64_t at, uint64_t value, uint64_t step) {
    arch::UserRegs r =
        guest.start_regs(world_.platform().user_limit() + stub::kStacksOffset + at, kCode + kThird);
    r.rsi = value;
    r.rdx = step;
    (void)forger->set_regs(park, r);
  }

 private:
  void put(uint64_t at, Blob b) {
    std::memcpy(guest.code.data() + at, b.begin, static_cast<size_t>(b.end - b.begin));
  }
  World& world_;

 public:
  Guest guest;
  std::unique_ptr<GuestContext> victim, forger;
};

// The victim is made to look as if it stood in a report while it runs. Its stub must not get to
// another guest, and its memory not to another owner, before it really stands still.
TEST_P(Hostile, AForgedReportFreesNothing) {
  if (std::string_view(GetParam()) == "ptrace") GTEST_SKIP() << "stubs have no stacks";
  world_.run([&](Park& park) {
    uint64_t stored = 0;  // by victims before the false report
    for (int round = 0; round < 10; ++round) {
      Memory target(1);
      {
        Forger f(world_, park, target);
        ASSERT_TRUE(f.warm_up(park));
        f.forge(park, 0, UK_TURN_REPORTED, 0);
        ASSERT_TRUE(
            f.victim->set_regs(park, f.guest.start_regs(Forger::kTarget, kCode + Forger::kSecond)));
        bool back = false;
        WaitQueue q;
        world_.reactor().spawn("forger", [&](Park& p) {
          (void)bounded_run(p, *f.forger, 3'000'000);
          back = true;
          q.wake_all();
        });
        (void)bounded_run(park, *f.victim, 2'000'000);
        (void)q.wait(
            park, [&] { return back; }, WaitMode::kUninterruptible);
      }
      const uint64_t frozen = target.at(0);
      stored += frozen;
      for (int i = 0; i < 3; ++i) {
        Guest other(world_, park, blob::syscalls);
        auto c = other.context(park);
        for (int k = 0; k < 50; ++k) ASSERT_EQ(c->run(park).kind, Trap::Kind::kSyscall);
      }
      EXPECT_EQ(target.at(0), frozen) << "it still ran";
    }
    EXPECT_GT(stored, 0u);
  });
}

// A new thread that waits in its slot while the space is made ready for it.
TEST_P(Hostile, AForgedTurnOfAThreadThatIsCalledUpHurtsOnlyItsGuest) {
  if (std::string_view(GetParam()) != "direct") GTEST_SKIP() << "nobody is called up";
  world_.run([&](Park& park) {
    Guest bystander(world_, park, blob::syscalls);
    auto b = bystander.context(park);
    Memory target(1);
    const uint32_t turns[] = {0, 1, 2, 3, 4, 5, 6, 7, 0x80000000, 0x80000008, 0x80000010};
    for (uint32_t turn : turns) {
      Forger f(world_, park, target);
      ASSERT_TRUE(f.warm_up(park));
      auto called_up = f.guest.context(park);
      f.forge(park, 2 * stub::kStackBytes + UK_SLOT_TURN, turn, 0);
      bool back = false;
      WaitQueue q;
      world_.reactor().spawn("forger", [&](Park& p) {
        (void)bounded_run(p, *f.forger, 2'000'000);
        back = true;
        q.wake_all();
      });
      (void)bounded_run(park, *f.victim, 1'000'000);  // the forger has begun
      for (uint64_t page = 1; page <= 4; ++page) {
        f.guest.space->map(Forger::kTarget + page * 2 * kPage, kPage, Prot::kRead, target.fd(), 0,
                           true);
      }
      (void)bounded_run(park, *called_up, 1'000'000);
      (void)q.wait(
          park, [&] { return back; }, WaitMode::kUninterruptible);
      ASSERT_EQ(b->run(park).kind, Trap::Kind::kSyscall) << turn;
    }
  });
}

TEST_P(Hostile, ScribbledStacksHurtOnlyTheirGuest) {
  if (std::string_view(GetParam()) == "ptrace") GTEST_SKIP() << "stubs have no stacks";
  world_.run([&](Park& park) {
    Guest bystander(world_, park, blob::syscalls);
    auto b = bystander.context(park);
    Memory target(1);
    // The slot's words, then the frame's.
    std::vector<uint64_t> at = {0, 0, 0, 8, 16, 16, 20, 24, 32};
    for (uint64_t o = stub::kStackBytes - 4096; o < stub::kStackBytes; o += 52) at.push_back(o);
    for (uint64_t o : at) {
      Forger f(world_, park, target);
      ASSERT_TRUE(f.warm_up(park));
      f.forge(park, o, o * 0x9e3779b9, 1 + o % 7);
      bool back = false;
      WaitQueue q;
      world_.reactor().spawn("forger", [&](Park& p) {
        (void)bounded_run(p, *f.forger, 1'500'000);
        back = true;
        q.wake_all();
      });
      for (int i = 0; i < 200 && !back; ++i) {
        if (bounded_run(park, *f.victim, 1'000'000).kind == Trap::Kind::kGone) break;
        if (i % 3 == 0) (void)f.victim->get_regs(park);
        if (i % 7 == 0) (void)f.victim->get_fp(park);
        f.victim->set_syscall_result(0);
      }
      (void)q.wait(
          park, [&] { return back; }, WaitMode::kUninterruptible);
      ASSERT_EQ(b->run(park).kind, Trap::Kind::kSyscall) << o;
    }
  });
}

// Guests have no protection keys, but where the host has them WRPKRU cannot be taken from them. It
// must hurt nobody else: not who comes next in the stub, not the thread itself after a new image.
TEST_P(Hostile, LockingItselfOutHurtsOnlyItself) {
  constexpr uint64_t kOspke = 1 << 4, kBehindWrpkru = 12;
  unsigned a, b, c = 0, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (c & kOspke) == 0) GTEST_SKIP() << "no keys here";
  world_.run([&](Park& park) {
    for (int round = 0; round < 3; ++round) {  // later ones may get the same stub
      Guest g(world_, park, blob::lock_out);
      auto open = g.context(park, kData, kCode + kBehindWrpkru);
      ASSERT_EQ(open->run(park).kind, Trap::Kind::kSyscall);
      auto locked = g.context(park, kData);
      const Trap t = locked->run(park);  // not for mm: the guest's own doing
      ASSERT_EQ(t.kind, Trap::Kind::kException);
      EXPECT_EQ(t.signo, SIGSEGV);
      EXPECT_EQ(t.code, SEGV_PKUERR);
      EXPECT_EQ(t.addr, kData);
      open->set_syscall_result(0);
      ASSERT_EQ(open->run(park).kind, Trap::Kind::kException);  // it has come round to WRPKRU
      ASSERT_TRUE(locked->set_regs(park, g.start_regs(kData, kCode + kBehindWrpkru)));
      ASSERT_TRUE(locked->set_fp(park, {}));
      ASSERT_EQ(locked->run(park).kind, Trap::Kind::kSyscall);
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Platforms, Hostile, platforms());

}  // namespace
}  // namespace uk::conformance
