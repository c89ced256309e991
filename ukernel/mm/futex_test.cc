#include "ukernel/mm/futex.h"

#include <gtest/gtest.h>
#include <linux/futex.h>

#include <random>

#include "ukernel/mm/test_peer.h"

namespace uk {
namespace {

using mm_test::World;
constexpr Prot kRW = Prot::kRead | Prot::kWrite;

class Futex : public testing::Test {
 protected:
  // Runs body on a fiber in a space with 4 pages at `a`; the world ends when nothing can happen.
  void on(std::function<void(Park&)> body) {
    w.sim.reactor.spawn("main", [this, body](Park& park) {
      as = w.space(park);
      MmapRequest r;
      r.len = 4 * kPageSize;
      r.prot = kRW;
      a = CHECK_OK(as->mmap(park, r, {}));
      r.shared = true;
      s = CHECK_OK(as->mmap(park, r, {}));
      body(park);
    });
    w.sim.run();
    as.reset();
  }
  void store(Park& park, uint64_t addr, uint32_t v) {
    CHECK_OK(as->copy_out(park, addr, std::as_bytes(std::span(&v, 1))));
  }
  uint32_t value(Park& park, uint64_t addr) {
    uint32_t v;
    CHECK_OK(as->copy_in(park, std::as_writable_bytes(std::span(&v, 1)), addr));
    return v;
  }
  void store64(Park& park, uint64_t addr, uint64_t v) {
    CHECK_OK(as->copy_out(park, addr, std::as_bytes(std::span(&v, 1))));
  }
  // A waiter on a fiber of its own; appends its name to `log` when woken.
  void waiter(char name, FutexTable::Word word, uint32_t bits = ~0u, Deadline d = kNever) {
    w.sim.reactor.spawn("waiter", [=, this](Park& park) {
      Result<> r = table.wait(park, *as, word, 0, bits, d);
      log += r ? std::string(1, name)
               : std::string(1, name) + ":" + std::string(errno_name(r.error())) + " ";
    });
  }

