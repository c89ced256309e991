// Where a log lies on its device: block I of the log is at place I of these extents; and a reader
// of its blocks.
//
// Ownership: values; the reader borrows device and place. LogReader::get() suspends. The extents
// come from an image, by way of the file system: check() before use.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "ukernel/dev/block/disk.h"

namespace uk::jbd2 {

class LogPlace {
 public:
  struct Extent {
    uint64_t block = 0;  // of the device, in units of block_size
    uint32_t count = 0;
  };
  // The file system's block size: 1024, 2048 or 4096.
  LogPlace(uint32_t block_size, std::vector<Extent> extents);

  // kUCLEAN: an extent is empty, overlaps another, or does not lie on the device, or there are too
  // many blocks. kOPNOTSUPP: the block size.
  Result<> check(const BlockDevice& device) const;
  uint32_t block_size() const { return block_size_; }
  uint64_t blocks() const { return blocks_; }
  const std::vector<Extent>& extents() const { return extents_; }
  // A block of the device is the log's.
  bool contains(uint64_t block) const;
  // Where block `index` of the log lies, and how many of the log's next blocks follow it there.
  struct Run {
    uint64_t offset = 0;  // bytes
    uint32_t count = 0;
  };
  Run run_at(uint32_t index) const;  // index < blocks()

 private:
  const uint32_t block_size_;
  std::vector<Extent> extents_;   // in the order of the log
  std::vector<uint64_t> starts_;  // the log's first block in each
  std::vector<Extent> sorted_;    // by their places
  uint64_t blocks_ = 0;
};

class LogReader {
 public:
  LogReader(BlockDevice& device, const LogPlace& place, uint32_t end)
      : device_(device), place_(place), end_(end) {}
  // One block, until the next call. index < end.
  Result<std::span<const std::byte>> get(Park& park, uint32_t index);

 private:
  static constexpr uint32_t kWindow = 64;
  BlockDevice& device_;
  const LogPlace& place_;
  const uint32_t end_;
  uint32_t first_ = 0, count_ = 0;
  std::vector<std::byte> window_;
};

}  // namespace uk::jbd2
