// mremap(2): moving and resizing mappings. Frames move with their entries; nothing is copied.

#include <sys/mman.h>

#include <algorithm>
#include <vector>

#include "base/check.h"
#include "ukernel/mm/space.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

namespace uk {

// The mapping [v.start, v.end) shows at `to` with length `new_len`; v is left empty (keep) or goes.
void AddressSpace::Impl::move_vma(Vma& v, uint64_t to, uint64_t new_len, bool keep) {
  DCHECK(vmas.free(to, to + new_len));
  std::unique_ptr<Vma> moved = v.clone(*this);
  moved->start = to;
  moved->end = to + new_len;
  moved->userfault = nullptr;  // who moves it would have to be told (UFFD_FEATURE_EVENT_REMAP)
  const uint64_t from_page = v.start / kPageSize, to_page = to / kPageSize;
  std::vector<std::pair<uint64_t, Pte>> ptes;
  pt.each(from_page, std::min(v.end, v.start + new_len) / kPageSize, [&](uint64_t page, Pte pte) {
    ptes.emplace_back(page, pte);
    return true;
  });
  for (auto [page, pte] : ptes) {
    pt.set(page, {});
    pt.set(page - from_page + to_page, pte.with_stub(Prot::kNone));
  }
  unmap_stub(v.start, v.end);
  forget_poison(v.start, v.end);
  if (keep) {
    account(v, -1);
    v.locked = false;
    account(v, +1);
    if (v.host) map_host(v, v.start, v.end);
  } else {
    zap(v, v.start, v.end);
    account(v, -1);
    std::unique_ptr<Vma> gone = vmas.remove(v);
    if (gone->object) keep_until_flush(gone->object);
  }
  account(*moved, +1);
  // Before merging: the neighbours' pages need no new mapping.
  Vma& n = vmas.insert(std::move(moved));
  if (n.host) map_host(n, n.start, n.end);
  map_frames(n, n.start, n.end, /*populate=*/true);
  vmas.merge(n);
}

Result<uint64_t> AddressSpace::mremap(Park& park, uint64_t old_addr, uint64_t old_len,
                                      uint64_t new_len, int flags, uint64_t new_addr,
                                      const MmLimits& limits) {
  Impl& im = *impl_;
  im.stack_limit = limits.stack;
  im.as_limit = limits.as;
  const bool may_move = flags & MREMAP_MAYMOVE, fixed = flags & MREMAP_FIXED,
             dont_unmap = flags & MREMAP_DONTUNMAP;
  if (flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)) return Err(Errno::kINVAL);
  if (fixed && !may_move) return Err(Errno::kINVAL);
  if (dont_unmap && (!may_move || page_ceil(old_len) != page_ceil(new_len))) {
    return Err(Errno::kINVAL);
  }
  if (old_addr & kPageMask) return Err(Errno::kINVAL);
  old_len = page_ceil(old_len);
  new_len = page_ceil(new_len);
  if (new_len == 0 || new_len > user_limit_) return Err(Errno::kINVAL);
  if (fixed) {
    if ((new_addr & kPageMask) || new_addr > user_limit_ - new_len) return Err(Errno::kINVAL);
    if (new_addr < Impl::kMinAddr) return Err(Errno::kPERM);
    // An old range that wraps around is taken as it comes, as on Linux.
    if (new_addr < old_addr + old_len && old_addr < new_addr + new_len) return Err(Errno::kINVAL);
  }
  if (old_len > user_limit_ || old_addr > user_limit_ - old_len) {
    const Vma* there = im.vmas.find(old_addr);
    if (there == nullptr) return Err(Errno::kFAULT);
    if (there->frozen) return Err(Errno::kPERM);
    if (new_len >= old_len) return Err(Errno::kFAULT);
    // A tail that leaves the space cannot be unmapped; the new place, asked for first, is.
    if (fixed) {
      if (there->end < old_addr + new_len) return Err(Errno::kFAULT);
      TRY(munmap(park, new_addr, new_len));
      if (im.vmas.find(old_addr) == nullptr) return Err(Errno::kFAULT);
    }
    return Err(Errno::kINVAL);
  }
  if (im.is_sealed(old_addr, old_addr + old_len)) return Err(Errno::kFAULT);
  if (fixed) im.give_up_sealed(park, new_addr, new_addr + new_len);
  if (const Vma* v = im.vmas.find(old_addr);
      v != nullptr && v->object && v->object->patched_code() != nullptr) {
    leave_patched_code(park);  // its jumps would lead elsewhere
  }
  im.reveal(old_addr, old_addr + std::max(old_len, uint64_t{1}));
  Vma* v = im.vmas.find(old_addr);
  if (v == nullptr) return Err(Errno::kFAULT);
  if (v->frozen) return Err(Errno::kPERM);
  if (new_len < old_len) TRY(im.check_frozen(old_addr, old_addr + old_len));
  if (fixed) TRY(im.check_frozen(new_addr, new_addr + new_len));
  if (old_len == 0 && !v->shared) return Err(Errno::kINVAL);
  const uint64_t old_end = old_addr + old_len;
  if (fixed && new_len == old_len && v->end < old_end) {
    // Several VMAs move together, with the gaps between them (since Linux 6.17).
    for (uint64_t at = old_addr; at < old_end;) {
      const Vma* piece = im.vmas.at_or_above(at);
      if (piece == nullptr || piece->start >= old_end) break;
      const uint64_t from = std::max(at, piece->start), len = std::min(piece->end, old_end) - from;
      TRY(mremap(park, from, len, len, flags, new_addr + (from - old_addr), limits));
      at = from + len;
    }
    return new_addr;
  }
  // Before anything is taken away: what stays must be of one VMA, if it moves or grows.
  if ((fixed || dont_unmap || new_len > old_len) &&
      v->end < old_addr + std::min(old_len, new_len)) {
    return Err(Errno::kFAULT);
  }
  if (!im.may_split(4)) return Err(Errno::kNOMEM);

