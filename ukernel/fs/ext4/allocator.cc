#include "ukernel/fs/ext4/allocator.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "ukernel/fs/ext4/volume.h"

namespace uk::ext4 {
namespace {

bool test_bit(std::span<const std::byte> map, uint32_t bit) {
  return (static_cast<uint8_t>(map[bit / 8]) >> (bit % 8) & 1) != 0;
}
void set_bit(std::span<std::byte> map, uint32_t bit, bool on) {
  const auto mask = static_cast<std::byte>(1u << (bit % 8));
  map[bit / 8] = on ? map[bit / 8] | mask : map[bit / 8] & ~mask;
}
// Are `count` bits from `bit` on all `on`?
bool all_are(std::span<const std::byte> map, uint32_t bit, uint32_t count, bool on) {
  const std::byte whole{on ? uint8_t{0xff} : uint8_t{0}};
  for (const uint32_t end = bit + count; bit < end;) {
    const bool byte = bit % 8 == 0 && end - bit >= 8;
    if (byte ? map[bit / 8] != whole : test_bit(map, bit) != on) return false;
    bit += byte ? 8 : 1;
  }
  return true;
}
void set_all(std::span<std::byte> map, uint32_t bit, uint32_t count, bool on) {
  for (const uint32_t end = bit + count; bit < end;) {
    const bool byte = bit % 8 == 0 && end - bit >= 8;
    if (byte) {
      map[bit / 8] = std::byte{on ? uint8_t{0xff} : uint8_t{0}};
    } else {
      set_bit(map, bit, on);
    }
    bit += byte ? 8 : 1;
  }
}
void set_from(std::span<std::byte> map, uint32_t bit) {  // all from `bit` on
  for (; bit % 8 != 0 && bit / 8 < map.size(); ++bit) set_bit(map, bit, true);
  for (size_t i = bit / 8; i < map.size(); ++i) map[i] = std::byte{0xff};
}

}  // namespace

uint32_t Allocator::blocks_in(uint32_t group) const {
  return static_cast<uint32_t>(ext2fs_group_blocks_count(volume_.fs(), group));
}

Result<> Allocator::open() {
  ext2_filsys fs = volume_.fs();
  const uint64_t first = fs->super->s_first_data_block, end = volume_.cache().blocks;
  auto inside = [&](uint64_t block, uint64_t n) {
    return block > first && block < end && n <= end - block;
  };
  groups_.resize(fs->group_desc_count);
  std::vector<uint64_t> bitmaps;
  for (uint32_t g = 0; g < groups_.size(); ++g) {
    if (!ext2fs_group_desc_csum_verify(fs, g) || !inside(ext2fs_block_bitmap_loc(fs, g), 1) ||
        !inside(ext2fs_inode_bitmap_loc(fs, g), 1) ||
        !inside(ext2fs_inode_table_loc(fs, g), fs->inode_blocks_per_group) ||
        ext2fs_bg_free_blocks_count(fs, g) > blocks_in(g) ||
        ext2fs_bg_free_inodes_count(fs, g) > fs->super->s_inodes_per_group ||
        ext2fs_bg_itable_unused(fs, g) > fs->super->s_inodes_per_group)
      return Err(Errno::kUCLEAN);
    usable_ += ext2fs_bg_free_blocks_count(fs, g);
    bitmaps.push_back(ext2fs_block_bitmap_loc(fs, g));
    bitmaps.push_back(ext2fs_inode_bitmap_loc(fs, g));
  }
  std::sort(bitmaps.begin(), bitmaps.end());
  if (std::adjacent_find(bitmaps.begin(), bitmaps.end()) != bitmaps.end())
    return Err(Errno::kUCLEAN);
  return {};
}

// What is used in a group that nobody has allocated from yet.
void Allocator::first_bitmap(uint32_t group, std::span<std::byte> bitmap) const {
  ext2_filsys fs = volume_.fs();
  std::memset(bitmap.data(), 0, bitmap.size());
  const uint64_t start = ext2fs_group_first_block2(fs, group);
  const uint32_t blocks = blocks_in(group);
  auto mark = [&](uint64_t block, uint64_t n) {
    for (uint64_t b = block; b < block + n; ++b) {
      if (b >= start && b - start < blocks) set_bit(bitmap, static_cast<uint32_t>(b - start), true);
    }
  };
  blk64_t super = 0, old_desc = 0, new_desc = 0;
  blk_t used = 0;
  ext2fs_super_and_bgd_loc2(fs, group, &super, &old_desc, &new_desc, &used);
  if (super != 0 || group == 0) mark(start, 1);
  if (old_desc != 0) mark(old_desc, used - 1);
  if (new_desc != 0) mark(new_desc, 1);
  mark(ext2fs_block_bitmap_loc(fs, group), 1);
  mark(ext2fs_inode_bitmap_loc(fs, group), 1);
  mark(ext2fs_inode_table_loc(fs, group), fs->inode_blocks_per_group);
  set_from(bitmap, blocks);
}

Result<Ref<MetaBlock>> Allocator::block_bitmap(Park& park, uint32_t g) {
  ext2_filsys fs = volume_.fs();
  const uint64_t at = ext2fs_block_bitmap_loc(fs, g);
  if (ext2fs_has_group_desc_csum(fs) && ext2fs_bg_flags_test(fs, g, EXT2_BG_BLOCK_UNINIT)) {
    Ref<MetaBlock> block = volume_.cache().fresh(at);
    first_bitmap(g, block->bytes());
    ext2fs_bg_flags_clear(fs, g, EXT2_BG_BLOCK_UNINIT);
    return block;
  }
  return volume_.cache().get(park, at, 8);
}

Result<Allocator::Group*> Allocator::load(Park& park, uint32_t g) {
  Group& group = groups_[g];
  if (!group.busy.empty()) return &group;
  ext2_filsys fs = volume_.fs();
  std::vector<std::byte> bytes(fs->blocksize);
  if (ext2fs_has_group_desc_csum(fs) && ext2fs_bg_flags_test(fs, g, EXT2_BG_BLOCK_UNINIT)) {
    first_bitmap(g, bytes);
  } else {
    Ref<MetaBlock> block = TRY(block_bitmap(park, g));
    if (!ext2fs_block_bitmap_csum_verify(fs, g, reinterpret_cast<char*>(block->bytes().data()),
                                         static_cast<int>(fs->super->s_clusters_per_group / 8)))
      return Err(Errno::kUCLEAN);
    std::memcpy(bytes.data(), block->bytes().data(), bytes.size());
  }
  const uint32_t blocks = blocks_in(g);
  set_from(bytes, blocks);
  std::vector<uint64_t> busy(bytes.size() / 8);
  std::memcpy(busy.data(), bytes.data(), bytes.size());
  uint32_t used = 0;
  for (uint64_t word : busy) used += static_cast<uint32_t>(std::popcount(word));
  if (bytes.size() * 8 - used != ext2fs_bg_free_blocks_count(fs, g)) return Err(Errno::kUCLEAN);
  group.busy = std::move(busy);
  return &group;
}

// The first run of `want` free blocks, else the longest there is.
Allocator::Run Allocator::find_run(const Group& group, uint32_t from, uint32_t blocks,
                                   uint32_t want) const {
  Run best;
  uint32_t bit = from;
  while (bit < blocks) {
    uint64_t word = ~group.busy[bit / 64] >> (bit % 64);
    if (word == 0) {
      bit = (bit / 64 + 1) * 64;
      continue;
    }
    bit += static_cast<uint32_t>(std::countr_zero(word));
    if (bit >= blocks) break;
    const uint32_t start = bit;
    while (bit < blocks && bit - start < want) {
      const uint64_t used = group.busy[bit / 64] >> (bit % 64);
      const uint32_t in_word = 64 - bit % 64;
      const uint32_t n =
          used == 0 ? in_word : std::min(in_word, static_cast<uint32_t>(std::countr_zero(used)));
      bit += n;
      if (n < in_word) break;
    }
    const uint32_t count = std::min({bit, blocks, start + want}) - start;
    if (count > best.count) best = {start, count};
    if (best.count >= want) break;
  }
  return best;
}

void Allocator::mark(BlockRange range, bool busy) {
  ext2_filsys fs = volume_.fs();
  const uint32_t g = ext2fs_group_of_blk2(fs, range.start);
  Group& group = groups_[g];
  const auto first = static_cast<uint32_t>(range.start - ext2fs_group_first_block2(fs, g));
  for (uint32_t bit = first; bit < first + range.count; ++bit) {
    const uint64_t mask = uint64_t{1} << (bit % 64);
    if (((group.busy[bit / 64] & mask) != 0) == busy) continue;
    group.busy[bit / 64] ^= mask;
    busy ? --usable_ : ++usable_;
  }
}

Result<BlockRange> Allocator::take(Park& park, uint64_t goal, uint32_t want) {
  ext2_filsys fs = volume_.fs();
  if (usable_ == 0) return Err(Errno::kNOSPC);
  if (goal < fs->super->s_first_data_block || goal >= volume_.cache().blocks)
    goal = fs->super->s_first_data_block;
  const uint32_t home = ext2fs_group_of_blk2(fs, goal);
  const auto at = static_cast<uint32_t>(goal - ext2fs_group_first_block2(fs, home));
  const auto groups = static_cast<uint32_t>(groups_.size());
  BlockRange best;
  uint32_t looked = 0;
  constexpr uint32_t kEnoughGroups = 32;  // to look for a better place than there is
  for (uint32_t i = 0; i <= groups; ++i) {
    const uint32_t g = (home + i) % groups;
    if (ext2fs_bg_free_blocks_count(fs, g) == 0) continue;
    Group* group = TRY(load(park, g));
    const uint32_t blocks = blocks_in(g);
    const uint64_t first = ext2fs_group_first_block2(fs, g);
    Run run = find_run(*group, i == 0 ? at : 0, blocks, want);
    if (i == 0 && run.count < want) {  // what is at the goal itself is worth more than length
      Run here = find_run(*group, at, std::min(blocks, at + want), want);
      if (here.count != 0 && here.bit == at) run = here, looked = kEnoughGroups;
    }
    if (run.count > best.count) best = {first + run.bit, run.count};
    if (best.count >= want || (best.count != 0 && ++looked >= kEnoughGroups)) break;
  }
  if (best.count == 0) return Err(Errno::kNOSPC);
  mark(best, true);
  return best;
}

template <class F>
Result<> Allocator::each_group(BlockRange range, F&& f) const {
  ext2_filsys fs = volume_.fs();
  if (range.start < fs->super->s_first_data_block || range.start >= volume_.cache().blocks ||
      range.count > volume_.cache().blocks - range.start)
    return Err(Errno::kUCLEAN);
  while (range.count != 0) {
    const uint32_t g = ext2fs_group_of_blk2(fs, range.start);
    const auto n = static_cast<uint32_t>(
        std::min<uint64_t>(range.count, ext2fs_group_last_block2(fs, g) - range.start + 1));
    TRY(f(g, BlockRange{range.start, n}));
    range.start += n;
    range.count -= n;
  }
  return {};
}

Result<> Allocator::change_on_disk(Park& park, BlockRange range, bool used) {
  return each_group(range, [&](uint32_t g, BlockRange part) -> Result<> {
    ext2_filsys fs = volume_.fs();
    Group* group = TRY(load(park, g));
    Ref<MetaBlock> map = TRY(block_bitmap(park, g));
    const auto first = static_cast<uint32_t>(part.start - ext2fs_group_first_block2(fs, g));
    // What changes is held or used; and not twice.
    const auto busy = std::as_bytes(std::span(group->busy));
    if (!all_are(map->bytes(), first, part.count, !used) || !all_are(busy, first, part.count, true))
      return Err(Errno::kUCLEAN);
    set_all(map->bytes(), first, part.count, used);
    volume_.cache().dirty(*map, MetaKind::kRaw, 0);
    group->blocks_changed = true;
    const uint32_t free = ext2fs_bg_free_blocks_count(fs, g);
    ext2fs_bg_free_blocks_count_set(fs, g, used ? free - part.count : free + part.count);
    const uint64_t all = ext2fs_free_blocks_count(fs->super);
    ext2fs_free_blocks_count_set(fs->super, used ? all - part.count : all + part.count);
    return {};
  });
}

Result<> Allocator::use(Park& park, BlockRange range) { return change_on_disk(park, range, true); }

Result<uint64_t> Allocator::take_used(Park& park, uint64_t goal) {
  const BlockRange range = TRY(take(park, goal, 1));
  TRY(use(park, range));
  return range.start;
}

Result<> Allocator::free(Park& park, BlockRange range, bool keep) {
  TRY(change_on_disk(park, range, false));
  if (!keep) release_later(range);
  return {};
}

void Allocator::release(BlockRange range) {
  (void)each_group(range, [&](uint32_t, BlockRange part) -> Result<> {
    mark(part, false);
    return {};
  });
}

void Allocator::release_later(BlockRange range) {
  pending_.push_back(range);
  pending_blocks_ += range.count;
}

std::vector<BlockRange> Allocator::take_pending() {
  pending_blocks_ = 0;
  return std::exchange(pending_, {});
}

// ---- inodes

Result<Ref<MetaBlock>> Allocator::inode_bitmap(Park& park, uint32_t g) {
  ext2_filsys fs = volume_.fs();
  const uint64_t at = ext2fs_inode_bitmap_loc(fs, g);
  const uint32_t inodes = fs->super->s_inodes_per_group;
  if (ext2fs_has_group_desc_csum(fs) && ext2fs_bg_flags_test(fs, g, EXT2_BG_INODE_UNINIT)) {
    Ref<MetaBlock> block = volume_.cache().fresh(at);
    set_from(block->bytes(), inodes);
    ext2fs_bg_flags_clear(fs, g, EXT2_BG_INODE_UNINIT);
    groups_[g].inodes_changed = true;
    return block;
  }
  Ref<MetaBlock> block = TRY(volume_.cache().get(park, at, 8));
  // While it is dirty its checksum is old.
  if (!groups_[g].inodes_changed &&
      !ext2fs_inode_bitmap_csum_verify(fs, g, reinterpret_cast<char*>(block->bytes().data()),
                                       static_cast<int>(inodes / 8)))
    return Err(Errno::kUCLEAN);
  return block;
}

Result<uint32_t> Allocator::new_inode(Park& park, uint32_t near, bool dir) {
  ext2_filsys fs = volume_.fs();
  const uint32_t per_group = fs->super->s_inodes_per_group;
  const auto groups = static_cast<uint32_t>(groups_.size());
  const uint32_t home = (near - 1) / per_group;
  for (uint32_t i = 0; i < groups; ++i) {
    const uint32_t g = (home + i) % groups;
    if (ext2fs_bg_free_inodes_count(fs, g) == 0) continue;
    Ref<MetaBlock> map = TRY(inode_bitmap(park, g));
    for (uint32_t bit = 0; bit < per_group; ++bit) {
      if (bit % 8 == 0 && map->bytes()[bit / 8] == std::byte{0xff}) {
        bit += 7;
        continue;
      }
      if (test_bit(map->bytes(), bit)) continue;
      const uint32_t ino = g * per_group + bit + 1;
      if (ino < EXT2_FIRST_INO(fs->super) || held_inodes_.contains(ino)) continue;
      TRY(use_inode(park, ino, dir));
      return ino;
    }
  }
  return Err(Errno::kNOSPC);
}

Result<> Allocator::use_inode(Park& park, uint32_t ino, bool dir) {
  ext2_filsys fs = volume_.fs();
  const uint32_t per_group = fs->super->s_inodes_per_group;
  const uint32_t g = (ino - 1) / per_group, bit = (ino - 1) % per_group;
  Ref<MetaBlock> map = TRY(inode_bitmap(park, g));
  const uint32_t free = ext2fs_bg_free_inodes_count(fs, g);
  if (test_bit(map->bytes(), bit) || free == 0 || fs->super->s_free_inodes_count == 0)
    return Err(Errno::kUCLEAN);
  set_bit(map->bytes(), bit, true);
  volume_.cache().dirty(*map, MetaKind::kRaw, 0);
  groups_[g].inodes_changed = true;
  ext2fs_bg_free_inodes_count_set(fs, g, free - 1);
  --fs->super->s_free_inodes_count;
  if (dir) ext2fs_bg_used_dirs_count_set(fs, g, ext2fs_bg_used_dirs_count(fs, g) + 1);
  if (ext2fs_has_group_desc_csum(fs)) {
    const uint32_t unused = ext2fs_bg_itable_unused(fs, g);
    if (bit >= per_group - unused) ext2fs_bg_itable_unused_set(fs, g, per_group - bit - 1);
  }
  return {};
}

Result<> Allocator::free_inode(Park& park, uint32_t ino, bool dir, bool keep) {
  ext2_filsys fs = volume_.fs();
  const uint32_t per_group = fs->super->s_inodes_per_group;
  const uint32_t g = (ino - 1) / per_group, bit = (ino - 1) % per_group;
  Ref<MetaBlock> map = TRY(inode_bitmap(park, g));
  const uint32_t dirs = ext2fs_bg_used_dirs_count(fs, g);
  if (!test_bit(map->bytes(), bit) || (dir && dirs == 0)) return Err(Errno::kUCLEAN);
  set_bit(map->bytes(), bit, false);
  volume_.cache().dirty(*map, MetaKind::kRaw, 0);
  groups_[g].inodes_changed = true;
  ext2fs_bg_free_inodes_count_set(fs, g, ext2fs_bg_free_inodes_count(fs, g) + 1);
  ++fs->super->s_free_inodes_count;
  if (dir) ext2fs_bg_used_dirs_count_set(fs, g, dirs - 1);
  if (keep) held_inodes_.insert(ino);
  return {};
}

Result<> Allocator::seal(Park& park) {
  ext2_filsys fs = volume_.fs();
  for (uint32_t g = 0; g < groups_.size(); ++g) {
    Group& group = groups_[g];
    if (!group.blocks_changed && !group.inodes_changed) continue;
    if (group.blocks_changed) {
      Ref<MetaBlock> map = TRY(volume_.cache().get(park, ext2fs_block_bitmap_loc(fs, g)));
      ext2fs_block_bitmap_csum_set(fs, g, reinterpret_cast<char*>(map->bytes().data()),
                                   static_cast<int>(fs->super->s_clusters_per_group / 8));
    }
    if (group.inodes_changed) {
      Ref<MetaBlock> map = TRY(volume_.cache().get(park, ext2fs_inode_bitmap_loc(fs, g)));
      ext2fs_inode_bitmap_csum_set(fs, g, reinterpret_cast<char*>(map->bytes().data()),
                                   static_cast<int>(fs->super->s_inodes_per_group / 8));
    }
    ext2fs_group_desc_csum_set(fs, g);
    group.blocks_changed = group.inodes_changed = false;
  }
  return {};
}

}  // namespace uk::ext4
