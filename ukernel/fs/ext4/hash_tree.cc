// Directories: the tree of hashes (htree; Documentation/filesystems/ext4/directory.rst in Linux).
#include <algorithm>
#include <cstring>

#include "ukernel/fs/ext4/directory.h"

namespace uk::ext4 {
namespace {

constexpr uint32_t kNameAt = 8;
constexpr uint32_t kRootInfo = 24, kRootEntries = 32, kNodeEntries = 8;
constexpr uint32_t kBlockMask = 0x0fffffff;

ext2_dx_entry load_entry(MetaBlock& b, uint32_t offset) {
  ext2_dx_entry e;
  std::memcpy(&e, b.bytes().data() + offset, sizeof e);
  return e;
}

void store_count(MetaBlock& b, uint32_t base, uint32_t count, uint32_t limit) {
  const ext2_dx_countlimit cl{static_cast<uint16_t>(limit), static_cast<uint16_t>(count)};
  std::memcpy(b.bytes().data() + base, &cl, sizeof cl);
}

}  // namespace

Result<uint32_t> Directory::hash_of(std::string_view name, uint32_t version) const {
  if (version <= EXT2_HASH_TEA && (volume_.super().s_flags & EXT2_FLAGS_UNSIGNED_HASH) != 0)
    version += EXT2_HASH_LEGACY_UNSIGNED;
  ext2_dirhash_t hash = 0, minor = 0;
  if (ext2fs_dirhash(static_cast<int>(version), name.data(), static_cast<int>(name.size()),
                     volume_.super().s_hash_seed, &hash, &minor) != 0)
    return Err(Errno::kUCLEAN);
  return hash & ~1u;
}

Result<Directory::Frame> Directory::frame(Park& park, uint32_t number, bool root) {
  Frame f;
  f.block = TRY(block(park, number, MetaKind::kDirIndex));
  f.base = root ? kRootEntries : kNodeEntries;
  const auto* cl = f.block->at<ext2_dx_countlimit>(f.base);
  f.count = cl->count;
  f.limit = cl->limit;
  const uint32_t tail = volume_.has_checksums() ? sizeof(ext2_dx_tail) : 0;
  if (f.limit != (volume_.block_size() - f.base - tail) / sizeof(ext2_dx_entry) || f.count == 0 ||
      f.count > f.limit)
    return Err(Errno::kUCLEAN);
  return f;
}

Result<Directory::HashPath> Directory::descend(Park& park, std::string_view name) {
  HashPath path;
  path.frames.push_back(TRY(frame(park, 0, true)));
  const auto* info = path.frames[0].block->at<ext2_dx_root_info>(kRootInfo);
  const uint32_t levels = info->indirect_levels;
  if (info->reserved_zero != 0 || info->info_length != sizeof *info ||
      levels >= static_cast<uint32_t>(ext2_dir_htree_level(volume_.fs())))
    return Err(Errno::kUCLEAN);
  if (info->hash_version > EXT2_HASH_TEA) return Err(Errno::kOPNOTSUPP);
  hash_version_ = info->hash_version;
  path.hash = TRY(hash_of(name, hash_version_));
  for (uint32_t level = 0;; ++level) {
    Frame& f = path.frames.back();
    // The last entry whose hash is not above ours; the first has none, and stands for 0.
    uint32_t low = 1, high = f.count;
    while (low < high) {
      const uint32_t mid = (low + high) / 2;
      if (load_entry(*f.block, f.base + mid * 8).hash > path.hash) {
        high = mid;
      } else {
        low = mid + 1;
      }
    }
    f.at = low - 1;
    const uint32_t next = load_entry(*f.block, f.base + f.at * 8).block & kBlockMask;
    if (level == levels) {
      path.leaf = next;
      return path;
    }
    path.frames.push_back(TRY(frame(park, next, false)));
  }
}

// Names with one hash may lie in several leaves: those that follow say so in their lowest bit.
Result<bool> Directory::next_leaf(Park& park, HashPath* path) {
  size_t level = path->frames.size();
  while (level > 0 && path->frames[level - 1].at + 1 >= path->frames[level - 1].count) --level;
  if (level == 0) return false;
  Frame& f = path->frames[level - 1];
  ++f.at;
  const ext2_dx_entry e = load_entry(*f.block, f.base + f.at * 8);
  if ((e.hash & 1) == 0 || (e.hash & ~1u) != path->hash) return false;
  uint32_t number = e.block & kBlockMask;
  for (; level < path->frames.size(); ++level) {
    path->frames[level] = TRY(frame(park, number, false));
    number = load_entry(*path->frames[level].block, path->frames[level].base).block & kBlockMask;
  }
  path->leaf = number;
  return true;
}

Result<Directory::Place> Directory::locate_by_hash(Park& park, std::string_view name) {
  HashPath path = TRY(descend(park, name));
  Place place;
  for (uint32_t leaves = 0; leaves < blocks(); ++leaves) {
    take_turns(park, leaves);
    Ref<MetaBlock> leaf = TRY(block(park, path.leaf, MetaKind::kDirLeaf));
    if (TRY(find_in(*leaf, name, &place))) return place;
    if (!TRY(next_leaf(park, &path))) return Err(Errno::kNOENT);
  }
  return Err(Errno::kUCLEAN);  // nodes name leaves more than once
}

Result<> Directory::add_by_hash(Park& park, std::string_view name, uint32_t ino, uint8_t type) {
  constexpr int kMaxSteps = 8;  // each makes room on one level
  for (int step = 0; step < kMaxSteps; ++step) {
    Result<HashPath> path = descend(park, name);
    if (!path) return Err(path.error() == Errno::kOPNOTSUPP ? Errno::kUCLEAN : path.error());
    Ref<MetaBlock> leaf = TRY(block(park, path->leaf, MetaKind::kDirLeaf));
    if (TRY(add_to(*leaf, name, ino, type))) return {};
    TRY(grow(park, *path));
  }
  return Err(Errno::kNOSPC);
}

// A full list becomes the only leaf of a tree.
Result<> Directory::make_indexed(Park& park) {
  Ref<MetaBlock> root = TRY(block(park, 0, MetaKind::kDirLeaf));
  struct Name {
    uint32_t ino;
    uint8_t type;
    std::string name;
  };
  std::vector<Name> names;
  uint32_t self = 0, parent = 0;
  TRY(scan(*root, [&](const Entry& e, uint32_t, uint32_t, uint32_t) {
    if (e.ino == 0) return true;
    if (e.name == ".") {
      self = e.ino;
    } else if (e.name == "..") {
      parent = e.ino;
    } else {
      names.push_back({e.ino, e.type, std::string(e.name)});
    }
    return true;
  }));
  if (self == 0 || parent == 0) return Err(Errno::kUCLEAN);
  const uint32_t number = TRY(owner_.append_block(park));
  Ref<MetaBlock> leaf = TRY(new_leaf(park, number));
  for (const Name& n : names) {
    if (!TRY(add_to(*leaf, n.name, n.ino, n.type))) return Err(Errno::kUCLEAN);
  }
  const uint32_t size = volume_.block_size();
  std::byte* base = root->bytes().data();
  std::memset(base, 0, size);
  const auto type =
      static_cast<uint16_t>((ext2fs_has_feature_filetype(&volume_.super()) ? EXT2_FT_DIR : 0) << 8);
  auto dot = [&](uint32_t at, uint32_t ino, uint32_t len, uint32_t dots) {
    ext2_dir_entry head = {};
    head.inode = ino;
    head.rec_len = static_cast<uint16_t>(len);
    head.name_len = static_cast<uint16_t>(dots | type);
    std::memcpy(base + at, &head, kNameAt);
    std::memset(base + at + kNameAt, '.', dots);
  };
  dot(0, self, 12, 1);
  dot(12, parent, size - 12, 2);
  ext2_dx_root_info info = {};
  info.hash_version = volume_.super().s_def_hash_version <= EXT2_HASH_TEA
                          ? volume_.super().s_def_hash_version
                          : uint8_t{EXT2_HASH_HALF_MD4};
  info.info_length = sizeof info;
  std::memcpy(base + kRootInfo, &info, sizeof info);
  const uint32_t tail = volume_.has_checksums() ? sizeof(ext2_dx_tail) : 0;
  store_count(*root, kRootEntries, 1, (size - kRootEntries - tail) / 8);
  std::memcpy(base + kRootEntries + 4, &number, sizeof number);
  raw_.i_flags |= EXT2_INDEX_FL;
  dirty(*root, MetaKind::kDirIndex);
  return {};
}

void Directory::insert_key(Frame& f, uint32_t hash, uint32_t number) {
  std::byte* at = f.block->bytes().data() + f.base + (f.at + 1) * 8;
  std::memmove(at + 8, at, (f.count - f.at - 1) * 8);
  const ext2_dx_entry e{hash, number};
  std::memcpy(at, &e, sizeof e);
  store_count(*f.block, f.base, ++f.count, f.limit);
  dirty(*f.block, MetaKind::kDirIndex);
}

// Makes room for the leaf that is full, on the lowest level that has any.
Result<> Directory::grow(Park& park, HashPath& path) {
  std::vector<Frame>& frames = path.frames;
  size_t level = frames.size();
  while (level > 0 && frames[level - 1].count >= frames[level - 1].limit) --level;
  if (level == frames.size()) return split_leaf(park, path);
  if (level == 0 && frames.size() >= static_cast<size_t>(ext2_dir_htree_level(volume_.fs())))
    return Err(Errno::kNOSPC);
  const uint32_t number = TRY(owner_.append_block(park));
  const Extent e = TRY(tree_.find(park, number, 1));
  Ref<MetaBlock> fresh = volume_.cache().fresh(e.block);
  const uint32_t size = volume_.block_size();
  fresh->at<ext2_dir_entry>(0)->rec_len = static_cast<uint16_t>(size);
  const uint32_t tail = volume_.has_checksums() ? sizeof(ext2_dx_tail) : 0;
  const uint32_t limit = (size - kNodeEntries - tail) / 8;
  Frame& full = frames[level];
  std::byte* from = full.block->bytes().data() + full.base;
  std::byte* to = fresh->bytes().data() + kNodeEntries;
  if (level == 0) {  // one level more, below the root
    std::memcpy(to, from, full.count * 8);
    store_count(*fresh, kNodeEntries, full.count, limit);
    store_count(*full.block, full.base, 1, full.limit);
    std::memcpy(from + 4, &number, sizeof number);
    ++full.block->at<ext2_dx_root_info>(kRootInfo)->indirect_levels;
  } else {
    const uint32_t keep = full.count / 2, moved = full.count - keep;
    const uint32_t hash = load_entry(*full.block, full.base + keep * 8).hash;
    std::memcpy(to, from + keep * 8, moved * 8);
    store_count(*fresh, kNodeEntries, moved, limit);
    store_count(*full.block, full.base, keep, full.limit);
    insert_key(frames[level - 1], hash, number);
  }
  dirty(*full.block, MetaKind::kDirIndex);
  dirty(*fresh, MetaKind::kDirIndex);
  return {};
}

Result<> Directory::split_leaf(Park& park, HashPath& path) {
  Ref<MetaBlock> leaf = TRY(block(park, path.leaf, MetaKind::kDirLeaf));
  struct Name {
    uint32_t hash;
    uint32_t ino;
    uint8_t type;
    std::string name;
  };
  std::vector<Name> names;
  Result<> bad;
  TRY(scan(*leaf, [&](const Entry& e, uint32_t, uint32_t, uint32_t) {
    if (e.ino == 0) return true;
    Result<uint32_t> hash = hash_of(e.name, hash_version_);
    if (!hash) {
      bad = Err(hash.error());
      return false;
    }
    names.push_back({*hash, e.ino, e.type, std::string(e.name)});
    return true;
  }));
  TRY(std::move(bad));
  if (names.size() < 2) return Err(Errno::kUCLEAN);
  std::stable_sort(names.begin(), names.end(),
                   [](const Name& a, const Name& b) { return a.hash < b.hash; });
  size_t bytes = 0, keep = 0;
  while (keep + 1 < names.size() && bytes < limit() / 2)
    bytes += (kNameAt + names[keep++].name.size() + 3) & ~size_t{3};
  const uint32_t hash = names[keep].hash;
  const uint32_t continues = names[keep - 1].hash == hash ? 1 : 0;
  const uint32_t number = TRY(owner_.append_block(park));
  Ref<MetaBlock> fresh = TRY(new_leaf(park, number));
  leaf = TRY(new_leaf(park, path.leaf));
  for (size_t i = 0; i < names.size(); ++i) {
    MetaBlock& to = i < keep ? *leaf : *fresh;
    if (!TRY(add_to(to, names[i].name, names[i].ino, names[i].type))) return Err(Errno::kUCLEAN);
  }
  insert_key(path.frames.back(), hash | continues, number);
  return {};
}

}  // namespace uk::ext4
