#include "syscalls/async/shared_frames.h"

#include <algorithm>

#include "base/check.h"

namespace uk {

Result<Ref<SharedFrames>> SharedFrames::create(PhysMemory& mem, uint64_t bytes) {
  Ref<SharedFrames> f(new SharedFrames(mem));
  for (uint64_t at = 0; at < bytes; at += kPageSize) {
    f->pages_.push_back(PageRef::adopt(mem, TRY(mem.alloc())));
    ++mem.shmem_pages;
  }
  return f;
}

SharedFrames::~SharedFrames() { mem_.shmem_pages -= pages_.size(); }

std::byte* SharedFrames::place(uint64_t at, size_t n) const {
  const uint64_t in_page = at & kPageMask;
  CHECK(at / kPageSize < pages_.size() && in_page + n <= kPageSize);
  return pages_[at / kPageSize].data() + in_page;
}

Result<PageRef> SharedFrames::get_page(Park&, uint64_t index, bool) {
  if (index >= pages_.size()) return Err(Errno::kFAULT);
  return pages_[index];
}

Pfn SharedFrames::cached_page(uint64_t index) {
  return index < pages_.size() ? pages_[index].pfn() : kNoPfn;
}

Result<size_t> SharedFrames::read(Park&, uint64_t offset, std::span<std::byte> out) {
  size_t done = 0;
  while (done < out.size() && offset < size() && offset + done < size()) {
    const uint64_t at = offset + done;
    const size_t n = std::min<size_t>(out.size() - done, kPageSize - (at & kPageMask));
    std::memcpy(out.data() + done, place(at, n), n);
    done += n;
  }
  return done;
}

}  // namespace uk
