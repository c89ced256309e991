#include "ukernel/fs/hostfs/host_handle.h"

namespace uk {

HostHandle::HostHandle(HostFdCache& cache, sys::Fd fd, int flags)
    : cache_(cache), fd_(std::move(fd)), flags_(flags) {
  ++cache_.live_;
}

HostHandle::~HostHandle() { --cache_.live_; }

Result<> HostFdCache::make_room() {
  while (live_ >= max_) {
    HostHandle* victim = nullptr;
    for (HostHandle& h : lru_) {
      if (h.ref_count() == 1) {
        victim = &h;
        break;
      }
    }
    if (victim == nullptr) return Err(Errno::kNFILE);
    forget(victim->slot);
  }
  return {};
}

void HostFdCache::keep(Ref<HostHandle> h, Ref<HostHandle>* slot) {
  forget(slot);
  h->slot = slot;
  lru_.push_back(*h);
  *slot = std::move(h);
}

void HostFdCache::used(HostHandle& h) {
  if (!h.linked()) return;
  h.unlink();
  lru_.push_back(h);
}

void HostFdCache::forget(Ref<HostHandle>* slot) {
  if (*slot == nullptr) return;
  (*slot)->unlink();
  (*slot)->slot = nullptr;
  slot->reset();
}

}  // namespace uk
