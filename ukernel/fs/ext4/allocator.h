// Free blocks and inodes of a volume: the groups' bitmaps, as the next commit will write them, and
// beside them in memory what may not be given out although it is free there: blocks freed by a
// commit that is not on the device yet, blocks of files that have no name any more but are open,
// and blocks that are being filled with data before they become part of a file.
//
// Ownership: the Volume's. Called under its lock; what takes a Park may read bitmaps. Bitmaps and
// descriptors come from the image: counts and places are checked, kUCLEAN is the answer.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "base/ref.h"
#include "base/result.h"
#include "ukernel/sched/fiber.h"

namespace uk::ext4 {

class MetaBlock;
class Volume;

struct BlockRange {
  uint64_t start = 0;
  uint32_t count = 0;
};

class Allocator {
 public:
  explicit Allocator(Volume& volume) : volume_(volume) {}
  // Looks at the group descriptors.
  Result<> open();

  // ---- blocks
  // Free ones that may be given out now, and those that the next commit brings.
  uint64_t usable() const { return usable_; }
  uint64_t pending() const { return pending_blocks_; }
  // Up to `want` blocks that follow each other, near `goal`; held in memory only. kNOSPC.
  Result<BlockRange> take(Park& park, uint64_t goal, uint32_t want);
  // Held blocks become used on disk, too.
  Result<> use(Park& park, BlockRange range);
  // A block in use at once.
  Result<uint64_t> take_used(Park& park, uint64_t goal);
  // Used blocks become free on disk, and stay held: until the commit, or if `keep` until they are
  // released.
  Result<> free(Park& park, BlockRange range, bool keep = false);
  // Held blocks that are free on disk become usable: at once, or after the next commit.
  void release(BlockRange range);
  void release_later(BlockRange range);
  // Held blocks of the commit that begins; to be released when it is done.
  std::vector<BlockRange> take_pending();

  // ---- inodes
  // A free inode near `near`. kNOSPC.
  Result<uint32_t> new_inode(Park& park, uint32_t near, bool dir);
  // `keep`: its number is not given out again before release_inode().
  Result<> free_inode(Park& park, uint32_t ino, bool dir, bool keep);
  // Makes a kept inode used on disk again.
  Result<> use_inode(Park& park, uint32_t ino, bool dir);
  void release_inode(uint32_t ino) { held_inodes_.erase(ino); }

  // Sets the checksums of what has changed.
  Result<> seal(Park& park);

 private:
  struct Group {
    std::vector<uint64_t> busy;  // a bit for each block; empty: not loaded
    bool blocks_changed = false, inodes_changed = false;
  };
  struct Run {
    uint32_t bit = 0, count = 0;
  };
  Result<Group*> load(Park& park, uint32_t group);
  uint32_t blocks_in(uint32_t group) const;
  void first_bitmap(uint32_t group, std::span<std::byte> bitmap) const;
  Result<Ref<MetaBlock>> block_bitmap(Park& park, uint32_t group);
  Result<Ref<MetaBlock>> inode_bitmap(Park& park, uint32_t group);
  Result<> change_on_disk(Park& park, BlockRange range, bool used);
  Run find_run(const Group& group, uint32_t from, uint32_t blocks, uint32_t want) const;
  void mark(BlockRange range, bool busy);
  template <class F>
  Result<> each_group(BlockRange range, F&& f) const;

  Volume& volume_;
  std::vector<Group> groups_;
  uint64_t usable_ = 0, pending_blocks_ = 0;
  std::vector<BlockRange> pending_;
  absl::flat_hash_set<uint32_t> held_inodes_;
};

}  // namespace uk::ext4
