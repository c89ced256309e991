// What comes before it is touched, or later than it was asked for.
#include <gtest/gtest.h>

#include "ukernel/mm/test_peer.h"

namespace uk {
namespace {

using mm_test::World;
constexpr Prot kRW = Prot::kRead | Prot::kWrite;

using Ahead = mm_test::SpaceTest;

// As the dynamic linker does it.
TEST_F(Ahead, ALibraryIsMappedInOneBatch) {
  on([&](Park& park, AddressSpace& as) {
    auto f = w->host_file(std::string(40 * kPageSize, 'l'));
    auto part = [&](uint64_t page) {
      return [&f, page](MmapRequest& r) {
        r.object = f;
        r.offset = page * kPageSize;
        r.later = true;
        r.fixed = r.addr != 0;
      };
    };
    mm_test::FakeMirror& mirror = World::mirror(as);
    const uint64_t a = CHECK_OK(map(park, as, 0, 50 * kPageSize, Prot::kRead, part(0)));
    EXPECT_FALSE(mirror.dirty());
    EXPECT_EQ(w->read(park, as, a + kPageSize), 'l');
    EXPECT_EQ(w->faults, 1) << "the first touch";
    EXPECT_EQ(w->read(park, as, a + 30 * kPageSize), 'l');
    EXPECT_EQ(w->faults, 1);
    // Over what is there: at once.
    CHECK_OK(map(park, as, a + 8 * kPageSize, 8 * kPageSize, Prot::kRead | Prot::kExec, part(8)));
    EXPECT_TRUE(mirror.dirty());
    // The bss comes with its frames.
    const uint64_t bss = a + 40 * kPageSize;
    CHECK_OK(map(park, as, bss, 10 * kPageSize, kRW, [](auto& r) { r.fixed = true; }));
    for (uint64_t i = 0; i < 10; ++i) EXPECT_TRUE(w->write(park, as, bss + i * kPageSize, 1));
    EXPECT_EQ(w->faults, 1);
    // A write to what is late need not wait for it.
    const uint64_t b = CHECK_OK(map(park, as, 0, 40 * kPageSize, kRW, part(0)));
    w->faults = 0;
    EXPECT_TRUE(w->write(park, as, b, 'w'));
    EXPECT_EQ(w->read(park, as, b + 39 * kPageSize), 'l');
    EXPECT_EQ(w->faults, 1);
    // Unmapped before anything of it was there.
    const uint64_t c = CHECK_OK(map(park, as, 0, 4 * kPageSize, Prot::kRead, part(0)));
    CHECK_OK(as.munmap(park, c, 4 * kPageSize));
    EXPECT_EQ(w->read(park, as, c), -1);
  });
}

TEST_F(Ahead, TheHeapComesBeforeItIsTouched) {
  on([&](Park& park, AddressSpace& as) {
    as.set_brk_start(0x10000000);
    const uint64_t start = as.brk(park, 0, {});
    EXPECT_EQ(as.brk(park, start + 3 * kPageSize, {}), start + 3 * kPageSize);
    for (uint64_t i = 0; i < 3; ++i) EXPECT_TRUE(w->write(park, as, start + i * kPageSize, 1));
    EXPECT_EQ(w->faults, 0);
    EXPECT_EQ(as.stats().rss_pages, 3u);
    EXPECT_EQ(as.brk(park, start + 300 * kPageSize, {}), start + 300 * kPageSize);
    EXPECT_LE(as.stats().rss_pages, 131u) << "only the beginning of what was added";
    EXPECT_TRUE(w->write(park, as, start + 3 * kPageSize, 1));
    EXPECT_EQ(w->faults, 0);
  });
  // Not where memory is scarce.
  on(
      [&](Park& park, AddressSpace& as) {
        const uint64_t all = w->mem->free_pages();
        const uint64_t a = CHECK_OK(map(park, as, 0, all * kPageSize, kRW));
        for (uint64_t i = 0; w->mem->free_pages() > all / 10; ++i) {
          EXPECT_TRUE(w->write(park, as, a + i * kPageSize, 1));
        }
        as.set_brk_start(0x10000000);
        const uint64_t before = as.stats().rss_pages;
        EXPECT_NE(as.brk(park, as.brk_start() + 8 * kPageSize, {}), as.brk_start());
        EXPECT_EQ(as.stats().rss_pages, before);
      },
      1 << 20);
}

TEST_F(Ahead, SmallMappingsComeAtOnceWhileTheyAreTouchedAtOnce) {
  on([&](Park& park, AddressSpace& as) {
    constexpr uint64_t kSize = 16 * kPageSize;
    auto round = [&](bool touch) {
      const uint64_t a = CHECK_OK(map(park, as, 0, kSize, kRW));
      if (touch) {
        EXPECT_TRUE(w->write(park, as, a + kPageSize, 1));
      }
      const uint64_t rss = as.stats().rss_pages;
      CHECK_OK(as.munmap(park, a, kSize));
      EXPECT_EQ(as.stats().rss_pages, 0u);
      return rss;
    };
    for (int i = 0; i < 20; ++i) round(false);
    EXPECT_EQ(round(false), 0u) << "never used, never there";
    for (int i = 0; i < 100; ++i) round(true);
    EXPECT_LT(w->faults, 20);
    // Others do not come: larger ones, those without reserve, those that may not be written.
    CHECK_OK(map(park, as, 0, kSize + kPageSize, kRW));
    CHECK_OK(map(park, as, 0, kSize, kRW, [](auto& r) { r.noreserve = true; }));
    CHECK_OK(map(park, as, 0, kSize, Prot::kRead));
    EXPECT_EQ(as.stats().rss_pages, 0u);
  });
}

// A child gets what earlier children used; the rest when it uses or changes it.
TEST_F(Ahead, AChildIsShownWhatChildrenUse) {
  on([&](Park& park, AddressSpace& as) {
    auto f = w->host_file(std::string(8 * kPageSize, 'l'));
    std::vector<uint64_t> at;
    for (int i = 0; i < 6; ++i) {
      const uint64_t gap = kPageSize;  // no two are one mapping
      at.push_back(0x40000000 + static_cast<uint64_t>(i) * (8 * kPageSize + gap));
      CHECK_OK(map(park, as, at.back(), 8 * kPageSize, kRW, [&](auto& r) {
        r.fixed = true;
        if (i % 2 == 0) r.object = f;
      }));
      EXPECT_TRUE(w->write(park, as, at.back() + kPageSize, i));
    }
    auto child_uses = [&](auto&& use) {
      auto child = CHECK_OK(as.fork(park, {}));
      mm_test::FakeMirror& mirror = World::mirror(*child);
      mirror.apply_all();
      const size_t shown = mirror.live.size();
      w->faults = 0;
      use(*child);
      AddressSpaceTestPeer::check_mirror(*w, *child);
      return shown;
    };
    auto read_two = [&](AddressSpace& child) {
      EXPECT_EQ(w->read(park, child, at[0] + 7 * kPageSize), 'l');
      EXPECT_EQ(w->read(park, child, at[0] + kPageSize), 0);
      EXPECT_EQ(w->read(park, child, at[1] + kPageSize), 1);
    };
    EXPECT_EQ(child_uses(read_two), 0u);
    EXPECT_EQ(w->faults, 2);
    EXPECT_GE(child_uses(read_two), 9u) << "the file's eight pages, and the other's";
    EXPECT_EQ(w->faults, 0);
    child_uses([&](AddressSpace& child) {
      CHECK_OK(child.mprotect(park, at[2], 4 * kPageSize, Prot::kRead));
      CHECK_OK(child.munmap(park, at[3], 4 * kPageSize));
      CHECK_OK(child.munmap(park, at[4], 8 * kPageSize));
      CHECK_OK(child.mremap(park, at[5], 8 * kPageSize, 4 * kPageSize, 0, 0, {}));
      AddressSpaceTestPeer::check_mirror(*w, child);
      EXPECT_FALSE(w->write(park, child, at[2], 1));
      EXPECT_EQ(w->read(park, child, at[2] + kPageSize), 2);
      EXPECT_EQ(w->read(park, child, at[3] + kPageSize), -1);
      EXPECT_EQ(w->read(park, child, at[4] + kPageSize), -1);
      EXPECT_EQ(w->read(park, child, at[5] + kPageSize), 5);
      // A child of the child, which has not used all of its own.
      auto grandchild = CHECK_OK(child.fork(park, {}));
      EXPECT_EQ(w->read(park, *grandchild, at[0] + kPageSize), 0);
      EXPECT_EQ(w->read(park, *grandchild, at[5] + kPageSize), 5);
      AddressSpaceTestPeer::check_mirror(*w, *grandchild);
    });
  });
}

// The shell's way: a child that goes before its parent writes.
TEST_F(Ahead, PagesWrittenAfterAForkAreNotProtectedAtTheNext) {
  on([&](Park& park, AddressSpace& as) {
    const uint64_t a = CHECK_OK(map(park, as, 0, 8 * kPageSize, kRW));
    for (uint64_t i = 0; i < 8; ++i) EXPECT_TRUE(w->write(park, as, a + i * kPageSize, 1));
    mm_test::FakeMirror& mirror = World::mirror(as);
    auto round = [&] {
      mirror.apply_all();
      mirror.commands = 0;
      CHECK_OK(as.fork(park, {}));
      EXPECT_TRUE(w->write(park, as, a + 2 * kPageSize, 2));
      return mirror.commands;
    };
    EXPECT_EQ(round(), 2) << "protected, and unprotected";
    for (int i = 0; i < 3; ++i) round();
    EXPECT_EQ(round(), 0);
  });
}

// That a guest has unmapped pages is its word, until the stub has made that change too.
TEST_F(Ahead, FramesUnmappedByTheGuestStayUntilThatIsConfirmed) {
  on([&](Park& park, AddressSpace& as) {
    const uint64_t a = CHECK_OK(map(park, as, 0, 32 * kPageSize, kRW));
    for (uint64_t i = 0; i < 32; ++i) EXPECT_TRUE(w->write(park, as, a + i * kPageSize, 1));
    CHECK_OK(as.flush(park));
    const uint64_t free = w->mem->free_pages();
    CHECK_OK(as.munmap(park, a, 16 * kPageSize));
    World::mirror(as).apply();
    EXPECT_FALSE(as.guest().dirty());
    EXPECT_TRUE(as.guest().unconfirmed());
    EXPECT_EQ(w->read(park, as, a), -1);
    CHECK_OK(as.munmap(park, a + 20 * kPageSize, kPageSize));
    World::mirror(as).apply();
    EXPECT_EQ(w->mem->free_pages(), free);
    CHECK_OK(as.flush(park));
    EXPECT_EQ(w->mem->free_pages(), free + 17);
    // Others see what is shared, and many frames are not kept from them.
    auto shared = [](MmapRequest& r) { r.shared = true; };
    const uint64_t b = CHECK_OK(map(park, as, 0, kPageSize, kRW, shared));
    EXPECT_TRUE(w->write(park, as, b, 1));
    CHECK_OK(as.munmap(park, b, kPageSize));
    EXPECT_FALSE(as.guest().unconfirmed());
    const uint64_t c = CHECK_OK(map(park, as, 0, 100 * kPageSize, kRW));
    for (uint64_t i = 0; i < 100; ++i) EXPECT_TRUE(w->write(park, as, c + i * kPageSize, 1));
    CHECK_OK(as.munmap(park, c, 100 * kPageSize));
    EXPECT_FALSE(as.guest().unconfirmed());
  });
}

}  // namespace
}  // namespace uk
