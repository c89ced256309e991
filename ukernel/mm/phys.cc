#include "ukernel/mm/phys.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "hostio/sys/file.h"
#include "hostio/sys/mem.h"
#include "ukernel/mm/frame_map.h"
#include "ukernel/mm/frame_owners.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace uk {

namespace {
// What we know of a frame's contents and of the kernel's own mapping of it.
constexpr uint8_t kUsed = 1;     // was given out since the host last zeroed it
constexpr uint8_t kPresent = 2;  // in the kernel's host page table: touching it costs no fault

// Free frames that may hold host memory for good.
constexpr uint64_t kKeepFrames = (64 << 20) / kPageSize;
constexpr uint64_t kTrimStep = (16 << 20) / kPageSize;
// One fault of the kernel on its own mapping costs as much as making this many frames present.
constexpr Pfn kPrepare = 16;
constexpr uint64_t kPunchStep = 2048;
constexpr uint64_t kReclaimStep = 256;  // for an owner at its limit
}  // namespace

struct PhysMemory::Impl {
  explicit Impl(uint32_t frames)
      : map(frames), frames(frames), most_kept(std::max<uint64_t>(kKeepFrames, frames / 4)) {}

  sys::Fd fd;
  sys::Mapping memory;       // the whole of fd
  sys::Mapping ref_space;    // uint32_t per frame, touched lazily
  sys::Mapping flag_space;   // uint8_t per frame, touched lazily
  sys::Mapping owner_space;  // uint16_t per frame, touched while there are owners
  FrameOwners* owners = nullptr;
  FrameMap map;
  uint32_t frames;
  const uint64_t most_kept;  // beyond this many they are given back at once, down to half of it
  uint64_t free_used = 0;    // free frames with kUsed
  uint64_t least_since_trim = 0;  // ... and the least there were: more than that nobody needed
  uint64_t punch_at = most_kept;
  List<Reclaimer, Reclaimer> reclaimers;

  uint32_t* refs() { return reinterpret_cast<uint32_t*>(ref_space.data()); }
  uint16_t* owner_of() { return reinterpret_cast<uint16_t*>(owner_space.data()); }
  uint8_t* flags() { return reinterpret_cast<uint8_t*>(flag_space.data()); }
  std::byte* at(Pfn pfn) { return memory.data() + uint64_t{pfn} * kPageSize; }

  void prepare(Pfn first, uint32_t n);
  FrameOwners::Grant charge(uint32_t n);
  void zero(Pfn first, uint32_t n);
  void give_back(uint64_t down_to);
  bool punch(uint32_t first_word, uint32_t end_word);
  uint64_t reclaim(uint64_t n);
};

Result<std::unique_ptr<PhysMemory>> PhysMemory::create(uint64_t bytes) {
  const uint64_t pages = bytes / kPageSize;
  if (pages == 0 || pages >= kNoPfn) return Err(Errno::kINVAL);
  std::unique_ptr<PhysMemory> mem(new PhysMemory);
  mem->impl_ = std::make_unique<Impl>(static_cast<uint32_t>(pages));
  Impl& im = *mem->impl_;
  im.fd = TRY(sys::memfd_create("guest-memory", MFD_ALLOW_SEALING));
  TRY(sys::ftruncate(im.fd.get(), pages * kPageSize));
  // The stubs share our descriptors: nobody may cut the file under our mapping.
  TRY(sys::fcntl(im.fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL));
  im.memory = TRY(sys::Mapping::shared(im.fd.get(), 0, pages * kPageSize, PROT_READ | PROT_WRITE,
                                       MAP_NORESERVE));
  (void)sys::madvise(im.memory.data(), im.memory.size(), MADV_DONTFORK);
  (void)sys::madvise(im.memory.data(), im.memory.size(), MADV_DONTDUMP);
  im.ref_space = TRY(sys::Mapping::anonymous(page_ceil(pages * sizeof(uint32_t)),
                                             PROT_READ | PROT_WRITE, MAP_NORESERVE));
  im.flag_space =
      TRY(sys::Mapping::anonymous(page_ceil(pages), PROT_READ | PROT_WRITE, MAP_NORESERVE));
  im.owner_space = TRY(sys::Mapping::anonymous(page_ceil(pages * sizeof(uint16_t)),
                                               PROT_READ | PROT_WRITE, MAP_NORESERVE));
  return mem;
}

