#include "syscalls/uring/resources.h"

#include "syscalls/uring/abi.h"
#include "syscalls/uring/ring.h"

namespace uk::uring {

Resource::~Resource() {
  if (tag_ != 0 && !ring_.closed()) ring_.post(tag_, 0, 0);
}

void BufferGroup::use_ring(uint64_t addr, uint32_t entries, Ref<SharedFrames> frames) {
  ring_addr_ = addr;
  ring_entries_ = entries;
  frames_ = std::move(frames);
}

// The tail lies in the unused field of the first buffer (struct io_uring_buf_ring).
Result<ChosenBuffer> BufferGroup::take(Park& park, AddressSpace& mm) {
  if (!is_ring()) {
    if (list.empty()) return Err(Errno::kNOBUFS);
    ChosenBuffer b = list.front();
    list.pop_front();
    return b;
  }
  MutexLock lock(park, lock_);
  const uint64_t at = uint64_t{head_ & (ring_entries_ - 1)} * sizeof(io_uring_buf);
  constexpr uint64_t kTailAt = offsetof(io_uring_buf, resv);
  uint16_t tail = 0;
  io_uring_buf b{};
  if (frames_) {
    tail = frames_->load<uint16_t>(kTailAt);
    b = frames_->load<io_uring_buf>(at);
  } else {
    tail = TRY(UserIn<uint16_t>{{ring_addr_ + kTailAt}}.get(park, mm));
    b = TRY(UserIn<io_uring_buf>{{ring_addr_ + at}}.get(park, mm));
  }
  if (tail == head_) return Err(Errno::kNOBUFS);
  ++head_;
  return ChosenBuffer{b.addr, b.len, b.bid, 0};
}

// Of a ring only the one taken last can go back: others were taken meanwhile otherwise, and the
// guest sees this one as used.
void BufferGroup::give_back(const ChosenBuffer& b) {
  if (is_ring()) {
    --head_;
  } else {
    list.push_front(b);
  }
}

Ref<Resource> Resources::file(uint32_t index) const {
  if (!files || index >= files->size()) return nullptr;
  const Ref<Resource>& r = (*files)[index];
  return r && r->file ? r : nullptr;
}

Ref<Resource> Resources::buffer(uint32_t index) const {
  if (!buffers || index >= buffers->size()) return nullptr;
  return (*buffers)[index];
}

Result<uint32_t> Resources::install(Ring& ring, Ref<File> file, uint32_t index) {
  if (!files) return Err(Errno::kNXIO);
  if (index == ~0u) {
    const auto end = std::min<size_t>(alloc_to, files->size());
    for (index = alloc_from; index < end && (*files)[index]; ++index) {
    }
    if (index >= end) return Err(Errno::kNFILE);
  }
  if (index >= files->size()) return Err(Errno::kINVAL);
  auto r = make_ref<Resource>(ring, 0);
  r->file = std::move(file);
  (*files)[index] = std::move(r);
  return index;
}

Result<> Resources::remove_file(uint32_t index) {
  if (!files) return Err(Errno::kNXIO);
  if (index >= files->size()) return Err(Errno::kINVAL);
  if (!(*files)[index]) return Err(Errno::kBADF);
  (*files)[index] = nullptr;
  return {};
}

}  // namespace uk::uring
