// Pages of an address space and their mirror in the stub.

#include <algorithm>

#include "base/check.h"
#include "ukernel/mm/space.h"

namespace uk {

namespace {
// More deferred frames than this are worth a trip to the stub of their own.
constexpr size_t kManyDeferred = 4096;

// v's protection in the stub, less write.
Prot read_prot(const Vma& v) {
  return v.prot == Prot::kNone ? Prot::kNone : ((v.prot | Prot::kRead) & ~Prot::kWrite);
}
}  // namespace

void AddressSpace::Impl::set_pte(const Vma& v, uint64_t page, Pte pte) {
  const Pte old = pt.get(page);
  auto count = [&](Pte p, int64_t n) {
    if (!p) return;
    uint64_t& c = p.anon() ? rss_anon : v.object && v.object->shmem() ? rss_shmem : rss_file;
    c += n;
  };
  count(old, -1);
  count(pte, +1);
  pt.set(page, pte);
  peak_rss = std::max(peak_rss, rss_anon + rss_file + rss_shmem);
}

Prot AddressSpace::Impl::stub_prot(const Vma& v, Pte pte) const {
  if (v.prot == Prot::kNone) return Prot::kNone;
  Prot p = v.prot | Prot::kRead;
  if (!any(p & Prot::kWrite)) return p;
  // Writable at once: our own unshared page, or a shared page whose object need not know. A shared
  // page that was writable has been announced to its object.
  const bool may = pte.anon()  ? mem.ref_count(pte.pfn()) == 1
                   : !v.shared ? false
                               : pte.writable() || !v.object->tracks_writes();
  return may ? p : p & ~Prot::kWrite;
}

void AddressSpace::Impl::zap(Vma& v, uint64_t start, uint64_t end, Which which) {
  pt.each(start / kPageSize, end / kPageSize, [&](uint64_t page, Pte pte) {
    if (which == Which::kAll || (which == Which::kAnon) == pte.anon()) {
      set_pte(v, page, {});
      defer(pte.pfn(), pte.anon());
    }
    return true;
  });
}

void AddressSpace::Impl::unmap_stub(uint64_t start, uint64_t end, By by) {
  stub_unmap(start, end - start, by);
  stale_.fill({});
}

void AddressSpace::Impl::bound_regions() {
  if (regions < kMaxRegions) [[likely]]
    return;
  uint64_t runs = 0;
  for (auto& [start, v] : vmas.map()) {
    uint64_t next_page = start / kPageSize;
    Pfn next_pfn = kNoPfn;
    Prot prot = Prot::kNone;
    pt.each(v->start / kPageSize, v->end / kPageSize, [&](uint64_t page, Pte pte) {
      if (v->host && page != next_page) ++runs;  // the file between frames
      if (page != next_page || pte.pfn() != next_pfn || pte.stub() != prot) ++runs;
      next_page = page + 1;
      next_pfn = pte.pfn() + 1;
      prot = pte.stub();
      return true;
    });
    runs += v->host && next_page != v->end / kPageSize;
  }
  regions = runs;
  if (runs < kMaxRegions - kMaxRegions / 8) return;
  guest.unmap_all();
  stale_.fill({});
  hidden.clear();  // frames come by faults, files now
  regions = 0;
  for (auto& [start, v] : vmas.map()) {
    pt.each(v->start / kPageSize, v->end / kPageSize, [&](uint64_t page, Pte pte) {
      pt.set(page, pte.with_stub(Prot::kNone));
      return true;
    });
    if (v->host) map_host(*v, v->start, v->end);
  }
}

void AddressSpace::Impl::map_host(Vma& v, uint64_t start, uint64_t end, bool late) {
  DCHECK(v.host);
  const Prot prot = read_prot(v);
  if (prot == Prot::kNone) return;
  for (uint64_t page = start / kPageSize; page < end / kPageSize;) {
    const uint64_t stop = pt.next(page, end / kPageSize);
    if (stop > page) {
      const auto range = v.object->host_range(v.index(page * kPageSize));
      if (!range) return;  // the host file went away; touching faults, and is SIGBUS there
      const uint64_t len = (stop - page) * kPageSize;
      if (late) {
        stub_map_late(page * kPageSize, len, prot, range->fd, range->offset, /*populate=*/false);
      } else {
        stub_map(page * kPageSize, len, prot, range->fd, range->offset, /*populate=*/false);
      }
    }
    page = stop + 1;
  }
}

void AddressSpace::Impl::map_frames(Vma& v, uint64_t start, uint64_t end, bool populate) {
  uint64_t run = 0, run_len = 0;
  Pfn run_pfn = 0;
  Prot run_prot = Prot::kNone;
  auto emit = [&] {
    if (run_len != 0 && run_prot != Prot::kNone) {
      stub_map(run * kPageSize, run_len * kPageSize, run_prot, mem.fd(), mem.host_offset(run_pfn),
               populate);
    }
    run_len = 0;
  };
  pt.each(start / kPageSize, end / kPageSize, [&](uint64_t page, Pte pte) {
    const Prot prot = stub_prot(v, pte);
    if (prot != pte.stub()) pt.set(page, pte.with_stub(prot));
    if (run_len != 0 && page == run + run_len && pte.pfn() == run_pfn + run_len &&
        prot == run_prot) {
      ++run_len;
      return true;
    }
    emit();
    run = page;
    run_len = 1;
    run_pfn = pte.pfn();
    run_prot = prot;
    return true;
  });
  emit();
}

void AddressSpace::Impl::reprotect(Vma& v, uint64_t start, uint64_t end, Prot old) {
  const By by = v.shared ? By::kKernel : By::kGuest;
  if (v.host) {
    // Borders of pages with and without frames: host parts one by one.
    const Prot prot = read_prot(v);
    const bool was_mapped = old != Prot::kNone;
    if (!was_mapped) {
      map_host(v, start, end);
    } else {
      for (uint64_t page = start / kPageSize; page < end / kPageSize;) {
        const uint64_t stop = pt.next(page, end / kPageSize);
        if (stop > page) stub_protect(page * kPageSize, (stop - page) * kPageSize, prot, by);
        page = stop + 1;
      }
    }
  }
  // Frames that are mapped change by runs of equal protection; those that are not are mapped.
  uint64_t run = 0, run_len = 0;
  Prot run_prot = Prot::kNone;
  std::vector<std::pair<uint64_t, uint64_t>> unmapped;
  auto emit = [&] {
    if (run_len != 0) stub_protect(run * kPageSize, run_len * kPageSize, run_prot, by);
    run_len = 0;
  };
  pt.each(start / kPageSize, end / kPageSize, [&](uint64_t page, Pte pte) {
    const Prot prot = stub_prot(v, pte);
    if (prot == pte.stub()) return true;
    if (pte.stub() == Prot::kNone) {
      if (!unmapped.empty() && unmapped.back().second == page) {
        ++unmapped.back().second;
      } else {
        unmapped.emplace_back(page, page + 1);
      }
      return true;
    }
    pt.set(page, pte.with_stub(prot));
    if (run_len != 0 && page == run + run_len && prot == run_prot) {
      ++run_len;
      return true;
    }
    emit();
    run = page;
    run_len = 1;
    run_prot = prot;
    return true;
  });
  emit();
  for (auto [from, to] : unmapped) map_frames(v, from * kPageSize, to * kPageSize, false);
  stale_.fill({});
}

void AddressSpace::Impl::discard(Vma& v, uint64_t start, uint64_t end, Which which) {
  // Runs of pages that go; between them pages may stay.
  std::vector<std::pair<uint64_t, uint64_t>> runs;
  pt.each(start / kPageSize, end / kPageSize, [&](uint64_t page, Pte pte) {
    if (which != Which::kAll && (which == Which::kAnon) != pte.anon()) return true;
    if (!runs.empty() && runs.back().second == page) {
      ++runs.back().second;
    } else {
      runs.emplace_back(page, page + 1);
    }
    return true;
  });
  if (runs.empty()) return;
  reveal(start, end);
  zap(v, start, end, which);
  if (v.object) keep_until_flush(v.object);
  if (!v.host && which == Which::kAll) {
    unmap_stub(runs.front().first * kPageSize, runs.back().second * kPageSize);
    return;
  }
  for (auto [from, to] : runs) {
    if (v.host && v.prot != Prot::kNone) {
      map_host(v, from * kPageSize, to * kPageSize);
    } else {
      unmap_stub(from * kPageSize, to * kPageSize);
    }
  }
  stale_.fill({});
}

void AddressSpace::Impl::release(Pfn pfn, bool anon) {
  if (anon && mem.ref_count(pfn) == 1) --mem.anon_pages;
  mem.unref(pfn);
}

void AddressSpace::Impl::defer(Pfn pfn, bool anon) { deferred_.push_back({pfn, anon}); }

void AddressSpace::Impl::keep_until_flush(Ref<MemoryObject> o) {
  if (deferred_objects_.empty() || !(deferred_objects_.back() == o)) {
    deferred_objects_.push_back(std::move(o));
  }
}

void AddressSpace::Impl::settle() {
  if ((deferred_.empty() && deferred_objects_.empty()) || guest.dirty() || guest.unconfirmed()) {
    return;
  }
  std::vector<Deferred> frames = std::exchange(deferred_, {});
  std::vector<Ref<MemoryObject>> objects = std::exchange(deferred_objects_, {});
  for (const Deferred& d : frames) release(d.pfn, d.anon);
}

Result<> AddressSpace::Impl::settle_large(Park& park) {
  if (deferred_.size() >= kManyDeferred) TRY(guest.flush(park));
  settle();
  return {};
}

void AddressSpace::Impl::invalidate(Vma& v, uint64_t start, uint64_t end, bool private_copies) {
  discard(v, start, end, private_copies ? Which::kAll : Which::kObject);
}

void AddressSpace::Impl::write_protect(Vma& v, uint64_t start, uint64_t end) {
  uint64_t run = 0, run_len = 0;
  auto emit = [&] {
    if (run_len != 0) {
      stub_protect(run * kPageSize, run_len * kPageSize, read_prot(v));
    }
    run_len = 0;
  };
  pt.each(start / kPageSize, end / kPageSize, [&](uint64_t page, Pte pte) {
    if (!pte.writable()) return true;
    pt.set(page, pte.with_stub(pte.stub() & ~Prot::kWrite));
    if (run_len == 0 || page != run + run_len) {
      emit();
      run = page;
    }
    ++run_len;
    return true;
  });
  emit();
}

uint64_t AddressSpace::Impl::reclaim(uint64_t) {
  const uint64_t before = mem.free_pages();
  settle();
  return mem.free_pages() - before;
}

}  // namespace uk