PhysMemory::~PhysMemory() = default;

int PhysMemory::fd() const { return impl_->fd.get(); }

std::byte* PhysMemory::ptr(Pfn pfn) const {
  DCHECK(pfn < impl_->frames);
  return impl_->at(pfn);
}

void PhysMemory::Impl::prepare(Pfn first, uint32_t n) {
  uint8_t* f = flags();
  for (Pfn p = first; p < first + n;) {
    if (f[p] & kPresent) {
      ++p;
      continue;
    }
    // Neighbours come along, taken or not: their turn is near, as frames are given out in order.
    Pfn start = p, end = p;
    while (start % kPrepare != 0 && (f[start - 1] & kPresent) == 0) f[--start] |= kPresent;
    while (end < frames && (end < first + n || end % kPrepare != 0) && (f[end] & kPresent) == 0) {
      f[end++] |= kPresent;
    }
    // An error shows again, and matters, when the memory is touched.
    (void)sys::madvise(at(start), (end - start) * kPageSize, MADV_POPULATE_WRITE);
    p = end;
  }
}

void PhysMemory::prepare(Pfn first, uint32_t n) { impl_->prepare(first, n); }

void PhysMemory::Impl::zero(Pfn first, uint32_t n) {
  uint8_t* f = flags();
  for (Pfn p = first; p < first + n;) {
    if ((f[p] & kUsed) == 0) {
      ++p;
      continue;
    }
    Pfn end = p;
    while (end < first + n && (f[end] & kUsed) != 0) ++end;
    prepare(p, end - p);
    std::memset(at(p), 0, (end - p) * kPageSize);
    p = end;
  }
}

uint64_t PhysMemory::Impl::reclaim(uint64_t n) {
  uint64_t got = 0;
  for (Reclaimer& r : reclaimers) {
    got += r.reclaim(n - got);
    if (got >= n) break;
  }
  return got;
}

// Who pays for n frames, or fewer. At its limit caches are reclaimed, those of others too.
FrameOwners::Grant PhysMemory::Impl::charge(uint32_t n) {
  FrameOwners::Grant grant = owners->charge(n);
  while (grant.frames == 0 && reclaim(kReclaimStep) != 0) grant = owners->charge(n);
  return grant;
}

Result<PhysMemory::Extent> PhysMemory::alloc_extent(uint32_t n, bool zero) {
  Impl& im = *impl_;
  DCHECK(n > 0);
  FrameOwners::Grant payer{FrameOwners::kNobody, n};
  if (im.owners != nullptr) {
    payer = im.charge(n);
    if (payer.frames == 0) return Err(Errno::kNOMEM);
    n = payer.frames;
  }
  Pfn first = 0;
  uint32_t got = im.map.take(n, &first);
  if (got == 0 && im.reclaim(std::max(n, 32u)) != 0) got = im.map.take(n, &first);
  if (payer.owner != FrameOwners::kNobody) {
    if (got < n) im.owners->uncharge(payer.owner, n - got);
    std::fill_n(im.owner_of() + first, got, payer.owner);
  }
  if (got == 0) return Err(Errno::kNOMEM);
  uint8_t* f = im.flags();
  for (Pfn p = first; p < first + got; ++p) im.free_used -= f[p] & kUsed;
  im.least_since_trim = std::min(im.least_since_trim, im.free_used);
  if (zero) im.zero(first, got);
  for (Pfn p = first; p < first + got; ++p) {
    im.refs()[p] = 1;
    f[p] |= kUsed;
  }
  return Extent{first, got};
}

