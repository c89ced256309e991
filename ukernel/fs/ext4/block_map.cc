// Extent trees: block maps (ext2, ext3), which are read as if they were a tree of extents.
#include <algorithm>
#include <cstring>

#include "ukernel/fs/ext4/extent_tree.h"

namespace uk::ext4 {

// One block of the file more. Extents are kept as long as leaves take them.
Result<> ExtentTree::map_block(uint64_t at, uint32_t block) {
  constexpr size_t kMaxMapLeaves = 1 << 14;  // some five million extents
  if (block == 0) return {};
  if (at > kMaxBlock || block <= volume_.super().s_first_data_block ||
      block >= volume_.cache().blocks)
    return Err(Errno::kUCLEAN);
  if (!leaves_.empty()) {
    Extent& last = leaves_.back().extents.back();
    if (last.end() == at && last.block + last.count == block && last.count < kMaxWritten) {
      ++last.count;
      return {};
    }
  }
  if (leaves_.empty() || leaves_.back().extents.size() >= capacity()) {
    if (leaves_.size() >= kMaxMapLeaves) return Err(Errno::kFBIG);
    Leaf leaf;
    leaf.loaded = leaf.dirty = true;
    leaf.first = static_cast<uint32_t>(at);
    leaves_.push_back(std::move(leaf));
  }
  leaves_.back().extents.push_back({static_cast<uint32_t>(at), 1, block, false});
  return {};
}

// The blocks below an indirect block of a depth; none is met twice.
Result<> ExtentTree::load_indirect(Park& park, uint32_t block, uint32_t depth, uint64_t* at,
                                   absl::flat_hash_set<uint32_t>* seen) {
  const uint32_t per_block = volume_.block_size() / sizeof(uint32_t);
  uint64_t below = 1;
  for (uint32_t i = 0; i < depth; ++i) below *= per_block;
  if (block == 0) {
    *at += below;
    return {};
  }
  if (!seen->insert(block).second) return Err(Errno::kUCLEAN);
  map_blocks_.push_back(block);
  Ref<MetaBlock> node = TRY(volume_.get(park, block, MetaKind::kRaw, 0));
  for (uint32_t i = 0; i < per_block; ++i) {
    uint32_t next = 0;
    std::memcpy(&next, node->bytes().data() + i * sizeof next, sizeof next);
    if (depth > 1) {
      TRY(load_indirect(park, next, depth - 1, at, seen));
    } else {
      TRY(map_block((*at)++, next));
    }
  }
  return {};
}

Result<> ExtentTree::load_map(Park& park) {
  leaves_.clear();
  index_blocks_.clear();
  map_blocks_.clear();
  uint64_t at = 0;
  absl::flat_hash_set<uint32_t> seen;
  for (; at < EXT2_NDIR_BLOCKS; ++at) TRY(map_block(at, raw_.i_block[at]));
  for (uint32_t depth = 1; depth <= 3; ++depth)
    TRY(load_indirect(park, raw_.i_block[EXT2_NDIR_BLOCKS + depth - 1], depth, &at, &seen));
  if (leaves_.empty()) {
    Leaf leaf;
    leaf.loaded = leaf.dirty = true;
    leaves_.push_back(std::move(leaf));
  }
  loaded_ = true;
  return {};
}

// The map gives way to a tree.
Result<> ExtentTree::drop_map(Park& park) {
  if ((raw_.i_flags & EXT4_EXTENTS_FL) != 0) return {};
  if (!ext2fs_has_feature_extents(&volume_.super())) return Err(Errno::kOPNOTSUPP);
  for (uint64_t block : std::exchange(map_blocks_, {})) TRY(owner_.drop_blocks(park, {block, 1}));
  make_empty(raw_);
  shape_changed_ = true;
  return {};
}

}  // namespace uk::ext4
