#include "ukernel/mm/phys.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <set>

#include "ukernel/mm/frame_map.h"

namespace uk {
namespace {

bool is_zero(const PhysMemory& m, Pfn p) {
  for (uint64_t i = 0; i < kPageSize; ++i) {
    if (m.ptr(p)[i] != std::byte{0}) return false;
  }
  return true;
}

TEST(FrameMap, TakesLowestAndContiguous) {
  FrameMap m(1000);
  Pfn a, b;
  EXPECT_EQ(m.take(10, &a), 10u);
  EXPECT_EQ(a, 0u);
  EXPECT_EQ(m.take(300, &b), 300u);
  EXPECT_EQ(b, 64u);  // long runs start at a word
  EXPECT_EQ(m.free_frames(), 690u);
  m.give(3);
  Pfn c;
  EXPECT_EQ(m.take(1, &c), 1u);
  EXPECT_EQ(c, 3u);
}

TEST(FrameMap, GivesLessWhenFragmented) {
  FrameMap m(128);
  Pfn p;
  for (int i = 0; i < 128; ++i) ASSERT_EQ(m.take(1, &p), 1u);
  EXPECT_EQ(m.take(1, &p), 0u);
  m.give(5);
  m.give(70);
  m.give(71);
  m.give(72);
  EXPECT_EQ(m.take(16, &p), 3u);
  EXPECT_EQ(p, 70u);
}

TEST(FrameMap, RandomAgainstASet) {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 rng(seed);
    const uint32_t frames = 1 + rng() % 9000;
    FrameMap m(frames);
    std::vector<bool> used(frames);
    std::vector<uint32_t> held;
    for (int i = 0; i < 3000; ++i) {
      if (rng() % 2 == 0) {
        uint32_t n = 1 + rng() % (rng() % 4 == 0 ? 400 : 20), first = 0;
        uint32_t got = m.take(n, &first);
        ASSERT_LE(got, n);
        ASSERT_TRUE(got != 0 || held.size() == frames);
        for (uint32_t f = first; f < first + got; ++f) {
          ASSERT_LT(f, frames);
          ASSERT_FALSE(used[f]);
          used[f] = true;
          held.push_back(f);
        }
      } else {
        for (int k = rng() % 30; k > 0 && !held.empty(); --k) {
          std::swap(held[rng() % held.size()], held.back());
          used[held.back()] = false;
          m.give(held.back());
          held.pop_back();
        }
      }
      ASSERT_EQ(m.free_frames(), frames - held.size());
    }
  }
}

TEST(PhysMemory, FramesAreZeroedWhenUsedAgain) {
  auto m = CHECK_OK(PhysMemory::create(1 << 20));
  Pfn p = CHECK_OK(m->alloc());
  EXPECT_TRUE(is_zero(*m, p));
  std::memset(m->ptr(p), 0xaa, kPageSize);
  m->ref(p);
  EXPECT_EQ(m->ref_count(p), 2u);
  m->unref(p);
  m->unref(p);
  Pfn q = CHECK_OK(m->alloc());
  EXPECT_EQ(q, p);  // the used one comes first
  EXPECT_TRUE(is_zero(*m, q));
  m->unref(q);
}

TEST(PhysMemory, TheLimitIsHard) {
  auto m = CHECK_OK(PhysMemory::create(16 * kPageSize));
  EXPECT_EQ(m->total_pages(), 16u);
  auto e = CHECK_OK(m->alloc_extent(100));
  EXPECT_EQ(e.got, 16u);
  EXPECT_EQ(m->alloc().error(), Errno::kNOMEM);
  struct Giver final : PhysMemory::Reclaimer {
    uint64_t reclaim(uint64_t) override {
      m->unref(7);
      return 1;
    }
    PhysMemory* m;
  } giver;
  giver.m = m.get();
  m->add_reclaimer(giver);
  EXPECT_EQ(CHECK_OK(m->alloc()), 7u);
}

TEST(PhysMemory, LargeFreesGoBackToTheHostAndComeBackZero) {
  auto m = CHECK_OK(PhysMemory::create(256 << 20));
  std::vector<Pfn> all;
  while (all.size() < 40000) {
    auto e = CHECK_OK(m->alloc_extent(512));
    for (uint32_t i = 0; i < e.got; ++i) {
      *reinterpret_cast<uint64_t*>(m->ptr(e.first + i)) = ~0ull;
      all.push_back(e.first + i);
    }
  }
  for (Pfn p : all) m->unref(p);
  EXPECT_EQ(m->free_pages(), m->total_pages());
  for (int i = 0; i < 40000;) {
    auto e = CHECK_OK(m->alloc_extent(64));
    for (uint32_t k = 0; k < e.got; ++k, ++i) {
      ASSERT_EQ(*reinterpret_cast<uint64_t*>(m->ptr(e.first + k)), 0u);
    }
  }
}

TEST(PhysMemory, WhatNobodyNeedsIsTrimmedInSteps) {
  auto m = CHECK_OK(PhysMemory::create(512 << 20));
  constexpr uint64_t kMiB = (1 << 20) / kPageSize;
  int surplus = 0;
  m->on_surplus = [&] { ++surplus; };
  auto use = [&](uint64_t pages) {
    std::vector<PageRef> held;
    while (held.size() < pages) held.push_back(PageRef::adopt(*m, CHECK_OK(m->alloc())));
  };
  use(60 * kMiB);
  EXPECT_EQ(surplus, 0);
  EXPECT_FALSE(m->trim());
  EXPECT_EQ(m->kept_pages(), 60 * kMiB) << "little is kept for good";
  use(120 * kMiB);
  EXPECT_EQ(surplus, 1);
  EXPECT_TRUE(m->trim());
  EXPECT_EQ(m->kept_pages(), 120 * kMiB) << "needed a moment ago";
  use(110 * kMiB);
  EXPECT_TRUE(m->trim());
  EXPECT_EQ(m->kept_pages(), 110 * kMiB) << "ten were not";
  EXPECT_TRUE(m->trim());
  EXPECT_EQ(m->kept_pages(), 94 * kMiB) << "none was, but a step is sixteen";
  int steps = 1;
  while (m->trim()) ++steps;
  EXPECT_EQ(steps, 2);
  EXPECT_EQ(m->kept_pages(), 64 * kMiB);
  use(200 * kMiB);
  EXPECT_LE(m->kept_pages(), 128 * kMiB) << "more is never kept";
}

TEST(PhysMemory, RefusesNonsense) {
  EXPECT_EQ(PhysMemory::create(0).error(), Errno::kINVAL);
  EXPECT_EQ(PhysMemory::create(100).error(), Errno::kINVAL);
  EXPECT_EQ(PhysMemory::create(~0ull).error(), Errno::kINVAL);
}

}  // namespace
}  // namespace uk
