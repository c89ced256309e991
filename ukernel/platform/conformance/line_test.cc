// Spaces of one line: a stub goes from one to the next as it is, and nobody can tell but by the
// time it takes.
#include <sys/mman.h>
#include <sys/syscall.h>

#include <array>
#include <cstring>
#include <random>

#include "gtest/gtest.h"
#include "ukernel/platform/conformance/guest_code.h"
#include "ukernel/platform/conformance/platforms.h"
#include "ukernel/platform/conformance/world.h"
#include "ukernel/platform/stub/layout.h"

namespace uk::conformance {
namespace {

constexpr Prot kR = Prot::kRead, kRW = Prot::kRead | Prot::kWrite;
constexpr size_t kSlots = 12;

struct Token final : RefCounted {};

class Lines : public testing::TestWithParam<const char*> {
 protected:
  // What is to be in a slot, every second page from kData on.
  struct Slot {
    Memory* memory = nullptr;  // null: nothing
    uint64_t page = 0;
    Prot prot = kR;
    bool operator==(const Slot&) const = default;
  };
  static uint64_t address(size_t slot) { return kData + 2 * slot * kPage; }

  Lines() { std::memcpy(code_.data(), blob::touch.begin, blob::touch.end - blob::touch.begin); }

  SpaceLine line(size_t n) { return {tokens_[n], tokens_[2]}; }

  std::unique_ptr<GuestSpace> space(Park& park, const SpaceLine& line) {
    auto s = CHECK_OK(world_.platform().new_space(park, line));
    s->map(kCode, kPage, Prot::kRead | Prot::kExec, code_.fd(), 0, true);
    return s;
  }
  void map(GuestSpace& s, size_t i, const Slot& slot, bool populate) {
    s.map(address(i), kPage, slot.prot, slot.memory->fd(), slot.page * kPage, populate);
  }

  arch::UserRegs regs(uint64_t arg) {
    arch::UserRegs r;
    r.rip = kCode;
    r.rdi = arg;
    return r;
  }
  // The guest reads and writes in a slot: what happens is what must.
  void look(Park& park, GuestContext& c, size_t i, const Slot& slot) {
    SCOPED_TRACE(i);
    ASSERT_TRUE(c.set_regs(park, regs(address(i))));
    uint64_t* word = slot.memory != nullptr ? &slot.memory->at(slot.page * kPage) : nullptr;
    const uint64_t before = word != nullptr ? *word : 0;
    const Trap t = c.run(park);
    const bool writes = word != nullptr && slot.prot == kRW;
    ASSERT_EQ(t.kind, writes ? Trap::Kind::kSyscall : Trap::Kind::kPageFault);
    if (word == nullptr) {
      EXPECT_EQ(c.get_regs(park)->rip, kCode) << "it could be read";
      return;
    }
    EXPECT_EQ(*word, before + writes);
    if (writes) {
      EXPECT_EQ(t.nr, before) << "what it has read";
      c.set_syscall_result(0);
    } else {
      EXPECT_EQ(c.get_regs(park)->rip, kCode + 3) << "it could not be read";
      EXPECT_EQ(c.get_regs(park)->rax, before);
    }
  }

