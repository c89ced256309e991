// The kernel's access to guest memory. The fast path is a walk of the page table and a memcpy; the
// guest may change the bytes at any time.

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "ukernel/mm/space.h"

namespace uk {

// Where the byte at addr is for the kernel. Valid until the next suspension.
Result<AddressSpace::Impl::View> AddressSpace::Impl::view(Park& park, uint64_t addr, bool write,
                                                          Who who) {
  const uint64_t page = addr / kPageSize;
  if (addr >= space.user_limit_) return Err(Errno::kFAULT);
  for (;;) {
    const Pte pte = pt.get(page);
    bool usable = pte && (write ? pte.writable() : pte.readable());
    if (!usable && who == Who::kForce && pte) {
      const Vma* v = vmas.find(addr);
      CHECK(v != nullptr);
      usable = !write || (!v->shared && pte.anon() && mem.ref_count(pte.pfn()) == 1);
    }
    if (usable) return View{mem.ptr(pte.pfn()) + addr % kPageSize, nullptr, 0, 0};
    if (!pte && !write) {
      Vma* v = vmas.find(addr);
      if (v != nullptr && v->host && (v->prot != Prot::kNone || who == Who::kForce)) {
        const uint64_t end = pt.next(page, v->end / kPageSize) * kPageSize;
        return View{nullptr, v->object, v->offset + (addr - v->start), end - addr};
      }
    }
    if (!resolve(park, addr, write ? Access::kWrite : Access::kRead, 0, who)) {
      return Err(Errno::kFAULT);
    }
  }
}

// Calls f(bytes of guest memory) piece by piece; f returns how much it used.
template <class F>
Result<size_t> AddressSpace::Impl::transfer(Park& park, uint64_t addr, size_t n, bool write,
                                            Who who, F&& f) {
  size_t done = 0;
  while (done < n) {
    const uint64_t at = addr + done;
    if (at < addr) break;  // round the end of the address space
    size_t chunk = std::min<uint64_t>(n - done, kPageSize - at % kPageSize);
    const Pte pte = pt.get(at / kPageSize);
    std::byte* p;
    if (pte && (write ? pte.writable() : pte.readable()) && at < space.user_limit_) [[likely]] {
      p = mem.ptr(pte.pfn()) + at % kPageSize;
      // Frames that follow each other do so in our mapping too.
      Pfn next = pte.pfn() + 1;
      for (uint64_t page = at / kPageSize + 1; chunk < n - done; ++page, ++next) {
        const Pte more = pt.get(page);
        if (!more || more.pfn() != next || !(write ? more.writable() : more.readable())) break;
        chunk = std::min(n - done, chunk + kPageSize);
      }
    } else {
      Result<View> view = this->view(park, at, write, who);
      if (!view) break;
      p = view->ptr;
      if (p == nullptr) {
        std::byte page[kPageSize];
        Result<size_t> got = view->object->read(park, view->offset, {page, chunk});
        if (!got) break;
        if (*got < chunk) {
          // Zeros behind the end of the file in its last page; nothing beyond.
          const uint64_t size = view->object->size();
          if (page_ceil(size) <= view->offset) break;
          std::memset(page + *got, 0, chunk - *got);
        }
        const size_t used = f(std::span(page, chunk), done);
        done += used;
        if (used < chunk) return done;
        continue;
      }
    }
    const size_t used = f(std::span(p, chunk), done);
    done += used;
    if (used < chunk) return done;
  }
  if (done == 0 && n != 0) return Err(Errno::kFAULT);
  return done;
}

Result<size_t> AddressSpace::copy_in(Park& park, std::span<std::byte> to, uint64_t from) {
  return impl_->transfer(park, from, to.size(), false, Impl::Who::kKernel,
                         [&](std::span<std::byte> piece, size_t done) {
                           std::memcpy(to.data() + done, piece.data(), piece.size());
                           return piece.size();
                         });
}

Result<size_t> AddressSpace::force_copy_in(Park& park, std::span<std::byte> to, uint64_t from) {
  return impl_->transfer(park, from, to.size(), false, Impl::Who::kForce,
                         [&](std::span<std::byte> piece, size_t done) {
                           std::memcpy(to.data() + done, piece.data(), piece.size());
                           return piece.size();
                         });
}

Result<size_t> AddressSpace::copy_out(Park& park, uint64_t to, std::span<const std::byte> from) {
  return impl_->transfer(park, to, from.size(), true, Impl::Who::kKernel,
                         [&](std::span<std::byte> piece, size_t done) {
                           std::memcpy(piece.data(), from.data() + done, piece.size());
                           return piece.size();
                         });
}

Result<size_t> AddressSpace::force_copy_out(Park& park, uint64_t to,
                                            std::span<const std::byte> from) {
  return impl_->transfer(park, to, from.size(), true, Impl::Who::kForce,
                         [&](std::span<std::byte> piece, size_t done) {
                           std::memcpy(piece.data(), from.data() + done, piece.size());
                           return piece.size();
                         });
}

Result<size_t> AddressSpace::zero_out(Park& park, uint64_t to, size_t n) {
  return impl_->transfer(park, to, n, true, Impl::Who::kKernel,
                         [&](std::span<std::byte> piece, size_t) {
                           std::memset(piece.data(), 0, piece.size());
                           return piece.size();
                         });
}

Result<std::string> AddressSpace::copy_in_string(Park& park, uint64_t from, size_t max) {
  std::string out;
  bool ended = false;
  // One byte more than max may be looked at: it must be the NUL.
  Result<size_t> got = impl_->transfer(park, from, max + 1, false, Impl::Who::kKernel,
                                       [&](std::span<std::byte> piece, size_t) -> size_t {
                                         const char* p =
                                             reinterpret_cast<const char*>(piece.data());
                                         const size_t n = strnlen(p, piece.size());
                                         out.append(p, n);
                                         ended = n < piece.size();
                                         return n;
                                       });
  if (ended) {
    // The guest may have put a NUL in between since: what was copied ends at the first.
    out.resize(strnlen(out.data(), out.size()));
    return out;
  }
  if (!got || *got < max + 1) return Err(Errno::kFAULT);
  return Err(Errno::kNAMETOOLONG);
}

Result<uint32_t*> AddressSpace::atomic_word(Park& park, uint64_t addr, bool for_write) {
  if (addr % sizeof(uint32_t) != 0) return Err(Errno::kINVAL);
  Impl::View v = TRY(impl_->view(park, addr, for_write, Impl::Who::kKernel));
  if (v.ptr == nullptr) {
    // A read-only page of a host file: make a frame of it if the mapping may be written, which is
    // all a futex needs.
    v = TRY(impl_->view(park, addr, true, Impl::Who::kKernel));
  }
  return reinterpret_cast<uint32_t*>(v.ptr);
}

Result<AddressSpace::FutexKey> AddressSpace::futex_key(Park& park, uint64_t addr,
                                                       bool process_private) {
  if (addr % sizeof(uint32_t) != 0) return Err(Errno::kINVAL);
  if (addr >= user_limit_) return Err(Errno::kFAULT);
  if (process_private) return FutexKey{Ref<RefCounted>(this), addr};
  (void)TRY(impl_->view(park, addr, false, Impl::Who::kKernel));
  const Vma* v = impl_->vmas.find(addr);
  if (v == nullptr) return Err(Errno::kFAULT);
  if (!v->shared) return FutexKey{Ref<RefCounted>(this), addr};
  return FutexKey{v->object, v->offset + (addr - v->start)};
}

}  // namespace uk
