// Partition tables: GPT (UEFI specification, section 5) and the older MBR with its chain of
// extended partitions. The image is hostile: every number is checked against the disk, entries that
// do not fit are left out, chains are bounded, and a broken table is none.
//
// Pure: reads through the function it is handed, and keeps nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace uk {

struct Partition {
  uint32_t number = 0;  // from 1
  uint64_t start = 0;   // bytes
  uint64_t bytes = 0;
  std::string uuid;   // PARTUUID as Linux writes it
  std::string label;  // GPT: printable ASCII, others as '?'
};

// Reads `to` at byte `offset`; both multiples of 512 and inside the disk.
using ReadSectors = std::function<Result<>(uint64_t offset, std::span<std::byte> to)>;

// At most kMaxTableEntries, in the order of their numbers.
constexpr size_t kMaxTableEntries = 128;
std::vector<Partition> read_partitions(uint64_t disk_bytes, const ReadSectors& read);

// The checksum of GPT headers and entries (CRC-32 of IEEE 802.3).
uint32_t crc32(std::span<const std::byte> bytes);

}  // namespace uk