  World w;
  FutexTable table;
  Ref<AddressSpace> as;
  uint64_t a = 0, s = 0;
  std::string log;
};

TEST_F(Futex, WakesInOrderAndCounts) {
  on([&](Park& park) {
    for (char c : {'a', 'b', 'c', 'd'}) waiter(c, {a, true});
    park.yield();
    EXPECT_EQ(CHECK_OK(table.wake(park, *as, {a + 4, true}, 9)), 0);
    EXPECT_EQ(CHECK_OK(table.wake(park, *as, {a, true}, 2)), 2);
    park.yield();
    EXPECT_EQ(log, "ab");
    EXPECT_EQ(CHECK_OK(table.wake(park, *as, {a, true}, 9)), 2);
    park.yield();
    EXPECT_EQ(log, "abcd");
    EXPECT_EQ(CHECK_OK(table.wake(park, *as, {a, true}, 9)), 0);
  });
}

TEST_F(Futex, AnotherValueIsNotWaitedFor) {
  on([&](Park& park) {
    store(park, a, 5);
    EXPECT_EQ(table.wait(park, *as, {a, true}, 4, ~0u, kNever).error(), Errno::kAGAIN);
    EXPECT_EQ(table.wait(park, *as, {a, true}, 5, 0, kNever).error(), Errno::kINVAL);
    EXPECT_EQ(table.wait(park, *as, {a + 1, true}, 5, 1, kNever).error(), Errno::kINVAL);
    EXPECT_EQ(table.wait(park, *as, {8, false}, 5, 1, kNever).error(), Errno::kFAULT);
    EXPECT_EQ(table.wake(park, *as, {~3ull, true}, 5).error(), Errno::kFAULT);
    const uint64_t now = w.sim.clock.monotonic_ns();
    EXPECT_EQ(table.wait(park, *as, {a, true}, 5, 1, Deadline{now + 1000}).error(),
              Errno::kTIMEDOUT);
    EXPECT_EQ(w.sim.clock.monotonic_ns(), now + 1000);
    EXPECT_EQ(CHECK_OK(table.wake(park, *as, {a, true}, 9)), 0) << "it has left the queue";
  });
}

TEST_F(Futex, BitsetsChoose) {
  on([&](Park& park) {
    waiter('a', {a, true}, 1);
    waiter('b', {a, true}, 2);
    waiter('c', {a, true}, 3);
    park.yield();
    EXPECT_EQ(CHECK_OK(table.wake(park, *as, {a, true}, 9, 2)), 2);
    park.yield();
    EXPECT_EQ(log, "bc");
    EXPECT_EQ(CHECK_OK(table.wake(park, *as, {a, true}, 9, 1)), 1);
  });
}

TEST_F(Futex, SharedWordsAreOneInEverySpace) {
  on([&](Park& park) {
    auto child = CHECK_OK(as->fork(park, {}));
    waiter('s', {s, false});
    waiter('p', {a, true});
    park.yield();
    EXPECT_EQ(CHECK_OK(table.wake(park, *child, {a, true}, 9)), 0);
    EXPECT_EQ(CHECK_OK(table.wake(park, *child, {a, false}, 9)), 0);
    EXPECT_EQ(CHECK_OK(table.wake(park, *child, {s, true}, 9)), 0);
    EXPECT_EQ(CHECK_OK(table.wake(park, *child, {s, false}, 9)), 1);
    EXPECT_EQ(CHECK_OK(table.wake(park, *as, {a, false}, 9)), 1) << "private memory is private";
  });
  EXPECT_EQ(log, "sp");
}

TEST_F(Futex, RequeueMovesWithoutWaking) {
  on([&](Park& park) {
    for (char c : {'a', 'b', 'c', 'd'}) waiter(c, {a, true});
    waiter('x', {a + 8, true});
    park.yield();
    FutexTable::Word from{a, true}, to{a + 8, true};
    EXPECT_EQ(table.requeue(park, *as, from, to, 1, 1, 7).error(), Errno::kAGAIN);
    EXPECT_EQ(table.requeue(park, *as, from, to, -1, 1, 0).error(), Errno::kINVAL);
    EXPECT_EQ(CHECK_OK(table.requeue(park, *as, from, to, 1, 2, 0)), 3);
    park.yield();
    EXPECT_EQ(log, "a");
    EXPECT_EQ(CHECK_OK(table.wake(park, *as, to, 9)), 3);
    park.yield();
    EXPECT_EQ(log, "axbc");
    EXPECT_EQ(CHECK_OK(table.wake(park, *as, from, 9)), 1);
  });
}

TEST_F(Futex, WakeOp) {
  on([&](Park& park) {
    FutexTable::Word f{a, true}, g{a + 4, true};
    store(park, a + 4, 6);
    EXPECT_EQ(CHECK_OK(table.wake_op(park, *as, f, g, 1, 1,
                                     FUTEX_OP(FUTEX_OP_ADD, -2, FUTEX_OP_CMP_EQ, 6))),
              0);
    EXPECT_EQ(value(park, a + 4), 4u);
    CHECK_OK(table.wake_op(park, *as, f, g, 1, 1, FUTEX_OP(FUTEX_OP_ANDN, 4, FUTEX_OP_CMP_EQ, 0)));
    EXPECT_EQ(value(park, a + 4), 0u);
    CHECK_OK(table.wake_op(park, *as, f, g, 1, 1,
                           FUTEX_OP(FUTEX_OP_OR | FUTEX_OP_OPARG_SHIFT, 31, FUTEX_OP_CMP_EQ, 0)));
    EXPECT_EQ(value(park, a + 4), 1u << 31);
    CHECK_OK(table.wake_op(park, *as, f, g, 1, 1, FUTEX_OP(FUTEX_OP_SET, 0, FUTEX_OP_CMP_GT, 0)));
    waiter('a', f);
    waiter('b', g);
    park.yield();
    EXPECT_EQ(CHECK_OK(table.wake_op(park, *as, f, g, 1, 1,
                                     FUTEX_OP(FUTEX_OP_SET, 1, FUTEX_OP_CMP_NE, 0))),
              1);
    EXPECT_EQ(CHECK_OK(table.wake_op(park, *as, f, g, 1, 1,
                                     FUTEX_OP(FUTEX_OP_XOR, 1, FUTEX_OP_CMP_LE, 1))),
              1);
    EXPECT_EQ(table.wake_op(park, *as, f, g, 1, 1, 7u << 28).error(), Errno::kNOSYS);
    EXPECT_EQ(table.wake_op(park, *as, f, g, 1, 1, 9u << 24).error(), Errno::kNOSYS);
    EXPECT_EQ(table.wake_op(park, *as, f, {16, true}, 1, 1, 0).error(), Errno::kFAULT);
  });
  EXPECT_EQ(log, "ab");
}

TEST_F(Futex, OneOfMany) {
  on([&](Park& park) {
    FutexTable::Expect words[3] = {{{a, true}, 0}, {{a + 4, true}, 0}, {{s, false}, 0}};
    w.sim.reactor.spawn("many", [&](Park& p) {
      EXPECT_EQ(CHECK_OK(table.wait_many(p, *as, words, kNever)), 1u);
      log += "m";
    });
    park.yield();
    EXPECT_EQ(CHECK_OK(table.wake(park, *as, {a + 4, true}, 9)), 1);
    park.yield();
    EXPECT_EQ(log, "m");
    EXPECT_EQ(CHECK_OK(table.wake(park, *as, {a, true}, 9)), 0);
    words[2].value = 1;
    EXPECT_EQ(table.wait_many(park, *as, words, kNever).error(), Errno::kAGAIN);
    words[2].value = 0;
    EXPECT_EQ(table.wait_many(park, *as, words, Deadline{5}).error(), Errno::kTIMEDOUT);
  });
}

TEST_F(Futex, RobustLists) {
  on([&](Park& park) {
    // Locks at a+0x100 and a+0x200 (link first, word at +16), the head at a.
    const uint64_t head = a + 0x10, l1 = a + 0x100, l2 = a + 0x200, l3 = a + 0x300;
    auto list = [&](uint64_t first, uint64_t pending) {
      store64(park, head, first);
      store64(park, head + 8, 16);
      store64(park, head + 16, pending);
    };
    store64(park, l1, l2);
    store64(park, l2, head);
    store(park, l1 + 16, 42 | FUTEX_WAITERS);
    store(park, l2 + 16, 43);  // not ours
    store(park, l3 + 16, 42);
    list(l1, l3);
    w.sim.reactor.spawn("waiter", [&](Park& p) {
      CHECK_OK(table.wait(p, *as, {l1 + 16, false}, 42 | FUTEX_WAITERS, ~0u, kNever));
      log += "w";
    });
    park.yield();
    table.exit_robust_list(park, *as, head, 42);
    park.yield();
    EXPECT_EQ(log, "w");
    EXPECT_EQ(value(park, l1 + 16), FUTEX_OWNER_DIED | FUTEX_WAITERS);
    EXPECT_EQ(value(park, l2 + 16), 43u);
    EXPECT_EQ(value(park, l3 + 16), uint32_t{FUTEX_OWNER_DIED});
    // Lists that lie: loops, wild pointers, no memory.
    store64(park, l1, l1);
    table.exit_robust_list(park, *as, head, 42);
    store64(park, l1, 0x123450);
    table.exit_robust_list(park, *as, head, 42);
    list(~0ull, ~0ull);
    table.exit_robust_list(park, *as, head, 42);
    table.exit_robust_list(park, *as, 16, 42);
    table.exit_robust_list(park, *as, ~0ull, 42);
    store64(park, head + 8, ~0ull);
    table.exit_robust_list(park, *as, head, 42);
  });
}

TEST_F(Futex, NoWakeIsLostInARandomRun) {
  for (uint32_t seed = 1; seed <= 5; ++seed) {
    SCOPED_TRACE(seed);
    FutexTable t;
    World world;
    int woken = 0, timed_out = 0, reported = 0, finished = 0;
    constexpr int kThreads = 50;
    world.sim.reactor.spawn("main", [&](Park& park) {
      std::mt19937 rng(seed);
      Ref<AddressSpace> space = world.space(park);
      MmapRequest r;
      r.len = kPageSize;
      r.prot = kRW;
      uint64_t at = CHECK_OK(space->mmap(park, r, {}));
      for (int i = 0; i < kThreads; ++i) {
        world.sim.reactor.spawn("t", [&, space, at, seed = rng()](Park& p) {
          std::mt19937 mine(seed);
          for (int k = 0; k < 40; ++k) {
            Deadline d = mine() % 3 == 0 ? Deadline{p.reactor().now_ns() + mine() % 2000} : kNever;
            Result<> res = t.wait(p, *space, {at + 4 * (mine() % 5), true}, 0, 1 + mine() % 7, d);
            res ? ++woken : ++timed_out;
          }
          ++finished;
        });
      }
      while (finished < kThreads) {
        FutexTable::Word x{at + 4 * (rng() % 5), true}, y{at + 4 * (rng() % 5), true};
        if (rng() % 4 == 0) {
          (void)CHECK_OK(t.requeue(park, *space, x, y, 0, rng() % 4, std::nullopt));
        } else {
          reported += CHECK_OK(t.wake(park, *space, x, 1 + rng() % 3, 1 + rng() % 7));
        }
        park.suspend(Deadline{park.reactor().now_ns() + rng() % 300});
      }
    });
    world.sim.run();
    EXPECT_EQ(finished, kThreads);
    EXPECT_EQ(woken, reported);
    EXPECT_EQ(woken + timed_out, kThreads * 40);
    EXPECT_GT(timed_out, 0);
  }
}

}  // namespace
}  // namespace uk
