// Numbers, and the records of pax extended headers.
#include <algorithm>
#include <charconv>

#include "absl/strings/escaping.h"
#include "mkimage/tar_reader.h"
#include "mkimage/text.h"

namespace uk::mkimage {
namespace {

constexpr std::string_view kSchily = "SCHILY.xattr.", kLibarchive = "LIBARCHIVE.xattr.";

template <class T>
bool whole_number(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

// A name in a LIBARCHIVE record: bytes outside of ASCII's letters may be written %XX.
std::string url_decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    uint8_t byte = 0;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(&text[i + 1], &text[i + 3], byte, 16).ptr == &text[i + 3]) {
      out += static_cast<char>(byte);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace

Result<int64_t> tar_number(std::string_view field) {
  const auto first = static_cast<uint8_t>(field.empty() ? 0 : field[0]);
  if (first == 0x80 || first == 0xFF) {  // two's complement, most significant byte first
    __int128 value = first == 0xFF ? -1 : 0;
    for (const char c : field.substr(1)) {
      value = value * 256 + static_cast<uint8_t>(c);
      if (value > INT64_MAX || value < INT64_MIN) return Err(Errno::kOVERFLOW);
    }
    return static_cast<int64_t>(value);
  }
  while (!field.empty() && field.front() == ' ') field.remove_prefix(1);
  const size_t end = field.find_first_of(std::string_view(" \0", 2));
  field = field.substr(0, end);
  if (field.empty()) return 0;
  uint64_t value = 0;
  const auto [stop, error] = std::from_chars(field.data(), field.data() + field.size(), value, 8);
  if (stop != field.data() + field.size() || error == std::errc::invalid_argument)
    return Err(Errno::kINVAL);
  if (error != std::errc() || value > INT64_MAX) return Err(Errno::kOVERFLOW);
  return static_cast<int64_t>(value);
}

Result<Time> pax_time(std::string_view text) {
  const bool negative = text.starts_with('-');
  const size_t dot = std::min(text.find('.'), text.size());
  std::string digits(text.substr(std::min(dot + 1, text.size())));
  if (digits.find_first_not_of("0123456789") != std::string::npos) return Err(Errno::kINVAL);
  digits.resize(9, '0');
  Time time;
  uint32_t nanoseconds = 0;
  if (!whole_number(text.substr(0, dot), time.seconds) ||
      !whole_number<uint32_t>(digits, nanoseconds))
    return Err(Errno::kINVAL);
  if (negative && nanoseconds > 0) {
    if (time.seconds == INT64_MIN) return Err(Errno::kINVAL);
    --time.seconds;
    nanoseconds = 1'000'000'000 - nanoseconds;
  }
  time.nanoseconds = nanoseconds;
  return time;
}

Result<> parse_pax(std::string_view text, PaxRecords& records) {
  while (!text.empty()) {
    const size_t blank = text.find(' ');
    size_t length = 0;
    if (blank == std::string_view::npos || !whole_number(text.substr(0, blank), length) ||
        length > text.size() || length < blank + 3 || text[length - 1] != '\n')
      return Err(Errno::kINVAL);
    const std::string_view record = text.substr(blank + 1, length - blank - 2);
    const size_t equals = record.find('=');
    if (equals == std::string_view::npos || equals == 0) return Err(Errno::kINVAL);
    records.emplace_back(record.substr(0, equals), record.substr(equals + 1));
    text.remove_prefix(length);
  }
  return {};
}

Result<> apply_pax(const PaxRecords& records, Attributes& a, std::string& why) {
  std::map<std::string, std::string> second;
  for (const auto& [key, value] : records) {
    bool good = true;
    if (key == "uid" || key == "gid") {
      uint32_t& id = key == "uid" ? a.uid : a.gid;
      good = whole_number(value, id) && id != UINT32_MAX;
    } else if (key == "mtime" || key == "atime" || key == "ctime") {
      const Result<Time> time = pax_time(value);
      good = time.has_value();
      if (good) (key == "mtime" ? a.mtime : key == "atime" ? a.atime : a.ctime) = *time;
    } else if (key.starts_with(kSchily)) {
      a.xattrs[key.substr(kSchily.size())] = value;
    } else if (key.starts_with(kLibarchive)) {
      std::string bytes;
      good = absl::Base64Unescape(value, &bytes);
      if (good) second[url_decoded(std::string_view(key).substr(kLibarchive.size()))] = bytes;
    } else if (key.starts_with("SCHILY.acl.")) {
      // Text, with names instead of numbers: kept as what ext4 does not have, so that it is noted.
      second["system.posix_acl_" + key.substr(11)] = "text";
    }
    if (!good) {
      why = cat("a pax record cannot be understood: ", shown(key), "=", shown(value));
      return Err(Errno::kINVAL);
    }
  }
  a.xattrs.merge(second);  // where a program writes two forms, the other is better
  return {};
}

}  // namespace uk::mkimage