  // The tail goes first (over several VMAs, perhaps).
  if (new_len < old_len) {
    im.remove_range(old_addr + new_len, old_addr + old_len);
    old_len = new_len;
    v = im.vmas.find(old_addr);
    if (v == nullptr) return Err(Errno::kFAULT);
  }
  if (!fixed && !dont_unmap && new_len == old_len) return old_addr;
  if (v->end < old_addr + old_len) return Err(Errno::kFAULT);

  const uint64_t more = new_len - old_len;
  if (more != 0) {
    if (v->object && v->offset + (old_addr - v->start) + new_len < new_len) {
      return Err(Errno::kINVAL);
    }
    MmapRequest grow;
    grow.prot = v->prot;
    grow.shared = v->shared;
    grow.locked = v->locked;
    grow.object = v->object;
    grow.noreserve = v->noreserve;
    const uint64_t probe = old_addr + old_len;  // counts only what is added
    TRY(im.check_limits(grow, probe > user_limit_ - more ? 0 : probe, more, limits));
  }
  // In place: it ends where the old range ends, and there is room behind.
  if (!fixed && !dont_unmap && old_len != 0 && v->end == old_addr + old_len &&
      old_addr <= user_limit_ - new_len && im.vmas.free(v->end, old_addr + new_len)) {
    const Vma* above = im.vmas.at_or_above(v->end);
    if (above == nullptr || !above->grows_down ||
        above->start - (old_addr + new_len) >= VmaSet::kStackGap) {
      std::unique_ptr<Vma> tail = v->clone(im);
      if (tail->object) tail->offset += tail->len();
      tail->start = v->end;
      tail->end = old_addr + new_len;
      const bool locked = tail->locked;
      const uint64_t from = tail->start, to = tail->end;
      if (tail->host) im.map_host(*tail, from, to);
      im.add(std::move(tail));
      if (locked) (void)im.populate(park, from, to, Access::kUnknown);
      return old_addr;
    }
  }
  if (!may_move) return Err(Errno::kNOMEM);

  if (fixed) {
    im.remove_range(new_addr, new_addr + new_len);
    v = im.vmas.find(old_addr);  // it may have been split, or be gone: a view of it on itself
    if (v == nullptr) return Err(Errno::kFAULT);
  } else {
    MmapRequest place;
    place.addr = dont_unmap ? new_addr : 0;
    new_addr = TRY(im.place(place, new_len));
  }
  const bool locked = v->locked;
  if (old_len == 0) {  // a second view of a shared mapping
    std::unique_ptr<Vma> copy = v->clone(im);
    copy->offset = v->offset + (old_addr - v->start);
    copy->start = new_addr;
    copy->end = new_addr + new_len;
    if (copy->host) im.map_host(*copy, copy->start, copy->end);
    im.add(std::move(copy));
  } else {
    im.vmas.split(old_addr);
    im.vmas.split(old_addr + old_len);
    im.move_vma(*im.vmas.find(old_addr), new_addr, new_len, dont_unmap);
  }
  if (locked) (void)im.populate(park, new_addr, new_addr + new_len, Access::kUnknown);
  return new_addr;
}

}  // namespace uk
