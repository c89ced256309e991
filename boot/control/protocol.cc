#include "boot/control/protocol.h"

#include <algorithm>

namespace uk::boot {
namespace {

constexpr std::string_view kEmpty = "%-";
constexpr char kHex[] = "0123456789ABCDEF";

bool plain(char c) { return c > ' ' && c < 0x7f && c != '%'; }

int hex(char c) {
  const char* at = std::find(kHex, kHex + 16, c);
  return at == kHex + 16 ? -1 : static_cast<int>(at - kHex);
}

bool decode_word(std::string_view text, std::string& word) {
  if (text == kEmpty) return true;
  if (text.empty()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (plain(text[i])) {
      word += text[i];
      continue;
    }
    if (text[i] != '%' || text.size() - i < 3) return false;
    const int high = hex(text[i + 1]), low = hex(text[i + 2]);
    const char c = static_cast<char>(high * 16 + low);
    // One way to write each word, and none for what no path can have.
    if (high < 0 || low < 0 || c == '\0' || plain(c)) return false;
    word += c;
    i += 2;
  }
  return true;
}

}  // namespace

std::string encode_line(const Words& words) {
  std::string line;
  for (const std::string& word : words) {
    if (!line.empty()) line += ' ';
    if (word.empty()) line += kEmpty;
    for (char c : word) {
      const auto byte = static_cast<unsigned char>(c);
      if (plain(c)) {
        line += c;
      } else {
        line += {'%', kHex[byte >> 4], kHex[byte & 15]};
      }
    }
  }
  return line;
}

std::optional<Words> decode_line(std::string_view line) {
  if (line.empty() || line.size() > kMaxLine) return std::nullopt;
  Words words;
  for (size_t at = 0; at <= line.size();) {
    const size_t end = std::min(line.find(' ', at), line.size());
    if (words.size() == kMaxWords || !decode_word(line.substr(at, end - at), words.emplace_back()))
      return std::nullopt;
    at = end + 1;
  }
  return words;
}

bool valid_instance_name(std::string_view name) {
  auto alnum = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  return !name.empty() && name.size() <= 64 && alnum(name[0]) &&
         std::ranges::all_of(name,
                             [&](char c) { return alnum(c) || c == '.' || c == '_' || c == '-'; });
}

}  // namespace uk::boot
