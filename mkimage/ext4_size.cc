#include "mkimage/ext4_size.h"

#include <algorithm>

#include "mkimage/dir_blocks.h"
#include "mkimage/ext4_format.h"

namespace uk::mkimage {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kFastTarget = 60;  // shorter ones are in the inode

uint64_t file_blocks(const Node& node) {
  uint64_t blocks = 0, behind = 0;
  for (const Segment& s : node.segments) {
    const uint64_t first = std::max(behind, s.at / kBlockBytes);
    behind = std::max(behind, (s.at + s.length + kBlockBytes - 1) / kBlockBytes);
    blocks += behind - first;
  }
  // Extents end at holes, at their greatest length, and where a group's tables are in the way; a
  // block of the tree has room for 340 and may be half full.
  const uint64_t extents = node.segments.size() + 2 * (blocks / 16384) + 1;
  return blocks + (extents <= 4 ? 0 : extents / 169 + 2);
}

}  // namespace

Result<Demand> demand_of(const Tree& tree) {
  Demand d;
  constexpr uint64_t kMost = kMaxImage / kBlockBytes;
  d.blocks = 4;  // lost+found
  for (const NodeId id : tree.reachable()) {
    const Node& node = tree.node(id);
    ++d.files;
    if (!node.xattrs.empty()) ++d.blocks;
    if (node.is_directory()) d.blocks += DirBlocks::bound(node);
    if (node.is_symlink() && node.target.size() >= kFastTarget) ++d.blocks;
    if (node.is_regular()) {
      // A file has at most 2^32 - 1 blocks, holes included.
      if (node.size > kMaxImage - kBlockBytes) return Err(Errno::kFBIG);
      d.blocks += file_blocks(node);
      for (const Segment& s : node.segments) d.bytes += s.length;
    }
    if (d.blocks > kMost) return Err(Errno::kFBIG);
  }
  return d;
}

uint64_t inodes_for(uint64_t bytes, uint64_t files) {
  constexpr uint64_t kReserved = 11;
  // mke2fs.conf(5): the types small, default and big.
  const uint64_t ratio = bytes < 512 * kMiB ? 4096 : bytes < kMiB * kMiB * 4 ? 16384 : 32768;
  return std::max(bytes / ratio, files + files / 8 + kReserved + 53);
}

Result<uint64_t> image_bytes_for(int fd, const Demand& demand, uint64_t spare_blocks) {
  const uint64_t wanted = demand.blocks + spare_blocks;
  uint64_t bytes = std::max(kMinImage, (wanted * kBlockBytes + kMiB - 1) / kMiB * kMiB);
  for (;;) {
    if (bytes > kMaxImage) return Err(Errno::kFBIG);
    const Result<uint64_t> free = free_blocks_of(fd, bytes, inodes_for(bytes, demand.files));
    if (!free && free.error() != Errno::kNOSPC) return free;
    if (free && *free >= wanted) return bytes;
    // Nothing free is known where the inodes did not fit: an eighth more, then.
    const uint64_t missing = free ? (wanted - *free) * kBlockBytes : bytes / 8;
    bytes += std::max(kMiB, missing / kMiB * kMiB);
  }
}

}  // namespace uk::mkimage
