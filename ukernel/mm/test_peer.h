// Looks into an address space for tests: is the mirror what the page table says, are all frames
// accounted for?
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "ukernel/mm/space.h"
#include "ukernel/mm/test_kit.h"

namespace uk {

class AddressSpaceTestPeer {
 public:
  // After the queued changes are in force.
  static void check_mirror(mm_test::World& w, AddressSpace& as) {
    AddressSpace::Impl& im = *as.impl_;
    mm_test::FakeMirror& mirror = mm_test::World::mirror(as);
    mirror.apply_all();
    auto is_hidden = [&](uint64_t a) {
      return std::ranges::any_of(im.hidden, [&](auto r) { return a >= r.start && a < r.end; });
    };
    std::map<uint64_t, mm_test::Mapped> want;
    uint64_t ptes = 0, total = 0, anon = 0;
    const Vma* last = nullptr;
    for (auto& [start, v] : im.vmas.map()) {
      ASSERT_EQ(start, v->start);
      ASSERT_LT(v->start, v->end);
      if (last != nullptr) {
        ASSERT_LE(last->end, v->start);
        ASSERT_FALSE(last->continues_with(*v)) << "not merged at " << std::hex << v->start;
      }
      last = v.get();
      total += v->pages();
      for (uint64_t a = v->start; a < v->end; a += kPageSize) {
        // Without a host file only pages with an entry have anything to show.
        if (!v->host) a = im.pt.next(a / kPageSize, v->end / kPageSize) * kPageSize;
        if (a == v->end) break;
        const Pte pte = im.pt.get(a / kPageSize);
        if (pte) {
          ++ptes;
          anon += pte.anon();
          ASSERT_GT(w.mem->ref_count(pte.pfn()), 0u);
          if (pte.writable()) {
            ASSERT_TRUE(v->has(Prot::kWrite));
            ASSERT_TRUE(!pte.anon() || w.mem->ref_count(pte.pfn()) == 1);
            ASSERT_TRUE(pte.anon() || v->shared);
          }
          if (pte.readable()) {
            ASSERT_NE(v->prot, Prot::kNone);
            want[a] = {w.mem->fd(), w.mem->host_offset(pte.pfn()), pte.stub()};
          }
        } else if (v->host && v->prot != Prot::kNone && !is_hidden(a)) {
          auto r = v->object->host_range(v->index(a));
          want[a] = {r->fd, r->offset, (v->prot | Prot::kRead) & ~Prot::kWrite};
        }
      }
    }
    ASSERT_EQ(ptes, im.pt.count());
    ASSERT_EQ(total, im.total);
    ASSERT_EQ(anon, im.rss_anon);
    ASSERT_EQ(ptes, im.rss_anon + im.rss_file + im.rss_shmem);
    for (auto& [a, m] : want) {
      auto it = mirror.live.find(a);
      ASSERT_NE(it, mirror.live.end()) << "not mapped: " << std::hex << a;
      ASSERT_EQ(it->second.fd, m.fd) << std::hex << a;
      ASSERT_EQ(it->second.offset, m.offset) << std::hex << a;
      ASSERT_EQ(it->second.prot, m.prot) << std::hex << a;
    }
    for (auto& [a, m] : mirror.live) {
      ASSERT_TRUE(want.contains(a) || m.prot == Prot::kNone) << "mapped: " << std::hex << a;
    }
  }

  // Before the queued changes are in force: whatever the stub can reach is still held by this
  // space.
  static void check_held(mm_test::World& w, AddressSpace& as) {
    AddressSpace::Impl& im = *as.impl_;
    std::map<Pfn, int> held;
    for (const auto& d : im.deferred_) ++held[d.pfn];
    for (auto& [a, m] : mm_test::World::mirror(as).live) {
      if (m.fd != w.mem->fd() || m.prot == Prot::kNone) continue;
      const Pfn pfn = static_cast<Pfn>(m.offset / kPageSize);
      const Pte pte = im.pt.get(a / kPageSize);
      if (pte && pte.pfn() == pfn) continue;
      bool moved = false;
      im.pt.each(0, 1ull << 35, [&](uint64_t, Pte p) {
        moved = p.pfn() == pfn;
        return !moved;
      });
      ASSERT_TRUE(moved || held.contains(pfn)) << "reachable and given away: " << std::hex << a;
    }
  }

  // References to frames: entries and deferred ones.
  static void count_refs(AddressSpace& as, std::map<Pfn, uint32_t>& refs) {
    AddressSpace::Impl& im = *as.impl_;
    im.pt.each(0, 1ull << 36, [&](uint64_t, Pte p) {
      ++refs[p.pfn()];
      return true;
    });
    for (const auto& d : im.deferred_) ++refs[d.pfn];
  }
};

namespace mm_test {

// Runs bodies in a world of their own; afterwards the stub must be as mm's tables say, and no frame
// lost.
class SpaceTest : public testing::Test {
 protected:
  void on(std::function<void(Park&, AddressSpace&)> body, uint64_t bytes = 64 << 20) {
    w = std::make_unique<World>(bytes);
    w->run([&](Park& park) {
      Ref<AddressSpace> as = w->space(park);
      body(park, *as);
      AddressSpaceTestPeer::check_mirror(*w, *as);
    });
    EXPECT_EQ(w->mem->free_pages(), w->mem->total_pages());
    EXPECT_EQ(w->mem->anon_pages, 0u);
  }
  static Result<uint64_t> map(Park& park, AddressSpace& as, uint64_t addr, uint64_t len, Prot prot,
                              std::function<void(MmapRequest&)> more = {}) {
    MmapRequest r;
    r.addr = addr;
    r.len = len;
    r.prot = prot;
    if (more) more(r);
    return as.mmap(park, r, {});
  }
  std::unique_ptr<World> w;
};

}  // namespace mm_test

}  // namespace uk
