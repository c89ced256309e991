// Random use of several address spaces against a plain model: every byte the guest and the kernel
// see, every fault, the mirror and the reference count of every frame must be what the model says.

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <map>
#include <memory>
#include <optional>
#include <random>

#include "ukernel/mm/page_cache.h"
#include "ukernel/mm/test_peer.h"

namespace uk {
namespace {

using mm_test::World;
constexpr uint64_t kBase = 0x10000000;
constexpr uint64_t kPages = 120;

// One page of a model space: what its first byte is, and where writes go.
struct Cell {
  Prot prot;
  bool shared;
  std::shared_ptr<int> value;  // shared or anonymous: the byte
  std::shared_ptr<std::map<uint64_t, int>>
      file;  // private file page not yet written: the file's bytes
  uint64_t index = 0;
  int get() const { return value ? *value : (*file)[index]; }
};
using Model = std::map<uint64_t, Cell>;  // by page

class Simulation {
 public:
  Simulation(uint32_t seed, World& w, Park& park) : rng(seed), w(w), park(park) {
    spaces.push_back({w.space(park), {}});
    object = make_ref<PageCacheObject>(*w.mem, PageCacheObject::Options{});
    object->resize(park, kPages * kPageSize);
    object_bytes = std::make_shared<std::map<uint64_t, int>>();
    for (uint64_t i = 0; i < kPages; ++i) shared_cells.push_back(std::make_shared<int>(0));
    std::string content(kPages * kPageSize, 0);
    host_bytes = std::make_shared<std::map<uint64_t, int>>();
    for (uint64_t i = 0; i < kPages; ++i) {
      content[i * kPageSize] = static_cast<char>(100 + i % 100);
      (*host_bytes)[i] = 100 + i % 100;
    }
    host = w.host_file(content);
    host->suspends = seed % 2 != 0;
    exact = seed % 3 == 0;
  }

  void step() {
    size_t which = rng() % spaces.size();
    auto& [as, model] = spaces[which];
    uint64_t page = rng() % kPages, len = 1 + rng() % (rng() % 3 == 0 ? 30 : 4);
    len = std::min(len, kPages - page);
    switch (rng() % 16) {
      case 0:
      case 1:
        return map(*as, model, page, len);
      case 2:
        CHECK_OK(as->munmap(park, addr(page), len * kPageSize));
        model.erase(model.lower_bound(page), model.lower_bound(page + len));
        return;
      case 3:
        return protect(*as, model, page, len);
      case 4:
        if (spaces.size() < 4) fork(which);
        return;
      case 5:
        if (spaces.size() > 1 && rng() % 2 == 0) spaces.erase(spaces.begin() + which);
        return;
      case 6:
        return dont_need(*as, model, page, len);
      case 7:
        return move(*as, model, page, len);
      case 8:
        return copy(*as, model, page, len);
      case 9:
        if (rng() % 4 == 0) CHECK_OK(as->flush(park));
        return;
      default:
        return touch(*as, model, page);
    }
  }

  void check() {
    std::map<Pfn, uint32_t> refs;
    for (auto& [as, model] : spaces) AddressSpaceTestPeer::check_held(w, *as);
    for (auto& [as, model] : spaces) {
      AddressSpaceTestPeer::check_mirror(w, *as);
      AddressSpaceTestPeer::count_refs(*as, refs);
      uint64_t pages = 0;
      as->each_vma([&](const VmaInfo& i) { pages += (i.end - i.start) / kPageSize; });
      ASSERT_EQ(pages, model.size());
    }
    for (uint64_t i = 0; i < kPages; ++i) {
      if (Pfn p = object->cached_page(i); p != kNoPfn) ++refs[p];
    }
    for (auto& [pfn, n] : refs) {
      // Shared anonymous objects hold one more.
      uint32_t have = w.mem->ref_count(pfn);
      ASSERT_TRUE(have == n || have == n + 1) << pfn << " " << have << " " << n;
    }
  }
  void check_all_bytes() {
    for (auto& [as, model] : spaces) {
      for (uint64_t p = 0; p < kPages; ++p) expect_read(*as, model, p);
    }
  }

 private:
  static uint64_t addr(uint64_t page) { return kBase + page * kPageSize; }

  void map(AddressSpace& as, Model& model, uint64_t page, uint64_t len) {
    MmapRequest r;
    r.addr = addr(page);
    r.fixed = true;
    r.len = len * kPageSize;
    r.prot = static_cast<Prot>(rng() % 8);
    const int kind = rng() % 5;
    // Populating makes the private copy of a file page; what the model then sees of the file is not
    // specified.
    r.populate = kind != 2 && rng() % 8 == 0;
    r.shared = kind == 1 || kind == 3;
    uint64_t first = rng() % (kPages - len + 1);
    r.offset = first * kPageSize;
    if (kind == 2 || kind == 3) r.object = object;
    if (kind == 4) r.object = host;
    ASSERT_EQ(CHECK_OK(as.mmap(park, r, {})), r.addr);
    for (uint64_t i = 0; i < len; ++i) {
      Cell c{r.prot, r.shared, nullptr, nullptr, first + i};
      if (kind < 2) c.value = std::make_shared<int>(0);
      if (kind == 2) c.file = object_bytes;
      if (kind == 3) c.value = shared_cells[first + i];
      if (kind == 4) c.file = host_bytes;
      model[page + i] = c;
    }
  }

  void protect(AddressSpace& as, Model& model, uint64_t page, uint64_t len) {
    Prot prot = static_cast<Prot>(rng() % 8);
    Result<> r = as.mprotect(park, addr(page), len * kPageSize, prot);
    for (uint64_t i = page; i < page + len; ++i) {
      auto it = model.find(i);
      if (it == model.end()) {
        ASSERT_EQ(r.error(), Errno::kNOMEM);
        return;
      }
      it->second.prot = prot;
    }
    ASSERT_TRUE(r.has_value());
  }

