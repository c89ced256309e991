#include "ukernel/fs/ext4/extent_tree.h"

#include <algorithm>
#include <cstring>

namespace uk::ext4 {
namespace {

constexpr uint32_t kInRoot = 4;  // entries in the inode itself
constexpr uint32_t kMaxDepth = 5;
constexpr size_t kMaxLeaves = 1 << 20;
constexpr uint32_t kEntry = sizeof(ext3_extent);
static_assert(sizeof(ext3_extent_idx) == kEntry && sizeof(ext3_extent_header) == kEntry);

std::span<std::byte> root_of(ext2_inode_large& raw) {
  return {reinterpret_cast<std::byte*>(raw.i_block), sizeof raw.i_block};
}

template <class T>
T entry_at(std::span<std::byte> node, uint32_t i) {
  T out;
  std::memcpy(&out, node.data() + kEntry * (i + 1), sizeof out);
  return out;
}

ext3_extent_header header_of(std::span<std::byte> node) {
  ext3_extent_header h;
  std::memcpy(&h, node.data(), sizeof h);
  return h;
}

void set_header(std::span<std::byte> node, size_t entries, uint32_t max, uint32_t depth) {
  ext3_extent_header h = {};
  h.eh_magic = EXT3_EXT_MAGIC;
  h.eh_entries = static_cast<uint16_t>(entries);
  h.eh_max = static_cast<uint16_t>(max);
  h.eh_depth = static_cast<uint16_t>(depth);
  std::memcpy(node.data(), &h, sizeof h);
}

void set_extents(std::span<std::byte> node, const std::vector<Extent>& extents, uint32_t max) {
  std::memset(node.data(), 0, kEntry * (max + 1));
  set_header(node, extents.size(), max, 0);
  for (size_t i = 0; i < extents.size(); ++i) {
    const Extent& e = extents[i];
    ext3_extent x = {};
    x.ee_block = e.first;
    x.ee_len = static_cast<uint16_t>(e.unwritten ? e.count + EXT_INIT_MAX_LEN : e.count);
    x.ee_start = static_cast<uint32_t>(e.block);
    x.ee_start_hi = static_cast<uint16_t>(e.block >> 32);
    std::memcpy(node.data() + kEntry * (i + 1), &x, sizeof x);
  }
}

struct Child {
  uint32_t first;
  uint64_t block;
};

void set_children(std::span<std::byte> node, std::span<const Child> children, uint32_t max,
                  uint32_t depth) {
  std::memset(node.data(), 0, kEntry * (max + 1));
  set_header(node, children.size(), max, depth);
  for (size_t i = 0; i < children.size(); ++i) {
    ext3_extent_idx x = {};
    x.ei_block = children[i].first;
    x.ei_leaf = static_cast<uint32_t>(children[i].block);
    x.ei_leaf_hi = static_cast<uint16_t>(children[i].block >> 32);
    std::memcpy(node.data() + kEntry * (i + 1), &x, sizeof x);
  }
}

uint32_t max_count(const Extent& e) {
  return e.unwritten ? ExtentTree::kMaxUnwritten : ExtentTree::kMaxWritten;
}

}  // namespace

void ExtentTree::make_empty(ext2_inode_large& raw) {
  std::memset(raw.i_block, 0, sizeof raw.i_block);
  set_header(root_of(raw), 0, kInRoot, 0);
  raw.i_flags |= EXT4_EXTENTS_FL;
}

uint32_t ExtentTree::capacity() const { return volume_.block_size() / kEntry - 1; }

// ---- reading

Result<> ExtentTree::read_extents(std::span<std::byte> node, uint32_t most, uint32_t from,
                                  uint64_t to, std::vector<Extent>* out) const {
  const ext3_extent_header h = header_of(node);
  if (h.eh_magic != EXT3_EXT_MAGIC || h.eh_depth != 0 || h.eh_max > most || h.eh_entries > h.eh_max)
    return Err(Errno::kUCLEAN);
  uint64_t next = from;
  for (uint32_t i = 0; i < h.eh_entries; ++i) {
    const auto x = entry_at<ext3_extent>(node, i);
    Extent e;
    e.first = x.ee_block;
    e.unwritten = x.ee_len > EXT_INIT_MAX_LEN;
    e.count = e.unwritten ? x.ee_len - uint32_t{EXT_INIT_MAX_LEN} : x.ee_len;
    e.block = x.ee_start | uint64_t{x.ee_start_hi} << 32;
    if (e.count == 0 || e.first < next || uint64_t{e.first} + e.count > to ||
        e.block <= volume_.super().s_first_data_block || e.block >= volume_.cache().blocks ||
        e.count > volume_.cache().blocks - e.block)
      return Err(Errno::kUCLEAN);
    next = uint64_t{e.first} + e.count;
    out->push_back(e);
  }
  return {};
}

Result<> ExtentTree::load(Park& park) {
  if (loaded_) return {};
  if ((raw_.i_flags & EXT4_EXTENTS_FL) == 0) return load_map(park);
  leaves_.clear();
  index_blocks_.clear();
  const ext3_extent_header h = header_of(root_of(raw_));
  if (h.eh_magic != EXT3_EXT_MAGIC || h.eh_depth > kMaxDepth || h.eh_entries > kInRoot)
    return Err(Errno::kUCLEAN);
  if (h.eh_depth == 0) {
    Leaf leaf;
    leaf.loaded = true;
    TRY(read_extents(root_of(raw_), kInRoot, 0, uint64_t{kMaxBlock} + 1, &leaf.extents));
    leaves_.push_back(std::move(leaf));
  } else {
    TRY(load_index(park, root_of(raw_), h.eh_depth, kInRoot));
    if (leaves_.empty()) return Err(Errno::kUCLEAN);
  }
  loaded_ = true;
  return {};
}

// Keys rise through the whole tree, so that no node can be met twice.
Result<> ExtentTree::load_index(Park& park, std::span<std::byte> node, uint32_t depth,
                                uint32_t most) {
  const ext3_extent_header h = header_of(node);
  if (h.eh_magic != EXT3_EXT_MAGIC || h.eh_depth != depth || h.eh_max > most ||
      h.eh_entries > h.eh_max || h.eh_entries == 0)
    return Err(Errno::kUCLEAN);
  for (uint32_t i = 0; i < h.eh_entries; ++i) {
    const auto x = entry_at<ext3_extent_idx>(node, i);
    const uint64_t block = x.ei_leaf | uint64_t{x.ei_leaf_hi} << 32;
    if (!leaves_.empty() && x.ei_block <= leaves_.back().first) return Err(Errno::kUCLEAN);
    if (depth == 1) {
      if (leaves_.size() >= kMaxLeaves) return Err(Errno::kFBIG);
      Leaf leaf;
      leaf.block = block;
      leaf.first = x.ei_block;
      leaves_.push_back(std::move(leaf));
      continue;
    }
    Ref<MetaBlock> below = TRY(volume_.get(park, block, MetaKind::kExtents, seed()));
    index_blocks_.push_back(block);
    TRY(load_index(park, below->bytes(), depth - 1, capacity()));
  }
  return {};
}

Result<> ExtentTree::load_leaf(Park& park, size_t i) {
  if (leaves_[i].loaded) return {};
  Ref<MetaBlock> node = TRY(volume_.get(park, leaves_[i].block, MetaKind::kExtents, seed()));
  Leaf& leaf = leaves_[i];
  const uint64_t to = i + 1 < leaves_.size() ? leaves_[i + 1].first : uint64_t{kMaxBlock} + 1;
  leaf.extents.clear();
  TRY(read_extents(node->bytes(), capacity(), leaf.first, to, &leaf.extents));
  if (leaf.extents.empty()) return Err(Errno::kUCLEAN);
  leaf.loaded = true;
  return {};
}

size_t ExtentTree::leaf_of(uint32_t at) const {
  auto it = std::upper_bound(leaves_.begin(), leaves_.end(), at,
                             [](uint32_t a, const Leaf& l) { return a < l.first; });
  return it == leaves_.begin() ? 0 : static_cast<size_t>(it - leaves_.begin()) - 1;
}

Result<Extent> ExtentTree::find(Park& park, uint32_t at, uint32_t most) {
  TRY(load(park));
  const size_t i = leaf_of(at);
  TRY(load_leaf(park, i));
  const std::vector<Extent>& all = leaves_[i].extents;
  auto after = std::upper_bound(all.begin(), all.end(), at,
                                [](uint32_t a, const Extent& e) { return a < e.first; });
  Extent out;
  out.first = at;
  if (at > kMaxBlock) {  // a page may end there; a hole
    out.count = most;
    return out;
  }
  if (after != all.begin() && at < std::prev(after)->end()) {
    const Extent& e = *std::prev(after);
    out.count = std::min(e.end() - at, most);
    out.block = e.block + (at - e.first);
    out.unwritten = e.unwritten;
    return out;
  }
  uint64_t next = uint64_t{kMaxBlock} + 1;
  if (after != all.end()) {
    next = after->first;
  } else if (i + 1 < leaves_.size()) {
    next = leaves_[i + 1].first;
  }
  out.count = static_cast<uint32_t>(std::min<uint64_t>(next - at, most));
  return out;
}

Result<> ExtentTree::each(Park& park, uint32_t from, const std::function<bool(const Extent&)>& f) {
  TRY(load(park));
  for (size_t i = leaf_of(from); i < leaves_.size(); ++i) {
    TRY(load_leaf(park, i));
    if (i % 64 == 63) park.yield();
    for (const Extent& e : leaves_[i].extents) {
      if (e.end() > from && !f(e)) return {};
    }
  }
  return {};
}

Result<std::vector<uint64_t>> ExtentTree::nodes(Park& park) {
  TRY(load(park));
  std::vector<uint64_t> out = index_blocks_;
  out.insert(out.end(), map_blocks_.begin(), map_blocks_.end());
  for (const Leaf& leaf : leaves_) {
    if (leaf.block != 0) out.push_back(leaf.block);
  }
  return out;
}

void ExtentTree::forget_nodes() {
  for (uint64_t block : map_blocks_) volume_.cache().forget(block);
  for (uint64_t block : index_blocks_) volume_.cache().forget(block);
  for (const Leaf& leaf : leaves_) {
    if (leaf.block != 0) volume_.cache().forget(leaf.block);
  }
}

// ---- changing

// A change can need a few blocks for nodes, and then must not fail halfway.
Result<> ExtentTree::reserve() const {
  constexpr uint64_t kNodes = 2 * kMaxDepth;
  return volume_.allocator().usable() < kNodes ? Err(Errno::kNOSPC) : Result<>();
}

// Puts an extent where a hole is, and joins it with its neighbours.
void ExtentTree::put(size_t i, Extent e) {
  Leaf& leaf = leaves_[i];
  leaf.dirty = true;
  std::vector<Extent>& all = leaf.extents;
  auto at = std::upper_bound(all.begin(), all.end(), e.first,
                             [](uint32_t a, const Extent& x) { return a < x.first; });
  auto joins = [](const Extent& a, const Extent& b) {
    return a.end() == b.first && a.block + a.count == b.block && a.unwritten == b.unwritten &&
           a.count + b.count <= max_count(a);
  };
  if (at != all.begin() && joins(*std::prev(at), e)) {
    auto before = std::prev(at);
    before->count += e.count;
    if (at != all.end() && joins(*before, *at)) {
      before->count += at->count;
      all.erase(at);
    }
  } else if (at != all.end() && joins(e, *at)) {
    at->first = e.first;
    at->block = e.block;
    at->count += e.count;
  } else {
    all.insert(at, e);
  }
  if (all.front().first != leaf.first) {
    leaf.first = all.front().first;
    shape_changed_ = true;
  }
  split_if_full(i);
}

void ExtentTree::split_if_full(size_t i) {
  std::vector<Extent>& all = leaves_[i].extents;
  if (all.size() <= capacity()) return;
  // At the end of the file what comes next is likely to be appended.
  const size_t keep = i + 1 == leaves_.size() ? all.size() - 1 : all.size() / 2;
  Leaf right;
  right.loaded = right.dirty = true;
  right.extents.assign(all.begin() + static_cast<ptrdiff_t>(keep), all.end());
  right.first = right.extents.front().first;
  all.resize(keep);
  leaves_.insert(leaves_.begin() + static_cast<ptrdiff_t>(i) + 1, std::move(right));
  shape_changed_ = true;
}

Result<> ExtentTree::insert(Park& park, const Extent& extent) {
  TRY(load(park));
  const size_t i = leaf_of(extent.first);
  TRY(load_leaf(park, i));
  if (leaves_[i].block == 0 ? leaves_[i].extents.size() >= kInRoot
                            : leaves_[i].extents.size() >= capacity())
    TRY(reserve());
  for (Extent rest = extent; rest.count != 0;) {
    Extent piece = rest;
    piece.count = std::min(rest.count, max_count(rest));
    put(leaf_of(piece.first), piece);
    rest.first += piece.count;
    rest.block += piece.count;
    rest.count -= piece.count;
  }
  return store(park);
}

// Takes [first, end) out of a leaf.
void ExtentTree::cut(size_t i, uint32_t first, uint32_t end, std::vector<BlockRange>* freed) {
  std::vector<Extent> kept;
  Leaf& leaf = leaves_[i];
  for (const Extent& e : leaf.extents) {
    const uint32_t from = std::max(e.first, first), to = std::min(e.end(), end);
    if (from >= to) {
      kept.push_back(e);
      continue;
    }
    leaf.dirty = true;
    if (e.first < from) {
      Extent left = e;
      left.count = from - e.first;
      kept.push_back(left);
    }
    if (freed != nullptr) freed->push_back({e.block + (from - e.first), to - from});
    if (to < e.end()) {
      Extent right = e;
      right.first = to;
      right.block += to - e.first;
      right.count = e.end() - to;
      kept.push_back(right);
    }
  }
  leaf.extents = std::move(kept);
}

Result<> ExtentTree::remove(Park& park, uint32_t first, uint32_t end,
                            std::vector<BlockRange>* freed) {
  TRY(load(park));
  if (first >= end) return {};
  size_t i = leaf_of(first);
  // A hole in the middle of an extent makes two of it.
  const Extent edge = TRY(find(park, first, UINT32_MAX));
  if (edge.block != 0 && edge.end() > end && leaves_[i].extents.size() >= kInRoot) TRY(reserve());
  for (size_t j = i; j < leaves_.size() && leaves_[j].first < end; ++j) TRY(load_leaf(park, j));
  while (i < leaves_.size() && leaves_[i].first < end) {
    cut(i, first, end, freed);
    Leaf& leaf = leaves_[i];
    if (leaf.extents.empty()) {
      shape_changed_ = true;
      if (leaf.block != 0) TRY(owner_.drop_blocks(park, {leaf.block, 1}));
      leaves_.erase(leaves_.begin() + static_cast<ptrdiff_t>(i));
      if (leaves_.empty()) break;
      continue;
    }
    if (leaf.extents.front().first != leaf.first) {
      leaf.first = leaf.extents.front().first;
      shape_changed_ = true;
    }
    split_if_full(i);
    ++i;
  }
  if (leaves_.empty()) {
    Leaf leaf;
    leaf.loaded = leaf.dirty = true;
    leaves_.push_back(std::move(leaf));
  }
  return store(park);
}

Result<> ExtentTree::set_written(Park& park, uint32_t first, uint32_t end) {
  TRY(load(park));
  for (uint32_t at = first; at < end;) {
    const Extent e = TRY(find(park, at, end - at));
    if (e.block != 0 && e.unwritten) {
      TRY(reserve());
      const size_t i = leaf_of(at);
      cut(i, e.first, e.end(), nullptr);
      Extent written = e;
      written.unwritten = false;
      put(i, written);
    }
    at += e.count;
  }
  return store(park);
}

// ---- storing

Result<> ExtentTree::store(Park& park) {
  TRY(drop_map(park));
  const std::span<std::byte> root = root_of(raw_);
  if (leaves_.size() == 1 && leaves_[0].extents.size() <= kInRoot && leaves_[0].loaded) {
    Leaf& leaf = leaves_[0];
    set_extents(root, leaf.extents, kInRoot);
    leaf.dirty = shape_changed_ = false;
    if (leaf.block != 0) TRY(owner_.drop_blocks(park, {std::exchange(leaf.block, 0), 1}));
    return resize_index(park, 0, 0);
  }
  uint64_t goal = leaves_[0].block;
  for (Leaf& leaf : leaves_) {
    if (leaf.block != 0) {
      goal = leaf.block;
    } else {
      if (goal == 0) goal = leaf.extents.front().block;
      leaf.block = TRY(owner_.new_node(park, goal));
      leaf.dirty = shape_changed_ = true;
    }
    if (!std::exchange(leaf.dirty, false)) continue;
    // Not read: all of it is written.
    Ref<MetaBlock> node = volume_.cache().fresh(leaf.block);
    set_extents(node->bytes(), leaf.extents, capacity());
    volume_.cache().dirty(*node, MetaKind::kExtents, seed());
  }
  return shape_changed_ ? store_index(park, goal) : Result<>();
}

Result<> ExtentTree::resize_index(Park& park, size_t wanted, uint64_t goal) {
  while (index_blocks_.size() > wanted) {
    TRY(owner_.drop_blocks(park, {index_blocks_.back(), 1}));
    index_blocks_.pop_back();
  }
  while (index_blocks_.size() < wanted) index_blocks_.push_back(TRY(owner_.new_node(park, goal)));
  return {};
}

Result<> ExtentTree::store_index(Park& park, uint64_t goal) {
  const uint32_t most = capacity();
  size_t wanted = 0;
  for (size_t level = leaves_.size(); level > kInRoot;) {
    level = (level + most - 1) / most;
    wanted += level;
  }
  TRY(resize_index(park, wanted, goal));
  std::vector<Child> level;
  for (const Leaf& leaf : leaves_) level.push_back({leaf.first, leaf.block});
  uint32_t depth = 1;
  size_t used = 0;
  for (; level.size() > kInRoot; ++depth) {
    std::vector<Child> above;
    for (size_t at = 0; at < level.size(); at += most) {
      auto part = std::span<const Child>(level).subspan(at).first(
          std::min<size_t>(most, level.size() - at));
      const uint64_t block = index_blocks_[used++];
      Ref<MetaBlock> node = volume_.cache().fresh(block);
      set_children(node->bytes(), part, most, depth);
      volume_.cache().dirty(*node, MetaKind::kExtents, seed());
      above.push_back({part.front().first, block});
    }
    level = std::move(above);
  }
  set_children(root_of(raw_), level, kInRoot, depth);
  shape_changed_ = false;
  return {};
}

}  // namespace uk::ext4
