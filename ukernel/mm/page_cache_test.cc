#include "ukernel/mm/page_cache.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>

#include "ukernel/mm/test_kit.h"

namespace uk {
namespace {

using mm_test::World;

std::span<const std::byte> bytes(std::string_view s) {
  return std::as_bytes(std::span(s.data(), s.size()));
}

Result<size_t> write(Park& park, PageCacheObject& o, uint64_t at, std::string_view s) {
  BufferSource src(bytes(s));
  return o.write(park, at, src);
}

std::string read(Park& park, PageCacheObject& o, uint64_t at, size_t n) {
  std::string s(n, '?');
  s.resize(CHECK_OK(o.read(park, at, std::as_writable_bytes(std::span(s.data(), n)))));
  return s;
}

struct FakeStorage final : PageCacheObject::Backing {
  Result<> fill(Park& park, uint64_t index, std::span<std::byte> page) override {
    ++fills;
    park.yield();
    if (fail) return Err(Errno::kIO);
    if (auto it = pages.find(index); it != pages.end()) {
      std::memcpy(page.data(), it->second.data(), it->second.size());
    }
    return {};
  }
  Result<> write_back(Park& park, uint64_t index, std::span<const std::byte> page) override {
    park.yield();
    if (fail) return Err(Errno::kIO);
    pages[index] = std::string(reinterpret_cast<const char*>(page.data()), page.size());
    return {};
  }
  void cut(uint64_t size) {  // as a filesystem does when its file is truncated
    pages.erase(pages.lower_bound(page_ceil(size) / kPageSize), pages.end());
    if (auto it = pages.find(size / kPageSize); it != pages.end()) {
      std::string& s = it->second;
      if (s.size() > size % kPageSize) s.resize(size % kPageSize);
    }
  }
  std::map<uint64_t, std::string> pages;
  int fills = 0;
  bool fail = false;
};

// Reads and writes go by runs of pages: over holes, other files' frames in between, and ends.
TEST(PageCache, RunsOfPages) {
  World w;
  w.run([&](Park& park) {
    auto a = make_ref<PageCacheObject>(*w.mem, PageCacheObject::Options{});
    auto b = make_ref<PageCacheObject>(*w.mem, PageCacheObject::Options{});
    std::string want(60 * kPageSize - 7, 0);
    for (uint64_t page = 0; page < 60; ++page) {
      if (page % 20 == 7) continue;  // a hole
      const std::string text(std::min(kPageSize, want.size() - page * kPageSize),
                             static_cast<char>('a' + page % 26));
      EXPECT_EQ(CHECK_OK(write(park, *a, page * kPageSize, text)), text.size());
      want.replace(page * kPageSize, text.size(), text);
      if (page % 9 == 0) CHECK_OK(write(park, *b, page * kPageSize, "x"));
    }
    EXPECT_EQ(read(park, *a, 0, want.size() + 100), want);
    EXPECT_EQ(read(park, *a, 3 * kPageSize - 5, 40 * kPageSize),
              want.substr(3 * kPageSize - 5, 40 * kPageSize));
    const std::string over(45 * kPageSize + 3, '!');
    EXPECT_EQ(CHECK_OK(write(park, *a, 2 * kPageSize + 1, over)), over.size());
    want.replace(2 * kPageSize + 1, over.size(), over);
    EXPECT_EQ(read(park, *a, 0, want.size()), want);
    const uint64_t dirty = a->dirty_pages();
    EXPECT_EQ(dirty, a->resident_pages());
    // Beyond the end.
    EXPECT_EQ(CHECK_OK(write(park, *a, want.size() - 3, "123456")), 6u);
    want.replace(want.size() - 3, 3, "123456");
    EXPECT_EQ(read(park, *a, 0, 2 * want.size()), want);
    a->resize(park, 10);
    EXPECT_EQ(read(park, *a, 0, want.size()), want.substr(0, 10));
  });
  EXPECT_EQ(w.mem->free_pages(), w.mem->total_pages());
}

TEST(PageCache, RandomAgainstAString) {
  for (uint32_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE(seed);
    World w;
    w.run([&](Park& park) {
      std::mt19937 rng(seed);
      FakeStorage storage;
      const bool backed = seed % 2 == 0;
      PageCacheObject::Options o;
      o.backing = backed ? &storage : nullptr;
      auto obj = make_ref<PageCacheObject>(*w.mem, o);
      std::string model;
      for (int i = 0; i < 400; ++i) {
        uint64_t at = rng() % 40000;
        size_t n = rng() % 9000;
        switch (rng() % 6) {
          case 0:
          case 1: {
            std::string s(n, static_cast<char>('a' + rng() % 26));
            ASSERT_EQ(CHECK_OK(write(park, *obj, at, s)), n);
            if (n != 0 && model.size() < at + n) model.resize(at + n);
            if (n != 0) model.replace(at, n, s);
            break;
          }
          case 2:
            obj->resize(park, at);
            storage.cut(at);
            model.resize(at);
            break;
          case 3:
            if (!backed) {
              CHECK_OK(obj->punch_hole(park, at, n));
              for (size_t k = at; k < std::min(at + n, model.size()); ++k) model[k] = 0;
            } else {
              CHECK_OK(obj->sync(park, 0, UINT64_MAX));
              ASSERT_EQ(obj->dirty_pages(), 0u);
            }
            break;
          default:
            ASSERT_TRUE(read(park, *obj, at, n) == (at < model.size() ? model.substr(at, n) : ""));
        }
        ASSERT_EQ(obj->size(), model.size());
      }
      ASSERT_TRUE(read(park, *obj, 0, 100000) == model);
    });
    EXPECT_EQ(w.mem->free_pages(), w.mem->total_pages());
    EXPECT_EQ(w.mem->shmem_pages, 0u);
  }
}

TEST(PageCache, ReadingAHoleTakesNoMemory) {
  World w;
  w.run([&](Park& park) {
    auto o = make_ref<PageCacheObject>(*w.mem, PageCacheObject::Options{});
    o->resize(park, 10 << 20);
    EXPECT_EQ(read(park, *o, 5000, 10000), std::string(10000, '\0'));
    EXPECT_EQ(o->resident_pages(), 0u);
    EXPECT_EQ(o->seek_data(0), std::nullopt);
    EXPECT_EQ(o->seek_hole(0), 0u);
    CHECK_OK(write(park, *o, 8192, "x"));
    EXPECT_EQ(o->seek_data(0), 8192u);
    EXPECT_EQ(o->seek_data(8200), 8200u);
    EXPECT_EQ(o->seek_hole(8200), 12288u);
    EXPECT_EQ(o->seek_data(12288), std::nullopt);
    EXPECT_EQ(o->seek_hole(10 << 20), std::nullopt);
    EXPECT_EQ(w.mem->shmem_pages, 1u);
  });
}

TEST(PageCache, ABudgetIsKept) {
  World w;
  w.run([&](Park& park) {
    PageCacheObject::Options opt;
    opt.budget = make_ref<PageBudget>(3);
    auto budget = opt.budget;
    auto o = make_ref<PageCacheObject>(*w.mem, opt);
    EXPECT_EQ(CHECK_OK(write(park, *o, 0, std::string(20000, 'x'))), 3 * kPageSize);
    EXPECT_EQ(write(park, *o, 3 * kPageSize, "y").error(), Errno::kNOSPC);
    EXPECT_EQ(o->size(), 3 * kPageSize);
    EXPECT_EQ(o->allocate(park, 0, 5 * kPageSize).error(), Errno::kNOSPC);
    EXPECT_EQ(budget->used(), 3u);
    o->resize(park, 1);
    EXPECT_EQ(budget->used(), 1u);
    EXPECT_TRUE(o->allocate(park, 0, 3 * kPageSize).has_value());
    o.reset();
    EXPECT_EQ(budget->used(), 0u);
  });
}

TEST(PageCache, OneFillForTwoReadersAndErrorsAreReported) {
  World w;
  FakeStorage storage;
  storage.pages[0] = "hello";
  PageCacheObject::Options opt;
  opt.backing = &storage;
  opt.size = 5;
  auto o = make_ref<PageCacheObject>(*w.mem, opt);
  for (int i = 0; i < 2; ++i) {
    w.sim.reactor.spawn("reader", [&](Park& park) { EXPECT_EQ(read(park, *o, 0, 9), "hello"); });
  }
  w.sim.run();
  EXPECT_EQ(storage.fills, 1);
  w.run([&](Park& park) {
    storage.fail = true;
    o->resize(park, 9000);
    std::byte b[4];
    EXPECT_EQ(o->read(park, 8192, b).error(), Errno::kIO);
    EXPECT_EQ(read(park, *o, 0, 9000).size(), 4096u);  // what came before the error
    CHECK_OK(write(park, *o, 0, "j"));
    EXPECT_EQ(o->sync(park, 0, 10).error(), Errno::kIO);
    EXPECT_EQ(o->dirty_pages(), 1u);
    storage.fail = false;
    CHECK_OK(o->sync(park, 0, 10));
    EXPECT_EQ(storage.pages[0].substr(0, 5), "jello");
  });
}

TEST(PageCache, CleanPagesAreReclaimed) {
  World w(64 * kPageSize);
  w.run([&](Park& park) {
    FakeStorage storage;
    PageCacheObject::Options opt;
    opt.backing = &storage;
    auto o = make_ref<PageCacheObject>(*w.mem, opt);
    for (uint64_t i = 0; i < 400; ++i) {
      ASSERT_TRUE(write(park, *o, i * kPageSize, std::string(kPageSize, char('a' + i % 26))));
      if (i % 16 == 15) CHECK_OK(o->sync(park, 0, UINT64_MAX));
    }
    for (uint64_t i = 0; i < 400; ++i) {
      ASSERT_EQ(read(park, *o, i * kPageSize + 7, 2), std::string(2, char('a' + i % 26)));
    }
  });
}

TEST(PageCache, OutOfMemoryIsAnError) {
  World w(16 * kPageSize);
  w.run([&](Park& park) {
    auto o = make_ref<PageCacheObject>(*w.mem, PageCacheObject::Options{});
    EXPECT_EQ(CHECK_OK(write(park, *o, 0, std::string(30 * kPageSize, 'x'))), 16 * kPageSize);
    EXPECT_EQ(write(park, *o, 20 * kPageSize, "x").error(), Errno::kNOMEM);
    EXPECT_EQ(o->size(), 16 * kPageSize);
  });
}

}  // namespace
}  // namespace uk
