#include "mkimage/ext4_writer.h"

#include <algorithm>
#include <cstring>
#include <ctime>

#include "base/check.h"
#include "hostio/sys/file.h"
#include "mkimage/dir_blocks.h"
#include "mkimage/text.h"

namespace uk::mkimage {
namespace {

constexpr uint64_t kChunk = 1 << 20;
constexpr uint64_t kMaxExtent = 32768;  // EXT_INIT_MAX_LEN
constexpr size_t kFastTarget = 60;
constexpr uint32_t kMaxLinks = 65000;  // EXT4_LINK_MAX
constexpr uint64_t kLostAndFoundBlocks = 4;
constexpr ext2_ino_t kLostAndFound = EXT2_GOOD_OLD_FIRST_INO;
constexpr const char* kLostAndFoundName = "lost+found";

bool all_zero(std::span<const std::byte> bytes) {
  return bytes[0] == std::byte{0} &&
         std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
}

// Seconds beyond 32 bits go to two bits of the extra field, above them nanoseconds
// (https://docs.kernel.org/filesystems/ext4/dynamic.html, "Inode Timestamps").
void set_time(const Time& t, uint32_t& low, uint32_t& extra) {
  constexpr int64_t kFirst = INT32_MIN, kLast = (int64_t{3} << 32) + INT32_MAX;
  const int64_t seconds = std::clamp(t.seconds, kFirst, kLast);
  low = static_cast<uint32_t>(seconds);
  const auto epoch = static_cast<uint32_t>((seconds - static_cast<int32_t>(low)) >> 32) & 3;
  extra = t.nanoseconds << 2 | epoch;
}

// new_encode_dev() and old_encode_dev() of Linux.
void set_device(struct ext2_inode_large& raw, uint32_t major, uint32_t minor) {
  if (major < 256 && minor < 256) {
    raw.i_block[0] = major << 8 | minor;
  } else {
    raw.i_block[1] = (minor & 0xFF) | major << 8 | (minor & ~0xFFU) << 12;
  }
}

// What ext4 has on disk: a known name space, or an ACL of the form that getxattr(2) gives.
bool ext4_has(const std::string& name, const std::string& value) {
  if (name == "system.posix_acl_access" || name == "system.posix_acl_default") {
    uint32_t version = 0;
    if (value.size() >= sizeof version) std::memcpy(&version, value.data(), sizeof version);
    return version == 2 && (value.size() - 4) % 8 == 0;
  }
  for (const std::string_view space : {"user.", "trusted.", "security."}) {
    if (name.starts_with(space)) return name.size() > space.size() && name.size() <= 255;
  }
  return false;
}

}  // namespace

std::unexpected<Errno> Ext4Writer::fail(Errno error, NodeId id, std::string& why,
                                        std::string_view what_to_do) const {
  why = cat(source_.named(tree_, id), ": ", errno_text(error), "; ", what_to_do);
  return Err(error);
}

Result<> Ext4Writer::write(uint64_t bytes, const Progress& progress,
                           std::vector<std::string>& notes, std::string& why) {
  total_ = bytes;
  progress_ = &progress;
  buffer_.resize(kChunk);
  TRY(make_lost_and_found(why));
  number_inodes();
  for (const bool directories : {true, false}) {
    for (const NodeId id : order_) {
      if (tree_.node(id).is_directory() == directories) TRY(write_node(id, why));
    }
  }
  if (xattrs_left_out_ > 0)
    notes.push_back(cat(xattrs_left_out_,
                        " extended attributes of kinds that ext4 does not have are left "
                        "out"));
  return {};
}

Result<> Ext4Writer::make_lost_and_found(std::string& why) {
  const auto& names = tree_.node(Tree::kRoot).children;
  const auto found = names.find(kLostAndFoundName);
  if (found != names.end()) {
    if (tree_.node(found->second).is_directory()) return {};
    why =
        cat(source_.named(tree_, found->second), ": no directory, as ext4 wants it; leave it out");
    return Err(Errno::kNOTDIR);
  }
  Attributes a;
  a.mode = S_IFDIR | 0700;
  a.atime = a.mtime = a.ctime = {std::time(nullptr), 0};
  TRY(tree_.add(Tree::kRoot, kLostAndFoundName, std::move(a), why));
  return {};
}

void Ext4Writer::number_inodes() {
  order_ = tree_.reachable();
  numbers_.assign(tree_.size(), 0);
  numbers_[Tree::kRoot] = EXT2_ROOT_INO;
  numbers_[tree_.node(Tree::kRoot).children.find(kLostAndFoundName)->second] = kLostAndFound;
  ext2_ino_t next = kLostAndFound + 1;
  for (const NodeId id : order_) {
    if (numbers_[id] == 0) numbers_[id] = next++;
    ext2fs_inode_alloc_stats2(fs_, numbers_[id], +1, tree_.node(id).is_directory());
  }
}

Ext4Writer::Inode Ext4Writer::inode_of(NodeId id) const {
  const Node& node = tree_.node(id);
  Inode inode;
  inode.number = numbers_[id];
  struct ext2_inode_large& r = inode.raw;
  r.i_mode = static_cast<uint16_t>(node.mode);
  r.i_uid = static_cast<uint16_t>(node.uid);
  r.osd2.linux2.l_i_uid_high = static_cast<uint16_t>(node.uid >> 16);
  r.i_gid = static_cast<uint16_t>(node.gid);
  r.osd2.linux2.l_i_gid_high = static_cast<uint16_t>(node.gid >> 16);
  r.i_extra_isize = sizeof(struct ext2_inode_large) - EXT2_GOOD_OLD_INODE_SIZE;
  set_time(node.atime, r.i_atime, r.i_atime_extra);
  set_time(node.mtime, r.i_mtime, r.i_mtime_extra);
  set_time(node.ctime, r.i_ctime, r.i_ctime_extra);
  set_time(node.mtime, r.i_crtime, r.i_crtime_extra);
  uint32_t links = node.names;
  if (node.is_directory()) {
    links = 2;
    for (const auto& [name, child] : node.children) links += tree_.node(child).is_directory();
    if (links >= kMaxLinks) links = 1;  // dir_nlink: not counted
  }
  r.i_links_count = static_cast<uint16_t>(links);
  if (node.is_directory() || node.is_regular()) r.i_flags = EXT4_EXTENTS_FL;
  if (node.is_regular())
    CHECK(ext2fs_inode_size_set(fs_, ext2fs_inode(&r), static_cast<ext2_off64_t>(node.size)) == 0);
  return inode;
}

Result<> Ext4Writer::write_node(NodeId id, std::string& why) {
  const Node& node = tree_.node(id);
  if (!node.is_directory() && node.names > kMaxLinks)
    return fail(Errno::kMLINK, id, why, "ext4 has at most 65000 hard links to a file");
  Inode inode = inode_of(id);
  constexpr const char* kNoRoom = "give a larger --size, and a place with room for the image";
  Result<> r;
  if (node.is_directory()) {
    r = write_directory(id, inode);
  } else if (node.is_regular()) {
    why.clear();
    r = write_contents(id, inode, why);
    if (!r && !why.empty()) return r;
  } else if (node.is_symlink() && node.target.size() < kFastTarget) {
    inode.raw.i_size = static_cast<uint32_t>(node.target.size());
    std::memcpy(inode.raw.i_block, node.target.data(), node.target.size());
  } else if (node.is_symlink()) {
    inode.raw.i_flags = EXT4_EXTENTS_FL;
    inode.raw.i_size = static_cast<uint32_t>(node.target.size());
    std::vector<std::byte> block(kBlockBytes);
    std::memcpy(block.data(), node.target.data(), node.target.size());
    r = write_blocks(inode, 0, block, false);
  } else {
    set_device(inode.raw, node.major, node.minor);
  }
  if (!r) return fail(r.error(), id, why, kNoRoom);
  if (r = finish_inode(inode); !r) return fail(r.error(), id, why, kNoRoom);
  return node.xattrs.empty() ? Result<>() : write_xattrs(id, inode.number, why);
}

Result<> Ext4Writer::write_directory(NodeId id, Inode& inode) {
  const Node& node = tree_.node(id);
  std::vector<DirEntry> entries;
  entries.reserve(node.children.size());
  for (const auto& [name, child] : node.children)
    entries.push_back({numbers_[child], tree_.node(child).mode, name});
  DirBlocks blocks(fs_, inode.number, numbers_[node.parent]);
  blocks.build(entries, numbers_[id] == kLostAndFound ? kLostAndFoundBlocks : 1);
  if (blocks.bytes().size() > INT32_MAX) return Err(Errno::kFBIG);
  inode.raw.i_size = static_cast<uint32_t>(blocks.bytes().size());
  if (blocks.indexed()) inode.raw.i_flags |= EXT2_INDEX_FL;
  return write_blocks(inode, 0, blocks.bytes(), false);
}

// Reads the parts of the pieces that are in `to`, which begins at `at`.
Result<> Ext4Writer::fill(NodeId id, int from, std::span<const Segment> pieces, uint64_t at,
                          std::span<std::byte> to, std::string& why) {
  uint64_t filled = 0;
  for (const Segment& s : pieces) {
    const uint64_t first = std::max(s.at, at) - at;
    const uint64_t end = std::min<uint64_t>(s.at + s.length - at, to.size());
    std::memset(to.data() + filled, 0, first - filled);
    for (filled = first; filled < end;) {
      const Result<size_t> n =
          sys::pread(from, to.subspan(filled, end - filled), s.from + (at + filled - s.at));
      if (!n && n.error() == Errno::kINTR) continue;
      if (!n) return fail(n.error(), id, why, "give what can be read");
      if (*n == 0) return fail(Errno::kIO, id, why, "it became shorter: try again");
      filled += *n;
      done_ += *n;
    }
    (*progress_)(done_, total_);
  }
  std::memset(to.data() + filled, 0, to.size() - filled);
  return {};
}

Result<> Ext4Writer::write_contents(NodeId id, Inode& inode, std::string& why) {
  const std::vector<Segment>& pieces = tree_.node(id).segments;
  if (pieces.empty()) return {};
  const int from = TRY(source_.contents(tree_, id, why));
  uint64_t at = 0;
  for (size_t i = 0; i < pieces.size();) {
    at = std::max(at, pieces[i].at / kBlockBytes * kBlockBytes);
    size_t behind = i;
    uint64_t end = at;
    for (; behind < pieces.size() && pieces[behind].at < at + kChunk; ++behind)
      end = std::min(at + kChunk, pieces[behind].at + pieces[behind].length);
    const auto window =
        std::span(buffer_).first((end - at + kBlockBytes - 1) / kBlockBytes * kBlockBytes);
    TRY(fill(id, from, std::span(pieces).subspan(i, behind - i), at, window, why));
    TRY(write_blocks(inode, at / kBlockBytes, window, true));
    at += kChunk;
    while (i < pieces.size() && pieces[i].at + pieces[i].length <= at) ++i;
  }
  return {};
}

// Whole blocks. `holes`: those of zeroes are left out.
Result<> Ext4Writer::write_blocks(Inode& inode, uint64_t logical, std::span<const std::byte> bytes,
                                  bool holes) {
  const auto is_hole = [&](std::span<const std::byte> block) { return holes && all_zero(block); };
  while (!bytes.empty()) {
    uint64_t wanted = 0;
    while (wanted * kBlockBytes < bytes.size() &&
           !is_hole(bytes.subspan(wanted * kBlockBytes, kBlockBytes)))
      ++wanted;
    blk64_t physical = 0, length = 1;  // a hole
    if (wanted > 0) {
      const errcode_t e =
          ext2fs_new_range(fs_, 0, goal_, wanted, fs_->block_map, &physical, &length);
      if (e != 0) return Err(from_ext2(e));
      ext2fs_block_alloc_stats_range(fs_, physical, static_cast<blk_t>(length), +1);
      goal_ = physical + length;
      if (const errcode_t i = ext2fs_iblk_add_blocks(fs_, ext2fs_inode(&inode.raw), length); i != 0)
        return Err(from_ext2(i));
      Extent* last = inode.extents.empty() ? nullptr : &inode.extents.back();
      if (last != nullptr && last->logical + last->length == logical &&
          last->physical + last->length == physical && last->length + length <= kMaxExtent) {
        last->length += length;
      } else {
        inode.extents.push_back({logical, physical, length});
      }
      for (uint64_t done = 0; done < length * kBlockBytes;)
        done += TRY(sys::pwrite(fd_, bytes.subspan(done, length * kBlockBytes - done),
                                physical * kBlockBytes + done));
    }
    logical += length;
    bytes = bytes.subspan(length * kBlockBytes);
  }
  return {};
}

Result<> Ext4Writer::finish_inode(Inode& inode) {
  auto* raw = ext2fs_inode(&inode.raw);
  if (!inode.extents.empty() || (raw->i_flags & EXT4_EXTENTS_FL) != 0) {
    ext2_extent_handle_t handle = nullptr;
    errcode_t e = ext2fs_extent_open2(fs_, inode.number, raw, &handle);
    int op = 0;
    for (const Extent& x : inode.extents) {
      struct ext2fs_extent extent = {};
      extent.e_lblk = x.logical;
      extent.e_pblk = x.physical;
      extent.e_len = static_cast<uint32_t>(x.length);
      if (e == 0) e = ext2fs_extent_insert(handle, op, &extent);
      op = EXT2_EXTENT_INSERT_AFTER;
    }
    if (e == 0 && !inode.extents.empty()) e = ext2fs_extent_fix_parents(handle);
    ext2fs_extent_free(handle);
    if (e != 0) return Err(from_ext2(e));
  }
  const errcode_t e =
      ext2fs_write_inode_full(fs_, inode.number, raw, sizeof(struct ext2_inode_large));
  if (e != 0) return Err(from_ext2(e));
  return {};
}

Result<> Ext4Writer::write_xattrs(NodeId id, ext2_ino_t number, std::string& why) {
  struct ext2_xattr_handle* handle = nullptr;
  errcode_t e = ext2fs_xattrs_open(fs_, number, &handle);
  for (const auto& [name, value] : tree_.node(id).xattrs) {
    if (e != 0) break;
    if (!ext4_has(name, value)) {
      ++xattrs_left_out_;
      continue;
    }
    e = ext2fs_xattr_set(handle, name.c_str(), value.data(), value.size());
  }
  if (handle != nullptr) ext2fs_xattrs_close(&handle);
  if (e != 0)
    return fail(from_ext2(e), id, why, "ext4 has 4096 bytes for a file's extended attributes");
  return {};
}

}  // namespace uk::mkimage
