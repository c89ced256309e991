#include "ukernel/platform/stub/commands.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <map>
#include <random>
#include <tuple>
#include <vector>

namespace uk::stub {
namespace {

constexpr uint64_t kAt = 0x100000;
constexpr Prot kRW = Prot::kRead | Prot::kWrite;

// What a stub has, by page: descriptor, offset and protection.
class Stub {
 public:
  using Page = std::tuple<int, uint64_t, uint64_t>;

  void execute(const Command& c) {
    for (uint64_t at = c.args[0]; at < c.args[0] + c.args[1]; at += kPage) {
      if (c.nr == SYS_mmap) {
        pages[at] = {static_cast<int>(c.args[4]), c.args[5] + (at - c.args[0]), c.args[2]};
      } else if (c.nr == SYS_munmap) {
        pages.erase(at);
      } else {
        ASSERT_EQ(c.nr, uint64_t{SYS_mprotect});
        ASSERT_TRUE(pages.contains(at)) << "the host would refuse it";
        std::get<2>(pages[at]) = c.args[2];
      }
    }
  }
  // Returns how many commands there were.
  size_t take(CommandQueue& queue) {
    size_t all = 0;
    while (!queue.empty()) {
      CommandPage page{};
      const size_t n = queue.fill(page);
      for (size_t i = 0; i < n; ++i) execute(page.commands[i]);
      all += n;
    }
    return all;
  }
  std::map<uint64_t, Page> pages;
};

TEST(CommandQueue, NeighboursAreMerged) {
  CommandQueue q;
  q.map(kAt, kPage, kRW, 3, 0, true);
  q.map(kAt + kPage, kPage, kRW, 3, kPage, true);
  q.unmap(kAt + 8 * kPage, kPage);
  q.unmap(kAt + 9 * kPage, kPage);
  EXPECT_TRUE(q.urgent());
  Stub stub;
  EXPECT_EQ(stub.take(q), 2u);
  EXPECT_FALSE(q.urgent());
}

// As the dynamic linker does it: the whole library, then each part of it anew.
TEST(CommandQueue, LateMappingsAreReplacedInTheQueue) {
  CommandQueue q;
  q.map_late(kAt, 16 * kPage, Prot::kRead, 5, 0, false);
  q.map_late(kAt + 4 * kPage, 4 * kPage, Prot::kRead | Prot::kExec, 5, 4 * kPage, false);
  q.map(kAt + 8 * kPage, 2 * kPage, kRW, 7, 0, true);
  q.unmap(kAt + 12 * kPage, 4 * kPage);
  EXPECT_FALSE(q.urgent());
  EXPECT_TRUE(q.late(kAt));
  EXPECT_TRUE(q.late(kAt + 16 * kPage - 1)) << "nothing of it is in force";
  EXPECT_FALSE(q.late(kAt + 16 * kPage));
  Stub stub;
  EXPECT_EQ(stub.take(q), 4u);
  EXPECT_EQ(stub.pages.size(), 12u);
  EXPECT_EQ(stub.pages[kAt + 5 * kPage], Stub::Page(5, 5 * kPage, PROT_READ | PROT_EXEC));
  EXPECT_EQ(stub.pages[kAt + 8 * kPage], Stub::Page(7, 0, PROT_READ | PROT_WRITE));
  EXPECT_EQ(stub.pages[kAt + 11 * kPage], Stub::Page(5, 11 * kPage, PROT_READ));
  EXPECT_FALSE(q.late(kAt));
}

TEST(CommandQueue, WhatReachesBeyondLateMappingsIsUrgent) {
  CommandQueue q;
  q.map_late(kAt, 4 * kPage, Prot::kRead, 5, 0, false);
  q.unmap(kAt + 2 * kPage, 4 * kPage);
  EXPECT_TRUE(q.urgent());
  EXPECT_TRUE(q.late(kAt));
  EXPECT_FALSE(q.late(kAt + 2 * kPage));
  // Behind the munmap nothing can be late in its range.
  q.map_late(kAt + 2 * kPage, kPage, Prot::kRead, 6, 0, false);
  EXPECT_FALSE(q.late(kAt + 2 * kPage));
  Stub stub;
  stub.take(q);
  EXPECT_EQ(stub.pages.size(), 3u);
}

TEST(CommandQueue, ProtectionOfALateMappingIsUrgent) {
  CommandQueue q;
  q.map_late(kAt, 4 * kPage, Prot::kRead, 5, 0, false);
  q.protect(kAt + kPage, kPage, Prot::kNone);
  EXPECT_TRUE(q.urgent());
  EXPECT_FALSE(q.late(kAt + kPage));
  Stub stub;
  stub.take(q);
  EXPECT_EQ(std::get<2>(stub.pages[kAt + kPage]), uint64_t{PROT_NONE});
}

TEST(CommandQueue, ManyLateMappingsAreUrgent) {
  CommandQueue q;
  for (uint64_t i = 0; i < 1000; ++i)
    q.map_late(kAt + 2 * i * kPage, kPage, Prot::kRead, 5, 0, false);
  EXPECT_TRUE(q.urgent());
  Stub stub;
  EXPECT_EQ(stub.take(q), 1000u);
}

std::vector<Errand> run_errands(CommandQueue& q, Stub& stub) {
  const std::vector<Errand> errands = q.take_errands(UK_MAX_ERRANDS);
  for (const Errand& e : errands) {
    stub.execute({.nr = e.nr, .args = {e.addr, e.len, e.prot}});
  }
  return errands;
}

TEST(CommandQueue, ErrandsAreConfirmedByTheNextBatch) {
  CommandQueue q;
  Stub stub;
  q.map(kAt, 8 * kPage, kRW, 3, 0, true);
  stub.take(q);
  q.unmap(kAt, kPage, true);
  q.unmap(kAt + kPage, kPage, true);
  q.protect(kAt + 4 * kPage, kPage, Prot::kRead, true);
  EXPECT_TRUE(q.urgent());
  EXPECT_TRUE(q.take_errands(1).empty()) << "too many";
  EXPECT_EQ(run_errands(q, stub).size(), 2u) << "neighbours are merged";
  EXPECT_FALSE(q.urgent());
  EXPECT_TRUE(q.unconfirmed());
  q.errands_over(true);
  EXPECT_TRUE(q.unconfirmed());
  // The place may be used again at once.
  q.map_late(kAt, kPage, Prot::kRead, 5, 0, false);
  EXPECT_TRUE(q.late(kAt));
  EXPECT_FALSE(q.urgent());
  EXPECT_EQ(stub.take(q), 2u) << "the unmapping once more, but not the protection";
  EXPECT_FALSE(q.unconfirmed());
  EXPECT_EQ(stub.pages[kAt], Stub::Page(5, 0, PROT_READ));
}

TEST(CommandQueue, ErrandsThatWereNotMadeAreUrgentAgain) {
  CommandQueue q;
  Stub stub;
  q.map(kAt, 8 * kPage, kRW, 3, 0, true);
  stub.take(q);
  q.protect(kAt, kPage, Prot::kRead, true);
  EXPECT_EQ(q.take_errands(UK_MAX_ERRANDS).size(), 1u);
  q.errands_over(false);
  EXPECT_TRUE(q.urgent());
  EXPECT_EQ(stub.take(q), 1u);
  EXPECT_EQ(std::get<2>(stub.pages[kAt]), uint64_t{PROT_READ});
  // Somebody else's batch was quicker.
  q.unmap(kAt, kPage, true);
  EXPECT_EQ(run_errands(q, stub).size(), 1u);
  EXPECT_EQ(stub.take(q), 1u);
  q.errands_over(true);
  EXPECT_TRUE(q.empty());
  EXPECT_FALSE(q.unconfirmed());
}

TEST(CommandQueue, WhatGrantsRightsOrComesBehindSuchIsNoErrand) {
  CommandQueue q;
  q.protect(kAt, kPage, kRW, true);
  EXPECT_TRUE(q.take_errands(UK_MAX_ERRANDS).empty());
  q.unmap(kAt, kPage, true);
  EXPECT_TRUE(q.take_errands(UK_MAX_ERRANDS).empty());
  q.clear();
  q.unmap(kAt, kPage, true);
  q.map(kAt, kPage, kRW, 3, 0, true);
  EXPECT_TRUE(q.take_errands(UK_MAX_ERRANDS).empty());
  Stub stub;
  EXPECT_EQ(stub.take(q), 2u);
  EXPECT_EQ(stub.pages.size(), 1u);
}

// Whatever is done in whatever order, and whenever the queue is emptied: the stub ends up with what
// it would have had if each change had been made at once, and where the queue says nothing of being
// late and is not urgent, it has that already.
TEST(CommandQueue, OrderOfEffectsIsKept) {
  for (uint32_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    auto below = [&](uint64_t n) { return random() % n; };
    constexpr uint64_t kPages = 24;
    CommandQueue q;
    Stub stub, ideal;
    for (int step = 0; step < 60; ++step) {
      const uint64_t first = below(kPages), n = 1 + below(kPages - first);
      const uint64_t addr = kAt + first * kPage, len = n * kPage;
      bool empty = true, full = true;
      for (uint64_t a = addr; a < addr + len; a += kPage) {
        (ideal.pages.contains(a) ? empty : full) = false;
      }
      const int fd = static_cast<int>(3 + below(3));
      const uint64_t offset = below(8) * kPage;
      const Prot prot = below(2) != 0 ? kRW : Prot::kRead;
      const uint64_t host = any(prot & Prot::kWrite) ? PROT_READ | PROT_WRITE : PROT_READ;
      const uint64_t fd_arg = static_cast<uint64_t>(fd);
      switch (below(7)) {
        case 0:
        case 1:
          if (empty) {
            q.map_late(addr, len, prot, fd, offset, false);
          } else {
            q.map(addr, len, prot, fd, offset, false);
          }
          ideal.execute({.nr = SYS_mmap, .args = {addr, len, host, 0, fd_arg, offset}});
          break;
        case 2:
          q.map(addr, len, prot, fd, offset, true);
          ideal.execute({.nr = SYS_mmap, .args = {addr, len, host, 0, fd_arg, offset}});
          break;
        case 3:
          q.unmap(addr, len, below(2) != 0);
          ideal.execute({.nr = SYS_munmap, .args = {addr, len}});
          break;
        case 4:
          if (!full) break;
          q.protect(addr, len, prot, below(2) != 0);
          ideal.execute({.nr = SYS_mprotect, .args = {addr, len, host}});
          break;
        case 5:
          if (below(3) == 0) stub.take(q);
          break;
        case 6:  // the guest runs
          run_errands(q, stub);
          q.errands_over(below(3) != 0);
          break;
      }
      if (q.urgent()) continue;
      for (uint64_t a = kAt; a < kAt + kPages * kPage; a += kPage) {
        if (q.late(a)) {
          ASSERT_FALSE(stub.pages.contains(a));
        } else {
          auto of = [a](Stub& s) {
            auto it = s.pages.find(a);
            return it == s.pages.end() ? Stub::Page(-1, 0, 0) : it->second;
          };
          ASSERT_EQ(of(stub), of(ideal));
        }
      }
    }
    stub.take(q);
    ASSERT_EQ(stub.pages, ideal.pages);
  }
}

}  // namespace
}  // namespace uk::stub
