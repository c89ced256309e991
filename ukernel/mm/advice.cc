// madvise(2), msync(2), mincore(2), mlock(2) and mlockall(2).

#include <sys/mman.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/check.h"
#include "ukernel/mm/space.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif

namespace uk {

namespace {
bool private_anonymous(const Vma& v) { return !v.object && !v.shared; }

// Throws contents away: not in sealed memory that cannot be written anyway (mseal(2)).
bool discards(int advice) {
  return advice == MADV_FREE || advice == MADV_DONTNEED || advice == MADV_DONTNEED_LOCKED ||
         advice == MADV_REMOVE || advice == MADV_DONTFORK || advice == MADV_WIPEONFORK;
}

// What an advice needs of a VMA.
Result<> may_advise(const Vma& v, int advice) {
  if (v.frozen && discards(advice) && !v.shared && !v.has(Prot::kWrite)) return Err(Errno::kPERM);
  switch (advice) {
    case MADV_DONTNEED:
    case MADV_COLD:
    case MADV_PAGEOUT:
      return v.locked ? Err(Errno::kINVAL) : Result<>();
    case MADV_FREE:
    case MADV_WIPEONFORK:
      return private_anonymous(v) ? Result<>() : Err(Errno::kINVAL);
    case MADV_REMOVE:
      if (v.locked || !v.object) return Err(Errno::kINVAL);
      return v.shared && v.may_write ? Result<>() : Err(Errno::kACCES);
    case MADV_POPULATE_WRITE:
      return v.has(Prot::kWrite) ? Result<>() : Err(Errno::kINVAL);
    case MADV_POPULATE_READ:
      return v.prot != Prot::kNone ? Result<>() : Err(Errno::kINVAL);
    default:
      return {};
  }
}

bool known_advice(int advice) {
  if (advice == MADV_MERGEABLE || advice == MADV_UNMERGEABLE) return false;  // no KSM
  return (advice >= MADV_NORMAL && advice <= MADV_DONTNEED) ||
         (advice >= MADV_FREE && advice <= MADV_DONTNEED_LOCKED);
}
}  // namespace

Result<> AddressSpace::madvise(Park& park, uint64_t addr, uint64_t len, int advice) {
  Impl& im = *impl_;
  if (!known_advice(advice)) return Err(Errno::kINVAL);
  TRY(im.check_range(addr, &len));
  if (len == 0) return {};
  if (len > user_limit_ || addr > user_limit_ - len) return Err(Errno::kNOMEM);
  if (!im.may_split(2)) return Err(Errno::kAGAIN);
  const uint64_t end = addr + len;
  if (advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE) {
    return im.populate_all(park, addr, end, advice);
  }
  struct Hole {
    Ref<MemoryObject> object;
    uint64_t first, count;
  };
  std::vector<Hole> remove;
  Result<> r = im.each_piece(
      addr, end,
      [&](Vma& v) -> Result<> {
        TRY(may_advise(v, advice));
        switch (advice) {
          case MADV_NORMAL:
          case MADV_SEQUENTIAL:
          case MADV_RANDOM:
            v.random = advice == MADV_RANDOM;
            v.sequential = advice == MADV_SEQUENTIAL;
            break;
          case MADV_FREE:  // DEVIATION: at once, not when memory is short; see docs/CAVEATS.md
          case MADV_DONTNEED:
          case MADV_DONTNEED_LOCKED:
            im.forget_poison(v.start, v.end);
            im.discard(v, v.start, v.end, Impl::Which::kAll);
            break;
          case MADV_DONTFORK:
            v.dont_fork = true;
            break;
          case MADV_DOFORK:
            v.dont_fork = false;
            break;
          case MADV_DONTDUMP:
            v.dont_dump = true;
            break;
          case MADV_DODUMP:
            v.dont_dump = false;
            break;
          case MADV_WIPEONFORK:
            v.wipe_on_fork = true;
            break;
          case MADV_KEEPONFORK:
            v.wipe_on_fork = false;
            break;
          case MADV_REMOVE:
            remove.push_back({v.object, v.index(v.start), v.pages()});
            break;
          default:  // hints about huge pages and read-ahead: there is nothing to do
            break;
        }
        return {};
      },
      /*pass_holes=*/true);
  for (const Hole& h : remove) TRY(h.object->punch(park, h.first, h.count));
  TRY(im.settle_large(park));
  return r;
}

// MADV_POPULATE_*: in order, up to what cannot be populated.
Result<> AddressSpace::Impl::populate_all(Park& park, uint64_t start, uint64_t end, int advice) {
  uint64_t good = start;
  Result<> r;
  while (good < end) {
    const Vma* v = vmas.find(good);
    r = v == nullptr ? Result<>(Err(Errno::kNOMEM)) : may_advise(*v, advice);
    if (!r) break;
    good = std::min(v->end, end);
  }
  TRY(populate(park, start, good, advice == MADV_POPULATE_WRITE ? Access::kWrite : Access::kRead));
  return r;
}

Result<> AddressSpace::msync(Park& park, uint64_t addr, uint64_t len, int flags) {
  Impl& im = *impl_;
  if (flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC)) return Err(Errno::kINVAL);
  if ((flags & MS_ASYNC) && (flags & MS_SYNC)) return Err(Errno::kINVAL);
  if (addr & kPageMask) return Err(Errno::kINVAL);
  len = page_ceil(len);  // which turns the greatest lengths into nothing, as on Linux
  if (addr + len < addr) return Err(Errno::kNOMEM);
  if (len == 0) return {};
  struct Piece {
    Ref<MemoryObject> object;
    uint64_t first, count;
  };
  std::vector<Piece> pieces;
  Result<> result;
  uint64_t at = addr;
  const uint64_t end = addr + len;
  for (const Vma* v = im.vmas.at_or_above(addr); at < end; v = im.vmas.next(*v)) {
    if (v == nullptr || v->start > at) result = Err(Errno::kNOMEM);
    if (v == nullptr || v->start >= end) break;
    if ((flags & MS_INVALIDATE) && v->locked) return Err(Errno::kBUSY);
    const uint64_t from = std::max(at, v->start), to = std::min(v->end, end);
    if (v->shared && v->object && (flags & MS_SYNC)) {
      pieces.push_back({v->object, v->index(from), (to - from) / kPageSize});
    }
    at = v->end;
  }
  for (const Piece& p : pieces) TRY(p.object->sync(park, p.first, p.count));
  return result;
}

