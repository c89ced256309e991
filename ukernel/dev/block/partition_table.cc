#include "ukernel/dev/block/partition_table.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "absl/strings/str_format.h"

namespace uk {
namespace {

constexpr uint64_t kSector = 512;
using Sector = std::array<std::byte, kSector>;

// Numbers of tables are little-endian and may lie unaligned.
template <class T>
T get(std::span<const std::byte> from, size_t at) {
  T value;
  std::memcpy(&value, from.subspan(at).first(sizeof value).data(), sizeof value);
  return value;
}

struct MbrEntry {
  uint8_t type;
  uint32_t first, count;  // sectors
};
constexpr size_t kMbrTable = 446, kMbrEntryBytes = 16, kMbrSignature = 510;
constexpr uint8_t kGptProtective = 0xee;

bool is_extended(uint8_t type) { return type == 0x05 || type == 0x0f || type == 0x85; }

// The four entries of a master or extended boot record; nullopt: it is none.
std::optional<std::array<MbrEntry, 4>> mbr_entries(std::span<const std::byte> sector) {
  if (get<uint16_t>(sector, kMbrSignature) != 0xaa55) return std::nullopt;
  std::array<MbrEntry, 4> out{};
  for (size_t i = 0; i < out.size(); ++i) {
    const size_t at = kMbrTable + i * kMbrEntryBytes;
    const auto boot = get<uint8_t>(sector, at);
    if (boot != 0 && boot != 0x80) return std::nullopt;  // a boot sector of something else
    out[i] = {get<uint8_t>(sector, at + 4), get<uint32_t>(sector, at + 8),
              get<uint32_t>(sector, at + 12)};
  }
  return out;
}

class Tables {
 public:
  Tables(uint64_t bytes, const ReadSectors& read) : sectors_(bytes / kSector), read_(read) {}

  std::vector<Partition> run() {
    Sector first;
    if (sectors_ == 0 || !read_(0, first)) return {};
    auto entries = mbr_entries(first);
    if (!entries) return {};
    for (const MbrEntry& e : *entries) {
      if (e.type == kGptProtective) return gpt();
    }
    const auto signature = get<uint32_t>(first, 440);
    for (uint32_t i = 0; i < entries->size(); ++i) {
      const MbrEntry& e = (*entries)[i];
      if (e.type == 0) continue;
      // Of an extended partition Linux shows as much as a boot loader needs.
      const uint64_t shown = is_extended(e.type) ? std::min<uint64_t>(e.count, 2) : e.count;
      add_mbr(i + 1, e.first, shown, signature);
    }
    uint32_t next = 5;
    for (const MbrEntry& e : *entries) {
      if (is_extended(e.type) && e.first != 0) logical(e.first, &next, signature);
    }
    return std::move(found_);
  }

 private:
  static constexpr int kMaxChain = 100;

  bool add(Partition p, uint64_t first, uint64_t count) {
    if (count == 0 || first >= sectors_ || count > sectors_ - first ||
        found_.size() >= kMaxTableEntries)
      return false;
    p.start = first * kSector;
    p.bytes = count * kSector;
    found_.push_back(std::move(p));
    return true;
  }

  bool add_mbr(uint32_t number, uint64_t first, uint64_t count, uint32_t signature) {
    Partition p;
    p.number = number;
    p.uuid = absl::StrFormat("%08x-%02x", signature, number);
    return add(std::move(p), first, count);
  }

  // Logical partitions: each extended record names one and the next record, relative to `begin`.
  void logical(uint64_t begin, uint32_t* next, uint32_t signature) {
    uint64_t at = begin;
    for (int i = 0; i < kMaxChain; ++i) {
      Sector sector;
      if (at >= sectors_ || !read_(at * kSector, sector)) return;
      auto entries = mbr_entries(sector);
      if (!entries) return;
      uint64_t link = 0;
      for (const MbrEntry& e : *entries) {
        if (e.type == 0 || e.count == 0) continue;
        if (is_extended(e.type)) {
          if (link == 0) link = e.first;
        } else if (add_mbr(*next, at + e.first, e.count, signature)) {
          ++*next;
        }
      }
      if (link == 0) return;
      at = begin + link;
    }
  }

