// Copy-on-write files: what has been changed of a disk whose other contents are in a backing file.
// Two formats: our own (docs/COW.md: checksummed, changed in steps that a crash does not tear) and
// version 3 of User Mode Linux. In both, a map has a bit for each cluster of the disk, set when the
// cluster is in this file; cluster N is at data_offset + N * cluster.
//
// Pure. What is parsed may be hostile: sizes are bounded, so that the map has at most 32 MiB, and
// every place lies behind the one before.
#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace uk::cow {

enum class Kind : uint8_t { kOwn, kUml };

struct Header {
  Kind kind = Kind::kOwn;
  uint32_t version = 1;
  bool committing = false;  // a commit into the backing file was begun (kOwn)
  uint64_t generation = 0;  // of the copy that was read (kOwn)
  uint64_t disk_bytes = 0;  // a multiple of 512
  uint32_t cluster = 4096;  // bytes
  uint64_t map_offset = 0;
  uint64_t data_offset = 0;
  std::string backing;  // a path
  uint64_t backing_bytes = 0;
  int64_t backing_mtime_ns = 0;  // kUml: whole seconds, 32 bits of them

  uint64_t clusters() const { return (disk_bytes + cluster - 1) / cluster; }
  // Bytes of the file, holes included.
  uint64_t file_bytes() const { return data_offset + disk_bytes; }
};

constexpr uint64_t kMaxClusters = 1ull << 28;
constexpr size_t kHeaderBytes =
    8192;  // what parse_header() wants to see of a file, zeroes beyond its end
constexpr size_t kMapBlock = 4096;
constexpr size_t kMaxBackingName = 3968;

// A place in the file and what is to be written there.
struct Write {
  uint64_t offset = 0;
  std::vector<std::byte> bytes;
  uint32_t map_block = 0;
};

// Lays out a new file for a disk: the smallest cluster that keeps within kMaxClusters. kFBIG: no
// cluster does; kNAMETOOLONG: the backing file's path; kINVAL: the disk is empty or not whole
// sectors.
Result<Header> lay_out(Kind kind, uint64_t disk_bytes, std::string backing, uint64_t backing_bytes,
                       int64_t backing_mtime_ns);
// kINVAL: not a copy-on-write file; kUCLEAN: damaged; kOPNOTSUPP: of another version; kFBIG: of a
// disk that is too large.
Result<Header> parse_header(std::span<const std::byte> front);
// The next copy of it; advances the generation (which counts when it is written).
Write encode_header(Header& header);
// True if a backing file with this size and time is the one that the header means.
bool same_backing(const Header& header, uint64_t bytes, int64_t mtime_ns);

class Map {
 public:
  explicit Map(const Header& header);

  bool present(uint64_t cluster) const { return (bits_[cluster / 8] & (1u << (cluster % 8))) != 0; }
  bool all_present(uint64_t first, uint64_t count) const;
  // How many clusters from `first` on, at most `limit`, are as it is.
  uint64_t run(uint64_t first, uint64_t limit) const;
  uint64_t count() const;  // of those that are present
  void set(uint64_t first, uint64_t count);
  void clear();  // of all

  uint32_t blocks() const {
    return static_cast<uint32_t>((bits_.size() + per_block_ - 1) / per_block_);
  }
  // Where what load() wants of a block is in the file, and how much.
  uint64_t place(uint32_t block) const;
  size_t place_bytes(uint32_t block) const;
  // kUCLEAN: damaged. `torn`: one of the two copies is, which a crash may do.
  Result<> load(uint32_t block, std::span<const std::byte> bytes, bool* torn);

  // What has changed since it was written.
  bool dirty() const { return !dirty_.empty(); }
  bool dirty(uint64_t first, uint64_t count) const;
  // Takes all that is dirty, as it is to be written now; then tells how that went.
  std::vector<Write> take_dirty();
  void written(std::span<const Write> writes, bool ok);

 private:
  size_t bytes_of(uint32_t block) const;
  const Kind kind_;
  const uint64_t clusters_, offset_;
  const size_t per_block_;  // bytes of bits
  std::vector<uint8_t> bits_;
  std::vector<uint64_t> generations_;  // kOwn: of each block
  std::set<uint32_t> dirty_;
};

}  // namespace uk::cow
