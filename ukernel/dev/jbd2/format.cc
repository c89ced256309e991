#include "ukernel/dev/jbd2/format.h"

#include <algorithm>

#include "base/check.h"
#include "base/crc32c.h"

namespace uk::jbd2 {
namespace {

constexpr size_t kTagBytes = 16;  // with checksums

// Places in the superblock.
enum SuperField : size_t {
  kBlockSize = 0xc,
  kMaxLen = 0x10,
  kFirst = 0x14,
  kSequence = 0x18,
  kStart = 0x1c,
  kErrno = 0x20,
  kCompat = 0x24,
  kIncompat = 0x28,
  kRoCompat = 0x2c,
  kUuid = 0x30,
  kChecksumType = 0x50,
  kChecksum = 0xfc,
};

// Places in a commit block.
enum CommitField : size_t { kCommitChecksum = 0x10, kCommitSec = 0x30, kCommitNsec = 0x38 };

// The checksum of `block` with zeroes for the four bytes at `hole`.
uint32_t checksum_around(uint32_t seed, std::span<const std::byte> block, size_t hole) {
  constexpr std::byte kZeroes[4] = {};
  uint32_t crc = crc32c_update(seed, block.first(hole));
  crc = crc32c_update(crc, kZeroes);
  return crc32c_update(crc, block.subspan(hole + 4));
}

bool tail_is_good(const Super& super, std::span<const std::byte> block) {
  if (!super.checksums) return true;
  const size_t at = block.size() - kTailBytes;
  return get_be<uint32_t>(block, at) == checksum_around(super.seed(), block, at);
}

void write_tail(const Super& super, std::span<std::byte> block) {
  const size_t at = block.size() - kTailBytes;
  put_be<uint32_t>(block, at, checksum_around(super.seed(), block, at));
}

}  // namespace

Header read_header(std::span<const std::byte> block) {
  return {get_be<uint32_t>(block, 0), get_be<uint32_t>(block, 4), get_be<uint32_t>(block, 8)};
}

void write_header(std::span<std::byte> block, BlockType type, uint32_t sequence) {
  put_be<uint32_t>(block, 0, kMagic);
  put_be<uint32_t>(block, 4, type);
  put_be<uint32_t>(block, 8, sequence);
}

Result<Super> Super::parse(std::span<const std::byte> block, uint32_t block_size,
                           uint64_t log_blocks) {
  CHECK(block.size() == block_size && block_size >= kSuperBytes);
  const Header header = read_header(block);
  if (header.magic != kMagic) return Err(Errno::kUCLEAN);
  if (header.type != kSuperV1 && header.type != kSuperV2) return Err(Errno::kUCLEAN);
  if (header.type == kSuperV1) return Err(Errno::kOPNOTSUPP);
  auto field = [&](SuperField at) { return get_be<uint32_t>(block, at); };
  const uint32_t incompat = field(kIncompat);
  if ((incompat & ~(kFeatureRevoke | kFeature64Bit | kFeatureChecksumV3)) != 0 ||
      field(kRoCompat) != 0)
    return Err(Errno::kOPNOTSUPP);
  Super s;
  s.block_.assign(block.begin(), block.end());
  s.max_len = field(kMaxLen);
  s.first = field(kFirst);
  s.sequence = field(kSequence);
  s.start = field(kStart);
  s.error = field(kErrno);
  s.wide = (incompat & kFeature64Bit) != 0;
  s.checksums = (incompat & kFeatureChecksumV3) != 0;
  s.seed_ = crc32c_update(~0u, block.subspan(kUuid, kUuidBytes));
  if (s.checksums) {
    if (static_cast<uint32_t>(block[kChecksumType]) != kChecksumCrc32c)
      return Err(Errno::kOPNOTSUPP);
    if (field(kChecksum) != checksum_around(~0u, block.first(kSuperBytes), kChecksum))
      return Err(Errno::kUCLEAN);
  }
  const bool fits = field(kBlockSize) == block_size && s.max_len <= log_blocks && s.first >= 1 &&
                    s.first < s.max_len && s.max_len - s.first >= 8 &&
                    (s.start == 0 || (s.start >= s.first && s.start < s.max_len));
  return fits ? Result<Super>(std::move(s)) : Err(Errno::kUCLEAN);
}

void Super::use_features(bool wide_numbers) {
  CHECK(start == 0);
  wide |= wide_numbers;
  checksums = true;
  const uint32_t incompat =
      kFeatureRevoke | kFeatureChecksumV3 | (wide ? kFeature64Bit : uint32_t{0});
  put_be<uint32_t>(block_, kCompat, 0);  // the checksums of old
  put_be<uint32_t>(block_, kIncompat, incompat);
  block_[kChecksumType] = static_cast<std::byte>(kChecksumCrc32c);
}

std::span<const std::byte> Super::encode() {
  put_be<uint32_t>(block_, kSequence, sequence);
  put_be<uint32_t>(block_, kStart, start);
  put_be<uint32_t>(block_, kErrno, error);
  if (checksums) {
    const auto super = std::span(block_).first(kSuperBytes);
    put_be<uint32_t>(block_, kChecksum, checksum_around(~0u, super, kChecksum));
  }
  return block_;
}

uint32_t data_checksum(uint32_t seed, uint32_t sequence, std::span<const std::byte> bytes) {
  std::byte number[4];
  put_be<uint32_t>(number, 0, sequence);
  return crc32c_update(crc32c_update(seed, number), bytes);
}

Result<std::vector<Tag>> read_descriptor(const Super& super, std::span<const std::byte> block) {
  if (!tail_is_good(super, block)) return Err(Errno::kUCLEAN);
  const size_t end = block.size() - (super.checksums ? kTailBytes : 0);
  const size_t tag_bytes = super.checksums ? kTagBytes : super.wide ? 12 : 8;
  std::vector<Tag> tags;
  for (size_t at = kHeaderBytes; at + tag_bytes <= end;) {
    Tag tag;
    tag.block = get_be<uint32_t>(block, at);
    if (super.checksums) {
      tag.flags = get_be<uint32_t>(block, at + 4);
      tag.checksum = get_be<uint32_t>(block, at + 12);
    } else {
      tag.flags = get_be<uint16_t>(block, at + 6);
    }
    if (super.wide) tag.block |= uint64_t{get_be<uint32_t>(block, at + 8)} << 32;
    tags.push_back(tag);
    if ((tag.flags & kTagLast) != 0) break;
    at += tag_bytes + ((tag.flags & kTagSameUuid) != 0 ? 0 : kUuidBytes);
  }
  return tags;
}

Result<std::vector<uint64_t>> read_revoke(const Super& super, std::span<const std::byte> block) {
  if (!tail_is_good(super, block)) return Err(Errno::kUCLEAN);
  const size_t end = block.size() - (super.checksums ? kTailBytes : 0);
  const size_t used = get_be<uint32_t>(block, kHeaderBytes), each = super.wide ? 8 : 4;
  if (used < kRevokeHeaderBytes || used > end) return Err(Errno::kUCLEAN);
  std::vector<uint64_t> blocks;
  for (size_t at = kRevokeHeaderBytes; at + each <= used; at += each) {
    blocks.push_back(super.wide ? get_be<uint64_t>(block, at) : get_be<uint32_t>(block, at));
  }
  return blocks;
}

bool commit_is_good(const Super& super, std::span<const std::byte> block) {
  return !super.checksums || get_be<uint32_t>(block, kCommitChecksum) ==
                                 checksum_around(super.seed(), block, kCommitChecksum);
}

size_t tags_per_block(size_t block_size) {
  return (block_size - kHeaderBytes - kTailBytes - kUuidBytes) / kTagBytes;
}

size_t revokes_per_block(const Super& super, size_t block_size) {
  return (block_size - kRevokeHeaderBytes - kTailBytes) / (super.wide ? 8 : 4);
}

void write_descriptor(const Super& super, uint32_t sequence, std::span<const Tag> tags,
                      std::span<std::byte> block) {
  CHECK(!tags.empty() && tags.size() <= tags_per_block(block.size()));
  std::ranges::fill(block, std::byte{0});
  write_header(block, kDescriptor, sequence);
  size_t at = kHeaderBytes;
  for (const Tag& tag : tags) {
    const bool first = &tag == &tags.front(), last = &tag == &tags.back();
    const uint32_t flags =
        (tag.flags & kTagEscaped) | (first ? 0 : kTagSameUuid) | (last ? kTagLast : uint32_t{0});
    put_be<uint32_t>(block, at, static_cast<uint32_t>(tag.block));
    put_be<uint32_t>(block, at + 4, flags);
    put_be<uint32_t>(block, at + 8, static_cast<uint32_t>(tag.block >> 32));
    put_be<uint32_t>(block, at + 12, tag.checksum);
    at += kTagBytes + (first ? kUuidBytes : 0);  // a UUID of zeroes: nobody reads it
  }
  write_tail(super, block);
}

void write_revoke(const Super& super, uint32_t sequence, std::span<const uint64_t> blocks,
                  std::span<std::byte> block) {
  CHECK(!blocks.empty() && blocks.size() <= revokes_per_block(super, block.size()));
  std::ranges::fill(block, std::byte{0});
  write_header(block, kRevoke, sequence);
  size_t at = kRevokeHeaderBytes;
  for (uint64_t b : blocks) {
    if (super.wide) {
      put_be<uint64_t>(block, at, b);
    } else {
      put_be<uint32_t>(block, at, static_cast<uint32_t>(b));
    }
    at += super.wide ? 8 : 4;
  }
  put_be<uint32_t>(block, kHeaderBytes, static_cast<uint32_t>(at));
  write_tail(super, block);
}

void write_commit(const Super& super, uint32_t sequence, uint64_t time_ns,
                  std::span<std::byte> block) {
  constexpr uint64_t kNsPerSecond = 1'000'000'000;
  std::ranges::fill(block, std::byte{0});
  write_header(block, kCommit, sequence);
  put_be<uint64_t>(block, kCommitSec, time_ns / kNsPerSecond);
  put_be<uint32_t>(block, kCommitNsec, static_cast<uint32_t>(time_ns % kNsPerSecond));
  put_be<uint32_t>(block, kCommitChecksum, checksum_around(super.seed(), block, kCommitChecksum));
}

}  // namespace uk::jbd2
