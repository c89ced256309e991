#include "tests/oracle/call.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace oracle {
namespace {

// Paths of a sequence that was read from a file may be others than the generator's; they are added
// here.
std::vector<std::string>& pool() {
  static auto* pool = new std::vector<std::string>{
      "a",
      "b",
      "c",
      "d",
      "e",
      "d/a",
      "d/b",
      "d/e",
      "e/a",
      "d/e/a",
      "l",
      "d/l",
      "a/",
      "d/",
      "./a",
      "d/../a",
      "d/.",
      ".",
      "a/b",
      "l/a",
      "e/d",
      "",
      "d/e/b",
      "d//a/",
      "l/",
      "f",
      "s",
      "d/f",
      "nosuch/a",
      "d/..",
      std::string(255, 'x'),
      std::string(256, 'y'),
  };
  return *pool;
}

std::string words(const Words& w, uint64_t value) {
  std::string out;
  uint64_t choices = 0;
  for (const Word& c : w.choice) choices |= c.value;
  // Bits that a choice has of its own (O_TMPFILE) must not hide the others'.
  const Word* best = nullptr;
  uint64_t bits = 0;
  for (const Word& b : w.bits) bits |= b.value;
  for (const Word& c : w.choice) {
    if ((value & ~bits) == (c.value & ~bits) && (c.value & ~value) == 0) best = &c;
  }
  if (best != nullptr) {
    out = best->name;
    value &= ~best->value;
  }
  for (const Word& b : w.bits) {
    if (b.value != 0 && (value & b.value) == b.value) {
      out += (out.empty() ? "" : "|") + std::string(b.name);
      value &= ~b.value;
    }
  }
  if (value != 0 || out.empty()) {
    char number[24];
    snprintf(number, sizeof number, value == 0 ? "0" : "0x%llx",
             static_cast<unsigned long long>(value));
    out += (out.empty() ? "" : "|") + std::string(number);
  }
  return out;
}

std::optional<int64_t> parse_words(const Words& w, std::string_view text) {
  uint64_t value = 0;
  while (!text.empty()) {
    // A choice's name may hold a bar itself: the longest that fits.
    const Word* best = nullptr;
    size_t length = 0;
    for (const auto* list : {&w.choice, &w.bits}) {
      for (const Word& c : *list) {
        size_t n = strlen(c.name);
        if (n > length && text.substr(0, n) == c.name && (text.size() == n || text[n] == '|')) {
          best = &c;
          length = n;
        }
      }
    }
    if (best != nullptr) {
      value |= best->value;
    } else {
      length = std::min(text.find('|'), text.size());
      std::string number(text.substr(0, length));
      char* end;
      value |= strtoull(number.c_str(), &end, 0);
      if (*end != 0 || number.empty()) return std::nullopt;
    }
    text.remove_prefix(std::min(length + 1, text.size()));
  }
  return static_cast<int64_t>(value);
}

std::string place(int64_t v) {
  char out[48];
  uint64_t at = static_cast<uint64_t>(v);
  if (at % kPage == 0) {
    snprintf(out, sizeof out, "@%lld", static_cast<long long>((at - kArena) / kPage));
  } else {
    snprintf(out, sizeof out, "@%lld+%d", static_cast<long long>((at - kArena) / kPage),
             static_cast<int>(at % kPage));
  }
  return out;
}

std::string format_arg(const ArgSpec& spec, int64_t v) {
  if (v == kBad) return "BAD";
  char out[32];
  switch (spec.kind) {
    case Kind::kWords:
      return words(*spec.words, static_cast<uint64_t>(v));
    case Kind::kInt:
    case Kind::kLen:
    case Kind::kProc:
      snprintf(out, sizeof out, "%lld", static_cast<long long>(v));
      return out;
    case Kind::kOctal:
      snprintf(out, sizeof out, "0%llo", static_cast<long long>(v));
      return out;
    case Kind::kFd:
      if (v == kCwd) return "cwd";
      if (v < 0 || v >= kSlots) {
        snprintf(out, sizeof out, "fd%lld", static_cast<long long>(v < 0 ? v : v - 1000));
        return out;
      }
      return std::string(1, static_cast<char>('a' + v));
    case Kind::kPath:
      return '"' + pool()[static_cast<size_t>(v)] + '"';
    case Kind::kAddr:
      return place(v);
    case Kind::kBuffer:
      return v == 0 ? "buf" : place(v);
  }
  return "?";
}

std::optional<int64_t> parse_arg(const ArgSpec& spec, std::string_view text) {
  if (text == "BAD") return kBad;
  if (spec.kind == Kind::kPath) {
    if (text.size() < 2 || text.front() != '"' || text.back() != '"') return std::nullopt;
    text = text.substr(1, text.size() - 2);
    auto& all = pool();
    for (size_t i = 0; i < all.size(); ++i) {
      if (all[i] == text) return static_cast<int64_t>(i);
    }
    all.emplace_back(text);
    return static_cast<int64_t>(all.size() - 1);
  }
  std::string t(text);
  char* end = nullptr;
  switch (spec.kind) {
    case Kind::kWords:
      return parse_words(*spec.words, text);
    case Kind::kFd:
      if (t == "cwd") return kCwd;
      if (t.size() == 1 && t[0] >= 'a' && t[0] < 'a' + kSlots) return t[0] - 'a';
      if (t.rfind("fd", 0) == 0) {
        int64_t n = strtoll(t.c_str() + 2, nullptr, 0);
        return n < 0 ? n : n + 1000;
      }
      return std::nullopt;
    case Kind::kBuffer:
      if (t == "buf") return 0;
      [[fallthrough]];
    case Kind::kAddr: {
      if (t.empty() || t[0] != '@') return std::nullopt;
      int64_t page = strtoll(t.c_str() + 1, &end, 10), offset = 0;
      if (*end == '+') offset = strtoll(end + 1, &end, 10);
      if (*end != 0) return std::nullopt;
      return static_cast<int64_t>(kArena) + page * static_cast<int64_t>(kPage) + offset;
    }
    default: {
      int64_t n = strtoll(t.c_str(), &end, spec.kind == Kind::kOctal ? 8 : 0);
      if (*end != 0 || t.empty()) return std::nullopt;
      return n;
    }
  }
}

// The next word of a line; a quoted one may hold blanks.
std::string_view next_word(std::string_view* line) {
  size_t start = line->find_first_not_of(' ');
  if (start == line->npos) return {};
  line->remove_prefix(start);
  size_t end;
  if ((*line)[0] == '"') {
    end = line->find('"', 1);
    end = end == line->npos ? line->size() : end + 1;
  } else {
    end = std::min(line->find(' '), line->size());
  }
  std::string_view word = line->substr(0, end);
  line->remove_prefix(end);
  return word;
}

}  // namespace

