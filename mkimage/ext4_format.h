// Empty ext4 file systems in a file of the host, as `mke2fs -t ext4` of e2fsprogs 1.47 makes them:
// its features, journal, reserved blocks and resize inode; blocks are always of 4096 bytes. There
// is neither a root nor a lost+found yet: these the writer makes (ext4_writer.h).
//
// Ownership: a Filesystem owns libext2fs's structure; the descriptor is the caller's. Blocks the
// thread. Nothing is read from the file, which is all holes. Errors: kNOSPC where the size or the
// number of files cannot be, and what the host says otherwise. Source: libext2fs manual
// (e2fsprogs).
#pragma once

#include <ext2fs/ext2fs.h>

#include <memory>

#include "base/result.h"

namespace uk::mkimage {

constexpr uint64_t kBlockBytes = 4096;
constexpr uint64_t kMinImage = uint64_t{8} << 20;   // below, there is no room for a journal
constexpr uint64_t kMaxImage = uint64_t{16} << 40;  // 2^32 blocks

struct FilesystemCloser {
  void operator()(ext2_filsys fs) const { ext2fs_free(fs); }
};
// Goes without being written: that is what flush() is for.
using Filesystem = std::unique_ptr<struct_ext2_filsys, FilesystemCloser>;

// A file system of so many bytes with room for so many inodes, in memory.
Result<Filesystem> format_ext4(int fd, uint64_t bytes, uint64_t inodes);
// Writes superblocks, descriptors and bitmaps.
Result<> flush(ext2_filsys fs);
// How many blocks are free for files in one like that, lost+found and root not yet taken off.
Result<uint64_t> free_blocks_of(int fd, uint64_t bytes, uint64_t inodes);

// libext2fs's error as ours.
Errno from_ext2(errcode_t e);

}  // namespace uk::mkimage
