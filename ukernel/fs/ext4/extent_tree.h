// Which blocks of the volume hold a file's: its extent tree. The index is kept in memory, and the
// leaves as far as they have been looked at; changes are made there and stored into the cache's
// metadata blocks by the same call. A file that still has a block map, as of ext3, gets a tree with
// its first change.
//
// Ownership: an inode owns its tree, which borrows the inode's raw form. All under the volume's
// lock; what takes a Park may read nodes. The nodes are untrusted: what is not in order is kUCLEAN.
#pragma once

#include <functional>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "ukernel/fs/ext4/volume.h"

namespace uk::ext4 {

struct Extent {
  uint32_t first = 0;  // in the file
  uint32_t count = 0;
  uint64_t block = 0;  // on the volume
  bool unwritten = false;
  uint32_t end() const { return first + count; }
};

// Where the blocks of nodes come from: the inode, which counts them.
class BlockOwner {
 public:
  virtual Result<uint64_t> new_node(Park& park, uint64_t goal) = 0;
  virtual Result<> drop_blocks(Park& park, BlockRange range) = 0;

 protected:
  ~BlockOwner() = default;
};

class ExtentTree {
 public:
  static constexpr uint32_t kMaxBlock = 0xfffffffe;  // of a file
  static constexpr uint32_t kMaxWritten = 32768, kMaxUnwritten = 32767;
  ExtentTree(Volume& volume, BlockOwner& owner, ext2_inode_large& raw, uint32_t ino)
      : volume_(volume), owner_(owner), raw_(raw), ino_(ino) {}

  static void make_empty(ext2_inode_large& raw);

  // What is at block `at` of the file, and how far that goes, but not beyond `most` blocks: an
  // extent that begins there, or (block 0) a hole.
  Result<Extent> find(Park& park, uint32_t at, uint32_t most);
  // The range is a hole. kNOSPC.
  Result<> insert(Park& park, const Extent& extent);
  // Makes a hole; `freed` gets the blocks.
  Result<> remove(Park& park, uint32_t first, uint32_t end, std::vector<BlockRange>* freed);
  // Unwritten blocks [first, end) are written now.
  Result<> set_written(Park& park, uint32_t first, uint32_t end);
  // All extents in their order, from that of block `from` on; false stops.
  Result<> each(Park& park, uint32_t from, const std::function<bool(const Extent&)>& f);
  // Blocks of nodes.
  Result<std::vector<uint64_t>> nodes(Park& park);
  // The file is gone: its nodes are not written any more.
  void forget_nodes();

 private:
  struct Leaf {
    uint64_t block = 0;  // 0: in the inode, or none yet
    uint32_t first = 0;
    bool loaded = false, dirty = false;
    std::vector<Extent> extents;
  };
  uint32_t capacity() const;
  // ---- block maps (block_map.cc)
  Result<> load_map(Park& park);
  Result<> load_indirect(Park& park, uint32_t block, uint32_t depth, uint64_t* at,
                         absl::flat_hash_set<uint32_t>* seen);
  Result<> map_block(uint64_t at, uint32_t block);
  Result<> drop_map(Park& park);
  uint32_t seed() const { return volume_.inode_seed(ino_, raw_.i_generation); }
  Result<> load(Park& park);
  Result<> load_index(Park& park, std::span<std::byte> node, uint32_t depth, uint32_t most);
  Result<> load_leaf(Park& park, size_t i);
  Result<> read_extents(std::span<std::byte> node, uint32_t most, uint32_t from, uint64_t to,
                        std::vector<Extent>* out) const;
  size_t leaf_of(uint32_t at) const;
  Result<> reserve() const;
  void put(size_t leaf, Extent extent);
  void cut(size_t leaf, uint32_t first, uint32_t end, std::vector<BlockRange>* freed);
  void split_if_full(size_t leaf);
  Result<> store(Park& park);
  Result<> store_index(Park& park, uint64_t goal);
  Result<> resize_index(Park& park, size_t wanted, uint64_t goal);

  Volume& volume_;
  BlockOwner& owner_;
  ext2_inode_large& raw_;
  const uint32_t ino_;
  bool loaded_ = false;
  bool shape_changed_ = false;  // the index must be written again
  std::vector<Leaf> leaves_;
  std::vector<uint64_t> index_blocks_;
  std::vector<uint64_t> map_blocks_;  // indirect blocks, while there is a block map
};

}  // namespace uk::ext4
