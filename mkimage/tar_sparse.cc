#include "mkimage/tar_sparse.h"

#include <algorithm>
#include <charconv>

namespace uk::mkimage {
namespace {

constexpr uint64_t kBlock = 512;

bool decimal(std::string_view text, uint64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

Result<> TarReader::Sparse::from_pax(const PaxRecords& records) {
  bool good = true, offset_waits = false;
  for (const auto& [key, value] : records) {
    if (!key.starts_with("GNU.sparse.")) continue;
    const std::string_view what = std::string_view(key).substr(11);
    uint64_t n = 0;
    if (what == "name") {
      name = value;
    } else if (what == "map") {  // form 0.1
      pieces.clear();
      is = true;
      for (std::string_view rest = value; good && !rest.empty();) {
        const size_t comma = std::min(rest.find(','), rest.size());
        good = decimal(rest.substr(0, comma), n);
        rest.remove_prefix(std::min(comma + 1, rest.size()));
        if (offset_waits) pieces.back().length = n;
        if (!offset_waits) pieces.push_back({n, 0});
        offset_waits = !offset_waits;
      }
    } else if (what == "major") {
      good = decimal(value, n);
      in_contents |= good && n == 1;
    } else if (what == "size" || what == "realsize") {
      good = decimal(value, size);
      is = true;
    } else if (what == "offset") {  // form 0.0
      good = decimal(value, n) && !offset_waits;
      pieces.push_back({n, 0});
      offset_waits = true;
    } else if (what == "numbytes") {
      good = decimal(value, n) && offset_waits;
      if (good) pieces.back().length = n;
      offset_waits = false;
    }
    if (!good) return Err(Errno::kINVAL);
  }
  if (offset_waits || (in_contents && !is)) return Err(Errno::kINVAL);
  return {};
}

// GNU's old form: four pieces in the header, and 21 in each block that follows.
Result<> TarReader::read_sparse_blocks(const Header& header, Sparse& sparse, std::string& why) {
  const auto take = [&](const Header& h, size_t from, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      const size_t at = from + i * 24;
      if (h.raw[at] == 0) return true;  // not used
      const Result<int64_t> offset = tar_number(h.field(at, 12));
      const Result<int64_t> length = tar_number(h.field(at + 12, 12));
      if (!offset || !length || *offset < 0 || *length < 0) return false;
      sparse.pieces.push_back({static_cast<uint64_t>(*offset), static_cast<uint64_t>(*length)});
    }
    return true;
  };
  const Result<int64_t> size = tar_number(header.field(483, 12));
  if (!size || *size < 0 || !take(header, 386, 4))
    return fail(why, "a sparse file's map cannot be understood");
  sparse.is = true;
  sparse.size = static_cast<uint64_t>(*size);
  for (bool more = header.raw[482] != 0; more;) {
    Header h;
    TRY(read(at_, std::as_writable_bytes(std::span(h.raw)), why));
    if (!take(h, 0, 21)) return fail(why, "a sparse file's map cannot be understood");
    at_ += kBlock;
    more = h.raw[504] != 0;
  }
  return {};
}

// Form 1.0: the number of pieces, then each one's offset and length, a line each, filled up to
// whole blocks. `size`: of map and data.
Result<> TarReader::read_sparse_text(uint64_t size, Sparse& sparse, std::string& why) {
  const uint64_t end = at_ + size;
  std::string text;
  size_t used = 0;
  const auto line = [&]() -> Result<uint64_t> {
    constexpr size_t kMaxLine = 32;
    size_t newline;
    while ((newline = text.find('\n', used)) == std::string::npos) {
      if (text.size() - used > kMaxLine || end - at_ < kBlock)
        return fail(why, "a sparse file's map cannot be understood");
      text.erase(0, used);
      used = 0;
      text.resize(text.size() + kBlock);
      TRY(read(at_, std::as_writable_bytes(std::span(text).last(kBlock)), why));
      at_ += kBlock;
    }
    uint64_t value = 0;
    if (newline == used || !decimal(std::string_view(text).substr(used, newline - used), value))
      return fail(why, "a sparse file's map cannot be understood");
    used = newline + 1;
    return value;
  };
  sparse.pieces.clear();
  for (uint64_t count = TRY(line()); count > 0; --count) {
    Sparse::Piece p;
    p.at = TRY(line());
    p.length = TRY(line());
    sparse.pieces.push_back(p);
  }
  return {};
}

// The data begins at at_ and ends at `end`.
Result<> TarReader::lay_segments(const Sparse& sparse, uint64_t end, Attributes& a,
                                 std::string& why) const {
  constexpr uint64_t kMaxSize = uint64_t{1} << 62;
  if (sparse.size > kMaxSize) return fail(why, "a sparse file's size cannot be");
  uint64_t from = at_, behind = 0;
  a.size = sparse.size;
  for (const Sparse::Piece& p : sparse.pieces) {
    if (p.at < behind || p.at > sparse.size || p.length > sparse.size - p.at ||
        p.length > end - from)
      return fail(why, "a sparse file's map does not fit its contents");
    if (p.length > 0) a.segments.push_back({p.at, p.length, from});
    behind = p.at + p.length;
    from += p.length;
  }
  return {};
}

}  // namespace uk::mkimage
