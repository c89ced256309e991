// fork(2): a copy of an address space that shares frames until one side writes.

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "ukernel/mm/space.h"

namespace uk {

Result<Ref<AddressSpace>> AddressSpace::fork(Park& park, const MmLimits& limits,
                                             Ref<RefCounted> trust) {
  Impl& im = *impl_;
  im.stack_limit = limits.stack;
  im.as_limit = limits.as;
  // As for mmap(2).
  uint64_t promised = 0;
  for (auto& [start, v] : im.vmas.map()) {
    if (!v->commits() || v->dont_fork) continue;
    promised += v->pages();
    if (!mem_.may_commit(mem_.commit.mode == 2 ? promised : v->pages())) return Err(Errno::kNOMEM);
  }
  Ref<AddressSpace> child = TRY(create(park, mem_, im.platform, {im.fork_profile, trust}));
  // From here to the end of the copy nothing suspends: it is one moment of the parent.
  Impl& ch = *child->impl_;
  ch.mmap_base = im.mmap_base;
  ch.brk_start = im.brk_start;
  ch.brk = im.brk;
  ch.stack_limit = im.stack_limit;
  ch.as_limit = im.as_limit;
  ch.fork_profile = im.fork_profile;
  ch.trust = std::move(trust);
  ch.habit = im.habit;
  child->image = image;
  child->dumpable = dumpable;
  child->call_sites = call_sites;
  child->code_owner = code_owner;
  ch.any_sealed = im.any_sealed;
  ch.poisoned = im.poisoned;
  // Other threads of the parent may be running and writing: the copy is of this moment only once
  // that is forbidden. A parent with one task is not running, and its changes are made before it
  // does.
  const bool alone = ref_count() == 1;
  for (auto& [start, v] : im.vmas.map()) {
    if (v->dont_fork) continue;
    std::unique_ptr<Vma> copy = v->clone(ch);
    copy->locked = false;
    ch.account(*copy, +1);
    im.fork_pages(*v, ch, ch.vmas.insert(std::move(copy)), alone);
  }
  if (!alone) TRY(flush(park));
  return child;
}

const RefCounted* AddressSpace::trust() const { return impl_->trust.get(); }

void AddressSpace::leave_stub() {
  // Descriptors other than that of the frames belong to these.
  struct Objects final : RefCounted {
    std::vector<Ref<MemoryObject>> all;
  };
  auto objects = make_ref<Objects>();
  for (auto& [start, v] : impl_->vmas.map()) {
    if (v->host) objects->all.push_back(v->object);
  }
  guest_->leave_mappings(std::move(objects));
}

bool AddressSpace::Impl::reveal(uint64_t start, uint64_t end) {
  const auto first = std::ranges::partition_point(hidden, [&](Range r) { return r.end <= start; });
  auto last = first;
  for (; last != hidden.end() && last->start < end; ++last) {
    fork_profile->used.note(last->start);
    for (Vma* v = vmas.at_or_above(last->start); v != nullptr && v->start < last->end;
         v = vmas.next(*v)) {
      const uint64_t from = std::max(v->start, last->start), to = std::min(v->end, last->end);
      if (v->host) map_host(*v, from, to);
      map_frames(*v, from, to, /*populate=*/(to - from) / kPageSize <= kForkPopulate);
    }
  }
  if (first == last) return false;
  hidden.erase(first, last);
  return true;
}

void AddressSpace::Impl::forget_hidden(uint64_t start, uint64_t end) {
  std::erase_if(hidden, [&](Range r) { return r.start >= start && r.end <= end; });
  reveal(start, end);  // those that go in part
}

// Gives the child a copy of its own of a page that would soon be written; the parent keeps its page
// as it is. False: no frame to spare.
bool AddressSpace::Impl::copy_for_child(const Vma& v, Impl& child, const Vma& copy, uint64_t page,
                                        Pte pte) {
  if (v.shared || mem.ref_count(pte.pfn()) != 1 || mem.free_pages() < mem.total_pages() / 16) {
    return false;
  }
  Result<Pfn> to = mem.alloc(false);
  if (!to) return false;
  mem.prepare(*to, 1);
  std::memcpy(mem.ptr(*to), mem.ptr(pte.pfn()), kPageSize);
  ++mem.anon_pages;
  child.set_pte(copy, page, Pte::make(*to, Prot::kNone, true));
  return true;
}

// Shares v's frames with its copy in the child. Private frames lose their write permission in the
// parent, by runs. `alone`: nobody can write to the parent's pages now.
void AddressSpace::Impl::fork_pages(Vma& v, Impl& child, Vma& copy, bool alone) {
  if (v.wipe_on_fork) {
    if (copy.host) child.map_host(copy, copy.start, copy.end);
    return;
  }
  uint64_t run = 0, run_len = 0;
  auto emit = [&] {
    if (run_len != 0) {
      stub_protect(run * kPageSize, run_len * kPageSize, (v.prot | Prot::kRead) & ~Prot::kWrite,
                   alone && !v.shared ? By::kGuest : By::kKernel);
    }
    run_len = 0;
  };
  // Present pages that are writable in the stub become read-only; runs go on over mapped pages that
  // are so already.
  pt.each(v.start / kPageSize, v.end / kPageSize, [&](uint64_t page, Pte pte) {
    if (alone && pte.anon() && fork_profile->written.has(page) &&
        copy_for_child(v, child, copy, page, pte)) {
      return true;
    }
    mem.ref(pte.pfn());
    child.set_pte(copy, page, pte.with_stub(Prot::kNone));
    if (!pte.anon() || !pte.readable()) return true;
    if (pte.writable()) {
      pt.set(page, pte.with_stub(pte.stub() & ~Prot::kWrite));
      if (run_len != 0 && page == run + run_len) {
        ++run_len;
      } else {
        emit();
        run = page;
        run_len = 1;
      }
    } else if (run_len != 0 && page == run + run_len) {
      ++run_len;
    }
    return true;
  });
  emit();
  if (!fork_profile->used.has(copy.start) && child.hidden.size() < kMostHidden) {
    child.hidden.push_back({copy.start, copy.end});
    return;
  }
  if (copy.host) child.map_host(copy, copy.start, copy.end);
  // A badly fragmented space is left to faults.
  if (child.regions > kMaxRegions / 2) return;
  child.map_frames(copy, copy.start, copy.end, /*populate=*/copy.pages() <= kForkPopulate);
}

}  // namespace uk
