// The page cache of a block device: what files and mappings of it share. Sequential reads fetch
// ahead; dirty pages are written by fsync(2), msync(2), sync(2), the last close, a writer that has
// dirtied too much, and otherwise by a fiber some seconds after the first.
//
// Ownership: files and mappings hold Refs, as does the write-back fiber while anything is dirty;
// the cache holds its device. Pages are guest memory, counted and reclaimed as any file's. As in
// Linux a disk and its partitions have a cache each, which do not know of one another.
#pragma once

#include <memory>

#include "ukernel/dev/block/disk.h"
#include "ukernel/mm/page_cache.h"

namespace uk {

class DiskCache final : private PageCacheObject::Backing, public PageCacheObject {
 public:
  explicit DiskCache(Ref<BlockDevice> device);
  ~DiskCache() override;

  BlockDevice& device() const { return *device_; }
  // Writes what is dirty of the pages, and flushes.
  Result<> sync(Park& park, uint64_t first, uint64_t count) override;
  // The same without the flush: what is in the device's hands may be lost with it.
  Result<> write_out(Park& park, uint64_t first = 0, uint64_t count = UINT64_MAX);
  // Makes a writer wait that has dirtied more than its share of memory.
  Result<> balance(Park& park);

 private:
  Result<> fill(Park& park, uint64_t index, std::span<std::byte> page) override;
  Result<> will_dirty(Park& park, uint64_t index) override;
  Result<> write_back(Park& park, uint64_t index, std::span<const std::byte> page) override;
  void write_back_batch(Park& park, std::span<DirtyPage> pages) override;
  bool over_limit() const;
  void write_later();
  size_t bytes_of(uint64_t index) const;

  // Pages read ahead of their use, for one sequential reader.
  struct Ahead {
    std::unique_ptr<std::byte[]> bytes;
    uint64_t first = 0, count = 0;
    uint64_t generation = 0;
  };
  static constexpr uint64_t kMaxAheadPages = 256;

  const Ref<BlockDevice> device_;
  Mutex writing_;  // who syncs waits for what another sync has begun
  Ahead ahead_;
  uint64_t next_ = 0;  // the page that a sequential reader would ask for
  bool write_planned_ = false;
  Ref<RefCounted> payer_;  // who dirtied it last
  WaitQueue write_now_;
};

}  // namespace uk
