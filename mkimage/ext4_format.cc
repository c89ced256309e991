#include "mkimage/ext4_format.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <string>

#include "hostio/sys/file.h"

namespace uk::mkimage {
namespace {

constexpr uint64_t kReservedPercent = 5;
constexpr uint32_t kLogGroupsPerFlex = 4;  // mke2fs's 16 groups

// A UUID of version 4 (RFC 4122, 4.4).
void random_uuid(uint8_t (&uuid)[16]) {
  std::random_device device;
  for (uint8_t& byte : uuid) byte = static_cast<uint8_t>(device());
  uuid[6] = static_cast<uint8_t>((uuid[6] & 0x0F) | 0x40);
  uuid[8] = static_cast<uint8_t>((uuid[8] & 0x3F) | 0x80);
}

struct ext2_super_block parameters(uint64_t bytes, uint64_t inodes) {
  struct ext2_super_block p = {};
  const uint64_t blocks = bytes / kBlockBytes;
  p.s_rev_level = EXT2_DYNAMIC_REV;
  p.s_log_block_size = 2;
  p.s_log_cluster_size = 2;
  p.s_inode_size = 256;
  p.s_inodes_count = static_cast<uint32_t>(std::min<uint64_t>(inodes, UINT32_MAX - 1));
  p.s_log_groups_per_flex = kLogGroupsPerFlex;
  ext2fs_blocks_count_set(&p, blocks);
  ext2fs_r_blocks_count_set(&p, blocks * kReservedPercent / 100);
  p.s_feature_compat = EXT3_FEATURE_COMPAT_HAS_JOURNAL | EXT2_FEATURE_COMPAT_EXT_ATTR |
                       EXT2_FEATURE_COMPAT_RESIZE_INODE | EXT2_FEATURE_COMPAT_DIR_INDEX;
  p.s_feature_incompat = EXT2_FEATURE_INCOMPAT_FILETYPE | EXT3_FEATURE_INCOMPAT_EXTENTS |
                         EXT4_FEATURE_INCOMPAT_64BIT | EXT4_FEATURE_INCOMPAT_FLEX_BG;
  p.s_feature_ro_compat = EXT2_FEATURE_RO_COMPAT_SPARSE_SUPER | EXT2_FEATURE_RO_COMPAT_LARGE_FILE |
                          EXT4_FEATURE_RO_COMPAT_HUGE_FILE | EXT4_FEATURE_RO_COMPAT_DIR_NLINK |
                          EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE | EXT4_FEATURE_RO_COMPAT_METADATA_CSUM;
  return p;
}

// The superblock's other fields, and where the groups' tables are.
errcode_t begin(int fd, uint64_t bytes, uint64_t inodes, Filesystem& fs) {
  struct ext2_super_block p = parameters(bytes, inodes);
  // libext2fs closes its descriptor.
  Result<sys::Fd> own = sys::dup(fd);
  if (!own) return static_cast<errcode_t>(own.error());
  ext2_filsys made = nullptr;
  const std::string name = std::to_string(own->get());
  const errcode_t e =
      ext2fs_initialize(name.c_str(), EXT2_FLAG_64BITS, &p, unixfd_io_manager, &made);
  if (e != 0) return e;
  (void)own->release();
  fs.reset(made);
  struct ext2_super_block& s = *made->super;
  random_uuid(s.s_uuid);
  random_uuid(reinterpret_cast<uint8_t(&)[16]>(s.s_hash_seed));
  s.s_checksum_type = EXT2_CRC32C_CHKSUM;
  ext2fs_init_csum_seed(made);
  s.s_def_hash_version = EXT2_HASH_HALF_MD4;
  s.s_flags |= EXT2_FLAGS_SIGNED_HASH;
  s.s_default_mount_opts = EXT2_DEFM_XATTR_USER | EXT2_DEFM_ACL;
  s.s_max_mnt_count = -1;
  s.s_checkinterval = 0;
  s.s_creator_os = EXT2_OS_LINUX;
  s.s_errors = EXT2_ERRORS_DEFAULT;
  s.s_kbytes_written = 1;
  return ext2fs_allocate_tables(made);
}

errcode_t finish(ext2_filsys fs) {
  for (dgrp_t g = 0; g < fs->group_desc_count; ++g) {
    ext2fs_bg_flags_set(fs, g, EXT2_BG_INODE_ZEROED);  // holes are zeroes
    ext2fs_group_desc_csum_set(fs, g);
  }
  for (ext2_ino_t i = 1; i < EXT2_FIRST_INODE(fs->super); ++i) {
    if (i != EXT2_ROOT_INO) ext2fs_inode_alloc_stats2(fs, i, +1, 0);
  }
  if (const errcode_t e = ext2fs_create_resize_inode(fs); e != 0) return e;
  struct ext2fs_journal_params journal = {};
  if (const errcode_t e = ext2fs_get_journal_params(&journal, fs); e != 0) return e;
  return ext2fs_add_journal_inode3(fs, &journal, ~0ULL,
                                   EXT2_MKJOURNAL_NO_MNT_CHECK | EXT2_MKJOURNAL_LAZYINIT);
}

}  // namespace

Errno from_ext2(errcode_t e) {
  if (e > 0 && e < 256) return static_cast<Errno>(e);  // the host's own
  switch (e) {
    case EXT2_ET_NO_MEMORY:
      return Errno::kNOMEM;
    case EXT2_ET_BLOCK_ALLOC_FAIL:
    case EXT2_ET_INODE_ALLOC_FAIL:
    case EXT2_ET_TOOSMALL:
    case EXT2_ET_TOO_MANY_INODES:
    case EXT2_ET_JOURNAL_TOO_SMALL:
    case EXT2_ET_EA_NO_SPACE:
      return Errno::kNOSPC;
    case EXT2_ET_INVALID_ARGUMENT:
      return Errno::kINVAL;
    default:
      return Errno::kIO;
  }
}

Result<Filesystem> format_ext4(int fd, uint64_t bytes, uint64_t inodes) {
  Filesystem fs;
  if (const errcode_t e = begin(fd, bytes, inodes, fs); e != 0) return Err(from_ext2(e));
  if (const errcode_t e = finish(fs.get()); e != 0) return Err(from_ext2(e));
  return fs;
}

Result<> flush(ext2_filsys fs) {
  if (const errcode_t e = ext2fs_flush2(fs, 0); e != 0) return Err(from_ext2(e));
  return {};
}

Result<uint64_t> free_blocks_of(int fd, uint64_t bytes, uint64_t inodes) {
  Filesystem fs;
  if (const errcode_t e = begin(fd, bytes, inodes, fs); e != 0) return Err(from_ext2(e));
  const uint64_t free = ext2fs_free_blocks_count(fs->super);
  struct ext2fs_journal_params journal = {};
  if (const errcode_t e = ext2fs_get_journal_params(&journal, fs.get()); e != 0)
    return Err(from_ext2(e));
  constexpr uint64_t kTrees = 8;  // of the resize inode, and of the journal's extents
  const uint64_t taken = journal.num_journal_blocks + kTrees;
  return free > taken ? free - taken : 0;
}

}  // namespace uk::mkimage
