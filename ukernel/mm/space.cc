// VMAs of an address space: counting, adding and removing ranges.

#include "ukernel/mm/space.h"

#include <algorithm>

#include "base/check.h"

namespace uk {

AddressSpace::Impl::Impl(AddressSpace& s, PhysMemory& m, Platform& p)
    : space(s), mem(m), platform(p), guest(*s.guest_) {
  // A gap for the stack to grow and for its guard: as Linux places things with an 8 MiB stack
  // (mmap_base(), 128 MiB at least).
  mmap_base = page_floor(s.user_limit_ - (uint64_t{128} << 20));
  mem.add_reclaimer(*this);
}

// The stub is gone by now (AddressSpace's destructor), so nothing maps the frames.
AddressSpace::Impl::~Impl() {
  forget_userfaults();
  for (auto& [start, v] : vmas.map()) {
    account(*v, -1);
    zap(*v, v->start, v->end);
  }
  vmas.clear();
  for (const Deferred& d : deferred_) release(d.pfn, d.anon);
}

void AddressSpace::Impl::account(const Vma& v, int64_t sign) {
  const int64_t n = static_cast<int64_t>(v.pages()) * sign;
  total += n;
  if (v.data()) data += n;
  if (v.commits()) mem.commit.pages += static_cast<uint64_t>(n);
  if (v.grows_down) stack += n;
  if (v.has(Prot::kExec)) exec += n;
  if (v.locked) locked += n;
  peak_total = std::max(peak_total, total);
}

Vma& AddressSpace::Impl::add(std::unique_ptr<Vma> v) {
  account(*v, +1);
  return vmas.merge(vmas.insert(std::move(v)));
}

bool AddressSpace::Impl::remove_range(uint64_t start, uint64_t end, bool unmap, By by) {
  forget_hidden(start, end);
  forget_poison(start, end);
  for (const uint64_t border : {start, end}) {
    const Vma* v = vmas.find(border);
    if (v != nullptr && !v->sealed) vmas.split(border);
  }
  bool any_mapped = false;
  std::vector<std::pair<Ref<MemoryObject>, uint64_t>> code;
  std::vector<std::pair<uint64_t, uint64_t>> parts = {{start, end}};  // between what is sealed
  uint64_t at = start;
  for (Vma* v; (v = vmas.at_or_above(at)) != nullptr && v->start < end;) {
    at = v->end;
    if (v->sealed) [[unlikely]] {
      parts.back().second = v->start;
      parts.emplace_back(v->end, end);
      continue;
    }
    any_mapped = any_mapped || v->host ||
                 pt.next(v->start / kPageSize, v->end / kPageSize) != v->end / kPageSize;
    if (v->shared) by = By::kKernel;  // others see it
    zap(*v, v->start, v->end);
    account(*v, -1);
    std::unique_ptr<Vma> gone = vmas.remove(*v);
    if (gone->object) keep_until_flush(gone->object);
    if (gone->object && gone->object->patched_code() != nullptr) [[unlikely]] {
      code.emplace_back(gone->object, gone->start - gone->offset);
    }
  }
  for (const auto& [object, base] : code) drop_thunks(*object->patched_code(), base);
  if (deferred_.size() > kMostUnconfirmed) by = By::kKernel;
  for (const auto& [from, to] : parts) {
    if (unmap && any_mapped && from < to) unmap_stub(from, to, by);
  }
  return any_mapped;
}

bool AddressSpace::Impl::is_sealed(uint64_t start, uint64_t end) const {
  if (!any_sealed) return false;
  for (const Vma* v = vmas.at_or_above(start); v != nullptr && v->start < end; v = vmas.next(*v))
    if (v->sealed) return true;
  return false;
}

void AddressSpace::Impl::give_up_sealed(Park& park, uint64_t start, uint64_t end) {
  if (!is_sealed(start, end)) return;
  space.call_sites.turn_off(park, space);
  for (Vma* v = vmas.at_or_above(start); v != nullptr && v->start < end; v = vmas.next(*v)) {
    if (!v->sealed) continue;
    v->sealed = false;
    space.call_sites.forget(v->start, v->end);
  }
}

bool AddressSpace::Impl::covered(uint64_t start, uint64_t end) const {
  while (start < end) {
    const Vma* v = vmas.find(start);
    if (v == nullptr || v->sealed) return false;
    start = v->end;
  }
  return true;
}

}  // namespace uk
