#include "mkimage/dir_blocks.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "mkimage/ext4_format.h"

namespace uk::mkimage {
namespace {

constexpr size_t kHead = 8;  // of an entry, before its name
constexpr size_t kUsable = kBlockBytes - sizeof(ext2_dir_entry_tail);
constexpr size_t kDots = 24;  // "." and ".."
constexpr size_t kRootIndex =
    32;  // where the root's index begins, behind the dots and its own head
constexpr size_t kNodeIndex = kHead;
constexpr size_t kIndexTail = 8;
constexpr size_t index_limit(size_t at) { return (kBlockBytes - at - kIndexTail) / 8; }

size_t entry_bytes(size_t name) { return (kHead + name + 3) & ~size_t{3}; }

uint8_t type_of(uint32_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return EXT2_FT_REG_FILE;
    case S_IFDIR:
      return EXT2_FT_DIR;
    case S_IFCHR:
      return EXT2_FT_CHRDEV;
    case S_IFBLK:
      return EXT2_FT_BLKDEV;
    case S_IFIFO:
      return EXT2_FT_FIFO;
    case S_IFSOCK:
      return EXT2_FT_SOCK;
    case S_IFLNK:
      return EXT2_FT_SYMLINK;
    default:
      return EXT2_FT_UNKNOWN;
  }
}

void put_entry(std::byte* at, const DirEntry& entry, size_t length) {
  const struct {
    uint32_t inode;
    uint16_t length;
    uint8_t name_length, type;
  } head = {entry.inode, static_cast<uint16_t>(length), static_cast<uint8_t>(entry.name.size()),
            type_of(entry.mode)};
  static_assert(sizeof head == kHead);
  std::memcpy(at, &head, sizeof head);
  std::memcpy(at + kHead, entry.name.data(), entry.name.size());
}

template <class T>
void put(std::byte* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

}  // namespace

struct DirBlocks::Hashed {
  uint32_t hash, minor;
  const DirEntry* entry;
  auto key() const { return std::pair(hash, minor); }
};

uint64_t DirBlocks::bound(const Node& directory) {
  uint64_t bytes = kDots;
  for (const auto& [name, id] : directory.children) bytes += entry_bytes(name.size());
  if (bytes <= kUsable) return 1;
  const uint64_t leaves = bytes / (kUsable - entry_bytes(Tree::kMaxName)) + 1;
  return leaves + 1 + leaves / index_limit(kNodeIndex) + 1;
}

void DirBlocks::build(const std::vector<DirEntry>& entries, uint64_t least) {
  size_t bytes = kDots;
  for (const DirEntry& e : entries) bytes += entry_bytes(e.name.size());
  const size_t leaves = bytes / (kUsable - entry_bytes(Tree::kMaxName)) + 1;
  if (bytes <= kUsable || least > 1 || leaves > index_limit(kRootIndex) * index_limit(kNodeIndex)) {
    build_linear(entries, least);
  } else {
    std::vector<Hashed> hashed;
    hashed.reserve(entries.size());
    for (const DirEntry& e : entries) {
      Hashed h = {0, 0, &e};
      CHECK(ext2fs_dirhash2(fs_->super->s_def_hash_version, e.name.data(),
                            static_cast<int>(e.name.size()), nullptr, 0, fs_->super->s_hash_seed,
                            &h.hash, &h.minor) == 0);
      hashed.push_back(h);
    }
    std::sort(hashed.begin(), hashed.end(),
              [](const Hashed& a, const Hashed& b) { return a.key() < b.key(); });
    build_indexed(hashed);
  }
  checksum();
}

std::byte* DirBlocks::new_block() {
  bytes_.resize(bytes_.size() + kBlockBytes);
  used_ = last_ = 0;
  return bytes_.data() + bytes_.size() - kBlockBytes;
}

bool DirBlocks::add(const DirEntry& entry) {
  const size_t length = entry_bytes(entry.name.size());
  if (used_ + length > kUsable) return false;
  put_entry(bytes_.data() + bytes_.size() - kBlockBytes + used_, entry, length);
  last_ = used_;
  used_ += length;
  return true;
}

// The last entry reaches to the tail; an empty block is one entry that is not used.
void DirBlocks::end_leaf() {
  std::byte* block = bytes_.data() + bytes_.size() - kBlockBytes;
  put(block + last_ + 4, static_cast<uint16_t>(kUsable - last_));
  ext2fs_initialize_dirent_tail(fs_, EXT2_DIRENT_TAIL(block, kBlockBytes));
}

void DirBlocks::build_linear(const std::vector<DirEntry>& entries, uint64_t least) {
  new_block();
  add({directory_, S_IFDIR, "."});
  add({parent_, S_IFDIR, ".."});
  for (const DirEntry& e : entries) {
    if (add(e)) continue;
    end_leaf();
    new_block();
    CHECK(add(e));
  }
  end_leaf();
  while (bytes_.size() < least * kBlockBytes) {
    new_block();
    end_leaf();
  }
}

void DirBlocks::build_indexed(std::vector<Hashed>& entries) {
  indexed_ = true;
  std::byte* root = new_block();
  put_entry(root, {directory_, S_IFDIR, "."}, 12);
  put_entry(root + 12, {parent_, S_IFDIR, ".."}, kBlockBytes - 12);
  put(root + kDots + 4, fs_->super->s_def_hash_version);
  put(root + kDots + 5, uint8_t{8});  // the length of this head

  std::vector<Index> leaves;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (!leaves.empty() && add(*entries[i].entry)) continue;
    if (!leaves.empty()) end_leaf();
    // An odd hash says that names of the same hash are in the block before, too.
    const bool goes_on = i > 0 && entries[i - 1].hash == entries[i].hash;
    leaves.push_back({entries[i].hash | (goes_on ? 1U : 0U),
                      static_cast<uint32_t>(bytes_.size() / kBlockBytes)});
    new_block();
    CHECK(add(*entries[i].entry));
  }
  end_leaf();

  if (leaves.size() <= index_limit(kRootIndex)) return write_index(0, kRootIndex, leaves);
  put(bytes_.data() + kDots + 6, uint8_t{1});  // levels below the root
  std::vector<Index> nodes;
  for (size_t i = 0; i < leaves.size(); i += index_limit(kNodeIndex)) {
    const size_t n = std::min(index_limit(kNodeIndex), leaves.size() - i);
    nodes.push_back({leaves[i].hash, static_cast<uint32_t>(bytes_.size() / kBlockBytes)});
    put(new_block() + 4, static_cast<uint16_t>(kBlockBytes));  // an unused entry, all of the block
    write_index(nodes.back().block, kNodeIndex, std::span(leaves).subspan(i, n));
  }
  write_index(0, kRootIndex, nodes);
}

void DirBlocks::write_index(uint64_t block, size_t at, std::span<const Index> entries) {
  std::byte* to = bytes_.data() + block * kBlockBytes + at;
  CHECK(entries.size() <= index_limit(at));
  put(to, static_cast<uint16_t>(index_limit(at)));
  put(to + 2, static_cast<uint16_t>(entries.size()));
  put(to + 4, entries[0].block);
  for (size_t i = 1; i < entries.size(); ++i) {
    put(to + i * 8, entries[i].hash);
    put(to + i * 8 + 4, entries[i].block);
  }
}

void DirBlocks::checksum() {
  for (size_t at = 0; at < bytes_.size(); at += kBlockBytes)
    CHECK(ext2fs_dir_block_csum_set(
              fs_, directory_, reinterpret_cast<struct ext2_dir_entry*>(bytes_.data() + at)) == 0);
}

}  // namespace uk::mkimage
