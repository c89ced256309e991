#include "ukernel/mm/page_cache.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_set.h"
#include "base/check.h"
#include "ukernel/mm/oom.h"
#include "ukernel/sched/wait_queue.h"

namespace uk {

namespace {
uint64_t pages_of(uint64_t bytes) { return page_ceil(bytes) / kPageSize; }
}  // namespace

struct PageCacheObject::Impl {
  struct Entry {
    Pfn pfn;
    bool dirty;
    bool accessed;
    bool unwritten = false;  // fallocate(2) made it, and nobody has used it yet
  };
  // No iterator of this lives across an allocation: reclaim may erase clean pages.
  absl::btree_map<uint64_t, Entry> pages;
  absl::flat_hash_set<uint64_t> filling;  // pages being read from storage
  WaitQueue filled;
  uint64_t dirty = 0;

  Entry* find(uint64_t index) {
    auto it = pages.find(index);
    return it == pages.end() ? nullptr : &it->second;
  }
  void set_dirty(Entry& e, bool dirty_now) {
    if (e.dirty == dirty_now) return;
    e.dirty = dirty_now;
    dirty_now ? ++dirty : --dirty;
  }
};

PageCacheObject::PageCacheObject(PhysMemory& mem, Options o)
    : mem_(mem),
      backing_(o.backing),
      budget_(std::move(o.budget)),
      size_(o.size),
      dev_(o.dev),
      ino_(o.ino),
      shmem_(o.shmem),
      allocate_around_(o.allocate_around),
      zeros_(o.zeros),
      impl_(std::make_unique<Impl>()) {
  CHECK(size_ <= kMaxSize);
  if (backing_ != nullptr) mem_.add_reclaimer(*this);
}

PageCacheObject::~PageCacheObject() { drop(0, UINT64_MAX); }

void PageCacheObject::count(int64_t pages) {
  (shmem_ ? mem_.shmem_pages : mem_.cached_pages) += pages;
}

Result<PageRef> PageCacheObject::get_page(Park& park, uint64_t index, bool for_write) {
  if (index >= pages_of(size_)) return Err(Errno::kFAULT);
  PageRef page = TRY(obtain(park, index, for_write));
  if (index < pages_of(size_)) return page;
  drop(index, index + 1);  // cut off while we waited for storage
  return Err(Errno::kFAULT);
}

Pfn PageCacheObject::cached_page(uint64_t index) {
  if (index >= pages_of(size_)) return kNoPfn;
  const Impl::Entry* e = impl_->find(index);
  return e == nullptr || e->unwritten ? kNoPfn : e->pfn;
}

// The page, present or made so; zeros beyond the end.
Result<PageRef> PageCacheObject::obtain(Park& park, uint64_t index, bool for_write,
                                        bool unwritten) {
  for (;;) {
    if (Impl::Entry* e = impl_->find(index)) {
      e->accessed = true;
      if (!unwritten) e->unwritten = false;
      if (for_write && !e->dirty && backing_ != nullptr) {
        TRY(backing_->will_dirty(park, index));
        e = impl_->find(index);
        if (e == nullptr) continue;
      }
      if (for_write) impl_->set_dirty(*e, true);
      return PageRef::share(mem_, e->pfn);
    }
    if (impl_->filling.contains(index)) {
      TRY(impl_->filled.wait(
          park, [&] { return !impl_->filling.contains(index); }, WaitMode::kUninterruptible, kNever,
          "page"));
      continue;
    }
    Result<Pfn> pfn = mem_.alloc();
    if (!pfn) {
      TRY(wait_for_memory(park, mem_));
      continue;
    }
    PageRef page = PageRef::adopt(mem_, *pfn);
    if (backing_ != nullptr) {
      impl_->filling.insert(index);
      Result<> r;
      if (for_write) r = backing_->will_dirty(park, index);
      if (r && index < pages_of(size_)) {
        mem_.prepare(*pfn, 1);
        r = backing_->fill(park, index, {page.data(), kPageSize});
      }
      impl_->filling.erase(index);
      impl_->filled.wake_all();
      if (!r) return Err(r.error());
    }
    if (budget_ && !budget_->take(1)) return Err(Errno::kNOSPC);
    impl_->pages.emplace(index, Impl::Entry{*pfn, false, true, unwritten});
    if (for_write) impl_->set_dirty(impl_->pages.at(index), true);
    count(1);
    mem_.ref(*pfn);
    return page;
  }
}

void PageCacheObject::drop(uint64_t first, uint64_t end) {
  auto from = impl_->pages.lower_bound(first);
  auto it = from;
  uint64_t n = 0;
  for (; it != impl_->pages.end() && it->first < end; ++it, ++n) {
    impl_->set_dirty(it->second, false);
    mem_.unref(it->second.pfn);
  }
  impl_->pages.erase(from, it);
  count(-static_cast<int64_t>(n));
  if (budget_) budget_->give(n);
}

std::span<std::byte> PageCacheObject::run(uint64_t index, uint64_t end, bool for_write,
                                          Hold* hold) {
  auto it = impl_->pages.find(index);
  if (it == impl_->pages.end()) return {};
  const Pfn first = it->second.pfn;
  uint64_t n = 0;
  do {
    it->second.accessed = true;
    if (for_write) {
      impl_->set_dirty(it->second, true);
      it->second.unwritten = false;
    }
    (*hold)[n++] = PageRef::share(mem_, it->second.pfn);
    ++it;
  } while (n < hold->size() && index + n < end && it != impl_->pages.end() &&
           it->first == index + n && it->second.pfn == first + n);
  return {mem_.ptr(first), n * kPageSize};
}

Result<size_t> PageCacheObject::read(Park& park, uint64_t offset, IoSink& sink) {
  size_t done = 0;
  while (sink.remaining() != 0 && offset + done < size_) {
    const uint64_t at = offset + done, index = at / kPageSize, in_page = at % kPageSize;
    const uint64_t want = std::min<uint64_t>(sink.remaining(), size_ - at);
    size_t n = std::min(want, kPageSize - in_page);
    Result<size_t> got = 0;
    Hold hold;
    if (auto here = run(index, pages_of(at + want), false, &hold); !here.empty()) {
      n = std::min(want, here.size() - in_page);
      got = sink.put(park, here.subspan(in_page, n));
    } else if (backing_ == nullptr) {
      got = sink.put_zeros(park, n);
    } else {
      Result<PageRef> page = get_page(park, index, false);
      if (!page && page.error() == Errno::kFAULT) break;  // cut off meanwhile
      if (!page) return done != 0 ? Result<size_t>(done) : Err(page.error());
      got = sink.put(park, {page->data() + in_page, n});
    }
    if (!got) return done != 0 ? Result<size_t>(done) : got;
    done += *got;
    if (*got < n) break;
  }
  return done;
}

Result<size_t> PageCacheObject::read(Park& park, uint64_t offset, std::span<std::byte> out) {
  BufferSink sink(out);
  return read(park, offset, sink);
}

Result<size_t> PageCacheObject::write(Park& park, uint64_t offset, IoSource& source) {
  CHECK(offset <= kMaxSize);
  size_t done = 0;
  while (source.remaining() != 0) {
    const uint64_t at = offset + done, index = at / kPageSize, in_page = at % kPageSize;
    // Over what is there; storage must be asked page by page.
    if (const uint64_t inside = at < size_ ? size_ - at : 0; inside != 0 && backing_ == nullptr) {
      const uint64_t want = std::min<uint64_t>(source.remaining(), inside);
      Hold hold;
      if (auto here = run(index, pages_of(at + want), true, &hold); !here.empty()) {
        mem_.prepare(hold[0].pfn(), static_cast<uint32_t>(here.size() / kPageSize));
        const size_t n = std::min(want, here.size() - in_page);
        Result<size_t> got = source.get(park, here.subspan(in_page, n));
        if (!got) return done != 0 ? Result<size_t>(done) : got;
        done += *got;
        if (*got < n) break;
        continue;
      }
    }
    const size_t n = std::min(uint64_t{source.remaining()}, kPageSize - in_page);
    if (at + n > kMaxSize) return done != 0 ? Result<size_t>(done) : Err(Errno::kFBIG);
    Result<PageRef> page = obtain(park, index, true);
    if (!page) return done != 0 ? Result<size_t>(done) : Err(page.error());
    mem_.prepare(page->pfn(), 1);
    if (at + n > size_ && size_ % kPageSize != 0) zero_range(size_, page_ceil(size_));
    Result<size_t> got = source.get(park, {page->data() + in_page, n});
    if (got && *got != 0) {
      done += *got;
      size_ = std::max(size_, at + *got);
    }
    if (index >= pages_of(size_)) drop(index, index + 1);
    if (!got) return done != 0 ? Result<size_t>(done) : got;
    if (*got < n) break;
  }
  return done;
}

// Zeroes bytes [offset, end) of pages that are present.
void PageCacheObject::zero_range(uint64_t offset, uint64_t end) {
  while (offset < end) {
    const uint64_t n = std::min(end, page_floor(offset) + kPageSize) - offset;
    if (Impl::Entry* e = impl_->find(offset / kPageSize)) {
      std::memset(mem_.ptr(e->pfn) + offset % kPageSize, 0, n);
      impl_->set_dirty(*e, true);
    }
    offset += n;
  }
}

void PageCacheObject::resize(Park& park, uint64_t size) {
  CHECK(size <= kMaxSize);
  const uint64_t old = std::exchange(size_, size);
  const uint64_t edge = std::min(old, size);
  if (edge % kPageSize != 0) zero_range(edge, page_ceil(edge));
  if (size >= old) return;
  const uint64_t first = pages_of(size);
  invalidate(first, UINT64_MAX - first);
  drop(first, UINT64_MAX);
  flush_mappings(park);
}

Result<> PageCacheObject::punch(Park& park, uint64_t first, uint64_t count) {
  if (backing_ != nullptr) return Err(Errno::kOPNOTSUPP);
  if (write_sealed_) return Err(Errno::kPERM);
  discard(park, first, count > UINT64_MAX - first ? UINT64_MAX : first + count);
  return {};
}

void PageCacheObject::discard(Park& park, uint64_t first, uint64_t end) {
  invalidate(first, end - first, /*private_copies=*/false);
  drop(first, end);
  flush_mappings(park);
}

Result<> PageCacheObject::punch_hole(Park& park, uint64_t offset, uint64_t len) {
  CHECK(len <= kMaxSize && offset <= kMaxSize);
  const uint64_t end = offset + len;
  const uint64_t first = pages_of(offset), last = end / kPageSize;
  if (first > last) {  // inside one page
    zero_range(offset, end);
    return {};
  }
  zero_range(offset, first * kPageSize);
  zero_range(last * kPageSize, end);
  if (first == last) return {};
  return punch(park, first, last - first);
}

Result<> PageCacheObject::allocate(Park& park, uint64_t offset, uint64_t len, bool as_data) {
  CHECK(len <= kMaxSize && offset <= kMaxSize);
  std::vector<uint64_t> added;
  const uint64_t end = pages_of(offset + len);
  for (uint64_t i = offset / kPageSize; i < end; ++i) {
    if (Impl::Entry* e = impl_->find(i); e != nullptr) {
      e->unwritten = false;  // twice allocated is as good as written (shmem_get_folio_gfp in Linux)
      continue;
    }
    Result<PageRef> page = obtain(park, i, true, !as_data);
    if (!page) {
      for (uint64_t a : added) drop(a, a + 1);
      return Err(page.error());
    }
    added.push_back(i);
    if (added.size() % 256 == 0) park.yield();
  }
  return {};
}

Result<> PageCacheObject::sync(Park& park, uint64_t first, uint64_t count) {
  if (backing_ == nullptr) return {};
  const uint64_t end = count > UINT64_MAX - first ? UINT64_MAX : first + count;
  std::vector<uint64_t> todo;
  for (auto it = impl_->pages.lower_bound(first); it != impl_->pages.end() && it->first < end;
       ++it) {
    if (!it->second.dirty) continue;
    impl_->set_dirty(it->second, false);
    todo.push_back(it->first);
  }
  if (todo.empty()) return {};
  // From here on a write through a mapping faults and marks the page again.
  write_protect(first, end - first);
  flush_mappings(park);
  Result<> result;
  for (size_t at = 0; at < todo.size(); at += Backing::kMaxBatch) {
    Result<> r = store(
        park, std::span(todo).subspan(at).first(std::min(Backing::kMaxBatch, todo.size() - at)));
    if (!r && result) result = r;
  }
  return result;
}

// Writes back pages of the cache that were marked clean for it; those that fail are dirty again.
Result<> PageCacheObject::store(Park& park, std::span<const uint64_t> indices) {
  std::vector<PageRef> held;
  std::vector<Backing::DirtyPage> batch;
  for (uint64_t index : indices) {
    Impl::Entry* e = impl_->find(index);
    if (e == nullptr) continue;
    held.push_back(PageRef::share(mem_, e->pfn));
    batch.push_back({index, {held.back().data(), kPageSize}});
  }
  if (batch.empty()) return {};
  backing_->write_back_batch(park, batch);
  Result<> result;
  for (const Backing::DirtyPage& p : batch) {
    if (p.error == Errno::kOk) continue;
    if (Impl::Entry* e = impl_->find(p.index); e != nullptr) impl_->set_dirty(*e, true);
    if (result) result = Err(p.error);
  }
  return result;
}

void PageCacheObject::forget(Park& park, uint64_t first, uint64_t count) {
  CHECK(backing_ != nullptr);
  const uint64_t end = count > UINT64_MAX - first ? UINT64_MAX : first + count;
  std::vector<uint64_t> clean;
  for (auto it = impl_->pages.lower_bound(first); it != impl_->pages.end() && it->first < end;
       ++it) {
    if (!it->second.dirty) clean.push_back(it->first);
  }
  for (size_t i = 0; i < clean.size();) {
    size_t n = 1;
    while (i + n < clean.size() && clean[i + n] == clean[i] + n) ++n;
    invalidate(clean[i], n, /*private_copies=*/false);
    drop(clean[i], clean[i] + n);
    i += n;
  }
  flush_mappings(park);
}

std::optional<uint64_t> PageCacheObject::seek_data(uint64_t offset) const {
  if (offset >= size_) return std::nullopt;
  auto it = impl_->pages.lower_bound(offset / kPageSize);
  while (it != impl_->pages.end() && it->second.unwritten) ++it;
  if (it == impl_->pages.end() || it->first * kPageSize >= size_) return std::nullopt;
  return std::max(offset, it->first * kPageSize);
}

std::optional<uint64_t> PageCacheObject::seek_hole(uint64_t offset) const {
  if (offset >= size_) return std::nullopt;
  uint64_t index = offset / kPageSize;
  auto it = impl_->pages.lower_bound(index);
  for (; it != impl_->pages.end() && it->first == index && !it->second.unwritten; ++it) ++index;
  return std::min(std::max(offset, index * kPageSize), size_);
}

uint64_t PageCacheObject::resident_pages() const { return impl_->pages.size(); }
uint64_t PageCacheObject::dirty_pages() const { return impl_->dirty; }

// Clean pages that nobody maps or uses; those used since the last time only if the others do not
// suffice.
uint64_t PageCacheObject::reclaim(uint64_t n) {
  uint64_t got = 0;
  for (int round = 0; round < 2 && got < n; ++round) {
    for (auto it = impl_->pages.begin(); it != impl_->pages.end() && got < n;) {
      Impl::Entry& e = it->second;
      if (e.dirty || mem_.ref_count(e.pfn) != 1 || std::exchange(e.accessed, false)) {
        ++it;
        continue;
      }
      mem_.unref(e.pfn);
      it = impl_->pages.erase(it);
      ++got;
    }
  }
  count(-static_cast<int64_t>(got));
  if (budget_) budget_->give(got);
  return got;
}

}  // namespace uk
