// Copy-on-write: the first write to a private page that somebody else has too, or that shows a
// file.

#include <signal.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "ukernel/mm/space.h"

namespace uk {

namespace {
constexpr uint32_t kCowAround = 8;     // shared pages copied around a write at first
constexpr uint32_t kCowMost = 256;     // ... and when writes go on in order
constexpr uint64_t kHostAround = 16;   // file pages copied around a write at first
constexpr uint32_t kHostMost = 256;    // ... and of a program's data, which is written all over
constexpr uint64_t kDataPages = 1024;  // a mapping as small as that is data
std::unexpected<FaultError> bus_error() { return std::unexpected(FaultError{SIGBUS, BUS_ADRERR}); }
}  // namespace

// A page shared with another space since fork. Neighbours in the same state come along: after a
// fork, who writes one of them mostly writes the others, and more of them when it goes on in order.
AddressSpace::Impl::Step AddressSpace::Impl::break_cow(Park& park, Vma& v, uint64_t page, Pte) {
  fork_profile->written.note(page);
  auto shared = [&](uint64_t p) {
    const Pte n = pt.get(p);
    return n && n.anon() && mem.ref_count(n.pfn()) > 1;
  };
  uint64_t lo = page, hi = page + 1;
  if (mem.free_pages() > mem.total_pages() / 16) {
    const uint64_t window = v.random ? kCowAround : std::min(v.widen(page, kCowAround), kCowMost);
    const uint64_t first = std::max(page / window * window, v.start / kPageSize);
    const uint64_t end = std::min(page / window * window + window, v.end / kPageSize);
    while (lo > first && shared(lo - 1)) --lo;
    while (hi < end && shared(hi)) ++hi;
  }
  Result<PhysMemory::Extent> extent = mem.alloc_extent(static_cast<uint32_t>(hi - lo), false);
  if (!extent) return out_of_memory(park);
  if (extent->got < hi - lo) {
    lo = std::max(lo, page + 1 > extent->got ? page + 1 - extent->got : 0);
    hi = lo + extent->got;
  }
  mem.prepare(extent->first, extent->got);
  mem.anon_pages += extent->got;
  const Prot prot = v.prot == Prot::kNone ? Prot::kNone : v.prot | Prot::kRead;
  for (uint64_t p = lo; p < hi; ++p) {
    const Pte old = pt.get(p);
    const Pfn to = extent->first + static_cast<Pfn>(p - lo);
    std::memcpy(mem.ptr(to), mem.ptr(old.pfn()), kPageSize);
    set_pte(v, p, Pte::make(to, prot, true));
    defer(old.pfn(), true);
  }
  if (prot != Prot::kNone) {
    stub_map(lo * kPageSize, (hi - lo) * kPageSize, prot, mem.fd(), mem.host_offset(extent->first),
             true);
  }
  v.next_fault = hi;
  return true;
}

// A page of a private mapping of an object with frames.
AddressSpace::Impl::Step AddressSpace::Impl::break_cached(Park& park, Vma& v, uint64_t page) {
  const Ref<MemoryObject> object = v.object;
  const Pte pte = pt.get(page);
  const uint64_t id = v.id;
  Result<PageRef> from = object->get_page(park, v.index(page * kPageSize), false);
  if (!from && from.error() == Errno::kNOMEM) return out_of_memory(park);
  if (!from) return bus_error();
  Vma* again;
  if (!same_vma(page, id, pte, &again)) return false;
  Result<Pfn> to = mem.alloc(false);
  if (!to) return out_of_memory(park);
  mem.prepare(*to, 1);
  std::memcpy(mem.ptr(*to), from->data(), kPageSize);
  ++mem.anon_pages;
  if (pte) defer(pte.pfn(), pte.anon());
  const Prot prot = v.prot == Prot::kNone ? Prot::kNone : v.prot | Prot::kRead;
  set_pte(v, page, Pte::make(*to, prot, true));
  if (prot != Prot::kNone) {
    stub_map(page * kPageSize, kPageSize, prot, mem.fd(), mem.host_offset(*to), true);
  }
  return true;
}

// A page that shows a host file. Small VMAs (.data of libraries) are copied whole.
AddressSpace::Impl::Step AddressSpace::Impl::break_host(Park& park, Vma& v, uint64_t page) {
  const Ref<MemoryObject> object = v.object;
  const uint64_t id = v.id;
  const uint64_t index = v.index(page * kPageSize);
  const uint64_t object_pages = page_ceil(object->size()) / kPageSize;
  if (index >= object_pages) return bus_error();
  uint64_t first = v.start / kPageSize, end = v.end / kPageSize;
  uint64_t around = kHostAround;
  if (end - first <= kDataPages) {
    around = std::clamp<uint64_t>(v.host_window, kHostAround, kHostMost);
    v.host_window = static_cast<uint32_t>(around) * 2;
  }
  if (end - first > around) {
    first = std::max(first, page / around * around);
    end = std::min(end, page / around * around + around);
  }
  end = std::min(end, page + (object_pages - index));
  // What the guest cannot write is written by us, for a tracer or a call site: one page.
  if (v.random || !v.has(Prot::kWrite) || mem.free_pages() < mem.total_pages() / 16) {
    first = page, end = page + 1;
  }
  uint64_t lo = page, hi = page + 1;
  while (lo > first && !pt.get(lo - 1)) --lo;
  while (hi < end && !pt.get(hi)) ++hi;

  Result<PhysMemory::Extent> extent = mem.alloc_extent(static_cast<uint32_t>(hi - lo));
  if (!extent) return out_of_memory(park);
  if (extent->got < hi - lo) {
    lo = std::max(lo, page + 1 > extent->got ? page + 1 - extent->got : 0);
    hi = lo + extent->got;
  }
  const uint32_t n = extent->got;
  std::vector<PageRef> frames;  // ours until they are installed
  for (uint32_t i = 0; i < n; ++i) frames.push_back(PageRef::adopt(mem, extent->first + i));
  mem.prepare(extent->first, n);
  const uint64_t offset = v.index(lo * kPageSize) * kPageSize;
  size_t done = 0;
  while (done < n * kPageSize) {
    Result<size_t> got =
        object->read(park, offset + done, {mem.ptr(extent->first) + done, n * kPageSize - done});
    if (!got) return bus_error();
    if (*got == 0) break;
    done += *got;
  }
  if (done <= (page - lo) * kPageSize) return bus_error();  // cut off meanwhile
  Vma* again;
  if (!same_vma(page, id, {}, &again)) return false;
  // Neighbours may have got frames of their own while we read: install the run around the page that
  // has not.
  uint64_t from = page, to = page + 1;
  while (from > lo && !pt.get(from - 1)) --from;
  while (to < hi && to < lo + page_ceil(done) / kPageSize && !pt.get(to)) ++to;
  const Prot prot = v.prot == Prot::kNone ? Prot::kNone : v.prot | Prot::kRead;
  mem.anon_pages += to - from;
  for (uint64_t p = from; p < to; ++p) {
    set_pte(v, p, Pte::make(frames[p - lo].release(), prot, true));
  }
  if (prot != Prot::kNone) {
    stub_map(from * kPageSize, (to - from) * kPageSize, prot, mem.fd(),
             mem.host_offset(extent->first + static_cast<Pfn>(from - lo)), true);
  }
  return true;
}

}  // namespace uk
