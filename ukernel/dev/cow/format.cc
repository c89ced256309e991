#include "ukernel/dev/cow/format.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "base/crc32c.h"

namespace uk::cow {
namespace {

constexpr char kMagic[9] = "UKCOW\r\n\x1a";
constexpr uint32_t kVersion = 1;
constexpr uint32_t kFlagCommitting = 1;
constexpr uint32_t kMapMagic = 0x504d4b55;  // "UKMP"
constexpr size_t kBitsAt = 16, kBitsBytes = 4072, kChecksumAt = kMapBlock - 4;
constexpr uint32_t kMinCluster = 4096, kMaxCluster = 1 << 20;
constexpr uint64_t kDataAlign = 1 << 20;
constexpr uint64_t kMaxDisk = 1ull << 50;

constexpr uint32_t kUmlMagic = 0x4f4f4f4d;  // "MOOO", big-endian
constexpr uint32_t kUmlVersion = 3;
constexpr size_t kUmlName = 4096;

// Places in our header, little-endian.
enum Field : size_t {
  kVersionAt = 8,
  kFlagsAt = 12,
  kGenerationAt = 16,
  kDiskBytesAt = 24,
  kClusterAt = 32,
  kMapOffsetAt = 40,
  kDataOffsetAt = 48,
  kBackingBytesAt = 56,
  kBackingTimeAt = 64,
  kNameLengthAt = 72,
  kNameAt = 80,
};

// Places in UML's, big-endian; until 2005 programs of 64 bits had four bytes more before the size.
struct UmlLayout {
  size_t mtime, size, sector, align, format, name;
};
constexpr UmlLayout kUmlPacked = {8, 12, 20, 24, 28, 32};
constexpr UmlLayout kUmlPadded = {8, 16, 24, 28, 32, 36};

template <class T>
T get(std::span<const std::byte> from, size_t at) {
  T v{};
  std::memcpy(&v, from.data() + at, sizeof v);
  return v;
}
template <class T>
void put(std::span<std::byte> to, size_t at, T v) {
  std::memcpy(to.data() + at, &v, sizeof v);
}
template <class T>
T get_be(std::span<const std::byte> from, size_t at) {
  return std::byteswap(get<T>(from, at));
}
template <class T>
void put_be(std::span<std::byte> to, size_t at, T v) {
  put<T>(to, at, std::byteswap(v));
}
static_assert(std::endian::native == std::endian::little);

uint64_t round_up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

bool checksum_is_good(std::span<const std::byte> block) {
  return get<uint32_t>(block, kChecksumAt) == crc32c(block.first(kChecksumAt));
}
void write_checksum(std::span<std::byte> block) {
  put<uint32_t>(block, kChecksumAt, crc32c(block.first(kChecksumAt)));
}

uint64_t own_map_blocks(uint64_t clusters) {
  return (clusters + kBitsBytes * 8 - 1) / (kBitsBytes * 8);
}

Result<> check_sizes(const Header& h) {
  if (h.disk_bytes == 0 || h.disk_bytes % 512 != 0) return Err(Errno::kUCLEAN);
  if (h.disk_bytes > kMaxDisk || h.clusters() > kMaxClusters) return Err(Errno::kFBIG);
  return {};
}

Result<Header> parse_own(std::span<const std::byte> copy) {
  if (!checksum_is_good(copy)) return Err(Errno::kUCLEAN);
  Header h;
  h.version = get<uint32_t>(copy, kVersionAt);
  const uint32_t flags = get<uint32_t>(copy, kFlagsAt);
  if (h.version != kVersion || (flags & ~kFlagCommitting) != 0) return Err(Errno::kOPNOTSUPP);
  h.committing = (flags & kFlagCommitting) != 0;
  h.generation = get<uint64_t>(copy, kGenerationAt);
  h.disk_bytes = get<uint64_t>(copy, kDiskBytesAt);
  h.cluster = get<uint32_t>(copy, kClusterAt);
  h.map_offset = get<uint64_t>(copy, kMapOffsetAt);
  h.data_offset = get<uint64_t>(copy, kDataOffsetAt);
  h.backing_bytes = get<uint64_t>(copy, kBackingBytesAt);
  h.backing_mtime_ns = get<int64_t>(copy, kBackingTimeAt);
  const uint32_t length = get<uint32_t>(copy, kNameLengthAt);
  if (h.cluster < kMinCluster || h.cluster > kMaxCluster || !std::has_single_bit(h.cluster) ||
      length == 0 || length > kMaxBackingName)
    return Err(Errno::kUCLEAN);
  TRY(check_sizes(h));
  const uint64_t map_bytes = own_map_blocks(h.clusters()) * 2 * kMapBlock;
  if (h.map_offset < kHeaderBytes || h.map_offset % kMapBlock != 0 || h.map_offset > kMaxDisk ||
      h.data_offset % kMapBlock != 0 || h.data_offset > kMaxDisk ||
      h.data_offset < h.map_offset + map_bytes)
    return Err(Errno::kUCLEAN);
  h.backing.assign(reinterpret_cast<const char*>(copy.data()) + kNameAt, length);
  if (h.backing.find('\0') != std::string::npos) return Err(Errno::kUCLEAN);
  return h;
}

Result<Header> parse_uml(std::span<const std::byte> front) {
  if (get_be<uint32_t>(front, 4) != kUmlVersion) return Err(Errno::kOPNOTSUPP);
  // The padded layout has its format word, which is zero, where the packed one has the name.
  const UmlLayout& at = get<uint32_t>(front, kUmlPacked.name) != 0 ? kUmlPacked : kUmlPadded;
  Header h;
  h.kind = Kind::kUml;
  h.version = kUmlVersion;
  h.disk_bytes = h.backing_bytes = get_be<uint64_t>(front, at.size);
  h.cluster = get_be<uint32_t>(front, at.sector);
  const uint32_t align = get_be<uint32_t>(front, at.align);
  if (get_be<uint32_t>(front, at.format) != 0) return Err(Errno::kOPNOTSUPP);
  if (h.cluster < 512 || h.cluster > kMaxCluster || !std::has_single_bit(h.cluster) || align == 0 ||
      align % 512 != 0 || align > kMaxCluster)
    return Err(Errno::kUCLEAN);
  TRY(check_sizes(h));
  h.backing_mtime_ns = int64_t{get_be<uint32_t>(front, at.mtime)} * 1'000'000'000;
  h.map_offset = round_up(at.name + kUmlName, align);
  h.data_offset = round_up(h.map_offset + (h.clusters() + 7) / 8, align);
  const auto* name = reinterpret_cast<const char*>(front.data()) + at.name;
  h.backing.assign(name, strnlen(name, kUmlName));
  return h.backing.empty() || h.backing.size() == kUmlName ? Err(Errno::kUCLEAN)
                                                           : Result<Header>(std::move(h));
}

}  // namespace

Result<Header> lay_out(Kind kind, uint64_t disk_bytes, std::string backing, uint64_t backing_bytes,
                       int64_t backing_mtime_ns) {
  Header h;
  h.kind = kind;
  h.disk_bytes = disk_bytes;
  h.backing = std::move(backing);
  h.backing_bytes = backing_bytes;
  h.backing_mtime_ns = backing_mtime_ns;
  if (h.backing.empty() || h.backing.size() > kMaxBackingName) return Err(Errno::kNAMETOOLONG);
  if (disk_bytes == 0 || disk_bytes % 512 != 0) return Err(Errno::kINVAL);
  if (kind == Kind::kUml) {
    h.version = kUmlVersion;
    h.cluster = 512;
    TRY(check_sizes(h));
    h.map_offset = round_up(kUmlPacked.name + kUmlName, 4096);
    h.data_offset = round_up(h.map_offset + (h.clusters() + 7) / 8, 4096);
    return h;
  }
  while (h.clusters() > kMaxClusters && h.cluster < kMaxCluster) h.cluster *= 2;
  TRY(check_sizes(h));
  h.map_offset = kHeaderBytes;
  h.data_offset = round_up(h.map_offset + own_map_blocks(h.clusters()) * 2 * kMapBlock, kDataAlign);
  return h;
}

Result<Header> parse_header(std::span<const std::byte> front) {
  CHECK(front.size() == kHeaderBytes);
  if (get_be<uint32_t>(front, 0) == kUmlMagic) return parse_uml(front);
  // Of the two copies the later good one counts; a crash can have torn the other.
  Result<Header> best = Err(Errno::kINVAL);
  for (size_t at : {size_t{0}, kMapBlock}) {
    std::span<const std::byte> copy = front.subspan(at, kMapBlock);
    if (std::memcmp(copy.data(), kMagic, 8) != 0) continue;
    Result<Header> h = parse_own(copy);
    if (!best ? h || best.error() == Errno::kINVAL : h && h->generation > best->generation)
      best = std::move(h);
  }
  return best;
}

Write encode_header(Header& h) {
  Write write;
  if (h.kind == Kind::kUml) {
    write.bytes.resize(kUmlPacked.name + kUmlName);
    std::span<std::byte> to = write.bytes;
    put_be<uint32_t>(to, 0, kUmlMagic);
    put_be<uint32_t>(to, 4, kUmlVersion);
    put_be<uint32_t>(to, kUmlPacked.mtime,
                     static_cast<uint32_t>(h.backing_mtime_ns / 1'000'000'000));
    put_be<uint64_t>(to, kUmlPacked.size, h.disk_bytes);
    put_be<uint32_t>(to, kUmlPacked.sector, h.cluster);
    put_be<uint32_t>(to, kUmlPacked.align, 4096);
    std::memcpy(&to[kUmlPacked.name], h.backing.data(), h.backing.size());
    return write;
  }
  ++h.generation;
  write.offset = h.generation % 2 * kMapBlock;
  write.bytes.resize(kMapBlock);
  std::span<std::byte> to = write.bytes;
  std::memcpy(to.data(), kMagic, 8);
  put<uint32_t>(to, kVersionAt, kVersion);
  put<uint32_t>(to, kFlagsAt, h.committing ? kFlagCommitting : 0);
  put<uint64_t>(to, kGenerationAt, h.generation);
  put<uint64_t>(to, kDiskBytesAt, h.disk_bytes);
  put<uint32_t>(to, kClusterAt, h.cluster);
  put<uint64_t>(to, kMapOffsetAt, h.map_offset);
  put<uint64_t>(to, kDataOffsetAt, h.data_offset);
  put<uint64_t>(to, kBackingBytesAt, h.backing_bytes);
  put<int64_t>(to, kBackingTimeAt, h.backing_mtime_ns);
  put<uint32_t>(to, kNameLengthAt, static_cast<uint32_t>(h.backing.size()));
  std::memcpy(&to[kNameAt], h.backing.data(), h.backing.size());
  write_checksum(to);
  return write;
}

bool same_backing(const Header& h, uint64_t bytes, int64_t mtime_ns) {
  if (bytes != h.backing_bytes) return false;
  if (h.kind == Kind::kOwn) return mtime_ns == h.backing_mtime_ns;
  return static_cast<uint32_t>(mtime_ns / 1'000'000'000) ==
         static_cast<uint32_t>(h.backing_mtime_ns / 1'000'000'000);
}

Map::Map(const Header& h)
    : kind_(h.kind),
      clusters_(h.clusters()),
      offset_(h.map_offset),
      per_block_(h.kind == Kind::kOwn ? kBitsBytes : kMapBlock),
      bits_((h.clusters() + 7) / 8) {
  if (kind_ == Kind::kOwn) generations_.resize(blocks());
}

bool Map::all_present(uint64_t first, uint64_t count) const {
  for (uint64_t c = first; c < first + count; ++c) {
    if (!present(c)) return false;
  }
  return true;
}

uint64_t Map::run(uint64_t first, uint64_t limit) const {
  const bool as = present(first);
  const uint8_t full = as ? 0xff : 0;
  const uint64_t end = std::min(clusters_, first + limit);
  uint64_t c = first + 1;
  while (c < end) {
    if (c % 8 == 0 && c + 8 <= end && bits_[c / 8] == full) {
      c += 8;
    } else if (present(c) == as) {
      ++c;
    } else {
      break;
    }
  }
  return c - first;
}

uint64_t Map::count() const {
  uint64_t n = 0;
  for (uint8_t byte : bits_) n += static_cast<uint64_t>(std::popcount(byte));
  return n;
}

void Map::set(uint64_t first, uint64_t count) {
  for (uint64_t c = first; c < first + count; ++c) {
    if (present(c)) continue;
    bits_[c / 8] |= static_cast<uint8_t>(1u << (c % 8));
    dirty_.insert(static_cast<uint32_t>(c / 8 / per_block_));
  }
}

void Map::clear() {
  for (uint32_t block = 0; block < blocks(); ++block) {
    const auto part = std::span(bits_).subspan(block * per_block_, bytes_of(block));
    if (std::ranges::any_of(part, [](uint8_t b) { return b != 0; })) dirty_.insert(block);
    std::ranges::fill(part, uint8_t{0});
  }
}

size_t Map::bytes_of(uint32_t block) const {
  return std::min(per_block_, bits_.size() - block * per_block_);
}

uint64_t Map::place(uint32_t block) const {
  return offset_ + uint64_t{block} * kMapBlock * (kind_ == Kind::kOwn ? 2 : 1);
}

size_t Map::place_bytes(uint32_t block) const {
  return kind_ == Kind::kOwn ? 2 * kMapBlock : bytes_of(block);
}

Result<> Map::load(uint32_t block, std::span<const std::byte> bytes, bool* torn) {
  CHECK(bytes.size() == place_bytes(block));
  auto* to = &bits_[block * per_block_];
  if (kind_ == Kind::kUml) {
    std::memcpy(to, bytes.data(), bytes.size());
  } else {
    std::span<const std::byte> best;
    int bad = 0;
    for (size_t at : {size_t{0}, kMapBlock}) {
      std::span<const std::byte> copy = bytes.subspan(at, kMapBlock);
      if (std::ranges::all_of(copy, [](std::byte b) { return b == std::byte{0}; })) continue;
      if (get<uint32_t>(copy, 0) != kMapMagic || get<uint32_t>(copy, 4) != block ||
          get<uint64_t>(copy, 8) % 2 * kMapBlock != at || !checksum_is_good(copy)) {
        ++bad;
      } else if (best.empty() || get<uint64_t>(copy, 8) > get<uint64_t>(best, 8)) {
        best = copy;
      }
    }
    *torn |= bad == 1;
    if (bad == 2) return Err(Errno::kUCLEAN);
    if (best.empty()) return {};
    generations_[block] = get<uint64_t>(best, 8);
    std::memcpy(to, &best[kBitsAt], bytes_of(block));
  }
  // Beyond the disk there is nothing.
  if (clusters_ % 8 != 0 && block == blocks() - 1 &&
      (bits_.back() & ~((1u << (clusters_ % 8)) - 1)) != 0) {
    if (kind_ == Kind::kOwn) return Err(Errno::kUCLEAN);
    bits_.back() &= static_cast<uint8_t>((1u << (clusters_ % 8)) - 1);
  }
  return {};
}

bool Map::dirty(uint64_t first, uint64_t count) const {
  auto it = dirty_.lower_bound(static_cast<uint32_t>(first / 8 / per_block_));
  return it != dirty_.end() && *it <= (first + count - 1) / 8 / per_block_;
}

std::vector<Write> Map::take_dirty() {
  std::vector<Write> writes;
  for (uint32_t block : dirty_) {
    Write& w = writes.emplace_back();
    w.map_block = block;
    const auto* from = reinterpret_cast<const std::byte*>(&bits_[block * per_block_]);
    if (kind_ == Kind::kUml) {
      w.offset = place(block);
      w.bytes.assign(from, from + bytes_of(block));
      continue;
    }
    const uint64_t generation = generations_[block] + 1;
    w.offset = place(block) + generation % 2 * kMapBlock;
    w.bytes.resize(kMapBlock);
    put<uint32_t>(w.bytes, 0, kMapMagic);
    put<uint32_t>(w.bytes, 4, block);
    put<uint64_t>(w.bytes, 8, generation);
    std::memcpy(&w.bytes[kBitsAt], from, bytes_of(block));
    write_checksum(w.bytes);
  }
  dirty_.clear();
  return writes;
}

// What could not be written goes to the same copy again: the other is the last good one.
void Map::written(std::span<const Write> writes, bool ok) {
  for (const Write& w : writes) {
    if (!ok) {
      dirty_.insert(w.map_block);
    } else if (kind_ == Kind::kOwn) {
      ++generations_[w.map_block];
    }
  }
}

}  // namespace uk::cow