Result<std::vector<uint8_t>> AddressSpace::mincore(Park&, uint64_t addr, uint64_t len) {
  Impl& im = *impl_;
  TRY(im.check_range(addr, &len));
  if (len > user_limit_ || addr > user_limit_ - len) return Err(Errno::kNOMEM);
  if (!im.covered(addr, addr + len)) return Err(Errno::kNOMEM);
  std::vector<uint8_t> out(len / kPageSize);
  const uint64_t first = addr / kPageSize;
  im.pt.each(first, first + out.size(), [&](uint64_t page, Pte) {
    out[page - first] = 1;
    return true;
  });
  for (uint64_t at = addr; at < addr + len;) {
    const Vma* v = im.vmas.find(at);
    const uint64_t start = std::exchange(at, std::min(v->end, addr + len));
    if (!v->object) continue;
    // Behind the end of the object nothing is there.
    const uint64_t size = page_ceil(v->object->size()) / kPageSize;
    const uint64_t index = v->index(start);
    const uint64_t n = index < size ? std::min(size - index, (at - start) / kPageSize) : 0;
    for (uint64_t i = 0; i < n; ++i) {
      if (v->host || v->object->cached_page(index + i) != kNoPfn) {
        out[start / kPageSize - first + i] = 1;
      }
    }
  }
  return out;
}

Result<> AddressSpace::mlock(Park& park, uint64_t addr, uint64_t len, bool lock,
                             const MmLimits& limits, bool on_fault) {
  Impl& im = *impl_;
  len += addr & kPageMask;
  addr = page_floor(addr);
  len = page_ceil(len);  // as in msync()
  if (len == 0) return {};
  // The limit comes first, even where the range makes no sense.
  const uint64_t end = addr + len < addr ? UINT64_MAX : addr + len;
  if (lock && limits.memlock != UINT64_MAX) {
    if (limits.memlock < kPageSize) return Err(Errno::kPERM);
    uint64_t pages = im.locked + len / kPageSize;
    for (const Vma* v = im.vmas.at_or_above(addr); v != nullptr && v->start < end;
         v = im.vmas.next(*v)) {
      if (v->locked) pages -= (std::min(v->end, end) - std::max(v->start, addr)) / kPageSize;
    }
    if (pages > limits.memlock / kPageSize) return Err(Errno::kNOMEM);
  }
  if (end == UINT64_MAX) return Err(Errno::kINVAL);
  if (len > user_limit_ || addr > user_limit_ - len) return Err(Errno::kNOMEM);
  if (!im.may_split(2)) return Err(Errno::kNOMEM);
  TRY(im.each_piece(addr, end, [&](Vma& v) -> Result<> {
    v.locked = lock;
    return {};
  }));
  if (!lock || on_fault) return {};
  // Locked it is either way; what cannot be brought in is told.
  uint64_t accessible = addr;
  for (const Vma* v; accessible < end && (v = im.vmas.find(accessible)) != nullptr;) {
    if (v->prot == Prot::kNone) break;
    accessible = std::min(v->end, end);
  }
  if (!im.populate(park, addr, accessible, Access::kUnknown)) return Err(Errno::kNOMEM);
  if (accessible < end) return Err(Errno::kNOMEM);
  return {};
}

Result<> AddressSpace::mlockall(Park& park, int flags, const MmLimits& limits) {
  Impl& im = *impl_;
  if (flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)) return Err(Errno::kINVAL);
  if (flags == MCL_ONFAULT) return Err(Errno::kINVAL);
  const bool current = flags & MCL_CURRENT;
  if (flags != 0 && limits.memlock != UINT64_MAX) {
    if (limits.memlock < kPageSize) return Err(Errno::kPERM);
    if (current && im.total > limits.memlock / kPageSize) return Err(Errno::kNOMEM);
  }
  im.lock_future = flags & MCL_FUTURE;
  if (flags != 0 && !current) return {};
  if (im.vmas.size() == 0) return {};
  (void)im.each_piece(
      0, user_limit_,
      [&](Vma& v) -> Result<> {
        v.locked = current;
        return {};
      },
      /*pass_holes=*/true);
  // What cannot be brought in (beyond the end of a file) is passed over, as on Linux.
  if (current && !(flags & MCL_ONFAULT)) {
    std::vector<std::pair<uint64_t, uint64_t>> ranges;
    for (auto& [start, v] : im.vmas.map()) ranges.emplace_back(v->start, v->end);
    for (auto [from, to] : ranges) (void)im.populate(park, from, to, Access::kUnknown);
  }
  return {};
}

}  // namespace uk
