#include "ukernel/fs/ext4/volume.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_format.h"
#include "ukernel/dev/block/disk_cache.h"
#include "ukernel/dev/block/registry.h"
#include "ukernel/sched/reactor.h"

namespace uk::ext4 {
namespace {

constexpr uint32_t kIncompat = EXT2_FEATURE_INCOMPAT_FILETYPE | EXT3_FEATURE_INCOMPAT_RECOVER |
                               EXT3_FEATURE_INCOMPAT_EXTENTS | EXT4_FEATURE_INCOMPAT_FLEX_BG |
                               EXT4_FEATURE_INCOMPAT_64BIT | EXT2_FEATURE_INCOMPAT_META_BG |
                               EXT4_FEATURE_INCOMPAT_CSUM_SEED | EXT4_FEATURE_INCOMPAT_LARGEDIR |
                               EXT4_FEATURE_INCOMPAT_EA_INODE | EXT4_FEATURE_INCOMPAT_MMP;
constexpr uint32_t kIncompatWritable =
    kIncompat & ~uint32_t{EXT4_FEATURE_INCOMPAT_EA_INODE | EXT4_FEATURE_INCOMPAT_MMP |
                          EXT3_FEATURE_INCOMPAT_RECOVER};
constexpr uint32_t kRoCompatWritable =
    EXT2_FEATURE_RO_COMPAT_SPARSE_SUPER | EXT2_FEATURE_RO_COMPAT_LARGE_FILE |
    EXT4_FEATURE_RO_COMPAT_HUGE_FILE | EXT4_FEATURE_RO_COMPAT_DIR_NLINK |
    EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE | EXT4_FEATURE_RO_COMPAT_GDT_CSUM |
    EXT4_FEATURE_RO_COMPAT_METADATA_CSUM;
constexpr uint32_t kMaxGroups = 1 << 20;

}  // namespace

Volume::Volume(Ref<BlockDevice> device, Log& log)
    : device_(std::move(device)), log_(log), allocator_(*this) {}

Volume::~Volume() {
  if (fs_ != nullptr) ext2fs_free(fs_);
  if (!held_) return;
  device_->holder = nullptr;
  // The going of the last user may suspend: a loop device lets go of its file.
  device_->disk().owner().reactor.spawn("unmounted",
                                        [device = device_](Park& park) { device->end_use(park); });
}

Errno Volume::refuse(Errno e, const std::string& why) const {
  log_.warn(absl::StrFormat("EXT4-fs (%s): %s", device_->name(), why));
  return e;
}

void Volume::fail(Errno why, const std::string& what) {
  if (std::exchange(failed_, true)) return;
  log_.warn(absl::StrFormat("EXT4-fs error (device %s): %s: %s; remounting read-only",
                            device_->name(), what, errno_text(why)));
  cache_->abandon();
}

std::string Volume::why_read_only() const {
  const ext2_super_block& s = super();
  if (failed_) return "an error was found";
  if ((s.s_feature_incompat & EXT3_FEATURE_INCOMPAT_RECOVER) != 0 && journal_ == nullptr)
    return "the journal needs recovery; run e2fsck";
  if ((s.s_feature_incompat & EXT4_FEATURE_INCOMPAT_MMP) != 0)
    return "multiple mount protection (mmp) is not supported";
  const uint32_t incompat =
      s.s_feature_incompat & ~kIncompatWritable & ~uint32_t{EXT3_FEATURE_INCOMPAT_RECOVER};
  if (incompat != 0 || (s.s_feature_ro_compat & ~kRoCompatWritable) != 0)
    return absl::StrFormat("features %x/%x can only be read", incompat,
                           s.s_feature_ro_compat & ~kRoCompatWritable);
  if ((s.s_feature_incompat & EXT3_FEATURE_INCOMPAT_EXTENTS) == 0)
    return "it has no extents (ext2 or ext3)";
  if (device_->read_only()) return "the device is read-only";
  return "";
}

// Looks at what must be known before libext2fs may see it, and what it does not look at.
Result<> Volume::check_super(Park& park) {
  std::vector<std::byte> sector(2 * SUPERBLOCK_SIZE);
  if (device_->size() < sector.size()) return Err(Errno::kINVAL);
  TRY(device_->submit(park, read_bio(0, sector)));
  ext2_super_block s;
  std::memcpy(&s, sector.data() + SUPERBLOCK_OFFSET, sizeof s);
  if (s.s_magic != EXT2_SUPER_MAGIC) return Err(Errno::kINVAL);
  if ((s.s_feature_incompat & ~kIncompat) != 0)
    return Err(refuse(Errno::kINVAL, absl::StrFormat("unsupported features (%x)",
                                                     s.s_feature_incompat & ~kIncompat)));
  if ((s.s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_BIGALLOC) != 0)
    return Err(refuse(Errno::kINVAL, "clusters of blocks (bigalloc) are not supported"));
  if (s.s_log_block_size > 2) return Err(refuse(Errno::kINVAL, "blocks are larger than a page"));
  const uint64_t block = uint64_t{1024} << s.s_log_block_size;
  const uint64_t count = ext2fs_blocks_count(&s);
  if (count > device_->size() / block)
    return Err(refuse(Errno::kINVAL, absl::StrFormat("%d blocks exceed the device's %d", count,
                                                     device_->size() / block)));
  if (s.s_blocks_per_group == 0 || count / s.s_blocks_per_group > kMaxGroups ||
      s.s_blocks_per_group > block * 8 || s.s_blocks_per_group % 8 != 0 ||
      s.s_inodes_per_group == 0 || s.s_inodes_per_group > block * 8 ||
      s.s_inodes_per_group % 8 != 0 || s.s_first_data_block != (block == 1024 ? 1 : 0))
    return Err(refuse(Errno::kUCLEAN, "the superblock is not sane"));
  if (s.s_rev_level == EXT2_DYNAMIC_REV &&
      (s.s_first_ino < EXT2_GOOD_OLD_FIRST_INO || s.s_first_ino > s.s_inodes_per_group))
    return Err(refuse(Errno::kUCLEAN, "the first inode is not sane"));
  cache_ = std::make_unique<MetaCache>(device_, static_cast<uint32_t>(block), count);
  io_ = std::make_unique<Ext2Io>(*cache_);
  return {};
}

errcode_t Volume::open_fs(Park& park, int more) {
  Lock lock(park, *this);
  const int flags = EXT2_FLAG_64BITS | EXT2_FLAG_SKIP_MMP | more;
  // Opened for writing in any case: whether anything is written is ours to say.
  errcode_t e =
      ext2fs_open2(io_->name().c_str(), nullptr, flags | EXT2_FLAG_RW | EXT2_FLAG_SOFTSUPP_FEATURES,
                   0, 0, io_->manager(), &fs_);
  if (e == EXT2_ET_RO_UNSUPP_FEATURE)
    e = ext2fs_open2(io_->name().c_str(), nullptr, flags, 0, 0, io_->manager(), &fs_);
  if (e != 0) fs_ = nullptr;
  return e;
}

// A superblock that was torn when the power went is whole in the journal.
Result<> Volume::open_and_replay(Park& park, const VolumeOptions& options) {
  auto refused = [&](errcode_t e) {
    return Err(refuse(from_ext2(e), absl::StrFormat("cannot be opened (libext2fs: %d)", e)));
  };
  TRY(check_super(park));
  errcode_t e = open_fs(park, 0);
  const bool torn = e == EXT2_ET_SB_CSUM_INVALID && !options.no_load;
  if (torn) e = open_fs(park, EXT2_FLAG_IGNORE_CSUM_ERRORS);
  if (e != 0) return refused(e);
  if (!TRY(open_log(park, options, torn)))
    return torn ? refused(EXT2_ET_SB_CSUM_INVALID) : Result<>();
  ext2fs_free(std::exchange(fs_, nullptr));
  TRY(check_super(park));
  e = open_fs(park, 0);
  return e == 0 ? Result<>() : refused(e);
}

Result<std::unique_ptr<Volume>> Volume::open(Park& park, Ref<BlockDevice> device, Log& log,
                                             const VolumeOptions& options) {
  if (device->holder != nullptr) return Err(Errno::kBUSY);
  std::unique_ptr<Volume> v(new Volume(std::move(device), log));
  v->device_->begin_use();
  v->device_->holder = v.get();
  v->held_ = true;
  // What was written through the device's own file is what is mounted.
  if (v->device_->cache_if_any() != nullptr) TRY(v->device_->cache()->write_out(park));
  TRY(v->open_and_replay(park, options));
  Lock lock(park, *v);
  v->checksums_ = ext2fs_has_feature_metadata_csum(v->fs_->super) != 0;
  if (Result<> r = v->allocator_.open(); !r)
    return Err(v->refuse(r.error(), "the group descriptors are not sane"));
  if (const std::string why = v->why_read_only(); !options.read_only && !why.empty())
    return Err(v->refuse(Errno::kROFS, "only read-only: " + why));
  return v;
}

// ---- inodes

Result<uint64_t> Volume::inode_place(uint32_t ino, uint32_t* offset, uint32_t* ahead) const {
  if (ino == 0 || ino > super().s_inodes_count) return Err(Errno::kUCLEAN);
  const uint32_t per_group = super().s_inodes_per_group;
  const uint32_t group = (ino - 1) / per_group;
  const uint64_t at = uint64_t{(ino - 1) % per_group} * inode_size();
  if (group >= fs_->group_desc_count) return Err(Errno::kUCLEAN);
  const uint64_t block = at / block_size();
  *offset = static_cast<uint32_t>(at % block_size());
  constexpr uint64_t kAhead = 15;
  *ahead =
      static_cast<uint32_t>(std::min<uint64_t>(kAhead, fs_->inode_blocks_per_group - 1 - block));
  return ext2fs_inode_table_loc(fs_, group) + block;
}

Result<> Volume::read_inode(Park& park, uint32_t ino, std::span<std::byte> raw) {
  uint32_t offset = 0, ahead = 0;
  const uint64_t at = TRY(inode_place(ino, &offset, &ahead));
  Ref<MetaBlock> block = TRY(cache_->get(park, at, ahead));
  std::memcpy(raw.data(), block->bytes().data() + offset, inode_size());
  if (!ext2fs_inode_csum_verify(fs_, ino, reinterpret_cast<ext2_inode_large*>(raw.data())))
    return Err(Errno::kUCLEAN);
  return {};
}

Result<> Volume::write_inode(Park& park, uint32_t ino, std::span<std::byte> raw) {
  uint32_t offset = 0, ahead = 0;
  const uint64_t at = TRY(inode_place(ino, &offset, &ahead));
  Ref<MetaBlock> block = TRY(cache_->get(park, at));
  ext2fs_inode_csum_set(fs_, ino, reinterpret_cast<ext2_inode_large*>(raw.data()));
  std::byte* to = block->bytes().data() + offset;
  if (std::memcmp(to, raw.data(), inode_size()) == 0) return {};
  std::memcpy(to, raw.data(), inode_size());
  cache_->dirty(*block, MetaKind::kRaw, 0);
  return {};
}

uint32_t Volume::inode_seed(uint32_t ino, uint32_t generation) const {
  const uint32_t words[2] = {ino, generation};
  return ext2fs_crc32c_le(fs_->csum_seed, reinterpret_cast<const unsigned char*>(words),
                          sizeof words);
}

// ---- checksums of blocks

namespace {

const unsigned char* bytes_at(MetaBlock& block, size_t offset) {
  return reinterpret_cast<const unsigned char*>(block.bytes().data() + offset);
}

// Where the checksum of a block is, and what it should be; null: the block has no place for one.
uint32_t* checksum(const Volume& volume, MetaBlock& block, MetaKind kind, uint32_t seed,
                   uint32_t* want) {
  const uint32_t size = volume.block_size();
  switch (kind) {
    case MetaKind::kRaw:
      return nullptr;
    case MetaKind::kDirLeaf: {
      const uint32_t at = size - sizeof(ext2_dir_entry_tail);
      auto* tail = block.at<ext2_dir_entry_tail>(at);
      if (tail->det_reserved_zero1 != 0 || tail->det_rec_len != sizeof *tail ||
          tail->det_reserved_name_len != EXT2_DIR_NAME_LEN_CSUM)
        return nullptr;
      *want = ext2fs_crc32c_le(seed, bytes_at(block, 0), at);
      return &tail->det_checksum;
    }
    case MetaKind::kDirIndex: {
      const uint32_t at = block.at<ext2_dir_entry>(0)->rec_len == 12 ? 32 : 8;
      auto* cl = block.at<ext2_dx_countlimit>(at);
      const uint32_t end = at + cl->limit * uint32_t{sizeof(ext2_dx_entry)};
      if (cl->count > cl->limit || end + sizeof(ext2_dx_tail) > size) return nullptr;
      auto* tail = block.at<ext2_dx_tail>(end);
      const uint32_t zero = 0;
      uint32_t crc =
          ext2fs_crc32c_le(seed, bytes_at(block, 0), at + cl->count * sizeof(ext2_dx_entry));
      crc = ext2fs_crc32c_le(crc, bytes_at(block, end), sizeof tail->dt_reserved);
      *want = ext2fs_crc32c_le(crc, reinterpret_cast<const unsigned char*>(&zero), sizeof zero);
      return &tail->dt_checksum;
    }
    case MetaKind::kExtents: {
      const uint32_t end = sizeof(ext3_extent_header) +
                           block.at<ext3_extent_header>(0)->eh_max * uint32_t{sizeof(ext3_extent)};
      if (end + sizeof(uint32_t) > size) return nullptr;
      *want = ext2fs_crc32c_le(seed, bytes_at(block, 0), end);
      return block.at<uint32_t>(end);
    }
    case MetaKind::kXattr: {
      auto* header = block.at<ext2_ext_attr_header>(0);
      const uint32_t before = std::exchange(header->h_checksum, 0);
      const uint64_t number = block.number;
      const uint32_t crc =
          ext2fs_crc32c_le(seed, reinterpret_cast<const unsigned char*>(&number), sizeof number);
      *want = ext2fs_crc32c_le(crc, bytes_at(block, 0), size);
      header->h_checksum = before;
      return &header->h_checksum;
    }
  }
  return nullptr;
}

}  // namespace

bool Volume::verify(MetaBlock& block, MetaKind kind, uint32_t seed) const {
  if (!checksums_ || kind == MetaKind::kRaw) return true;
  uint32_t want = 0;
  const uint32_t* at = checksum(*this, block, kind, seed, &want);
  return at != nullptr && *at == want;
}

void Volume::seal(MetaBlock& block) const {
  if (!checksums_) return;
  uint32_t want = 0;
  if (uint32_t* at = checksum(*this, block, block.kind, block.seed, &want)) *at = want;
}

Result<Ref<MetaBlock>> Volume::get(Park& park, uint64_t number, MetaKind kind, uint32_t seed,
                                   uint32_t ahead) {
  if (number <= super().s_first_data_block) return Err(Errno::kUCLEAN);
  Ref<MetaBlock> block = TRY(cache_->get(park, number, ahead));
  if (block->is_checked(kind, seed)) return block;
  if (!verify(*block, kind, seed)) return Err(Errno::kUCLEAN);
  block->set_checked(kind, seed);
  return block;
}

// ---- commits

Result<Volume::Commit> Volume::begin_commit(Park& park) {
  if (failed_) return Err(Errno::kROFS);
  TRY(allocator_.seal(park));
  // In our copy of the superblock too, or a commit would clear it.
  if (journal_ != nullptr) super().s_feature_incompat |= EXT3_FEATURE_INCOMPAT_RECOVER;
  if (errcode_t e = ext2fs_flush2(fs_, EXT2_FLAG_FLUSH_NO_SYNC); e != 0) return Err(from_ext2(e));
  Commit commit;
  commit.blocks = cache_->take_dirty([this](MetaBlock& block) { seal(block); });
  commit.freed = allocator_.take_pending();
  return commit;
}

Result<> Volume::write_commit(Park& park, Commit& commit) {
  return journal_ != nullptr ? log_commit(park, commit) : write_in_place(park, commit);
}

void Volume::end_commit(Commit& commit) {
  cache_->committed(commit.blocks);
  for (BlockRange range : commit.freed) allocator_.release(range);
}

}  // namespace uk::ext4
