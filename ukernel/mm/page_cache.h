// PageCacheObject: a sparse, growable object of page frames: the contents of a tmpfs file or memfd,
// of shared memory (System V, MAP_SHARED|MAP_ANONYMOUS), and the page cache of a file with storage
// behind it.
//
// Ownership: reference counted; inodes and VMAs hold Refs. It owns one reference to each of its
// frames. Functions with Park& may suspend; pages may come and go meanwhile. Contents are guest
// data: untrusted. Offsets and lengths come from guests through callers, who bound them to
// max_file_size first (CHECKed here).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>

#include "base/ref.h"
#include "base/result.h"
#include "ukernel/mm/io.h"
#include "ukernel/mm/memory_object.h"
#include "ukernel/mm/phys.h"

namespace uk {

// A limit in pages that several objects share (tmpfs size=). No limit by default.
class PageBudget : public RefCounted {
 public:
  explicit PageBudget(uint64_t limit = UINT64_MAX) : limit_(limit) {}
  bool take(uint64_t n) {
    if (n > limit_ || used_ > limit_ - n) return false;
    used_ += n;
    return true;
  }
  void give(uint64_t n) { used_ -= n; }
  uint64_t limit() const { return limit_; }
  void set_limit(uint64_t limit) { limit_ = limit; }
  uint64_t used() const { return used_; }

 private:
  uint64_t limit_;
  uint64_t used_ = 0;
};

class PageCacheObject : public MemoryObject, private PhysMemory::Reclaimer {
 public:
  // Where pages come from and go to, for files with storage. Must outlive the object's last use
  // (the inode's job).
  class Backing {
   public:
    virtual ~Backing() = default;
    // Fills `page` (kPageSize bytes, zeroed) with what page `index` holds. kIO.
    virtual Result<> fill(Park& park, uint64_t index, std::span<std::byte> page) = 0;
    // Before a clean or absent page becomes dirty (reserve space). kNOSPC, kDQUOT.
    virtual Result<> will_dirty(Park& park, uint64_t index) {
      return (void)park, (void)index, Result<>();
    }
    // Stores a dirty page. The page is clean when this is called; it is dirty again if it fails.
    virtual Result<> write_back(Park& park, uint64_t index, std::span<const std::byte> page) = 0;
    // Stores up to kMaxBatch dirty pages, in the order of their numbers; of those it fails for, the
    // error is set. By default one after the other.
    struct DirtyPage {
      uint64_t index;
      std::span<const std::byte> bytes;
      Errno error = Errno::kOk;
    };
    static constexpr size_t kMaxBatch = 64;
    virtual void write_back_batch(Park& park, std::span<DirtyPage> pages) {
      for (DirtyPage& p : pages) {
        if (Result<> r = write_back(park, p.index, p.bytes); !r) p.error = r.error();
      }
    }
  };
  struct Options {
    Backing* backing = nullptr;  // null: memory only; absent pages are zeros
    Ref<PageBudget> budget;      // may be null
    bool shmem = true;           // counted as Shmem in /proc/meminfo (else as Cached)
    // Shared anonymous memory: faults may allocate neighbours of the page touched (never for files:
    // st_blocks tells).
    bool allocate_around = false;
    bool zeros = false;  // /dev/zero
    uint64_t size = 0;
    uint64_t dev = 0, ino = 0;
  };
  static constexpr uint64_t kMaxSize = uint64_t{1} << 62;

  PageCacheObject(PhysMemory& mem, Options options);
  ~PageCacheObject() override;

  // ---- MemoryObject
  Result<PageRef> get_page(Park& park, uint64_t index, bool for_write) override;
  Pfn cached_page(uint64_t index) override;
  Result<size_t> read(Park& park, uint64_t offset, std::span<std::byte> out) override;
  uint64_t size() override { return size_; }
  bool writable() const override { return !write_sealed_; }
  bool tracks_writes() const override { return backing_ != nullptr; }
  bool allocate_around() const override { return allocate_around_; }
  bool shmem() const override { return shmem_; }
  bool zeros() const override { return zeros_; }
  Result<> sync(Park& park, uint64_t first, uint64_t count) override;
  Result<> punch(Park& park, uint64_t first, uint64_t count) override;
  uint64_t dev() const override { return dev_; }
  uint64_t ino() const override { return ino_; }

  // ---- file contents: read(2), write(2), ftruncate(2), fallocate(2), lseek(2) SEEK_DATA and
  // SEEK_HOLE. Bytes until the sink is full or the object ends. Partial progress is a count.
  // kFAULT, kIO.
  Result<size_t> read(Park& park, uint64_t offset, IoSink& sink);
  // Bytes until the source is empty; grows the object. Partial progress is a count. kFAULT, kNOSPC,
  // kNOMEM, kIO.
  Result<size_t> write(Park& park, uint64_t offset, IoSource& source);
  // Cuts or grows (with zeros). Mappings of cut pages are gone when it returns.
  void resize(Park& park, uint64_t size);
  // Frees whole pages inside, zeroes the edges. The size stays.
  Result<> punch_hole(Park& park, uint64_t offset, uint64_t len);
  // Makes pages present so that later writes find space; until something is done with them they are
  // holes still, unless `as_data`. Does not change the size. kNOSPC, kNOMEM: what it added is
  // freed.
  Result<> allocate(Park& park, uint64_t offset, uint64_t len, bool as_data = false);
  // The first byte at or behind `offset` that is in a page in use (data) or in none (hole);
  // nullopt at or beyond the end. Only for memory-only objects: storage knows better.
  std::optional<uint64_t> seek_data(uint64_t offset) const;
  std::optional<uint64_t> seek_hole(uint64_t offset) const;

  // Forgets the clean ones of pages [first, first+count), and their mappings: storage was changed
  // beside the cache. Only for objects with storage.
  void forget(Park& park, uint64_t first, uint64_t count);

  // Forgets pages [first, end), dirty ones too, and their mappings: there is a hole now.
  void discard(Park& park, uint64_t first, uint64_t end);

  uint64_t resident_pages() const;
  uint64_t dirty_pages() const;
  // F_SEAL_WRITE: no write or writable mapping from now on; the caller has checked
  // shared_writable_mappings.
  void seal_write() { write_sealed_ = true; }

 private:
  struct Impl;
  Result<PageRef> obtain(Park& park, uint64_t index, bool for_write, bool unwritten = false);
  // Pages that are at hand, follow each other from `index` on, and do so in our mapping too: their
  // bytes, held by `hold`. Empty: the page is not there.
  using Hold = std::array<PageRef, 16>;
  std::span<std::byte> run(uint64_t index, uint64_t end, bool for_write, Hold* hold);
  Result<> store(Park& park, std::span<const uint64_t> indices);
  void drop(uint64_t first, uint64_t end);
  void zero_range(uint64_t offset, uint64_t end);
  uint64_t reclaim(uint64_t n) override;
  void count(int64_t pages);

  PhysMemory& mem_;
  Backing* backing_;
  Ref<PageBudget> budget_;
  uint64_t size_;
  uint64_t dev_, ino_;
  bool shmem_;
  bool allocate_around_;
  bool zeros_;
  bool write_sealed_ = false;
  std::unique_ptr<Impl> impl_;
};

}  // namespace uk