const std::vector<std::string>& paths() { return pool(); }

std::string format(const Call& call) {
  std::string out = std::to_string(call.process) + " ";
  for (int i = 0; i < call.desc->results; ++i) {
    if (i > 0) out += ',';
    out += static_cast<char>('a' + call.result[i]);
  }
  if (call.desc->results > 0) out += '=';
  out += call.desc->name;
  for (size_t i = 0; i < call.desc->args.size(); ++i)
    out += " " + format_arg(call.desc->args[i], call.arg[i]);
  return out;
}

std::optional<Call> parse(std::string_view line, std::string* why) {
  Call call;
  std::string_view rest = line;
  std::string_view process = next_word(&rest);
  if (process.size() != 1 || process[0] < '0' || process[0] >= '0' + kProcesses) {
    *why = "a line begins with the number of a process";
    return std::nullopt;
  }
  call.process = process[0] - '0';
  std::string_view name = next_word(&rest);
  size_t equals = name.find('=');
  std::string_view slots = equals == name.npos ? std::string_view() : name.substr(0, equals);
  if (equals != name.npos) name = name.substr(equals + 1);
  for (const Desc& d : table()) {
    if (name == d.name) call.desc = &d;
  }
  if (call.desc == nullptr) {
    *why = "no such call: " + std::string(name);
    return std::nullopt;
  }
  if (static_cast<int>(slots.size() + 1) / 2 != call.desc->results) {
    *why = std::string(name) + " fills " + std::to_string(call.desc->results) + " slots";
    return std::nullopt;
  }
  for (int i = 0; i < call.desc->results; ++i) {
    call.result[i] = slots[static_cast<size_t>(2 * i)] - 'a';
    if (call.result[i] < 0 || call.result[i] >= kSlots) {
      *why = "slots are a to p";
      return std::nullopt;
    }
  }
  for (size_t i = 0; i < call.desc->args.size(); ++i) {
    std::string_view text = next_word(&rest);
    auto value = parse_arg(call.desc->args[i], text);
    if (!value) {
      *why = "argument " + std::to_string(i + 1) + " of " + std::string(name) + ": " +
             std::string(text);
      return std::nullopt;
    }
    call.arg[i] = *value;
  }
  return call;
}

}  // namespace oracle
