// Host descriptors of hostfs, shared by inode and kind, and the bounded cache of them: the least
// recently used one that nobody works with is closed when there are too many. Private to the
// package. Reactor-owned; nothing suspends.
#pragma once

#include <cstddef>

#include "base/list.h"
#include "base/ref.h"
#include "base/result.h"
#include "hostio/sys/fd.h"

namespace uk {

class HostInode;
class HostFdCache;

class HostHandle final : public RefCounted, public ListNode<> {
 public:
  HostHandle(HostFdCache& cache, sys::Fd fd, int flags);
  ~HostHandle() override;
  int fd() const { return fd_.get(); }
  int flags() const { return flags_; }
  Ref<HostHandle>* slot = nullptr;  // where its inode keeps it; null once evicted

 private:
  HostFdCache& cache_;
  sys::Fd fd_;
  int flags_;
};

class HostFdCache {
 public:
  explicit HostFdCache(size_t max) : max_(max) {}
  // Makes room for one more descriptor. kNFILE: all are in use.
  Result<> make_room();
  // `*slot` keeps `h` until it is evicted.
  void keep(Ref<HostHandle> h, Ref<HostHandle>* slot);
  void used(HostHandle& h);
  void forget(Ref<HostHandle>* slot);
  size_t live() const { return live_; }

 private:
  friend class HostHandle;
  size_t max_;
  size_t live_ = 0;
  List<HostHandle> lru_;
};

}  // namespace uk
