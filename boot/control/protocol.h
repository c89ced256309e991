// What `ukernel ctl` and an instance say to each other: messages of words (unix(7), SOCK_SEQPACKET;
// one message is one line). A client sends one request, the instance answers with any number of
//   out TEXT            to be printed
//   progress DONE TOTAL
// and at last `ok` or `error SENTENCE`, and closes.
//
// Pure text: nothing is opened here. Messages are untrusted on both sides: decode_line() takes at
// most kMaxLine bytes and kMaxWords words, and only what encode_line() can have made.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace uk::boot {

constexpr size_t kMaxLine = 16384;
constexpr size_t kMaxWords = 64;

using Words = std::vector<std::string>;

// Words with a blank between; bytes that are not printable ASCII, and '%', are %XX; "%-" is the
// empty word. May be longer than kMaxLine, if the words are.
std::string encode_line(const Words& words);
// nullopt: too long, no words, too many, stray blanks, bytes or escapes that do not belong there, a
// NUL.
std::optional<Words> decode_line(std::string_view line);

// "lab", "vm-2.old": 1 to 64 letters, digits, '.', '_' and '-', a letter or digit first.
bool valid_instance_name(std::string_view name);

}  // namespace uk::boot
