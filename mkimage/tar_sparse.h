// Sparse files in tar archives, and the block of which headers are made. Private to the reader: see
// tar_reader.h for what is untrusted, and for errors. Source: GNU tar manual, "Storing Sparse
// Files".
#pragma once

#include <array>

#include "mkimage/tar_reader.h"

namespace uk::mkimage {

struct TarReader::Header {
  std::array<char, 512> raw = {};
  bool end_mark = false;
  std::string_view field(size_t at, size_t length) const { return {raw.data() + at, length}; }
};

// The map of a sparse file: pieces of data, which lie in the archive one behind the other.
struct TarReader::Sparse {
  struct Piece {
    uint64_t at = 0, length = 0;
  };
  bool is = false;
  bool in_contents = false;  // the map is before the data (pax form 1.0)
  uint64_t size = 0;
  std::string name;  // the member's own; the header has a made-up one
  std::vector<Piece> pieces;

  Result<> from_pax(const PaxRecords& records);
};

}  // namespace uk::mkimage
