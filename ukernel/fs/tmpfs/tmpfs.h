// tmpfs: files in guest memory (tmpfs(5)). Contents are PageCacheObjects; names, attributes and
// extended attributes are kernel objects, bounded by nr_inodes. Also what memfd_create(2) files and
// the upper side of a memory overlay are made of.
//
// Ownership: the superblock is held by its inodes; a directory holds its entries' inodes. Only
// reads and writes of file contents may suspend. Mount options are guest input.
#pragma once

#include <cstdint>
#include <string>

#include "base/ref.h"
#include "base/result.h"
#include "ukernel/vfs/vfs.h"

namespace uk {

struct TmpfsOptions {
  uint64_t max_pages = UINT64_MAX;
  uint64_t max_inodes = UINT64_MAX;
  uint32_t mode = 01777;
  uint32_t uid = 0, gid = 0;
};

// mount(2) data: size=, nr_blocks=, nr_inodes=, mode=, uid=, gid=. kINVAL for anything else.
Result<TmpfsOptions> parse_tmpfs_options(const std::string& text, uint64_t total_pages);
Ref<SuperBlock> make_tmpfs(Vfs& vfs, const TmpfsOptions& options, Ref<Inode>* root);
void register_tmpfs(Vfs& vfs);

}  // namespace uk
