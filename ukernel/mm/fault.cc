// Page faults: from guest code and from the kernel's own accesses. resolve() is the one way in; its
// steps each bring a page (and neighbours, as a fault costs as much as a dozen populated pages)
// into the stub, or say what is wrong.

#include <signal.h>

#include <algorithm>

#include "base/check.h"
#include "ukernel/mm/oom.h"
#include "ukernel/mm/space.h"

namespace uk {

namespace {
constexpr uint64_t kAround = 16;  // pages of an object mapped around a fault
constexpr FaultError kMapErr{SIGSEGV, SEGV_MAPERR};
constexpr FaultError kAccErr{SIGSEGV, SEGV_ACCERR};
constexpr FaultError kBusErr{SIGBUS, BUS_ADRERR};
constexpr FaultError kPoisoned{SIGBUS, BUS_MCEERR_AR};
constexpr FaultError kTryAgain{0, 0};

std::unexpected<FaultError> fail(FaultError e) { return std::unexpected(e); }

FaultError object_error(Errno e) { return e == Errno::kNOMEM ? kTryAgain : kBusErr; }
}  // namespace

std::expected<void, FaultError> AddressSpace::fault(Park& park, uint64_t addr, Access access,
                                                    uint64_t thread) {
  return impl_->resolve(park, addr, access, thread, Impl::Who::kGuest);
}

AddressSpace::Impl::FaultResult AddressSpace::Impl::resolve(Park& park, uint64_t addr,
                                                            Access access, uint64_t thread,
                                                            Who who) {
  const uint64_t page = addr / kPageSize;
  for (;;) {
    settle();
    bound_regions();
    if (addr >= space.user_limit_) return fail(kMapErr);
    Vma* v = vmas.find(addr);
    if (v == nullptr) v = grow_stack(addr);
    if (v == nullptr) return fail(kMapErr);
    if (who == Who::kGuest && reveal(addr, addr + 1)) return {};  // that may have been all
    const Pte pte = pt.get(page);
    const bool private_now = pte.anon() && mem.ref_count(pte.pfn()) == 1;
    const bool shows = pte ? pte.readable() : v->host && v->prot != Prot::kNone;

    bool write = access == Access::kWrite;
    bool unsure = false;
    if (access == Access::kUnknown && shows) {
      // It can be read and yet it faulted: a write, or another thread's fault was quicker.
      if (pte.writable()) return stale(park, *v, page, addr, thread, false);
      if (v->has(Prot::kWrite)) {
        write = true;
      } else {
        unsure = true;
      }
    }
    if (unsure) return stale(park, *v, page, addr, thread, true);

    if (who == Who::kForce) {
      if (write && v->shared && !v->has(Prot::kWrite)) return fail(kAccErr);
    } else {
      if (v->prot == Prot::kNone) return fail(kAccErr);
      if (write && !v->has(Prot::kWrite)) return fail(kAccErr);
      if (access == Access::kExec && !v->has(Prot::kExec)) return fail(kAccErr);
    }

    if (!poisoned.empty() && !pte && poisoned.contains(page)) return fail(kPoisoned);
    if (v->userfault && missing(*v, page)) {
      const Ref<UserFault> u = v->userfault;
      const auto side = who == Who::kGuest ? UserFault::Who::kGuest : UserFault::Who::kKernel;
      Result<> told = u->wait(park, addr, write, thread, side);
      if (told) continue;
      return fail(told.error() == Errno::kFAULT ? kBusErr : kTryAgain);
    }

    Step step = true;
    if (pte && write && !v->shared && !private_now) {
      step = pte.anon() ? break_cow(park, *v, page, pte) : break_cached(park, *v, page);
    } else if (pte && write && v->shared && !pte.writable()) {
      step = write_shared(park, *v, page);
    } else if (pte) {
      // Present: bring the stub's view up to what it may be (it may have been write-protected by a
      // fork since undone, or not be mapped at all).
      if (stub_prot(*v, pte) == pte.stub()) {
        return who == Who::kGuest ? stale(park, *v, page, addr, thread, false) : FaultResult();
      }
      uint64_t lo = page, hi = page + 1;
      const uint64_t window = page / kAround * kAround;
      auto same = [&](uint64_t p) {
        const Pte n = pt.get(p);
        return n && n.stub() == pte.stub() && n.anon() == pte.anon() &&
               stub_prot(*v, n) == stub_prot(*v, pte);
      };
      while (lo > window && (lo - 1) * kPageSize >= v->start && same(lo - 1)) --lo;
      while (hi < window + kAround && hi * kPageSize < v->end && same(hi)) ++hi;
      if (pte.stub() == Prot::kNone) {
        map_frames(*v, lo * kPageSize, hi * kPageSize, /*populate=*/true);
      } else {
        // The sharer since a fork has gone before the write came. Copying next time is cheaper than
        // to protect the page and take that back.
        if (write && pte.anon()) fork_profile->written.note(page);
        const Prot prot = stub_prot(*v, pte);
        stub_protect(lo * kPageSize, (hi - lo) * kPageSize, prot);
        for (uint64_t p = lo; p < hi; ++p) pt.set(p, pt.get(p).with_stub(prot));
      }
    } else if (v->anonymous()) {
      if (who == Who::kGuest) habit.touched(addr);
      step = touch_anon(park, *v, page);
    } else if (v->host) {
      if (write) {
        step = break_host(park, *v, page);
      } else {
        // Mapped already, for all we know (who is not the guest reads through the object).
        return who == Who::kGuest ? stale(park, *v, page, addr, thread, false) : FaultResult();
      }
    } else if (write && !v->shared) {
      step = break_cached(park, *v, page);
    } else {
      step = touch_object(park, *v, page, write);
    }
    if (!step) return fail(step.error());
    if (*step) return {};
  }
}

// The table says the access is fine. Usually two threads faulted on one page and the other was
// served first, or the mapping is late; then trying again is right. `maybe_violation`: a write (of
// unknown access) to a read-only page looks the same; then the second time in a row is the answer.
AddressSpace::Impl::FaultResult AddressSpace::Impl::stale(Park& park, Vma& v, uint64_t page,
                                                          uint64_t addr, uint64_t thread,
                                                          bool maybe_violation) {
  if (guest.late(addr)) {
    (void)guest.flush(park);  // a failure is noticed when the guest is to run
    return {};
  }
  Stale* s = nullptr;
  for (Stale& e : stale_) {
    if (e.addr == addr && e.thread == thread) s = &e;
  }
  if (s == nullptr) {
    s = &stale_[next_stale_++ % stale_.size()];
    *s = {addr, thread, 0};
  }
  if (++s->count == 1) return {};
  if (maybe_violation) {
    *s = {};
    return fail(kAccErr);
  }
  if (s->count > 8) {  // the host does not give us the page
    *s = {};
    return fail(kBusErr);
  }
  if (s->count > 2) {
    if (pt.get(page)) {
      map_frames(v, page * kPageSize, (page + 1) * kPageSize, true);
    } else {
      map_host(v, page * kPageSize, (page + 1) * kPageSize);
    }
  }
  return {};
}

Vma* AddressSpace::Impl::grow_stack(uint64_t addr) {
  Vma* v = vmas.at_or_above(addr);
  if (v == nullptr || !v->grows_down || v->start <= addr) return nullptr;
  const uint64_t start = page_floor(addr);
  if (start < kMinAddr || v->end - start > stack_limit) return nullptr;
  const uint64_t more = (v->start - start) / kPageSize;
  if (as_limit != UINT64_MAX && (total + more) * kPageSize > as_limit) return nullptr;
  if (const Vma* below = vmas.below(start + 1)) {
    // No gap is asked below another stack or a mapping without rights, as on Linux.
    const bool loose = below->grows_down || below->prot == Prot::kNone;
    if (below->end > start) return nullptr;
    if (!loose && start - below->end < VmaSet::kStackGap) return nullptr;
  }
  account(*v, -1);
  if (v->object) return account(*v, +1), nullptr;
  vmas.set_start(*v, start);
  account(*v, +1);
  return v;
}

AddressSpace::Impl::Step AddressSpace::Impl::out_of_memory(Park& park) {
  if (!deferred_.empty()) {
    (void)guest.flush(park);
    settle();
    if (mem.free_pages() != 0) return false;
  }
  if (!wait_for_memory(park, mem)) return fail(kTryAgain);
  return false;
}

AddressSpace::Impl::Step AddressSpace::Impl::touch_anon(Park& park, Vma& v, uint64_t page) {
  // How much: a window that grows while memory is touched in order, and shrinks when frames are
  // scarce.
  uint64_t window = v.random || v.userfault ? 1 : v.widen(page, Vma::kWindow);
  const uint64_t free = mem.free_pages();
  if (free < mem.total_pages() / 16 || free < window * 8) window = 1;
  uint64_t lo = page, hi = page + 1;
  const uint64_t first = std::max(page / window * window, v.start / kPageSize);
  const uint64_t end = std::min(page / window * window + window, v.end / kPageSize);
  while (lo > first && !pt.get(lo - 1)) --lo;
  while (hi < end && !pt.get(hi)) ++hi;

  Result<PhysMemory::Extent> extent = mem.alloc_extent(static_cast<uint32_t>(hi - lo));
  if (!extent) return out_of_memory(park);
  if (extent->got < hi - lo) {
    lo = std::max(lo, page + 1 > extent->got ? page + 1 - extent->got : 0);
    hi = lo + extent->got;
  }
  give_frames(v, lo, *extent, /*late=*/false);
  v.next_fault = hi;
  return true;
}

void AddressSpace::Impl::give_frames(Vma& v, uint64_t page, const PhysMemory::Extent& frames,
                                     bool late) {
  mem.anon_pages += frames.got;
  const Prot prot = v.prot == Prot::kNone ? Prot::kNone : v.prot | Prot::kRead;
  for (uint32_t i = 0; i < frames.got; ++i) {
    set_pte(v, page + i, Pte::make(frames.first + i, prot, true));
  }
  if (prot == Prot::kNone) return;
  const uint64_t len = frames.got * kPageSize, offset = mem.host_offset(frames.first);
  if (late) {
    stub_map_late(page * kPageSize, len, prot, mem.fd(), offset, /*populate=*/true);
  } else {
    stub_map(page * kPageSize, len, prot, mem.fd(), offset, /*populate=*/true);
  }
}

bool AddressSpace::Impl::same_vma(uint64_t page, uint64_t id, Pte pte, Vma** out) {
  *out = vmas.find(page * kPageSize);
  return *out != nullptr && (*out)->id == id && pt.get(page) == pte;
}

// Maps pages of the object as they are: the wanted one, and those around it that are at hand.
AddressSpace::Impl::Step AddressSpace::Impl::touch_object(Park& park, Vma& v, uint64_t page,
                                                          bool write) {
  const Ref<MemoryObject> object = v.object;
  const uint64_t id = v.id;
  const bool to_write = v.shared && v.has(Prot::kWrite) && (write || !object->tracks_writes());
  const uint64_t first = std::max(page / kAround * kAround, v.start / kPageSize);
  const uint64_t end = std::min(page / kAround * kAround + kAround, v.end / kPageSize);
  Result<PageRef> got = object->get_page(park, v.index(page * kPageSize), to_write);
  if (!got) {
    if (got.error() == Errno::kNOMEM) return out_of_memory(park);
    return fail(object_error(got.error()));
  }
  Vma* again;
  if (!same_vma(page, id, {}, &again)) return false;
  if (object->allocate_around() && v.shared && !v.userfault &&
      mem.free_pages() > mem.total_pages() / 16) {
    for (uint64_t p = first; p < end; ++p) {
      if (pt.get(p) || object->cached_page(v.index(p * kPageSize)) != kNoPfn) continue;
      if (!object->get_page(park, v.index(p * kPageSize), to_write)) break;
      if (!same_vma(page, id, {}, &again)) return false;
    }
  }
  const Pfn pfn = got->release();
  const bool writable = to_write;
  Prot prot = v.prot | Prot::kRead;
  if (!writable) prot = prot & ~Prot::kWrite;
  set_pte(v, page, Pte::make(pfn, v.prot == Prot::kNone ? Prot::kNone : prot, false));
  uint64_t lo = page, hi = page + 1;
  auto take = [&](uint64_t p) {
    if (pt.get(p)) return false;
    const Pfn near = object->cached_page(v.index(p * kPageSize));
    if (near == kNoPfn) return false;
    mem.ref(near);
    const bool w = v.shared && !object->tracks_writes();
    Prot np = v.prot | Prot::kRead;
    if (!w) np = np & ~Prot::kWrite;
    set_pte(v, p, Pte::make(near, v.prot == Prot::kNone ? Prot::kNone : np, false));
    return true;
  };
  while (lo > first && take(lo - 1)) --lo;
  while (hi < end && take(hi)) ++hi;
  map_frames(v, lo * kPageSize, hi * kPageSize, /*populate=*/true);
  return true;
}

// A shared page becomes writable; its object hears of it.
AddressSpace::Impl::Step AddressSpace::Impl::write_shared(Park& park, Vma& v, uint64_t page) {
  const Ref<MemoryObject> object = v.object;
  const Pte pte = pt.get(page);
  const uint64_t id = v.id;
  Result<PageRef> got = object->get_page(park, v.index(page * kPageSize), true);
  if (!got) {
    if (got.error() == Errno::kNOMEM) return out_of_memory(park);
    return fail(object_error(got.error()));
  }
  Vma* again;
  if (!same_vma(page, id, pte, &again) || got->pfn() != pte.pfn()) return false;
  const Prot prot = v.prot | Prot::kRead;
  if (pte.stub() == Prot::kNone) {
    stub_map(page * kPageSize, kPageSize, prot, mem.fd(), mem.host_offset(pte.pfn()), true);
  } else {
    stub_protect(page * kPageSize, kPageSize, prot);
  }
  set_pte(v, page, pte.with_stub(prot));
  return true;
}

void AddressSpace::Impl::touch_ahead(Park& park, uint64_t start, uint64_t end) {
  if (mem.free_pages() < mem.total_pages() / 8) return;
  end = std::min(end, start + kEager * kPageSize);
  for (uint64_t addr = start; addr < end; addr += kPageSize) {
    const Vma* v = vmas.find(addr);
    if (v == nullptr || v->prot == Prot::kNone) return;
    if (pt.get(addr / kPageSize)) continue;
    const Access access = v->has(Prot::kWrite) ? Access::kWrite : Access::kRead;
    if (!resolve(park, addr, access, 0, Who::kKernel)) return;
  }
}

void AddressSpace::Impl::fill_late(Vma& v, uint64_t start, uint64_t end) {
  if (mem.free_pages() < mem.total_pages() / 8) return;
  const uint64_t last = std::min(end / kPageSize, start / kPageSize + kEager);
  for (uint64_t page = start / kPageSize; page < last;) {
    const auto frames = mem.alloc_extent(static_cast<uint32_t>(last - page));
    if (!frames) return;  // the rest comes by faults
    give_frames(v, page, *frames, /*late=*/true);
    page += frames->got;
  }
}

Result<> AddressSpace::Impl::populate(Park& park, uint64_t start, uint64_t end, Access access) {
  for (uint64_t addr = start; addr < end;) {
    Vma* v = vmas.at_or_above(addr);
    if (v == nullptr || v->start >= end) break;
    addr = std::max(addr, v->start);
    if (v->prot == Prot::kNone) {
      addr = v->end;
      continue;
    }
    const Pte pte = pt.get(addr / kPageSize);
    const bool write =
        access == Access::kWrite || (access == Access::kUnknown && v->has(Prot::kWrite));
    const bool done = pte ? (write ? pte.writable() : pte.readable()) : v->host && !write;
    if (!done) {
      if (v->anonymous() && !pte) {  // as much at once as a fault may
        v->next_fault = addr / kPageSize;
        v->window = Vma::kMaxWindow;
      }
      FaultResult r = resolve(park, addr, write ? Access::kWrite : Access::kRead, 0, Who::kKernel);
      if (!r) return Err(r.error().signo == SIGBUS ? Errno::kFAULT : Errno::kNOMEM);
    }
    addr += kPageSize;
  }
  return {};
}

}  // namespace uk
