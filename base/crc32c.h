// CRC-32C (Castagnoli): the checksum of ext4, of its journal and of this project's own formats.
// (RFC 3720, appendix B.4; there the register begins with all ones and is inverted at the end.)
//
// Pure. By the CPU's instruction where there is one (SSE 4.2), else by a table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace uk {

// Continues with `bytes`: no inversion at either end, as ext4 and jbd2 use it.
uint32_t crc32c_update(uint32_t crc, std::span<const std::byte> bytes);

// The checksum of RFC 3720.
inline uint32_t crc32c(std::span<const std::byte> bytes) { return ~crc32c_update(~0u, bytes); }

// The way without the instruction, for tests.
uint32_t crc32c_by_table(uint32_t crc, std::span<const std::byte> bytes);

}  // namespace uk
