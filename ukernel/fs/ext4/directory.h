// The entries of a directory: a list in its blocks, or, beyond the first block, a tree of hashes of
// the names over such lists (dir_index). Small directories are lists; they become trees when they
// grow, as on Linux.
//
// Ownership: made for each use, under the volume's lock; borrows the inode. Suspends where blocks
// must be read. All that the blocks say is checked on each walk: kUCLEAN.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "ukernel/fs/ext4/extent_tree.h"

namespace uk::ext4 {

// Blocks for a directory: the inode, which counts them and the directory's size.
class DirectoryOwner {
 public:
  // Adds a block at the end; its number in the file.
  virtual Result<uint32_t> append_block(Park& park) = 0;

 protected:
  ~DirectoryOwner() = default;
};

class Directory {
 public:
  struct Entry {
    uint32_t ino;
    uint8_t type;  // EXT2_FT_*
    std::string_view name;
  };

  Directory(Volume& volume, ExtentTree& tree, ext2_inode_large& raw, uint32_t ino,
            DirectoryOwner& owner)
      : volume_(volume),
        tree_(tree),
        raw_(raw),
        owner_(owner),
        seed_(volume.inode_seed(ino, raw.i_generation)) {}

  // kNOENT.
  Result<uint32_t> find(Park& park, std::string_view name);
  // The name is not there. kNOSPC.
  Result<> add(Park& park, std::string_view name, uint32_t ino, uint8_t type);
  Result<> remove(Park& park, std::string_view name);
  // Lets an entry stand for something else.
  Result<> replace(Park& park, std::string_view name, uint32_t ino, uint8_t type);
  // Fills the first block of a new directory, which its owner has appended.
  Result<> make(Park& park, uint32_t self, uint32_t parent);
  Result<> set_parent(Park& park, uint32_t parent);
  Result<bool> empty(Park& park);
  // All but the dots; false stops.
  Result<> list(Park& park, const std::function<bool(const Entry&)>& f);

 private:
  struct Place {
    Ref<MetaBlock> block;
    uint32_t offset = 0, before = 0;  // of the entry, and of the one before it in the block
  };
  // Others run now and then while many blocks are looked through. A killed task goes on: a change
  // must not end halfway.
  static void take_turns(Park& park, uint32_t block);
  // A node of the tree of hashes.
  struct Frame {
    Ref<MetaBlock> block;
    uint32_t base = 0;  // of its entries in the block
    uint32_t count = 0, limit = 0;
    uint32_t at = 0;  // the entry taken
  };
  struct HashPath {
    std::vector<Frame> frames;
    uint32_t hash = 0;
    uint32_t leaf = 0;  // the block of the file
  };
  bool indexed() const {
    return (raw_.i_flags & EXT2_INDEX_FL) != 0 &&
           ext2fs_has_feature_dir_index(&volume_.super()) != 0;
  }
  uint32_t blocks() const;
  uint32_t limit() const;  // of entries in a block
  Result<Ref<MetaBlock>> block(Park& park, uint32_t number, MetaKind kind);
  Result<Ref<MetaBlock>> new_leaf(Park& park, uint32_t number);
  void dirty(MetaBlock& block, MetaKind kind);
  // Walks over a list's entries; f says whether to go on.
  Result<> scan(
      MetaBlock& block,
      absl::FunctionRef<bool(const Entry&, uint32_t at, uint32_t before, uint32_t len)> f) const;
  Result<bool> find_in(MetaBlock& block, std::string_view name, Place* place) const;
  Result<Place> locate(Park& park, std::string_view name);
  Result<Place> locate_by_hash(Park& park, std::string_view name);
  Result<bool> add_to(MetaBlock& block, std::string_view name, uint32_t ino, uint8_t type);

  // ---- the tree of hashes (hash_tree.cc)
  Result<uint32_t> hash_of(std::string_view name, uint32_t version) const;
  Result<Frame> frame(Park& park, uint32_t number, bool root);
  Result<HashPath> descend(Park& park, std::string_view name);
  Result<bool> next_leaf(Park& park, HashPath* path);
  Result<> add_by_hash(Park& park, std::string_view name, uint32_t ino, uint8_t type);
  Result<> make_indexed(Park& park);
  Result<> grow(Park& park, HashPath& path);
  Result<> split_leaf(Park& park, HashPath& path);
  void insert_key(Frame& frame, uint32_t hash, uint32_t block);
  ext2_dx_entry* entries(Frame& f) const { return f.block->at<ext2_dx_entry>(f.base); }
  uint32_t hash_version_ = 0;

  Volume& volume_;
  ExtentTree& tree_;
  ext2_inode_large& raw_;
  DirectoryOwner& owner_;
  const uint32_t seed_;
};

}  // namespace uk::ext4