Result<Pfn> PhysMemory::alloc(bool zero) { return TRY(alloc_extent(1, zero)).first; }

void PhysMemory::ref(Pfn pfn) {
  DCHECK(pfn < impl_->frames);
  uint32_t& r = impl_->refs()[pfn];
  CHECK(r != 0 && r != UINT32_MAX);
  ++r;
}

void PhysMemory::unref(Pfn pfn) {
  Impl& im = *impl_;
  DCHECK(pfn < im.frames);
  uint32_t& r = im.refs()[pfn];
  CHECK(r != 0);
  if (--r != 0) return;
  if (im.owners != nullptr) {
    if (const uint16_t owner = std::exchange(im.owner_of()[pfn], FrameOwners::kNobody))
      im.owners->uncharge(owner, 1);
  }
  im.map.give(pfn);
  ++im.free_used;
  if (im.free_used == kKeepFrames + 1 && on_surplus) on_surplus();
  if (im.free_used <= im.punch_at) return;
  im.give_back(im.most_kept / 2);
  // Fragments may keep us above the mark: do not search again for every single frame.
  im.punch_at = std::max(im.most_kept, im.free_used + kPunchStep);
}

void PhysMemory::set_owners(FrameOwners* owners) { impl_->owners = owners; }

bool PhysMemory::trim() {
  Impl& im = *impl_;
  const uint64_t before = im.free_used;
  if (before <= kKeepFrames) return false;
  const uint64_t unneeded = std::min({im.least_since_trim, before - kKeepFrames, kTrimStep});
  if (unneeded != 0) im.give_back(before - unneeded);
  const bool stuck = unneeded != 0 && im.free_used == before;  // fragments
  im.least_since_trim = im.free_used;
  return !stuck && im.free_used > kKeepFrames;
}

uint64_t PhysMemory::kept_pages() const { return impl_->free_used; }

uint32_t PhysMemory::ref_count(Pfn pfn) const { return impl_->refs()[pfn]; }

bool PhysMemory::Impl::punch(uint32_t first_word, uint32_t end_word) {
  const Pfn first = first_word * FrameMap::kWordFrames, end = end_word * FrameMap::kWordFrames;
  if (!sys::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                      uint64_t{first} * kPageSize, uint64_t{end - first} * kPageSize)) {
    return false;
  }
  for (Pfn p = first; p < end; ++p) {
    free_used -= flags()[p] & kUsed;
    flags()[p] = 0;
  }
  return true;
}

// Highest frames first, as the lowest are allocated first.
void PhysMemory::Impl::give_back(uint64_t down_to) {
  auto has_used = [&](uint32_t word) {
    const uint8_t* f = flags() + word * FrameMap::kWordFrames;
    return std::any_of(f, f + FrameMap::kWordFrames, [](uint8_t v) { return (v & kUsed) != 0; });
  };
  for (uint32_t end = map.words(); end > 0 && free_used > down_to;) {
    if (!map.word_free(end - 1) || !has_used(end - 1)) {
      --end;
      continue;
    }
    uint32_t first = end - 1;
    const uint64_t surplus = free_used - down_to;
    while (first > 0 && (end - first) * FrameMap::kWordFrames < surplus &&
           map.word_free(first - 1) && has_used(first - 1)) {
      --first;
    }
    if (!punch(first, end)) break;
    end = first;
  }
}

uint64_t PhysMemory::total_pages() const { return impl_->frames; }
uint64_t PhysMemory::free_pages() const { return impl_->map.free_frames(); }
uint64_t PhysMemory::reclaim(uint64_t n) { return impl_->reclaim(n); }
void PhysMemory::add_reclaimer(Reclaimer& r) { impl_->reclaimers.push_back(r); }

}  // namespace uk