  void fork(size_t which) {
    Ref<AddressSpace> child = CHECK_OK(spaces[which].first->fork(park, {}));
    Model copy = spaces[which].second;
    for (auto& [page, c] : copy) {
      if (!c.shared && c.value) c.value = std::make_shared<int>(*c.value);
    }
    spaces.emplace_back(child, std::move(copy));
  }

  void dont_need(AddressSpace& as, Model& model, uint64_t page, uint64_t len) {
    (void)as.madvise(park, addr(page), len * kPageSize, MADV_DONTNEED);
    for (uint64_t i = page; i < page + len; ++i) {
      auto it = model.find(i);
      if (it == model.end() || it->second.shared) continue;
      Cell& c = it->second;
      if (c.file) {
        c.value = nullptr;
      } else {
        c.value = std::make_shared<int>(0);
      }
    }
  }

  void move(AddressSpace& as, Model& model, uint64_t page, uint64_t len) {
    uint64_t to = rng() % (kPages - len + 1);
    auto r = as.mremap(park, addr(page), len * kPageSize, len * kPageSize,
                       MREMAP_MAYMOVE | MREMAP_FIXED, addr(to), {});
    if (to < page + len && page < to + len) {
      ASSERT_EQ(r.error(), Errno::kINVAL);
      return;
    }
    if (!model.contains(page)) {
      ASSERT_EQ(r.error(), Errno::kFAULT);
      return;
    }
    // All that is mapped moves; what lies behind the target of a gap stays.
    ASSERT_TRUE(r.has_value());
    for (uint64_t i = 0; i < len; ++i) {
      if (!model.contains(page + i)) continue;
      model[to + i] = model[page + i];
      model.erase(page + i);
    }
  }

  void copy(AddressSpace& as, Model& model, uint64_t page, uint64_t len) {
    // The kernel writes the first byte of each page of a run.
    const bool out = rng() % 2 == 0;
    for (uint64_t i = page; i < page + len; ++i) {
      auto it = model.find(i);
      std::byte b{static_cast<unsigned char>(rng() % 256)};
      if (out) {
        auto r = as.copy_out(park, addr(i), {&b, 1});
        bool may = it != model.end() && any(it->second.prot & Prot::kWrite);
        ASSERT_EQ(r.has_value(), may);
        if (may) set(it->second, static_cast<int>(b));
      } else {
        auto r = as.copy_in(park, {&b, 1}, addr(i));
        bool may = it != model.end() && it->second.prot != Prot::kNone;
        ASSERT_EQ(r.has_value(), may);
        ASSERT_TRUE(!may || static_cast<int>(b) == it->second.get());
      }
    }
  }

  void touch(AddressSpace& as, Model& model, uint64_t page) {
    if (rng() % 2 == 0) return expect_read(as, model, page);
    auto it = model.find(page);
    std::byte b{static_cast<unsigned char>(rng() % 256)};
    auto e = w.access(park, as, addr(page), true, &b, exact);
    bool may = it != model.end() && any(it->second.prot & Prot::kWrite);
    ASSERT_EQ(!e, may) << "page " << page;
    if (may) set(it->second, static_cast<int>(b));
  }
  void expect_read(AddressSpace& as, Model& model, uint64_t page) {
    auto it = model.find(page);
    std::byte b{};
    auto e = w.access(park, as, addr(page), false, &b, exact);
    bool may = it != model.end() && it->second.prot != Prot::kNone;
    ASSERT_EQ(!e, may) << "page " << page;
    ASSERT_TRUE(!may || static_cast<int>(b) == it->second.get()) << "page " << page;
  }
  void set(Cell& c, int v) {
    if (!c.value) c.value = std::make_shared<int>(0);
    *c.value = v;
    for (uint64_t i = 0; i < kPages; ++i) {
      if (c.value == shared_cells[i]) (*object_bytes)[i] = v;
    }
  }

  std::mt19937 rng;
  World& w;
  Park& park;
  std::vector<std::pair<Ref<AddressSpace>, Model>> spaces;
  Ref<PageCacheObject> object;
  std::shared_ptr<std::map<uint64_t, int>> object_bytes, host_bytes;
  std::vector<std::shared_ptr<int>> shared_cells;
  Ref<mm_test::FakeHostFile> host;
  bool exact = false;
};

TEST(MmModel, RandomUse) {
  uint32_t first = 1, count = 40;
  if (const char* s = std::getenv("UK_SEED")) first = std::atoi(s), count = 1;
  for (uint32_t seed = first; seed < first + count; ++seed) {
    SCOPED_TRACE("replay with UK_SEED=" + std::to_string(seed));
    // Some runs with little memory, so that windows shrink and extents come short.
    World w(seed % 4 == 0 ? 700 * kPageSize : 32 << 20);
    w.run([&](Park& park) {
      Simulation sim(seed, w, park);
      for (int i = 0; i < 1500 && !testing::Test::HasFatalFailure(); ++i) {
        sim.step();
        if (i % 20 == 0) sim.check();
        if (i % 200 == 0) sim.check_all_bytes();
      }
      sim.check_all_bytes();
      sim.check();
    });
    ASSERT_FALSE(testing::Test::HasFatalFailure());
    ASSERT_EQ(w.mem->free_pages(), w.mem->total_pages());
    ASSERT_EQ(w.mem->anon_pages, 0u);
    ASSERT_EQ(w.mem->shmem_pages, 0u);
  }
}

}  // namespace
}  // namespace uk
