// Writes a tree into an empty ext4 file system: directories first, then files, each in one piece
// where there is one free. What libext2fs has is used; blocks of contents go to the file directly.
//
// Ownership: nothing is kept; everything is borrowed for the time of the call. Blocks the thread.
// The tree is untrusted, but has been found to fit (ext4_size.h); what does not after all is
// kNOSPC. On failure `why` says "WHAT: WHY; WHAT TO DO".
#pragma once

#include <span>

#include "mkimage/ext4_format.h"
#include "mkimage/source.h"

namespace uk::mkimage {

class Ext4Writer {
 public:
  Ext4Writer(ext2_filsys fs, int fd, Tree& tree, Source& source)
      : fs_(fs), fd_(fd), tree_(tree), source_(source) {}

  // `bytes`: all contents, for the progress. What was left out is said in `notes`.
  Result<> write(uint64_t bytes, const Progress& progress, std::vector<std::string>& notes,
                 std::string& why);

 private:
  struct Extent {
    uint64_t logical, physical, length;
  };
  // A file's inode as it is made, and where its contents are.
  struct Inode {
    ext2_ino_t number = 0;
    struct ext2_inode_large raw = {};
    std::vector<Extent> extents;
  };
  std::unexpected<Errno> fail(Errno error, NodeId id, std::string& why,
                              std::string_view what_to_do) const;
  Result<> make_lost_and_found(std::string& why);
  void number_inodes();
  Inode inode_of(NodeId id) const;
  Result<> write_node(NodeId id, std::string& why);
  Result<> write_directory(NodeId id, Inode& inode);
  Result<> write_contents(NodeId id, Inode& inode, std::string& why);
  Result<> fill(NodeId id, int from, std::span<const Segment> pieces, uint64_t at,
                std::span<std::byte> to, std::string& why);
  Result<> write_blocks(Inode& inode, uint64_t logical, std::span<const std::byte> bytes,
                        bool holes);
  Result<> finish_inode(Inode& inode);
  Result<> write_xattrs(NodeId id, ext2_ino_t number, std::string& why);

  const ext2_filsys fs_;
  const int fd_;
  Tree& tree_;
  Source& source_;
  std::vector<NodeId> order_;
  std::vector<ext2_ino_t> numbers_;  // by NodeId
  uint64_t goal_ = 0;                // where the next free block is looked for
  uint64_t done_ = 0, total_ = 0;
  uint64_t xattrs_left_out_ = 0;
  const Progress* progress_ = nullptr;
  std::vector<std::byte> buffer_;
};

}  // namespace uk::mkimage
