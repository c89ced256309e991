#include "ukernel/mm/page_table.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "ukernel/mm/vma.h"

namespace uk {
namespace {

TEST(PageTable, RandomAgainstAMap) {
  for (uint32_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 rng(seed);
    PageTable pt;
    std::map<uint64_t, Pte> model;
    auto page = [&]() -> uint64_t {
      uint64_t base[] = {0, 511, 1 << 9, 1 << 18, 1ull << 27, (1ull << 35) - 600};
      return base[rng() % 6] + rng() % 600;
    };
    for (int i = 0; i < 5000; ++i) {
      uint64_t p = page();
      if (rng() % 3 == 0) {
        pt.set(p, {});
        model.erase(p);
      } else {
        Pte e = Pte::make(static_cast<Pfn>(rng()), static_cast<Prot>(rng() % 8), rng() % 2);
        pt.set(p, e);
        model[p] = e;
      }
      uint64_t q = page();
      ASSERT_EQ(pt.get(q), model.contains(q) ? model[q] : Pte{});
      ASSERT_EQ(pt.count(), model.size());
      if (i % 100 == 0) {
        uint64_t from = page(), to = page();
        if (from > to) std::swap(from, to);
        auto it = model.lower_bound(from);
        // Clears every other entry on the way.
        pt.each(from, to, [&](uint64_t at, Pte e) {
          EXPECT_EQ(at, it->first);
          EXPECT_EQ(e, it->second);
          if (at % 2 == 0) {
            pt.set(at, {});
            it = model.erase(it);
          } else {
            ++it;
          }
          return true;
        });
        ASSERT_TRUE(it == model.lower_bound(to));
      }
    }
  }
}

TEST(Pte, KeepsItsParts) {
  Pte p = Pte::make(0xfffffffe, Prot::kRead | Prot::kExec, true);
  EXPECT_EQ(p.pfn(), 0xfffffffeu);
  EXPECT_TRUE(p.anon());
  EXPECT_TRUE(p.readable());
  EXPECT_FALSE(p.writable());
  EXPECT_EQ(p.with_stub(Prot::kWrite).stub(), Prot::kWrite);
  EXPECT_EQ(p.with_stub(Prot::kNone).pfn(), 0xfffffffeu);
  EXPECT_TRUE(bool(Pte::make(0, Prot::kNone, false)));
}

struct NoOwner final : VmaOwner {
  void invalidate(Vma&, uint64_t, uint64_t, bool) override {}
  void write_protect(Vma&, uint64_t, uint64_t) override {}
  Ref<MappingSpace> mapping_space() override { return nullptr; }
};

TEST(VmaSet, GapsMatchASearchPageByPage) {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 rng(seed);
    NoOwner owner;
    VmaSet set;
    const uint64_t pages = 400, floor = 16 * kPageSize, ceiling = 300 * kPageSize;
    std::vector<bool> used(pages);
    for (int i = 0; i < 400; ++i) {
      uint64_t len = (1 + rng() % 20) * kPageSize;
      auto got = set.gap(len, floor, ceiling);
      std::optional<uint64_t> want;
      for (uint64_t at = ceiling - len; at >= floor; at -= kPageSize) {
        bool ok = true;
        for (uint64_t p = at; p < at + len; p += kPageSize) ok = ok && !used[p / kPageSize];
        if (ok) {
          want = at;
          break;
        }
      }
      ASSERT_EQ(got.has_value(), want.has_value());
      ASSERT_EQ(got.value_or(0), want.value_or(0));
      if (got && rng() % 4 != 0) {
        auto v = std::make_unique<Vma>(owner);
        v->start = *got;
        v->end = *got + len;
        for (uint64_t p = v->start; p < v->end; p += kPageSize) used[p / kPageSize] = true;
        set.merge(set.insert(std::move(v)));
      }
      if (rng() % 3 == 0 && set.size() != 0) {
        uint64_t from = floor + rng() % 280 * kPageSize, to = from + (1 + rng() % 10) * kPageSize;
        set.split(from);
        set.split(to);
        while (Vma* v = set.at_or_above(from)) {
          if (v->start >= to) break;
          set.remove(*v);
        }
        for (uint64_t p = from; p < to; p += kPageSize) used[p / kPageSize] = false;
      }
    }
  }
}

}  // namespace
}  // namespace uk