  World world_{GetParam()};
  Memory code_{1}, one_{kSlots}, two_{kSlots};
  std::array<Ref<Token>, 3> tokens_{make_ref<Token>(), make_ref<Token>(), make_ref<Token>()};
};

TEST_P(Lines, OnlyWhatIsWantedIsThere) {
  world_.run([&](Park& park) {
    for (Memory* m : {&one_, &two_}) {
      for (size_t i = 0; i < kSlots; ++i) m->at(i * kPage) = (m == &one_ ? 1000 : 2000) + i;
    }
    std::mt19937 random(1);
    auto any_slot = [&](size_t i) {
      Slot s;
      if (random() % 4 == 0) return s;
      s.memory = random() % 4 == 0 ? &two_ : &one_;
      s.page = random() % 3 == 0 ? random() % kSlots : i;
      s.prot = random() % 2 == 0 ? kR : kRW;
      return s;
    };
    std::array<Slot, kSlots> slots;
    for (int round = 0; round < 120; ++round) {
      SCOPED_TRACE(round);
      for (size_t i = 0; i < kSlots; ++i) {
        if (round == 0 || random() % 3 == 0) slots[i] = any_slot(i);
      }
      const size_t which = random() % 8;  // mostly the first
      auto s = space(park, which == 0 ? SpaceLine() : line(which == 1 ? 1 : 0));
      for (size_t i = 0; i < kSlots; ++i) {
        if (slots[i].memory != nullptr) map(*s, i, slots[i], random() % 2 == 0);
      }
      auto c = CHECK_OK(s->new_context(park, regs(0), {}));
      for (size_t i = 0; i < kSlots; ++i) look(park, *c, i, slots[i]);
      // Some of it changes, by the guest itself too.
      for (uint32_t n = random() % 4; n > 0; --n) {
        const size_t i = random() % kSlots;
        const auto by = random() % 2 == 0 ? GuestSpace::By::kGuest : GuestSpace::By::kKernel;
        if (slots[i].memory == nullptr) continue;
        if (random() % 2 == 0) {
          s->unmap(address(i), kPage, by);
          slots[i] = {};
        } else {
          s->protect(address(i), kPage, kR, by);
          slots[i].prot = kR;
        }
      }
      if (random() % 2 == 0) {
        for (size_t i = 0; i < kSlots; ++i) look(park, *c, i, slots[i]);
      }
      if (random() % 4 != 0) s->leave_mappings(make_ref<Token>());
      c.reset();
      s.reset();
      if (HasFailure()) return;
    }
  });
}

// The stub is the same one, and what needs no change is not touched.
TEST_P(Lines, TheNextOneHasTheStub) {
  if (std::string_view(GetParam()) == "ptrace") GTEST_SKIP() << "a line means nothing to it";
  world_.run([&](Park& park) {
    int pid = 0;
    for (int round = 0; round < 5; ++round) {
      // Somebody else's stub is at hand, too.
      auto other = space(park, {});
      ASSERT_TRUE(other->flush(park));
      auto s = space(park, line(0));
      if (round > 0) {
        EXPECT_EQ(s->host_pid(), pid);
      }
      pid = s->host_pid();
      for (size_t i = 0; i < kSlots; ++i) map(*s, i, {&one_, i, kRW}, true);
      auto c = CHECK_OK(s->new_context(park, regs(0), {}));
      for (size_t i = 0; i < kSlots; ++i) look(park, *c, i, {&one_, i, kRW});
      s->leave_mappings(make_ref<Token>());
    }
  });
}

// What keeps the descriptors open lives as long as the mappings may be used again.
TEST_P(Lines, PinsAreHeldAndGoAway) {
  if (std::string_view(GetParam()) == "ptrace") GTEST_SKIP() << "a line means nothing to it";
  world_.run([&](Park& park) {
    auto pins = make_ref<Token>();
    auto s = space(park, line(0));
    ASSERT_TRUE(s->flush(park));
    s->leave_mappings(pins);
    s.reset();
    EXPECT_EQ(pins->ref_count(), 2u);
    s = space(park, line(0));
    EXPECT_EQ(pins->ref_count(), 1u);
    ASSERT_TRUE(s->flush(park));
    s->leave_mappings(pins);
    s.reset();
    // Nobody comes for them.
    const uint64_t end = world_.clock().monotonic_ns() + 5'000'000'000;
    while (pins->ref_count() > 1 && world_.clock().monotonic_ns() < end)
      park.suspend({world_.clock().monotonic_ns() + 10'000'000});
    EXPECT_EQ(pins->ref_count(), 1u);
  });
}

// Whom the pins belong to may go before the platform does.
TEST_P(Lines, NothingIsHeldAtTheEnd) {
  world_.run([&](Park& park) {
    auto pins = make_ref<Token>();
    auto left = space(park, line(0)), late = space(park, line(1));
    for (auto* s : {&left, &late}) {
      ASSERT_TRUE((*s)->flush(park));
      (*s)->leave_mappings(pins);
    }
    left.reset();
    world_.platform().let_go();
    late.reset();
    EXPECT_EQ(pins->ref_count(), 1u);
  });
}

// A guest that took away what its successor thinks is there.
TEST_P(Lines, ARobbedStubFaults) {
  if (std::string_view(GetParam()) != "direct") GTEST_SKIP() << "guests make no errands";
  world_.run([&](Park& park) {
    const uint64_t stub = world_.platform().user_limit();
    auto s = space(park, line(0));
    const Slot slot{&one_, 0, kRW}, beside{&one_, 1, kRW};
    map(*s, 0, slot, true);
    map(*s, 1, beside, true);
    auto c = CHECK_OK(s->new_context(park, regs(0), {}));
    look(park, *c, 0, slot);
    // From the instruction that makes errands it comes back to where its last call came from: none.
    arch::UserRegs r = regs(address(0));
    r.rip = stub::stub_address(stub, stub::uk_stub_gate_errand_ip) - 2;
    r.rax = SYS_munmap;
    r.rsi = kPage;
    r.r10 = 0;
    r.r8 = r.r9 = kData + 2 * kPage;  // no more errands
    ASSERT_TRUE(c->set_regs(park, r));
    const Trap t = c->run(park);
    ASSERT_EQ(t.kind, Trap::Kind::kPageFault);
    ASSERT_EQ(t.addr, 0u);
    look(park, *c, 1, beside);
    look(park, *c, 0, {});
    const int pid = s->host_pid();
    s->leave_mappings(make_ref<Token>());
    c.reset();
    s.reset();

    s = space(park, line(0));
    ASSERT_EQ(s->host_pid(), pid);
    map(*s, 0, slot, true);
    map(*s, 1, beside, true);
    c = CHECK_OK(s->new_context(park, regs(0), {}));
    look(park, *c, 1, beside);
    look(park, *c, 0, {});
    map(*s, 0, slot, true);
    look(park, *c, 0, slot);
  });
}

INSTANTIATE_TEST_SUITE_P(Platforms, Lines, platforms());

}  // namespace
}  // namespace uk::conformance
