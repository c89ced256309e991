// ext4: what all inodes share, and links and special files.
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "ukernel/fs/ext4/ext4_inode.h"
#include "ukernel/vfs/acl.h"

namespace uk::ext4 {
namespace {

constexpr uint32_t kMaxLinks = 65000;

// Times beyond 32 bits have two bits more, beside their nanoseconds (inode.rst in Linux).
uint32_t extra_of(FileTime t) {
  const auto epoch = static_cast<uint32_t>((t.sec - static_cast<int32_t>(t.sec)) >> 32 & 3);
  return t.nsec << 2 | epoch;
}

FileTime time_of(uint32_t base, uint32_t extra) {
  FileTime t;
  t.sec = static_cast<int32_t>(base) + (static_cast<int64_t>(extra & 3) << 32);
  t.nsec = std::min(extra >> 2, 999'999'999u);
  return t;
}

int64_t clamp_time(int64_t sec, bool has_extra) {
  return std::clamp<int64_t>(sec, INT32_MIN, has_extra ? INT32_MAX + (3ll << 32) : INT32_MAX);
}

}  // namespace

uint8_t entry_type(uint32_t mode) {
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

Ext4Inode::Ext4Inode(Ref<Ext4Super> sb, uint32_t number, std::unique_ptr<std::byte[]> bytes)
    : Inode(sb),
      ino(number),
      raw_(std::move(bytes)),
      tree_(*sb->volume, *this, *reinterpret_cast<ext2_inode_large*>(raw_.get()), number) {
  super().inodes.emplace(ino, this);
  note_acls();
}

// What an orphan held can be had again.
Ext4Inode::~Ext4Inode() {
  if (auto it = super().inodes.find(ino); it != super().inodes.end() && it->second == this)
    super().inodes.erase(it);
  if (!orphan_) return;
  Allocator& allocator = volume().allocator();
  for (const auto& [start, count] : held_) {
    if (type() != S_IFREG) {
      for (uint64_t b = start; b < start + count; ++b) volume().cache().forget(b);
    }
    allocator.release_later({start, count});
  }
  tree_.forget_nodes();
  allocator.release_inode(ino);
}

bool Ext4Inode::has_extra(size_t end) const {
  return volume().inode_size() > EXT2_GOOD_OLD_INODE_SIZE &&
         end <= size_t{EXT2_GOOD_OLD_INODE_SIZE} + raw().i_extra_isize;
}

FileTime Ext4Inode::time(uint32_t base, size_t extra) const {
  uint32_t more = 0;
  if (has_extra(extra + sizeof more)) std::memcpy(&more, raw_.get() + extra, sizeof more);
  return time_of(base, more);
}

void Ext4Inode::set_time(uint32_t ext2_inode_large::*base, size_t extra, FileTime t) {
  const bool wide = has_extra(extra + sizeof(uint32_t));
  const int64_t sec = clamp_time(t.sec, wide);
  if (sec != t.sec) t = {sec, 0};
  raw().*base = static_cast<uint32_t>(t.sec);
  const uint32_t more = extra_of(t);
  if (wide) std::memcpy(raw_.get() + extra, &more, sizeof more);
}

#define EXT4_TIME(name) &ext2_inode_large::name, offsetof(ext2_inode_large, name##_extra)

void Ext4Inode::touch(bool mtime, bool ctime) {
  const FileTime now = super().vfs.now();
  if (mtime) set_time(EXT4_TIME(i_mtime), now);
  if (ctime) set_time(EXT4_TIME(i_ctime), now);
  changed();
}

void Ext4Inode::set_atime(FileTime t) {
  set_time(EXT4_TIME(i_atime), t);
  changed();
}

void Ext4Inode::set_born(FileTime t) {
  set_time(EXT4_TIME(i_atime), t);
  set_time(EXT4_TIME(i_mtime), t);
  set_time(EXT4_TIME(i_ctime), t);
  if (has_extra(offsetof(ext2_inode_large, i_crtime_extra) + 4)) set_time(EXT4_TIME(i_crtime), t);
}

void Ext4Inode::changed() { super().inode_changed(*this); }

uint64_t Ext4Inode::blocks512() const {
  const uint64_t n = raw().i_blocks | uint64_t{raw().osd2.linux2.l_i_blocks_hi} << 32;
  return (raw().i_flags & EXT4_HUGE_FILE_FL) != 0 ? n * (volume().block_size() / 512) : n;
}

void Ext4Inode::add_blocks(int64_t n) {
  const uint64_t unit = volume().block_size() / 512;
  const uint64_t before = blocks512();
  const uint64_t change = static_cast<uint64_t>(n < 0 ? -n : n) * unit;
  const uint64_t now = n < 0 ? before - std::min(before, change) : before + change;
  raw().i_flags &= ~uint32_t{EXT4_HUGE_FILE_FL};
  raw().i_blocks = static_cast<uint32_t>(now);
  raw().osd2.linux2.l_i_blocks_hi = static_cast<uint16_t>(now >> 32);
}

FileAttr Ext4Inode::attr() const {
  const ext2_inode_large& r = raw();
  FileAttr a;
  a.ino = ino;
  a.dev = sb().dev;
  a.mode = r.i_mode;
  a.nlink = r.i_links_count;
  a.uid = r.i_uid | uint32_t{r.i_uid_high} << 16;
  a.gid = r.i_gid | uint32_t{r.i_gid_high} << 16;
  a.size = EXT2_I_SIZE(&r);
  a.blocks = blocks512();
  a.block_size = volume().block_size();
  a.atime = time(r.i_atime, offsetof(ext2_inode_large, i_atime_extra));
  a.mtime = time(r.i_mtime, offsetof(ext2_inode_large, i_mtime_extra));
  a.ctime = time(r.i_ctime, offsetof(ext2_inode_large, i_ctime_extra));
  if (has_extra(offsetof(ext2_inode_large, i_crtime_extra) + 4))
    a.btime = time(r.i_crtime, offsetof(ext2_inode_large, i_crtime_extra));
  if ((r.i_flags & EXT2_IMMUTABLE_FL) != 0) a.attributes |= STATX_ATTR_IMMUTABLE;
  if ((r.i_flags & EXT2_APPEND_FL) != 0) a.attributes |= STATX_ATTR_APPEND;
  if ((r.i_flags & EXT2_NODUMP_FL) != 0) a.attributes |= STATX_ATTR_NODUMP;
  if (has_acl) a.attributes |= kAttrHasAcl;
  return a;
}

Result<FileAttr> Ext4Inode::getattr(Park&) { return attr(); }

bool Ext4Inode::has_blocks() const {
  if (type() == S_IFREG || type() == S_IFDIR) return true;
  return type() == S_IFLNK &&
         ((raw().i_flags & EXT4_EXTENTS_FL) != 0 || EXT2_I_SIZE(&raw()) >= sizeof raw().i_block);
}

void Ext4Inode::set_owner(uint32_t uid, uint32_t gid) {
  raw().i_uid = static_cast<uint16_t>(uid);
  raw().i_uid_high = static_cast<uint16_t>(uid >> 16);
  raw().i_gid = static_cast<uint16_t>(gid);
  raw().i_gid_high = static_cast<uint16_t>(gid >> 16);
}

Result<> Ext4Inode::setattr(Park& park, const AttrChange& change) {
  return super().change(park, [&]() -> Result<> {
    if (change.mode)
      raw().i_mode = static_cast<uint16_t>((raw().i_mode & S_IFMT) | (*change.mode & 07777));
    const FileAttr a = attr();
    if (change.uid || change.gid) set_owner(change.uid.value_or(a.uid), change.gid.value_or(a.gid));
    if (change.atime) set_time(EXT4_TIME(i_atime), *change.atime);
    if (change.mtime) set_time(EXT4_TIME(i_mtime), *change.mtime);
    set_time(EXT4_TIME(i_ctime), change.ctime ? *change.ctime : super().vfs.now());
    changed();
    return {};
  });
}

Result<> Ext4Inode::set_inode_flags(Park& park, uint32_t flags) {
  constexpr uint32_t kMayChange = EXT2_FL_USER_MODIFIABLE & ~uint32_t{EXT4_EXTENTS_FL};
  // Data journalling and the like are not ours to promise.
  constexpr uint32_t kKept = EXT2_SYNC_FL | EXT2_IMMUTABLE_FL | EXT2_APPEND_FL | EXT2_NODUMP_FL |
                             EXT2_NOATIME_FL | EXT2_DIRSYNC_FL | EXT2_TOPDIR_FL;
  const uint32_t before = raw().i_flags;
  if (((flags ^ before) & kMayChange & ~kKept) != 0) return Err(Errno::kOPNOTSUPP);
  return super().change(park, [&]() -> Result<> {
    raw().i_flags = (raw().i_flags & ~kKept) | (flags & kKept);
    touch(false, true);
    return {};
  });
}

// ---- links

void Ext4Inode::add_links(int n) {
  const uint32_t before = raw().i_links_count;
  uint32_t now = n < 0 ? before - std::min<uint32_t>(before, static_cast<uint32_t>(-n))
                       : before + static_cast<uint32_t>(n);
  // A directory with more subdirectories than can be counted has one link (dir_nlink).
  if (type() == S_IFDIR && (before == 1 || now >= kMaxLinks)) now = 1;
  raw().i_links_count = static_cast<uint16_t>(now);
  changed();
}

Result<> Ext4Inode::drop_link(Park& park, bool all) {
  raw().i_links_count =
      static_cast<uint16_t>(all || raw().i_links_count == 0 ? 0 : raw().i_links_count - 1);
  touch(false, true);
  return raw().i_links_count == 0 ? become_orphan(park) : Result<>();
}

// Frees it on the device; what it has is held in memory.
Result<> Ext4Inode::become_orphan(Park& park) {
  if (orphan_) return {};
  std::vector<BlockRange> all;
  if (has_blocks()) {
    TRY(tree_.each(park, 0, [&](const Extent& e) {
      all.push_back({e.block, e.count});
      return true;
    }));
    for (uint64_t node : TRY(tree_.nodes(park))) all.push_back({node, 1});
  }
  TRY(drop_xattr_block(park));
  Allocator& allocator = volume().allocator();
  for (BlockRange range : all) {
    TRY(allocator.free(park, range, /*keep=*/true));
    hold(range);
  }
  TRY(allocator.free_inode(park, ino, type() == S_IFDIR, /*keep=*/true));
  orphan_ = true;
  raw().i_dtime = static_cast<uint32_t>(super().vfs.now().sec);
  changed();
  return {};
}

Result<> Ext4Inode::revive(Park& park) {
  if (!orphan_) return {};
  TRY(volume().allocator().use_inode(park, ino, type() == S_IFDIR));
  volume().allocator().release_inode(ino);
  orphan_ = false;
  for (const auto& [start, count] : held_) TRY(volume().allocator().use(park, {start, count}));
  held_.clear();
  raw().i_dtime = 0;
  changed();
  return {};
}

// ---- blocks

void Ext4Inode::hold(BlockRange range) { held_.emplace(range.start, range.count); }

void Ext4Inode::unhold(BlockRange range) {
  auto it = held_.upper_bound(range.start);
  CHECK(it != held_.begin());
  --it;
  const BlockRange whole{it->first, it->second};
  held_.erase(it);
  if (whole.start < range.start)
    held_.emplace(whole.start, static_cast<uint32_t>(range.start - whole.start));
  const uint64_t end = range.start + range.count, whole_end = whole.start + whole.count;
  if (end < whole_end) held_.emplace(end, static_cast<uint32_t>(whole_end - end));
}

Result<> Ext4Inode::own(Park& park, BlockRange range) {
  if (!orphan_) return volume().allocator().use(park, range);
  hold(range);
  return {};
}

Result<> Ext4Inode::drop_blocks(Park& park, BlockRange range) {
  // Files' contents are never in the cache of metadata; their nodes are, one by one.
  if (type() != S_IFREG || range.count == 1) {
    for (uint64_t b = range.start; b < range.start + range.count; ++b) volume().cache().forget(b);
  }
  add_blocks(-static_cast<int64_t>(range.count));
  changed();
  if (!orphan_) return volume().allocator().free(park, range);
  // In pieces, as they were held.
  while (range.count != 0) {
    auto it = held_.upper_bound(range.start);
    if (it == held_.begin()) return Err(Errno::kUCLEAN);
    --it;
    const uint64_t end = it->first + it->second;
    if (end <= range.start) return Err(Errno::kUCLEAN);
    const auto n = static_cast<uint32_t>(std::min<uint64_t>(range.count, end - range.start));
    unhold({range.start, n});
    volume().allocator().release_later({range.start, n});
    range.start += n;
    range.count -= n;
  }
  return {};
}

uint64_t Ext4Inode::goal() const {
  const uint32_t group = (ino - 1) / volume().super().s_inodes_per_group;
  return ext2fs_group_first_block2(volume().fs(), group);
}

Result<uint64_t> Ext4Inode::new_node(Park& park, uint64_t near) {
  TRY(super().may_take_metadata());
  const BlockRange range = TRY(volume().allocator().take(park, near != 0 ? near : goal(), 1));
  TRY(own(park, range));
  add_blocks(1);
  changed();
  return range.start;
}

Result<uint64_t> Ext4Inode::append_metadata_block(Park& park, uint32_t number) {
  TRY(super().may_take_metadata());
  uint64_t near = goal();
  if (number > 0) {
    const Extent last = TRY(tree_.find(park, number - 1, 1));
    if (last.block != 0) near = last.block + 1;
  }
  const BlockRange range = TRY(volume().allocator().take(park, near, 1));
  if (Result<> r = tree_.insert(park, {number, 1, range.start, false}); !r) {
    volume().allocator().release(range);
    return Err(r.error());
  }
  TRY(own(park, range));
  add_blocks(1);
  changed();
  return range.start;
}

Result<uint32_t> Ext4Inode::append_block(Park& park) {
  const uint64_t size = EXT2_I_SIZE(&raw());
  const auto number = static_cast<uint32_t>(size / volume().block_size());
  if (number >= 0x0fffffff) return Err(Errno::kNOSPC);
  TRY(append_metadata_block(park, number));
  set_size(size + volume().block_size());
  return number;
}

void Ext4Inode::set_size(uint64_t size) {
  raw().i_size = static_cast<uint32_t>(size);
  raw().i_size_high = static_cast<uint32_t>(size >> 32);
  if (size >= 1ull << 31 && !ext2fs_has_feature_large_file(&volume().super()))
    ext2fs_set_feature_large_file(&volume().super());
  changed();
}

Result<> Ext4Inode::free_range(Park& park, uint32_t first, uint32_t end) {
  std::vector<BlockRange> freed;
  Result<> r = tree_.remove(park, first, end, &freed);
  for (BlockRange range : freed) TRY(drop_blocks(park, range));
  changed();
  return r;
}

// ---- links and special files

Result<std::string> Ext4Other::readlink(Park& park) {
  if (type() != S_IFLNK) return Err(Errno::kINVAL);
  const uint64_t size = EXT2_I_SIZE(&raw());
  if (!has_blocks())
    return std::string(reinterpret_cast<const char*>(raw().i_block),
                       strnlen(reinterpret_cast<const char*>(raw().i_block), size));
  return super().look(park, [&]() -> Result<std::string> {
    const Extent e = TRY(tree().find(park, 0, 1));
    if (e.block == 0 || size > volume().block_size()) return Err(Errno::kUCLEAN);
    Ref<MetaBlock> b = TRY(volume().get(park, e.block, MetaKind::kRaw, 0));
    const auto* text = reinterpret_cast<const char*>(b->bytes().data());
    return std::string(text, strnlen(text, size));
  });
}

Result<FileAttr> Ext4Other::getattr(Park&) {
  FileAttr a = attr();
  if (type() != S_IFCHR && type() != S_IFBLK) return a;
  // The old encoding, or the new one behind a zero.
  const uint32_t old = raw().i_block[0], wide = raw().i_block[1];
  a.rdev = old != 0 ? make_dev(old >> 8 & 0xff, old & 0xff)
                    : make_dev((wide & 0xfff00) >> 8, (wide & 0xff) | (wide >> 12 & 0xfff00));
  return a;
}

}  // namespace uk::ext4