  struct Header {
    uint64_t entries_at;
    uint32_t count, entry_bytes, entries_crc;
  };

  // The header in sector `at`, if all in it is as it must be.
  std::optional<Header> gpt_header(uint64_t at) {
    Sector s;
    if (at >= sectors_ || !read_(at * kSector, s)) return std::nullopt;
    if (std::memcmp(s.data(), "EFI PART", 8) != 0) return std::nullopt;
    const auto header_bytes = get<uint32_t>(s, 12);
    if (header_bytes < 92 || header_bytes > kSector) return std::nullopt;
    const auto crc = get<uint32_t>(s, 16);
    std::memset(s.data() + 16, 0, 4);
    if (crc32(std::span(s).first(header_bytes)) != crc) return std::nullopt;
    if (get<uint64_t>(s, 24) != at) return std::nullopt;
    Header h{get<uint64_t>(s, 72), get<uint32_t>(s, 80), get<uint32_t>(s, 84),
             get<uint32_t>(s, 88)};
    if (h.entry_bytes != 128 || h.count == 0 || h.count > 4 * kMaxTableEntries) return std::nullopt;
    const uint64_t table = (uint64_t{h.count} * h.entry_bytes + kSector - 1) / kSector;
    if (h.entries_at < 2 || h.entries_at >= sectors_ || table > sectors_ - h.entries_at)
      return std::nullopt;
    return h;
  }

  // The primary table, or its copy in the last sector if that is broken.
  std::vector<Partition> gpt() {
    for (uint64_t at : {uint64_t{1}, sectors_ - 1}) {
      auto header = gpt_header(at);
      if (header && gpt_entries(*header)) return std::move(found_);
    }
    return {};
  }

  bool gpt_entries(const Header& h) {
    const uint64_t bytes = uint64_t{h.count} * h.entry_bytes;
    std::vector<std::byte> table((bytes + kSector - 1) / kSector * kSector);
    if (!read_(h.entries_at * kSector, table)) return false;
    if (crc32(std::span(table).first(bytes)) != h.entries_crc) return false;
    for (uint32_t i = 0; i < h.count; ++i) {
      auto e =
          std::span<const std::byte>(table).subspan(uint64_t{i} * h.entry_bytes, h.entry_bytes);
      if (get<uint64_t>(e, 0) == 0 && get<uint64_t>(e, 8) == 0) continue;  // no type: not used
      const auto first = get<uint64_t>(e, 32), last = get<uint64_t>(e, 40);
      if (last < first || last >= sectors_) continue;
      Partition p;
      p.number = i + 1;
      p.uuid = uuid(e.subspan(16, 16));
      for (size_t c = 56; c < 128; c += 2) {
        const auto ch = get<uint16_t>(e, c);
        if (ch == 0) break;
        p.label += ch >= 0x20 && ch < 0x7f ? static_cast<char>(ch) : '?';
      }
      add(std::move(p), first, last - first + 1);
    }
    return true;
  }

  static std::string uuid(std::span<const std::byte> b) {
    std::string out = absl::StrFormat("%08x-%04x-%04x-", get<uint32_t>(b, 0), get<uint16_t>(b, 4),
                                      get<uint16_t>(b, 6));
    for (size_t i = 8; i < 16; ++i) {
      if (i == 10) out += '-';
      out += absl::StrFormat("%02x", get<uint8_t>(b, i));
    }
    return out;
  }

  const uint64_t sectors_;
  const ReadSectors& read_;
  std::vector<Partition> found_;
};

}  // namespace

uint32_t crc32(std::span<const std::byte> bytes) {
  uint32_t crc = ~0u;
  for (std::byte b : bytes) {
    crc ^= static_cast<uint32_t>(b);
    for (int i = 0; i < 8; ++i) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xedb88320u : 0u);
  }
  return ~crc;
}

std::vector<Partition> read_partitions(uint64_t disk_bytes, const ReadSectors& read) {
  return Tables(disk_bytes, read).run();
}

}  // namespace uk
