#include "ukernel/platform/stub/mappings.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <map>
#include <random>
#include <tuple>

namespace uk::stub {
namespace {

constexpr uint64_t kAt = 0x100000, kPages = 40;
constexpr uint64_t kR = PROT_READ, kRW = PROT_READ | PROT_WRITE;

Command mmap_of(uint64_t page, uint64_t n, uint64_t prot, uint64_t fd, uint64_t offset) {
  return {
      .nr = SYS_mmap,
      .args = {kAt + page * kPage, n * kPage, prot, MAP_SHARED | MAP_FIXED, fd, offset * kPage}};
}
Command munmap_of(uint64_t page, uint64_t n) {
  return {.nr = SYS_munmap, .args = {kAt + page * kPage, n * kPage}};
}
Command mprotect_of(uint64_t page, uint64_t n, uint64_t prot) {
  return {.nr = SYS_mprotect, .args = {kAt + page * kPage, n * kPage, prot}};
}

// What a host has, by page.
struct Host {
  using Page = std::tuple<uint64_t, uint64_t, uint64_t>;  // fd, offset, protection
  void execute(const Command& c) {
    for (uint64_t at = c.args[0]; at < c.args[0] + c.args[1]; at += kPage) {
      if (c.nr == SYS_mmap) {
        pages[at] = {c.args[4], c.args[5] + (at - c.args[0]), c.args[2]};
      } else if (c.nr == SYS_munmap) {
        pages.erase(at);
      } else if (auto it = pages.find(at); it != pages.end()) {
        std::get<2>(it->second) = c.args[2];
      }
    }
  }
  std::map<uint64_t, Page> pages;
};

Mappings after(std::initializer_list<Command> commands) {
  Mappings m;
  for (const Command& c : commands) m.apply(c);
  return m;
}

TEST(Mappings, WhatIsThereNeedsNothing) {
  const Mappings a = after({mmap_of(0, 8, kR, 3, 100), mmap_of(10, 2, kRW, 3, 50)});
  EXPECT_TRUE(a.change_into(a).empty());
  // In other pieces, and by another way.
  const Mappings b = after({mmap_of(0, 3, kR, 3, 100), mmap_of(3, 5, kRW, 3, 103),
                            mmap_of(8, 5, kR, 3, 1), munmap_of(8, 5), mprotect_of(3, 5, kR),
                            mmap_of(10, 1, kRW, 3, 50), mmap_of(11, 1, kRW, 3, 51)});
  EXPECT_TRUE(a.change_into(b).empty());
  EXPECT_TRUE(b.change_into(a).empty());
}

TEST(Mappings, OnlyWhatDiffersChanges) {
  const Mappings a =
      after({mmap_of(0, 8, kR, 3, 100), mmap_of(20, 2, kR, 4, 0), mmap_of(23, 1, kR, 4, 9)});
  const auto other_rights =
      a.change_into(after({mmap_of(0, 8, kR, 3, 100), mprotect_of(2, 1, kRW),
                           mmap_of(20, 2, kR, 4, 0), mmap_of(23, 1, kR, 4, 9)}));
  ASSERT_EQ(other_rights.size(), 1u);
  EXPECT_EQ(other_rights[0].nr, uint64_t{SYS_mmap});
  EXPECT_EQ(other_rights[0].args[0], kAt + 2 * kPage);
  EXPECT_EQ(other_rights[0].args[1], kPage);
  EXPECT_EQ(other_rights[0].args[5], 102 * kPage);
  // One unmapping for what lies between two things that stay.
  const auto less = a.change_into(after({mmap_of(0, 8, kR, 3, 100)}));
  ASSERT_EQ(less.size(), 1u);
  EXPECT_EQ(less[0].nr, uint64_t{SYS_munmap});
  EXPECT_EQ(less[0].args[0], kAt + 20 * kPage);
  EXPECT_EQ(less[0].args[1], 4 * kPage);
}

TEST(Mappings, WhatIsForgottenIsMadeAgain) {
  Mappings a = after({mmap_of(0, 8, kR, 3, 100)});
  const Mappings wanted = a;
  a.forget(kAt + 3 * kPage, kAt + 4 * kPage);
  const auto again = a.change_into(wanted);
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].args[0], kAt + 3 * kPage);
  EXPECT_EQ(again[0].args[1], kPage);
  EXPECT_EQ(a.change_into(Mappings()).size(), 1u);
  a.forget(0, 1ull << 46);
  EXPECT_TRUE(a.lost());
}

TEST(Mappings, ClearedInSteps) {
  Mappings m;
  Host host;
  auto add = [&](uint64_t page, uint64_t n, uint64_t flags) {
    Command c = mmap_of(page, n, kRW, 3, page);
    c.args[3] |= flags;
    m.apply(c);
    host.execute(c);
  };
  add(0, 300, MAP_POPULATE);
  add(400, 2000, 0);
  add(5000, 1, MAP_POPULATE);
  const auto steps = m.clear_in_steps();
  EXPECT_EQ(steps.size(), 5u) << "128 pages that are there in each, or 1,024 that may be";
  for (const Command& c : steps) {
    EXPECT_EQ(c.nr, uint64_t{SYS_munmap});
    host.execute(c);
  }
  EXPECT_TRUE(host.pages.empty());
  add(0, 1 << 20, MAP_POPULATE);
  EXPECT_LE(m.clear_in_steps().size(), 65u);
  EXPECT_TRUE(Mappings().clear_in_steps().empty());
}

TEST(Mappings, ManyPiecesAreLost) {
  Mappings m;
  for (uint64_t i = 0; i < 1000 && !m.lost(); ++i) m.apply(mmap_of(2 * i, 1, kR, 3, 0));
  EXPECT_TRUE(m.lost());
}

// Whatever there is and whatever is wanted: the commands lead from one to the other.
TEST(Mappings, RandomChanges) {
  for (uint32_t seed = 0; seed < 2000; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    Mappings accounts[2];
    Host hosts[2];
    std::vector<Command> common;
    auto some = [&] {
      const uint64_t page = random() % kPages, n = 1 + random() % 6;
      const uint64_t prot = random() % 2 == 0 ? kR : kRW;
      switch (random() % 5) {
        case 0:
          return munmap_of(page, n);
        case 1:
          return mprotect_of(page, n, prot);
        default:
          return mmap_of(page, n, prot, 3 + random() % 2, page + random() % 2);
      }
    };
    for (uint32_t i = 0; i < 12; ++i) common.push_back(some());
    for (int side = 0; side < 2; ++side) {
      auto todo = common;
      for (uint32_t i = random() % 6; i > 0; --i) todo.push_back(some());
      for (const Command& c : todo) {
        accounts[side].apply(c);
        hosts[side].execute(c);
      }
    }
    // Of what is forgotten, anything may be there.
    for (uint32_t i = random() % 3; i > 0; --i) {
      const Command c = some();
      accounts[0].forget(c.args[0], c.args[0] + c.args[1]);
      hosts[0].execute(
          some().nr == SYS_munmap
              ? munmap_of((c.args[0] - kAt) / kPage, c.args[1] / kPage)
              : mmap_of((c.args[0] - kAt) / kPage, c.args[1] / kPage, kRW, 9, random() % 100));
    }
    const auto changes = accounts[0].change_into(accounts[1]);
    for (const Command& c : changes) hosts[0].execute(c);
    EXPECT_EQ(hosts[0].pages, hosts[1].pages);
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace uk::stub
