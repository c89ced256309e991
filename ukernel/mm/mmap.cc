// mmap(2), munmap(2), mprotect(2), brk(2).

#include <algorithm>

#include "base/check.h"
#include "ukernel/mm/page_cache.h"
#include "ukernel/mm/space.h"

namespace uk {
namespace {
// Pages of a mapping that comes at once if the program is used to touch such (TouchHabit).
constexpr uint64_t kSmall = 16;
}  // namespace

// Where a new mapping goes. fixed places are checked, hints are taken if free.
Result<uint64_t> AddressSpace::Impl::place(const MmapRequest& r, uint64_t len) {
  const uint64_t limit = space.user_limit_;
  if (len > limit - kMinAddr) return Err(Errno::kNOMEM);
  if (r.fixed || r.fixed_noreplace) {
    if (r.addr > limit - len) return Err(Errno::kNOMEM);
    if (r.addr & kPageMask) return Err(Errno::kINVAL);
    if (r.addr < kMinAddr) return Err(Errno::kPERM);
    if (r.fixed_noreplace && !vmas.free(r.addr, r.addr + len)) return Err(Errno::kEXIST);
    return r.addr;
  }
  if (r.addr != 0) {
    const uint64_t hint = r.addr > limit - len ? limit : std::max(page_ceil(r.addr), kMinAddr);
    if (hint <= limit - len && vmas.free(hint, hint + len)) {
      const Vma* above = vmas.at_or_above(hint + len);
      if (above == nullptr || !above->grows_down ||
          above->start - (hint + len) >= VmaSet::kStackGap) {
        return hint;
      }
    }
  }
  if (r.below_4g) {  // MAP_32BIT is the second GiB
    if (auto at = vmas.gap_up(len, 0x40000000, 0x80000000)) return *at;
    return Err(Errno::kNOMEM);
  }
  if (auto at = vmas.gap(len, kMinAddr, mmap_base)) return *at;
  if (auto at = vmas.gap_up(len, std::min(mmap_base, limit), limit)) return *at;
  if (auto at = vmas.gap(len, kMinAddr, limit)) return *at;
  return Err(Errno::kNOMEM);
}

Result<> AddressSpace::Impl::check_limits(const MmapRequest& r, uint64_t addr, uint64_t len,
                                          const MmLimits& limits) {
  uint64_t replaced = 0;
  for (const Vma* v = vmas.at_or_above(addr); v != nullptr && v->start < addr + len;
       v = vmas.next(*v)) {
    replaced += std::min(v->end, addr + len) - std::max(v->start, addr);
  }
  auto over = [](uint64_t have_pages, uint64_t more, uint64_t limit) {
    return limit != UINT64_MAX &&
           (have_pages * kPageSize > limit || more > limit - have_pages * kPageSize);
  };
  if (len > replaced && over(total, len - replaced, limits.as)) return Err(Errno::kNOMEM);
  // One that lies in the middle of another makes three of it.
  if (vmas.size() + (replaced != 0 ? 2 : 1) > max_vmas()) return Err(Errno::kNOMEM);
  const bool write = any(r.prot & Prot::kWrite);
  if (write && !r.shared && !r.grows_down && over(data, len, limits.data)) {
    return Err(Errno::kNOMEM);
  }
  if ((r.locked || lock_future) && over(locked, len, limits.memlock)) return Err(Errno::kAGAIN);
  const bool promised = write && !reserves_nothing(r) && (!r.object || !r.shared);
  if (promised && !mem.may_commit(len / kPageSize)) return Err(Errno::kNOMEM);
  return {};
}

Result<uint64_t> AddressSpace::mmap(Park& park, const MmapRequest& request,
                                    const MmLimits& limits) {
  Impl& im = *impl_;
  const MmapRequest& r = request;
  im.stack_limit = limits.stack;
  im.as_limit = limits.as;
  if (r.len == 0) return Err(Errno::kINVAL);
  const uint64_t len = page_ceil(r.len);
  if (len == 0) return Err(Errno::kNOMEM);
  if (r.offset & kPageMask) return Err(Errno::kINVAL);
  if (r.object && r.offset + len < r.offset) return Err(Errno::kOVERFLOW);
  const bool write = any(r.prot & Prot::kWrite);
  if (any(r.prot & Prot::kExec) && !r.may_exec) return Err(Errno::kPERM);
  bool may_write = r.may_write || !r.shared;
  if (write && !may_write) return Err(Errno::kACCES);
  if (r.object && r.shared && !r.object->writable()) {
    if (write) return Err(Errno::kPERM);
    may_write = false;
  }
  if (r.fixed && !r.fixed_noreplace && r.addr <= user_limit_ - len) {
    TRY(im.check_frozen(r.addr, r.addr + len));
    im.give_up_sealed(park, r.addr, r.addr + len);
  }
  Ref<PatchedCode> code = im.patched_code(park, r);
  im.bound_regions();
  const uint64_t addr = TRY(im.place(r, len));
  TRY(im.check_limits(r, addr, len, limits));
  if (code && !im.room_for_thunks(addr, r.offset)) code = nullptr;

  auto v = std::make_unique<Vma>(im);
  v->start = addr;
  v->end = addr + len;
  v->prot = r.prot;
  v->shared = r.shared;
  v->grows_down = r.grows_down;
  v->locked = r.locked || im.lock_future;
  v->noreserve = im.reserves_nothing(r);
  v->may_write = may_write;
  v->may_exec = r.may_exec;
  v->name = r.name;
  if (r.object && (r.shared || !r.object->zeros())) {
    v->offset = r.offset;
    v->set_object(code ? Ref<MemoryObject>(code) : r.object);
    // Writes through a shared mapping must reach the object, which a host file mapped without write
    // cannot give.
    v->host = (!r.shared || !may_write) && r.object->host_range(r.offset / kPageSize).has_value();
  } else if (r.shared) {
    PageCacheObject::Options options;
    options.size = len;
    options.allocate_around = true;
    v->set_object(make_ref<PageCacheObject>(mem_, std::move(options)));
    if (v->name.empty()) v->name = "/dev/zero (deleted)";
  }
  const bool locked = v->locked;
  const bool host = v->host && v->prot != Prot::kNone;
  const bool replaced = im.remove_range(addr, addr + len, /*unmap=*/!host, Impl::By::kGuest);
  Vma& added = im.add(std::move(v));
  if (host) im.map_host(added, addr, addr + len, /*late=*/r.later && !replaced);
  if (code) im.map_thunks(std::move(code), addr - r.offset, r.later);
  im.stale_.fill({});
  // A small writable part of a file (.data, .got) is written as soon as it is mapped.
  if (host && write && len <= Impl::kEagerCopy * kPageSize) {
    (void)im.resolve(park, addr, Access::kWrite, 0, Impl::Who::kKernel);
  }
  if (r.populate || locked) (void)im.populate(park, addr, addr + len, Access::kUnknown);
  // The bss of a shared library comes over a mapping of its file.
  const bool fresh = !r.object && !r.shared && write && !r.noreserve && !r.grows_down;
  const bool bss = fresh && replaced && r.fixed;
  const bool small = fresh && !r.fixed && len <= kSmall * kPageSize;
  if (!small) im.habit.changed();
  if (bss && !locked && !r.populate) im.fill_late(added, addr, addr + len);
  if (r.soon || (small && im.habit.mapped(addr, addr + len))) {
    im.touch_ahead(park, addr, addr + len);
  }
  (void)im.settle_large(park);
  return addr;
}

// Common checks of (addr, len) pairs: aligned, inside; rounds the length up.
Result<> AddressSpace::Impl::check_range(uint64_t addr, uint64_t* len) const {
  if (addr & kPageMask) return Err(Errno::kINVAL);
  const uint64_t rounded = page_ceil(*len);
  if (rounded < *len || addr + rounded < addr) return Err(Errno::kINVAL);
  *len = rounded;
  return {};
}

Result<> AddressSpace::munmap(Park& park, uint64_t addr, uint64_t len) {
  Impl& im = *impl_;
  if (len == 0) return Err(Errno::kINVAL);
  TRY(im.check_range(addr, &len));
  if (len == 0 || len > user_limit_ || addr > user_limit_ - len) return Err(Errno::kINVAL);
  TRY(im.check_frozen(addr, addr + len));
  const Vma* first = im.vmas.find(addr);
  if (first != nullptr && first->start < addr && first->end > addr + len && !im.may_split(1)) {
    return Err(Errno::kNOMEM);
  }
  im.habit.changed();
  im.settle();
  im.remove_range(addr, addr + len, /*unmap=*/true, Impl::By::kGuest);
  return im.settle_large(park);
}

Result<> AddressSpace::detach_segment(Park& park, uint64_t addr) {
  Impl& im = *impl_;
  if (addr & kPageMask) return Err(Errno::kINVAL);
  // Its first piece may have been unmapped: the offset of a later one tells where it began.
  auto belongs = [&](const Vma& v) {
    return v.object && v.object->is_segment() && v.start - addr == v.offset;
  };
  Vma* v = im.vmas.at_or_above(addr);
  while (v != nullptr && (v->start < addr || !belongs(*v))) v = im.vmas.next(*v);
  if (v == nullptr) return Err(Errno::kINVAL);
  const Ref<MemoryObject> object = v->object;
  const uint64_t end = addr + page_ceil(object->size());
  while (v != nullptr && v->end <= end) {
    const uint64_t start = v->start, stop = v->end;
    if (v->object == object && belongs(*v) && !v->frozen) im.remove_range(start, stop);
    v = im.vmas.at_or_above(stop);
  }
  return im.settle_large(park);
}

Result<> AddressSpace::mprotect(Park& park, uint64_t addr, uint64_t len, Prot prot,
                                bool grows_down) {
  Impl& im = *impl_;
  if (addr & kPageMask) return Err(Errno::kINVAL);
  if (!im.check_range(addr, &len)) return Err(Errno::kNOMEM);
  if (len == 0) return {};
  if (len > user_limit_ || addr > user_limit_ - len) return Err(Errno::kNOMEM);
  const uint64_t end = addr + len;
  if (grows_down) {
    const Vma* v = im.vmas.at_or_above(addr);
    if (v == nullptr || v->start >= end) return Err(Errno::kNOMEM);
    if (!v->grows_down) return Err(Errno::kINVAL);
    addr = v->start;
  }
  if (!im.may_split(2)) return Err(Errno::kNOMEM);
  im.bound_regions();
  bool fill = false;
  Result<> r = im.each_piece(addr, end, [&](Vma& v) -> Result<> {
    if (v.frozen) return Err(Errno::kPERM);
    if (any(prot & Prot::kWrite) && v.shared && !v.may_write) return Err(Errno::kACCES);
    if (any(prot & Prot::kExec) && !v.may_exec) return Err(Errno::kACCES);
    const bool promised = any(prot & Prot::kWrite) && !v.shared && !v.noreserve && !v.commits();
    if (promised && !im.mem.may_commit(v.pages())) return Err(Errno::kNOMEM);
    const Prot old = std::exchange(v.prot, prot);
    if (old == prot) return {};
    im.reprotect(v, v.start, v.end, old);
    fill = fill || (v.locked && any(prot & Prot::kWrite));
    return {};
  });
  if (r && fill) (void)im.populate(park, addr, end, Access::kUnknown);
  return r;
}

Result<> AddressSpace::remap_file_pages(Park& park, uint64_t addr, uint64_t len, uint64_t page,
                                        const MmLimits& limits) {
  addr = page_floor(addr);
  len = page_floor(len);
  if (len == 0 || addr + len < addr || page > UINT64_MAX / kPageSize - len / kPageSize) {
    return Err(Errno::kINVAL);
  }
  const Vma* v = impl_->vmas.find(addr);
  if (v == nullptr || !v->shared) return Err(Errno::kINVAL);
  MmapRequest r;
  r.addr = addr;
  r.len = len;
  r.prot = v->prot;
  r.shared = r.fixed = r.populate = true;
  r.locked = v->locked;
  r.object = v->object;
  r.offset = page * kPageSize;
  r.may_write = v->may_write;
  r.may_exec = v->may_exec;
  r.name = v->name;
  // The range may have been cut up by earlier calls, but all of it must be this object's.
  for (; v->end < addr + len; v = impl_->vmas.next(*v)) {
    const Vma* next = impl_->vmas.next(*v);
    if (next == nullptr || next->start != v->end || next->object != r.object || !next->shared) {
      return Err(Errno::kINVAL);
    }
  }
  TRY(mmap(park, r, limits));
  return {};
}

uint64_t AddressSpace::brk(Park& park, uint64_t addr, const MmLimits& limits) {
  Impl& im = *impl_;
  im.stack_limit = limits.stack;
  im.as_limit = limits.as;
  if (addr < im.brk_start || addr >= user_limit_) return im.brk;
  if (limits.data != UINT64_MAX && addr - im.brk_start > limits.data) return im.brk;
  const uint64_t old_end = page_ceil(im.brk), new_end = page_ceil(addr);
  if (new_end < old_end) {
    if (!im.check_frozen(new_end, old_end)) return im.brk;
    im.remove_range(new_end, old_end, /*unmap=*/true, Impl::By::kGuest);
    (void)im.settle_large(park);
  } else if (new_end > old_end) {
    // Keep a page free behind the heap, and the gap below a stack.
    const Vma* above = im.vmas.at_or_above(old_end);
    const uint64_t guard = above != nullptr && above->grows_down ? VmaSet::kStackGap : kPageSize;
    if (above != nullptr && (above->start < new_end || above->start - new_end < guard)) {
      return im.brk;
    }
    MmapRequest r;
    r.addr = old_end;
    r.len = new_end - old_end;
    r.fixed = true;
    r.prot = Prot::kRead | Prot::kWrite;
    r.soon = true;
    r.name = "[heap]";
    if (!this->mmap(park, r, limits)) return im.brk;
  }
  im.brk = addr;
  return addr;
}

void AddressSpace::set_brk_start(uint64_t addr) { impl_->brk_start = impl_->brk = addr; }
uint64_t AddressSpace::brk_start() const { return impl_->brk_start; }
void AddressSpace::set_stack_limit(uint64_t bytes) { impl_->stack_limit = bytes; }
void AddressSpace::set_mmap_base(uint64_t base) {
  impl_->mmap_base = std::clamp(page_floor(base), Impl::kMinAddr, user_limit_);
}
std::optional<uint64_t> AddressSpace::find_gap(uint64_t len) const {
  return impl_->vmas.gap(page_ceil(len), Impl::kMinAddr, impl_->mmap_base);
}

}  // namespace uk
