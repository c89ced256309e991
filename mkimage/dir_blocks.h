// The blocks of a directory of ext4: in a row where one block is enough, else with an index by hash
// (https://docs.kernel.org/filesystems/ext4/dynamic.html, "Hash Tree Directories"), so that a name
// is found in a directory of many thousands without reading it.
//
// Ownership: owns the blocks; the file system is borrowed. Nothing suspends. Names are untrusted,
// but the tree has checked their lengths (tree.h).
#pragma once

#include <ext2fs/ext2fs.h>

#include <span>
#include <string_view>
#include <vector>

#include "mkimage/tree.h"

namespace uk::mkimage {

struct DirEntry {
  ext2_ino_t inode = 0;
  uint32_t mode = 0;  // for the type
  std::string_view name;
};

class DirBlocks {
 public:
  DirBlocks(ext2_filsys fs, ext2_ino_t directory, ext2_ino_t parent)
      : fs_(fs), directory_(directory), parent_(parent) {}

  // At least `least` blocks, which then have no index.
  void build(const std::vector<DirEntry>& entries, uint64_t least);
  std::span<const std::byte> bytes() const { return bytes_; }
  bool indexed() const { return indexed_; }

  // How many blocks these names never exceed.
  static uint64_t bound(const Node& directory);

 private:
  struct Hashed;
  struct Index {
    uint32_t hash, block;
  };
  void build_linear(const std::vector<DirEntry>& entries, uint64_t least);
  void build_indexed(std::vector<Hashed>& entries);
  std::byte* new_block();
  bool add(const DirEntry& entry);  // false: no room in the last block
  void end_leaf();
  // Writes the index entries, the first of which has no hash, `at` so far into a block.
  void write_index(uint64_t block, size_t at, std::span<const Index> entries);
  void checksum();

  const ext2_filsys fs_;
  const ext2_ino_t directory_, parent_;
  std::vector<std::byte> bytes_;
  size_t used_ = 0;  // of the last block
  size_t last_ = 0;  // where its last entry is, from its beginning
  bool indexed_ = false;
};

}  // namespace uk::mkimage
