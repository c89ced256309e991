// The metadata blocks of a volume: a bounded cache with write-back. Blocks are changed in memory
// only, and reach the device when a commit takes all that are dirty.
//
// Ownership: the Volume owns the cache; a Ref to a block pins it for as long as it is used. All
// calls are made under the volume's lock. get() may suspend. Contents come from the image:
// untrusted; `checked` says that they were found good for the use named by kind and seed.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/list.h"
#include "base/ref.h"
#include "base/result.h"
#include "ukernel/dev/block/disk.h"

namespace uk::ext4 {

// What a block is used as: decides its checksum.
enum class MetaKind : uint8_t { kRaw, kDirLeaf, kDirIndex, kExtents, kXattr };

class MetaBlock final : public RefCounted, public ListNode<> {
 public:
  MetaBlock(uint64_t number, size_t size)
      : number(number), size_(size), bytes_(std::make_unique<std::byte[]>(size)) {}
  const uint64_t number;
  std::span<std::byte> bytes() { return {bytes_.get(), size_}; }
  template <class T>
  T* at(size_t offset) {
    CHECK(offset <= size_ && size_ - offset >= sizeof(T));
    return reinterpret_cast<T*>(bytes_.get() + offset);
  }

  bool is_checked(MetaKind k, uint32_t s) const { return checked_ && kind == k && seed == s; }
  void set_checked(MetaKind k, uint32_t s) {
    kind = k;
    seed = s;
    checked_ = true;
  }

  MetaKind kind = MetaKind::kRaw;
  uint32_t seed = 0;  // of its checksum; that of its inode, or the volume's

 private:
  friend class MetaCache;
  const size_t size_;
  std::unique_ptr<std::byte[]> bytes_;
  bool checked_ = false;
  bool dirty_ = false;
  bool committing_ = false;  // on its way to the device
};

// A block as a commit writes it.
struct CommitBlock {
  uint64_t number;
  std::unique_ptr<std::byte[]> bytes;
};

class MetaCache {
 public:
  MetaCache(Ref<BlockDevice> device, uint32_t block_size, uint64_t blocks);
  ~MetaCache();

  // The block, read if it is not there, with up to `ahead` blocks that follow it. kIO; kUCLEAN for
  // a number beyond the volume.
  Result<Ref<MetaBlock>> get(Park& park, uint64_t number, uint32_t ahead = 0);
  // A block whose old contents mean nothing: zeros.
  Ref<MetaBlock> fresh(uint64_t number);
  void dirty(MetaBlock& block, MetaKind kind, uint32_t seed);
  // The block is free now: what it holds is not written.
  void forget(uint64_t number);

  size_t dirty_blocks() const { return dirty_count_; }
  // Calls `seal` for each dirty block (to set checksums), and copies it. They count as clean, and
  // stay in memory until committed().
  std::vector<CommitBlock> take_dirty(const std::function<void(MetaBlock&)>& seal);
  void committed(const std::vector<CommitBlock>& blocks);
  // Forgets all changes.
  void abandon();

  const uint32_t block_size;
  const uint64_t blocks;  // of the volume
  BlockDevice& device() const { return *device_; }
  static constexpr size_t kMaxCleanBytes = 16 << 20;

 private:
  Ref<MetaBlock> insert(uint64_t number);
  void trim();
  const Ref<BlockDevice> device_;
  absl::flat_hash_map<uint64_t, Ref<MetaBlock>> map_;
  List<MetaBlock> clean_;  // least recently used first
  size_t clean_count_ = 0;
  size_t dirty_count_ = 0;
};

}  // namespace uk::ext4
