// The format of an ext4 journal (jbd2): superblock, descriptor, revoke and commit blocks. All
// numbers are big-endian. (Documentation/filesystems/ext4/journal.rst in Linux; names in comments
// are that document's.)
//
// Pure: works on blocks in memory. What is parsed comes from an image and is hostile: every count
// is checked against the block, every number against the log.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "base/result.h"

namespace uk::jbd2 {

constexpr uint32_t kMagic = 0xc03b3998;
constexpr size_t kSuperBytes = 1024;
constexpr size_t kHeaderBytes = 12;
constexpr size_t kTailBytes = 4;  // the checksum at the end of descriptor and revoke blocks
constexpr size_t kUuidBytes = 16;
constexpr size_t kRevokeHeaderBytes = 16;

enum BlockType : uint32_t {
  kDescriptor = 1,
  kCommit = 2,
  kSuperV1 = 3,
  kSuperV2 = 4,
  kRevoke = 5,
};

// s_feature_incompat.
constexpr uint32_t kFeatureRevoke = 0x1;
constexpr uint32_t kFeature64Bit = 0x2;
constexpr uint32_t kFeatureChecksumV3 = 0x10;
constexpr uint32_t kChecksumCrc32c = 4;  // s_checksum_type

// Flags of a tag.
constexpr uint32_t kTagEscaped = 1;
constexpr uint32_t kTagSameUuid = 2;
constexpr uint32_t kTagLast = 8;

template <class T>
T get_be(std::span<const std::byte> from, size_t at) {
  T v{};
  std::memcpy(&v, from.data() + at, sizeof v);
  return std::endian::native == std::endian::little ? std::byteswap(v) : v;
}
template <class T>
void put_be(std::span<std::byte> to, size_t at, T v) {
  if (std::endian::native == std::endian::little) v = std::byteswap(v);
  std::memcpy(to.data() + at, &v, sizeof v);
}

struct Header {
  uint32_t magic = 0, type = 0, sequence = 0;
};
Header read_header(std::span<const std::byte> block);
void write_header(std::span<std::byte> block, BlockType type, uint32_t sequence);

// `a` is a later transaction than `b`; numbers wrap.
inline bool later(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b) > 0; }

// The journal's superblock: its fields, and the bytes around them as they were.
class Super {
 public:
  // kUCLEAN: not a journal of so many blocks of that size, or the checksum is wrong. kOPNOTSUPP: of
  // a kind that is not known here (version 1, checksums v2, asynchronous or fast commits).
  static Result<Super> parse(std::span<const std::byte> block, uint32_t block_size,
                             uint64_t log_blocks);

  uint32_t max_len = 0;  // blocks of the log, this one included
  uint32_t first = 0;    // where transactions begin
  uint32_t sequence = 0;
  uint32_t start = 0;  // 0: nothing to replay
  uint32_t error = 0;  // what Linux aborted the journal for; 0: nothing
  bool checksums = false;
  bool wide = false;  // block numbers have 64 bits

  // The seed of all checksums.
  uint32_t seed() const { return seed_; }
  // Room for transactions.
  uint32_t usable() const { return max_len - first; }
  // What this program's transactions need. Only while start is 0.
  void use_features(bool wide_numbers);
  // The block as it is to be written.
  std::span<const std::byte> encode();

 private:
  std::vector<std::byte> block_;
  uint32_t seed_ = 0;
};

struct Tag {
  uint64_t block = 0;  // where it belongs
  uint32_t flags = 0;
  uint32_t checksum = 0;  // of the block as it is in the log
};

// The checksum of a block of data in the log.
uint32_t data_checksum(uint32_t seed, uint32_t sequence, std::span<const std::byte> bytes);

// The tags of a descriptor block, at most tags_per_block() plus those that need no UUID. kUCLEAN:
// the checksum is wrong.
Result<std::vector<Tag>> read_descriptor(const Super& super, std::span<const std::byte> block);
// The blocks that a revoke block names. kUCLEAN: checksum or count is wrong.
Result<std::vector<uint64_t>> read_revoke(const Super& super, std::span<const std::byte> block);
bool commit_is_good(const Super& super, std::span<const std::byte> block);

// Writing: with checksums and features as Super::use_features() sets them.
size_t tags_per_block(size_t block_size);
size_t revokes_per_block(const Super& super, size_t block_size);
// At most tags_per_block() tags; their last and same-UUID flags are set here.
void write_descriptor(const Super& super, uint32_t sequence, std::span<const Tag> tags,
                      std::span<std::byte> block);
void write_revoke(const Super& super, uint32_t sequence, std::span<const uint64_t> blocks,
                  std::span<std::byte> block);
void write_commit(const Super& super, uint32_t sequence, uint64_t time_ns,
                  std::span<std::byte> block);

}  // namespace uk::jbd2
