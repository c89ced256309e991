// How much room a tree takes in an ext4 image, and how large an image must be.
//
// Ownership: nothing is kept; the descriptor is the caller's, an empty file, and is not written.
// The tree is untrusted: its numbers may be as large as they like. Errors: kFBIG, larger than any
// image.
#pragma once

#include "mkimage/tree.h"

namespace uk::mkimage {

struct Demand {
  uint64_t files = 0;   // of any kind, directories included
  uint64_t bytes = 0;   // of contents
  uint64_t blocks = 0;  // for contents, directories, attributes; never less than it will be
};
Result<Demand> demand_of(const Tree& tree);

// The inodes of an image of so many bytes: mke2fs's ratio, more where there are more files.
uint64_t inodes_for(uint64_t bytes, uint64_t files);
// The least size, in whole MiB, with so many blocks free besides what is demanded.
Result<uint64_t> image_bytes_for(int fd, const Demand& demand, uint64_t spare_blocks);

}  // namespace uk::mkimage
