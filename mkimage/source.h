// What an image is filled from: a directory of the host (dir_source.h) or an archive
// (tar_source.h).
//
// Ownership: the caller's; a source keeps descriptors open while it lives. Blocks the thread. What
// it reads is untrusted. On failure `why` says "WHAT: WHY; WHAT TO DO".
#pragma once

#include <functional>
#include <string>

#include "mkimage/tree.h"

namespace uk::mkimage {

// Called now and then with the bytes that are done, and all there are to do.
using Progress = std::function<void(uint64_t done, uint64_t total)>;

class Source {
 public:
  virtual ~Source() = default;
  // Fills the tree, which is empty. What was left out is said in `notes`, a sentence each.
  virtual Result<> scan(Tree& tree, std::vector<std::string>& notes, std::string& why) = 0;
  // A descriptor in which the segments of a regular file lie; good until the next call.
  virtual Result<int> contents(const Tree& tree, NodeId id, std::string& why) = 0;
  // What a sentence about one of its files begins with: "rootfs.tar: usr/bin/x".
  virtual std::string named(const Tree& tree, NodeId id) const = 0;
};

}  // namespace uk::mkimage
