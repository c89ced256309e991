#include "ukernel/mm/address_space.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>

#include "ukernel/mm/page_cache.h"
#include "ukernel/mm/test_peer.h"
#include "ukernel/mm/user_ptr.h"

namespace uk {
namespace {

using mm_test::World;
constexpr Prot kRW = Prot::kRead | Prot::kWrite;

class Space : public mm_test::SpaceTest {
 protected:
  static std::vector<std::pair<uint64_t, uint64_t>> vmas(AddressSpace& as) {
    std::vector<std::pair<uint64_t, uint64_t>> out;
    as.each_vma([&](const VmaInfo& i) { out.emplace_back(i.start, i.end); });
    return out;
  }
};

TEST_F(Space, AnonymousMemoryIsZeroAndComesInExtents) {
  on([&](Park& park, AddressSpace& as) {
    uint64_t a = CHECK_OK(map(park, as, 0, 1 << 20, kRW));
    EXPECT_EQ(w->read(park, as, a), 0);
    EXPECT_TRUE(w->write(park, as, a, 7));
    EXPECT_EQ(w->faults, 1);
    EXPECT_EQ(as.stats().rss_pages, 16u);
    for (uint64_t p = a; p < a + (1 << 20); p += kPageSize) EXPECT_TRUE(w->write(park, as, p, 9));
    EXPECT_LE(w->faults, 6) << "the window grows";
    EXPECT_EQ(as.stats().rss_pages, 256u);
  });
}

TEST_F(Space, FaultsSayWhatIsWrong) {
  on([&](Park& park, AddressSpace& as) {
    std::byte b{};
    uint64_t a = CHECK_OK(map(park, as, 0, 4 * kPageSize, Prot::kRead));
    for (bool exact : {false, true}) {
      EXPECT_EQ(w->access(park, as, a - 1, false, &b, exact)->code, SEGV_MAPERR);
      EXPECT_EQ(w->access(park, as, a, false, &b, exact), std::nullopt);
      auto e = w->access(park, as, a, true, &b, exact);
      ASSERT_TRUE(e);
      EXPECT_EQ(e->signo, SIGSEGV);
      EXPECT_EQ(e->code, SEGV_ACCERR);
    }
    CHECK_OK(as.mprotect(park, a, kPageSize, Prot::kNone));
    EXPECT_EQ(w->access(park, as, a, false, &b)->code, SEGV_ACCERR);
    EXPECT_EQ(as.fault(park, a + kPageSize, Access::kExec, 0).error().code, SEGV_ACCERR);
    EXPECT_EQ(as.fault(park, ~0ull, Access::kRead, 0).error().code, SEGV_MAPERR);
  });
}

TEST_F(Space, AReadOfTwoThreadsIsNoViolation) {
  on([&](Park& park, AddressSpace& as) {
    uint64_t a = CHECK_OK(map(park, as, 0, kPageSize, Prot::kRead));
    EXPECT_TRUE(as.fault(park, a, Access::kUnknown, 1).has_value());
    // Three more threads had faulted on it before it was mapped.
    for (uint64_t sp : {2, 3, 4}) EXPECT_TRUE(as.fault(park, a, Access::kUnknown, sp).has_value());
    EXPECT_FALSE(as.fault(park, a, Access::kUnknown, 3).has_value());
  });
}

TEST_F(Space, PlacementIsTopDownAndHonoursHints) {
  on([&](Park& park, AddressSpace& as) {
    as.set_mmap_base(0x700000000000);
    uint64_t a = CHECK_OK(map(park, as, 0, 3 * kPageSize, kRW));
    EXPECT_EQ(a, 0x700000000000 - 3 * kPageSize);
    uint64_t b = CHECK_OK(map(park, as, 0, kPageSize, Prot::kRead));
    EXPECT_EQ(b, a - kPageSize);
    EXPECT_EQ(CHECK_OK(map(park, as, 0x500000000123, 1, kRW)), 0x500000001000u);
    EXPECT_NE(CHECK_OK(map(park, as, a, 1, kRW)), a);
    EXPECT_EQ(CHECK_OK(map(park, as, a, 1, kRW, [](auto& r) { r.fixed = true; })), a);
    EXPECT_EQ(map(park, as, a, 1, kRW, [](auto& r) { r.fixed_noreplace = true; }).error(),
              Errno::kEXIST);
    EXPECT_EQ(map(park, as, a + 1, 1, kRW, [](auto& r) { r.fixed = true; }).error(), Errno::kINVAL);
    EXPECT_EQ(map(park, as, 0, 0, kRW).error(), Errno::kINVAL);
    EXPECT_EQ(map(park, as, 0, ~0ull, kRW).error(), Errno::kNOMEM);
    EXPECT_EQ(map(park, as, 0, 1ull << 50, kRW).error(), Errno::kNOMEM);
    EXPECT_EQ(map(park, as, 0, 1ull << 40, kRW).error(), Errno::kNOMEM);  // overcommit
    uint64_t big = CHECK_OK(map(park, as, 0, 1ull << 40, kRW, [](auto& r) { r.noreserve = true; }));
    EXPECT_TRUE(w->write(park, as, big + (1ull << 39), 1));
    EXPECT_EQ(as.munmap(park, a + 1, kPageSize).error(), Errno::kINVAL);
    EXPECT_EQ(as.munmap(park, a, 0).error(), Errno::kINVAL);
    EXPECT_EQ(as.munmap(park, a, ~0ull).error(), Errno::kINVAL);
    EXPECT_TRUE(as.munmap(park, 0x10000, kPageSize).has_value());  // nothing there
  });
}

TEST_F(Space, NeighboursMergeAndSplit) {
  on([&](Park& park, AddressSpace& as) {
    uint64_t a = CHECK_OK(map(park, as, 0, 8 * kPageSize, kRW));
    CHECK_OK(map(park, as, a - 8 * kPageSize, 8 * kPageSize, kRW));
    a -= 8 * kPageSize;
    ASSERT_EQ(vmas(as).size(), 1u);
    w->write(park, as, a + 5 * kPageSize, 3);
    CHECK_OK(as.mprotect(park, a + 4 * kPageSize, 2 * kPageSize, Prot::kRead));
    EXPECT_EQ(vmas(as).size(), 3u);
    EXPECT_EQ(w->read(park, as, a + 5 * kPageSize), 3);
    EXPECT_FALSE(w->write(park, as, a + 5 * kPageSize, 3));
    CHECK_OK(as.mprotect(park, a + 4 * kPageSize, 2 * kPageSize, kRW));
    EXPECT_EQ(vmas(as).size(), 1u);
    EXPECT_TRUE(w->write(park, as, a + 5 * kPageSize, 4));
    CHECK_OK(as.munmap(park, a + 5 * kPageSize, kPageSize));
    EXPECT_EQ(w->read(park, as, a + 5 * kPageSize), -1);
    EXPECT_EQ(as.mprotect(park, a, 8 * kPageSize, Prot::kRead).error(), Errno::kNOMEM);
    EXPECT_FALSE(w->write(park, as, a, 1)) << "what came before the hole is done";
    CHECK_OK(map(park, as, a + 5 * kPageSize, kPageSize, kRW, [](auto& r) { r.fixed = true; }));
    EXPECT_EQ(w->read(park, as, a + 5 * kPageSize), 0);
  });
}

TEST_F(Space, FreedFramesWaitForTheStub) {
  on([&](Park& park, AddressSpace& as) {
    uint64_t a = CHECK_OK(map(park, as, 0, 16 * kPageSize, kRW));
    w->write(park, as, a, 1);
    const uint64_t free = w->mem->free_pages();
    World::mirror(as).apply();
    CHECK_OK(as.munmap(park, a, 16 * kPageSize));
    EXPECT_EQ(w->mem->free_pages(), free) << "another thread may still write there";
    AddressSpaceTestPeer::check_held(*w, as);
    CHECK_OK(as.flush(park));
    EXPECT_EQ(w->mem->free_pages(), free + 16);
  });
}

TEST_F(Space, ForkSharesUntilWritten) {
  on([&](Park& park, AddressSpace& as) {
    uint64_t a = CHECK_OK(map(park, as, 0, 64 * kPageSize, kRW));
    for (uint64_t p = a; p < a + 64 * kPageSize; p += kPageSize) w->write(park, as, p, 5);
    const uint64_t used = w->mem->total_pages() - w->mem->free_pages();
    World::mirror(as).commands = 0;
    auto child = CHECK_OK(as.fork(park, {}));
    EXPECT_LE(World::mirror(as).commands, 1) << "one protect for a run";
    EXPECT_EQ(w->mem->total_pages() - w->mem->free_pages(), used);
    EXPECT_TRUE(w->write(park, as, a, 6));
    EXPECT_EQ(w->read(park, *child, a), 5);
    EXPECT_EQ(w->read(park, as, a), 6);
    EXPECT_TRUE(w->write(park, *child, a + 32 * kPageSize, 8));
    EXPECT_EQ(w->read(park, as, a + 32 * kPageSize), 5);
    AddressSpaceTestPeer::check_mirror(*w, *child);
    CHECK_OK(child->flush(park));
    child.reset();
    // Alone again: no copy.
    CHECK_OK(as.flush(park));
    const uint64_t now = w->mem->free_pages();
    for (uint64_t p = a; p < a + 64 * kPageSize; p += kPageSize) w->write(park, as, p, 7);
    EXPECT_EQ(w->mem->free_pages(), now);
  });
}

TEST_F(Space, CopiesComeInRunsThatGrow) {
  on([&](Park& park, AddressSpace& as) {
    constexpr uint64_t kPages = 1024;
    uint64_t a = CHECK_OK(map(park, as, 0, kPages * kPageSize, kRW));
    for (uint64_t p = 0; p < kPages; ++p) w->write(park, as, a + p * kPageSize, p % 251);
    auto child = CHECK_OK(as.fork(park, {}));
    w->faults = 0;
    for (uint64_t p = 0; p < kPages; ++p) w->write(park, as, a + p * kPageSize, 252);
    EXPECT_LE(w->faults, 12) << "the window grows";
    EXPECT_GE(w->faults, 9) << "but not without end";
    for (uint64_t p = 0; p < kPages; ++p) {
      ASSERT_EQ(w->read(park, *child, a + p * kPageSize), static_cast<int>(p % 251));
    }
    w->faults = 0;
    auto second = CHECK_OK(as.fork(park, {}));
    const uint64_t free = w->mem->free_pages();
    for (uint64_t p = 400; p > 100; p -= 100) w->write(park, as, a + p * kPageSize, 253);
    EXPECT_GE(w->mem->free_pages() + 3 * 8, free) << "out of order: eight at a time";
  });
}

TEST_F(Space, PagesWrittenAfterForksAreCopiedAtTheNext) {
  on([&](Park& park, AddressSpace& as) {
    uint64_t a = CHECK_OK(map(park, as, 0, 64 * kPageSize, kRW));
    for (uint64_t p = a; p < a + 64 * kPageSize; p += kPageSize) w->write(park, as, p, 5);
    auto life = [&](int v) {
      auto child = CHECK_OK(as.fork(park, {}));
      w->faults = 0;
      EXPECT_TRUE(w->write(park, *child, a + 9 * kPageSize, v));
      EXPECT_TRUE(w->write(park, as, a + 40 * kPageSize, v + 1));
      EXPECT_EQ(w->read(park, as, a + 9 * kPageSize), 5);
      EXPECT_EQ(w->read(park, *child, a + 9 * kPageSize), v);
      EXPECT_NE(w->read(park, *child, a + 40 * kPageSize), v + 1);
      AddressSpaceTestPeer::check_mirror(*w, *child);
      AddressSpaceTestPeer::check_mirror(*w, as);
      return w->faults;
    };
    EXPECT_EQ(life(10), 3) << "the child's first use of the mapping, and two writes";
    EXPECT_EQ(life(20), 0);
    Ref<AddressSpace> thread(&as);  // others may run: sharing only
    EXPECT_EQ(life(30), 2);
  });
}

TEST_F(Space, SharedAnonymousMemoryIsShared) {
  on([&](Park& park, AddressSpace& as) {
    uint64_t a = CHECK_OK(map(park, as, 0, 40 * kPageSize, kRW, [](auto& r) { r.shared = true; }));
    w->write(park, as, a, 1);
    w->faults = 0;
    for (int i = 0; i < 16; ++i) w->write(park, as, a + i * kPageSize, i);
    EXPECT_LE(w->faults, 1);
    auto child = CHECK_OK(as.fork(park, {}));
    EXPECT_TRUE(w->write(park, *child, a + kPageSize, 77));
    EXPECT_EQ(w->read(park, as, a + kPageSize), 77);
    EXPECT_TRUE(w->write(park, as, a + 39 * kPageSize, 78));
    EXPECT_EQ(w->read(park, *child, a + 39 * kPageSize), 78);
    EXPECT_EQ(CHECK_OK(as.futex_key(park, a + 8, false)),
              CHECK_OK(child->futex_key(park, a + 8, false)));
    EXPECT_NE(CHECK_OK(as.futex_key(park, a + 8, true)),
              CHECK_OK(child->futex_key(park, a + 8, true)));
    EXPECT_EQ(as.stats().rss_shmem_pages, as.stats().rss_pages);
  });
}

TEST_F(Space, FilePagesAreSharedAndPrivateCopiesAreNot) {
  on([&](Park& park, AddressSpace& as) {
    auto obj = make_ref<PageCacheObject>(*w->mem, PageCacheObject::Options{});
    std::string text(5 * kPageSize + 100, 'f');
    BufferSource src(std::as_bytes(std::span(text)));
    CHECK_OK(obj->write(park, 0, src));
    auto object = [&](bool shared) {
      return [&obj, shared](MmapRequest& r) {
        r.object = obj;
        r.shared = shared;
      };
    };
    uint64_t s = CHECK_OK(map(park, as, 0, 10 * kPageSize, kRW, object(true)));
    uint64_t p = CHECK_OK(map(park, as, 0, 10 * kPageSize, kRW, object(false)));
    EXPECT_EQ(obj->shared_writable_mappings, 1u);
    EXPECT_EQ(w->read(park, as, p + kPageSize), 'f');
    EXPECT_TRUE(w->write(park, as, p, 'p'));
    EXPECT_EQ(w->read(park, as, s), 'f');
    EXPECT_TRUE(w->write(park, as, s + kPageSize, 's'));
    EXPECT_EQ(w->read(park, as, p + kPageSize), 's');
    std::byte b{};
    EXPECT_EQ(w->access(park, as, s + 5 * kPageSize + 100, false, &b), std::nullopt);
    EXPECT_EQ(b, std::byte{0});
    auto e = w->access(park, as, s + 6 * kPageSize, false, &b);
    ASSERT_TRUE(e);
    EXPECT_EQ(e->signo, SIGBUS);
    // Truncation takes shared pages and private copies.
    obj->resize(park, kPageSize);
    EXPECT_EQ(w->read(park, as, s + kPageSize), -1);
    EXPECT_EQ(w->read(park, as, p + kPageSize), -1);
    EXPECT_EQ(w->read(park, as, p), 'p');
    CHECK_OK(as.munmap(park, s, 10 * kPageSize));
    EXPECT_EQ(obj->shared_writable_mappings, 0u);
  });
}

TEST_F(Space, HostFilesAreMappedWholeAndCopiedOnWrite) {
  on([&](Park& park, AddressSpace& as) {
    std::string text(40 * kPageSize - 10, 0);
    for (size_t i = 0; i < text.size(); ++i) text[i] = char(i / kPageSize + 1);
    auto f = w->host_file(text);
    f->suspends = true;
    uint64_t a = CHECK_OK(map(park, as, 0, 42 * kPageSize, kRW, [&](auto& r) { r.object = f; }));
    EXPECT_EQ(w->read(park, as, a + 3 * kPageSize), 4);
    EXPECT_EQ(w->faults, 0);
    EXPECT_EQ(as.stats().rss_pages, 0u);
    EXPECT_TRUE(w->write(park, as, a + 3 * kPageSize, 99));
    EXPECT_EQ(w->read(park, as, a + 3 * kPageSize), 99);
    EXPECT_EQ(w->read(park, as, a + 3 * kPageSize + 1), 4);
    EXPECT_EQ(w->read(park, as, a + 30 * kPageSize), 31);
    // The kernel sees the same, over borders of frames and file.
    std::vector<std::byte> buf(20 * kPageSize);
    EXPECT_EQ(CHECK_OK(as.copy_in(park, buf, a)), buf.size());
    EXPECT_EQ(buf[3 * kPageSize], std::byte{99});
    EXPECT_EQ(buf[19 * kPageSize], std::byte{20});
    // The end: zeros in the last page, then nothing.
    EXPECT_EQ(CHECK_OK(as.copy_in(park, buf, a + 39 * kPageSize)), kPageSize);
    EXPECT_EQ(buf[kPageSize - 11], std::byte{40});
    EXPECT_EQ(buf[kPageSize - 1], std::byte{0});
    EXPECT_EQ(w->access(park, as, a + 40 * kPageSize, true, buf.data())->signo, SIGBUS);
    auto child = CHECK_OK(as.fork(park, {}));
    EXPECT_EQ(w->read(park, *child, a + 3 * kPageSize), 99);
    EXPECT_EQ(w->read(park, *child, a + 33 * kPageSize), 34);
    AddressSpaceTestPeer::check_mirror(*w, *child);
    CHECK_OK(as.madvise(park, a, 42 * kPageSize, MADV_DONTNEED));
    EXPECT_EQ(w->read(park, as, a + 3 * kPageSize), 4);
    CHECK_OK(as.mprotect(park, a, 42 * kPageSize, Prot::kNone));
    EXPECT_EQ(w->read(park, as, a), -1);
    CHECK_OK(as.mprotect(park, a, 42 * kPageSize, Prot::kRead | Prot::kExec));
    EXPECT_EQ(w->read(park, as, a), 1);
    EXPECT_FALSE(w->write(park, as, a, 1));
  });
}

TEST_F(Space, CopiesStopAtHoles) {
  on([&](Park& park, AddressSpace& as) {
    uint64_t a = CHECK_OK(map(park, as, 0, 3 * kPageSize, kRW));
    CHECK_OK(as.munmap(park, a + 2 * kPageSize, kPageSize));
    std::vector<std::byte> buf(4 * kPageSize, std::byte{1});
    EXPECT_EQ(CHECK_OK(as.copy_out(park, a + 100, buf)), 2 * kPageSize - 100);
    EXPECT_EQ(CHECK_OK(as.copy_in(park, buf, a + kPageSize)), kPageSize);
    EXPECT_EQ(as.copy_in(park, buf, a + 2 * kPageSize).error(), Errno::kFAULT);
    EXPECT_EQ(as.copy_in(park, buf, ~0ull - 5).error(), Errno::kFAULT);
    EXPECT_EQ(as.copy_out(park, 0, buf).error(), Errno::kFAULT);
    EXPECT_EQ(CHECK_OK(as.zero_out(park, a + kPageSize, 10)), 10u);
    CHECK_OK(as.mprotect(park, a, kPageSize, Prot::kRead));
    EXPECT_EQ(as.copy_out(park, a, buf).error(), Errno::kFAULT);
    EXPECT_EQ(CHECK_OK(as.force_copy_out(park, a, std::span(buf).first(3))), 3u);
    EXPECT_EQ(w->read(park, as, a), 1);
    CHECK_OK(as.mprotect(park, a, kPageSize, Prot::kNone));
    EXPECT_EQ(as.copy_in(park, buf, a).error(), Errno::kFAULT);
    EXPECT_EQ(CHECK_OK(as.force_copy_in(park, std::span(buf).first(3), a)), 3u);
    EXPECT_TRUE(as.atomic_word(park, a + 2, true).error() == Errno::kINVAL);
    EXPECT_TRUE(as.atomic_word(park, a, true).error() == Errno::kFAULT);
  });
}

TEST_F(Space, Strings) {
  on([&](Park& park, AddressSpace& as) {
    uint64_t a = CHECK_OK(map(park, as, 0, 2 * kPageSize, kRW));
    std::string s(5000, 'x');
    CHECK_OK(as.copy_out(park, a + 100, std::as_bytes(std::span(s.c_str(), s.size() + 1))));
    EXPECT_EQ(CHECK_OK(as.copy_in_string(park, a + 100, 5000)), s);
    EXPECT_EQ(as.copy_in_string(park, a + 100, 4999).error(), Errno::kNAMETOOLONG);
    std::string no_end(100, 'y');
    CHECK_OK(as.copy_out(park, a + 2 * kPageSize - 100, std::as_bytes(std::span(no_end))));
    EXPECT_EQ(as.copy_in_string(park, a + 2 * kPageSize - 100, 4096).error(), Errno::kFAULT);
    EXPECT_EQ(CHECK_OK(as.copy_in_string(park, a, 0)), "");
  });
}

TEST_F(Space, IovecsAreSinksAndSources) {
  on([&](Park& park, AddressSpace& as) {
    uint64_t a = CHECK_OK(map(park, as, 0, 2 * kPageSize, kRW));
    UserSink sink(as, {{a, 3}, {a, 0}, {a + kPageSize, 4}, {a + 2 * kPageSize, 5}});
    EXPECT_EQ(sink.remaining(), 12u);
    std::string text = "abcdefghijkl";
    EXPECT_EQ(CHECK_OK(sink.put(park, std::as_bytes(std::span(text)))), 7u);
    EXPECT_EQ(w->read(park, as, a + 2), 'c');
    EXPECT_EQ(w->read(park, as, a + kPageSize), 'd');
    EXPECT_EQ(sink.put(park, std::as_bytes(std::span(text))).error(), Errno::kFAULT);
    UserSource source(as, {{a + kPageSize, 4}, {a, 3}});
    std::string back(7, 0);
    EXPECT_EQ(CHECK_OK(source.get(park, std::as_writable_bytes(std::span(back)))), 7u);
    EXPECT_EQ(back, "defgabc");
    struct {
      uint64_t base, len;
    } iov[2] = {{a, ~0ull}, {a, 1}};
    CHECK_OK(as.copy_out(park, a, std::as_bytes(std::span(iov))));
    EXPECT_EQ(fetch_iovec(park, as, {a}, 2).error(), Errno::kINVAL);
    EXPECT_EQ(fetch_iovec(park, as, {a}, 1025).error(), Errno::kINVAL);
    EXPECT_EQ(fetch_iovec(park, as, {1}, 1).error(), Errno::kFAULT);
    EXPECT_EQ(CHECK_OK(fetch_iovec(park, as, {1}, 0)).size(), 0u);
  });
}

TEST_F(Space, TheStackGrowsToItsLimit) {
  on([&](Park& park, AddressSpace& as) {
    const uint64_t top = 0x7ff000000000;
    CHECK_OK(map(park, as, top - 4 * kPageSize, 4 * kPageSize, kRW,
                 [](auto& r) { r.fixed = r.grows_down = true; }));
    as.set_stack_limit(1 << 20);
    EXPECT_TRUE(w->write(park, as, top - 8, 1));
    EXPECT_TRUE(w->write(park, as, top - (1 << 20), 1));
    EXPECT_FALSE(w->write(park, as, top - (1 << 20) - 1, 1));
    EXPECT_EQ(vmas(as)[0].first, top - (1 << 20));
    // A mapping below keeps its distance.
    as.set_stack_limit(8 << 20);
    uint64_t near = top - (1 << 20) - 300 * kPageSize;
    CHECK_OK(map(park, as, near, kPageSize, kRW, [](auto& r) { r.fixed = true; }));
    EXPECT_TRUE(w->write(park, as, near + kPageSize + VmaSet::kStackGap, 1));
    EXPECT_FALSE(w->write(park, as, near + kPageSize + VmaSet::kStackGap - 1, 1));
  });
}

TEST_F(Space, BrkMovesTheHeap) {
  on([&](Park& park, AddressSpace& as) {
    as.set_brk_start(0x600010);
    EXPECT_EQ(as.brk(park, 0, {}), 0x600010u);
    EXPECT_EQ(as.brk(park, 0x610000, {}), 0x610000u);
    EXPECT_TRUE(w->write(park, as, 0x60ffff, 1));
    EXPECT_FALSE(w->write(park, as, 0x600fff, 1));
    EXPECT_EQ(as.brk(park, 0x602001, {}), 0x602001u);
    EXPECT_TRUE(w->write(park, as, 0x602fff, 1));
    EXPECT_EQ(w->read(park, as, 0x603000), -1);
    MmLimits limits;
    limits.data = 1 << 20;
    EXPECT_EQ(as.brk(park, 0x900000, limits), 0x602001u);
    CHECK_OK(map(park, as, 0x700000, kPageSize, kRW, [](auto& r) { r.fixed = true; }));
    EXPECT_EQ(as.brk(park, 0x700001, {}), 0x602001u);
    EXPECT_EQ(as.brk(park, 0x600010, {}), 0x600010u);
  });
}

TEST_F(Space, MremapGrowsMovesAndShrinks) {
  on([&](Park& park, AddressSpace& as) {
    uint64_t a = CHECK_OK(map(park, as, 0, 8 * kPageSize, kRW));
    for (int i = 0; i < 8; ++i) w->write(park, as, a + i * kPageSize, i + 1);
    auto remap = [&](uint64_t old, uint64_t len, uint64_t n, int flags = 0, uint64_t to = 0) {
      return as.mremap(park, old * kPageSize, len * kPageSize, n * kPageSize, flags, to * kPageSize,
                       {});
    };
    const uint64_t p = a / kPageSize;
    EXPECT_EQ(CHECK_OK(remap(p, 8, 4)), a);
    EXPECT_EQ(w->read(park, as, a + 4 * kPageSize), -1);
    EXPECT_EQ(CHECK_OK(remap(p, 4, 6)), a);  // in place
    EXPECT_EQ(w->read(park, as, a + 3 * kPageSize), 4);
    EXPECT_EQ(w->read(park, as, a + 5 * kPageSize), 0);
    EXPECT_EQ(vmas(as).size(), 1u);
    CHECK_OK(
        map(park, as, a + 6 * kPageSize, kPageSize, Prot::kRead, [](auto& r) { r.fixed = true; }));
    EXPECT_EQ(remap(p, 6, 20).error(), Errno::kNOMEM);
    uint64_t b = CHECK_OK(remap(p, 6, 20, MREMAP_MAYMOVE));
    EXPECT_NE(b, a);
    EXPECT_EQ(w->read(park, as, a), -1);
    EXPECT_EQ(w->read(park, as, b + 3 * kPageSize), 4);
    const uint64_t q = b / kPageSize;
    uint64_t c = CHECK_OK(remap(q + 1, 2, 2, MREMAP_MAYMOVE | MREMAP_FIXED, 0x50000));
    EXPECT_EQ(c, 0x50000000u);
    EXPECT_EQ(w->read(park, as, c), 2);
    EXPECT_EQ(w->read(park, as, b + kPageSize), -1);
    EXPECT_EQ(w->read(park, as, b + 3 * kPageSize), 4);
    uint64_t d = CHECK_OK(remap(c / kPageSize, 2, 2, MREMAP_MAYMOVE | 4, 0));
    EXPECT_EQ(w->read(park, as, d), 2);
    EXPECT_EQ(w->read(park, as, c), 0);
    EXPECT_EQ(remap(p, 1, 1, MREMAP_FIXED).error(), Errno::kINVAL);
    EXPECT_EQ(remap(q, 4, 4, MREMAP_MAYMOVE | MREMAP_FIXED, q + 3).error(), Errno::kINVAL);
    EXPECT_EQ(remap(1, 1, 2).error(), Errno::kFAULT);
    EXPECT_EQ(remap(q, 0, 1, MREMAP_MAYMOVE).error(), Errno::kINVAL);
    EXPECT_EQ(remap(q, 1, 0).error(), Errno::kINVAL);
    uint64_t s = CHECK_OK(map(park, as, 0, kPageSize, kRW, [](auto& r) { r.shared = true; }));
    w->write(park, as, s, 42);
    uint64_t t = CHECK_OK(remap(s / kPageSize, 0, 1, MREMAP_MAYMOVE));
    EXPECT_EQ(w->read(park, as, t), 42);
  });
}

TEST_F(Space, Advice) {
  on([&](Park& park, AddressSpace& as) {
    uint64_t a = CHECK_OK(map(park, as, 0, 8 * kPageSize, kRW));
    w->write(park, as, a, 1);
    EXPECT_EQ(CHECK_OK(as.mincore(park, a, 1)), std::vector<uint8_t>{1});
    CHECK_OK(as.madvise(park, a, kPageSize, MADV_DONTNEED));
    EXPECT_EQ(CHECK_OK(as.mincore(park, a, 1)), std::vector<uint8_t>{0});
    EXPECT_EQ(w->read(park, as, a), 0);
    EXPECT_EQ(as.madvise(park, a, kPageSize, 12345).error(), Errno::kINVAL);
    EXPECT_EQ(as.madvise(park, a + 1, kPageSize, MADV_DONTNEED).error(), Errno::kINVAL);
    EXPECT_EQ(as.madvise(park, a, 100 * kPageSize, MADV_DONTNEED).error(), Errno::kNOMEM);
    EXPECT_EQ(as.mincore(park, a + 8 * kPageSize, 1).error(), Errno::kNOMEM);
    w->write(park, as, a, 1);
    w->write(park, as, a + kPageSize, 2);
    CHECK_OK(as.madvise(park, a, kPageSize, MADV_WIPEONFORK));
    CHECK_OK(as.madvise(park, a + 2 * kPageSize, kPageSize, MADV_DONTFORK));
    auto child = CHECK_OK(as.fork(park, {}));
    EXPECT_EQ(w->read(park, *child, a), 0);
    EXPECT_EQ(w->read(park, *child, a + kPageSize), 2);
    EXPECT_EQ(w->read(park, *child, a + 2 * kPageSize), -1);
    EXPECT_EQ(as.msync(park, a, 8 * kPageSize, MS_SYNC | MS_ASYNC).error(), Errno::kINVAL);
    EXPECT_TRUE(as.msync(park, a, 8 * kPageSize, MS_SYNC).has_value());
    EXPECT_EQ(as.msync(park, a, 9 * kPageSize, MS_SYNC).error(), Errno::kNOMEM);
    uint64_t s = CHECK_OK(map(park, as, 0, 4 * kPageSize, kRW, [](auto& r) { r.shared = true; }));
    w->write(park, as, s, 9);
    CHECK_OK(as.madvise(park, s, kPageSize, MADV_REMOVE));
    EXPECT_EQ(w->read(park, as, s), 0);
    EXPECT_EQ(as.madvise(park, a, kPageSize, MADV_REMOVE).error(), Errno::kINVAL);
  });
}

TEST_F(Space, Locking) {
  on([&](Park& park, AddressSpace& as) {
    uint64_t a = CHECK_OK(map(park, as, 0, 8 * kPageSize, kRW));
    MmLimits limits;
    limits.memlock = 4 * kPageSize;
    CHECK_OK(as.mlock(park, a + 5, kPageSize, true, limits));
    EXPECT_EQ(as.stats().locked_pages, 2u);
    EXPECT_EQ(as.mlock(park, a, 5 * kPageSize, true, limits).error(), Errno::kNOMEM);
    CHECK_OK(as.mlock(park, a, 4 * kPageSize, true, limits));
    EXPECT_EQ(as.madvise(park, a, kPageSize, MADV_DONTNEED).error(), Errno::kINVAL);
    EXPECT_EQ(as.mlockall(park, MCL_CURRENT, limits).error(), Errno::kNOMEM);
    CHECK_OK(as.mlock(park, a, 4 * kPageSize, false, limits));
    EXPECT_EQ(as.stats().locked_pages, 0u);
    CHECK_OK(as.mlockall(park, MCL_CURRENT | MCL_FUTURE, {}));
    EXPECT_EQ(as.stats().locked_pages, 8u);
    uint64_t b = CHECK_OK(map(park, as, 0, kPageSize, kRW));
    EXPECT_EQ(CHECK_OK(as.mincore(park, b, 1)), std::vector<uint8_t>{1});
    CHECK_OK(as.mlockall(park, 0, {}));
    EXPECT_EQ(as.stats().locked_pages, 0u);
    EXPECT_EQ(vmas(as).size(), 1u);
    EXPECT_EQ(as.mlockall(park, MCL_ONFAULT, {}).error(), Errno::kINVAL);
    limits.memlock = 0;
    EXPECT_EQ(as.mlock(park, a, 1, true, limits).error(), Errno::kPERM);
  });
}

TEST_F(Space, OutOfMemoryAsksTheKiller) {
  on(
      [&](Park& park, AddressSpace& as) {
        Ref<AddressSpace> victim = w->space(park);
        uint64_t v = CHECK_OK(map(park, *victim, 0, 100 * kPageSize, kRW));
        for (int i = 0; i < 100; ++i) w->write(park, *victim, v + i * kPageSize, 1);
        uint64_t a = CHECK_OK(map(park, as, 0, 100 * kPageSize, kRW));
        int kills = 0;
        w->mem->oom_kill = [&] {
          if (!victim) return false;
          ++kills;
          victim.reset();
          return true;
        };
        for (int i = 0; i < 100; ++i) ASSERT_TRUE(w->write(park, as, a + i * kPageSize, 1));
        EXPECT_EQ(kills, 1);
        uint64_t b = CHECK_OK(map(park, as, 0, 100 * kPageSize, kRW));
        std::byte byte{};
        std::optional<FaultError> e;
        for (int i = 0; i < 100 && !e; ++i) {
          e = w->access(park, as, b + i * kPageSize, true, &byte);
        }
        ASSERT_TRUE(e);
        EXPECT_EQ(e->signo, 0);
        w->mem->oom_kill = nullptr;
      },
      128 * kPageSize);
}

TEST_F(Space, TheHostsLimitOfMappingsIsKept) {
  on(
      [&](Park& park, AddressSpace& as) {
        // Every second page of a shared object: no two pages of a space are neighbours in memory.
        constexpr uint64_t kPages = 120000;
        auto obj = make_ref<PageCacheObject>(*w->mem, PageCacheObject::Options{});
        obj->resize(park, kPages * kPageSize);
        auto f = w->host_file(std::string(3 * kPageSize, 'h'));
        uint64_t h =
            CHECK_OK(map(park, as, 0, 3 * kPageSize, Prot::kRead, [&](auto& r) { r.object = f; }));
        uint64_t a = CHECK_OK(map(park, as, 0, kPages * kPageSize, kRW, [&](auto& r) {
          r.object = obj;
          r.shared = true;
        }));
        CHECK_OK(as.madvise(park, a, kPages * kPageSize, MADV_RANDOM));
        for (uint64_t i = 0; i < kPages; i += 2) {
          ASSERT_TRUE(w->write(park, as, a + i * kPageSize, static_cast<int>(i % 251)));
        }
        uint64_t regions = 0, next = 0;
        for (auto& [at, m] : World::mirror(as).live) {
          regions += at != next;
          next = at + kPageSize;
        }
        EXPECT_LT(regions, 60000u);
        EXPECT_EQ(w->read(park, as, h), 'h');
        for (uint64_t i = 0; i < kPages; i += 1000) {
          ASSERT_EQ(w->read(park, as, a + i * kPageSize), static_cast<int>(i % 251));
        }
      },
      512 << 20);
}

TEST_F(Space, ClearLeavesNothing) {
  on([&](Park& park, AddressSpace& as) {
    auto f = w->host_file(std::string(9000, 'h'));
    uint64_t a = CHECK_OK(map(park, as, 0, 9000, kRW, [&](auto& r) { r.object = f; }));
    uint64_t b = CHECK_OK(map(park, as, 0, 100 * kPageSize, kRW));
    w->write(park, as, a, 1);
    w->write(park, as, b, 1);
    as.clear(park);
    EXPECT_EQ(as.stats().total_pages, 0u);
    EXPECT_EQ(w->read(park, as, b), -1);
    CHECK_OK(as.flush(park));
    EXPECT_EQ(w->mem->free_pages(), w->mem->total_pages());
    EXPECT_TRUE(f->observers().empty());
  });
}

}  // namespace
}  // namespace uk
