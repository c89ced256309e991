// Reads tar archives, one member after the other: those of v7, ustar, pax and GNU tar, with long
// names, sparse files (GNU's old form and its pax forms 0.0, 0.1 and 1.0) and extended attributes.
// Sources: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Interchange Format"
// (https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html); the GNU tar manual,
// "Tar Internals"; tar(5) of libarchive for its records.
//
// Ownership: the descriptor is the caller's, and is read by offset only. Blocks the thread. The
// archive is untrusted: everything is checked against its size, and what is kept in memory is
// bounded by what was read. On failure `why` says what is wrong, and where. An archive must have an
// end mark: one that was cut short is always an error.
#pragma once

#include <optional>
#include <span>

#include "mkimage/tree.h"

namespace uk::mkimage {

struct TarMember {
  std::string name;
  Attributes attributes;  // segments[].from: offsets in the archive
  std::string hard_link;  // not empty: another name of that member, and nothing else counts
};

// A record of a pax extended header.
using PaxRecords = std::vector<std::pair<std::string, std::string>>;

class TarReader {
 public:
  TarReader(int fd, uint64_t bytes) : fd_(fd), bytes_(bytes) {}

  // Nothing: the archive has ended.
  Result<std::optional<TarMember>> next(std::string& why);
  // Where the next header is.
  uint64_t offset() const { return at_; }

 private:
  struct Header;
  struct Sparse;
  std::unexpected<Errno> fail(std::string& why, std::string_view what) const;
  Result<> read(uint64_t at, std::span<std::byte> to, std::string& why) const;
  Result<Header> read_header(std::string& why);
  // The contents of a header that only extends the next one.
  Result<std::string> read_extension(uint64_t size, std::string& why);
  Result<> add_global(const PaxRecords& records, size_t bytes, std::string& why);
  Result<TarMember> member(const Header& header, const PaxRecords& records, TarMember extended,
                           std::string& why);
  Result<> read_sparse_blocks(const Header& header, Sparse& sparse, std::string& why);
  Result<> read_sparse_text(uint64_t size, Sparse& sparse, std::string& why);
  Result<> lay_segments(const Sparse& sparse, uint64_t end, Attributes& attributes,
                        std::string& why) const;

  const int fd_;
  const uint64_t bytes_;
  uint64_t at_ = 0;
  PaxRecords global_;
  size_t global_bytes_ = 0;
};

// The numbers of a header: octal digits, or GNU's base 256. kINVAL: neither; kOVERFLOW: too large.
Result<int64_t> tar_number(std::string_view field);
// "1350244992.023960108", as pax writes times.
Result<Time> pax_time(std::string_view text);
// Appends the records of a pax header ("LENGTH KEY=VALUE\n"...).
Result<> parse_pax(std::string_view text, PaxRecords& records);
// What the records say beyond names, sizes and sparse files: owners, times, extended attributes.
Result<> apply_pax(const PaxRecords& records, Attributes& attributes, std::string& why);

}  // namespace uk::mkimage
