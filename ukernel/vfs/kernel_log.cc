#include "ukernel/vfs/kernel_log.h"

#include <poll.h>

#include <algorithm>
#include <charconv>
#include <vector>

#include "absl/strings/str_format.h"

namespace uk {
namespace {

constexpr uint64_t kNsPerUs = 1000, kUsPerSec = 1'000'000;
constexpr size_t kBytesALine = 128;  // what the ring's size in bytes is told by
constexpr unsigned kFacilityBits = 3, kUserFacility = 1, kMostPriority = 191;
constexpr size_t kMaxText = 992;  // of a line that a guest writes

}  // namespace

KernelLog::KernelLog(Log& log) : log_(log) {
  log_.set_watcher([this] { arrived.wake_all(POLLIN | POLLRDNORM); });
}

KernelLog::~KernelLog() { log_.set_watcher({}); }

std::string KernelLog::syslog_record(const Log::Line& line) {
  const uint64_t us = line.time_ns / kNsPerUs;
  return absl::StrFormat("<%d>[%5d.%06d] %s\n", line.priority(), us / kUsPerSec, us % kUsPerSec,
                         line.text);
}

// Bytes that are not printable become \xNN, and a record is one line.
std::string KernelLog::kmsg_record(const Log::Line& line) {
  std::string out =
      absl::StrFormat("%d,%d,%d,-;", line.priority(), line.seq, line.time_ns / kNsPerUs);
  for (char c : line.text) {
    const auto b = static_cast<unsigned char>(c);
    if (b < ' ' || b >= 127 || c == '\\') {
      absl::StrAppendFormat(&out, "\\x%02x", b);
    } else {
      out += c;
    }
  }
  return out + "\n";
}

uint64_t KernelLog::next_seq() const {
  return log_.lines().empty() ? 0 : log_.lines().back().seq + 1;
}
uint64_t KernelLog::first_seq() const {
  return log_.lines().empty() ? 0 : log_.lines().front().seq;
}

const Log::Line* KernelLog::at_or_behind(uint64_t seq) const {
  if (seq >= next_seq()) return nullptr;
  const uint64_t first = first_seq();
  return &log_.lines()[seq > first ? seq - first : 0];
}

Result<std::string> KernelLog::take(Park& park, size_t max, bool wait) {
  if (wait) {
    TRY(arrived.wait(
        park, [&] { return at_or_behind(read_seq_) != nullptr; }, WaitMode::kInterruptible, kNever,
        "syslog_print"));
  }
  std::string out;
  while (out.size() < max) {
    const Log::Line* line = at_or_behind(read_seq_);
    if (line == nullptr) break;
    if (line->seq != read_seq_) read_offset_ = 0;  // it was overwritten
    read_seq_ = line->seq;
    const std::string record = syslog_record(*line);
    // A record that does not fit waits for the next read, unless it is the first.
    if (out.empty()) {
      out = record.substr(std::min(read_offset_, record.size()), max);
      read_offset_ += out.size();
      if (read_offset_ < record.size()) break;
    } else if (record.size() <= max - out.size()) {
      out += record;
    } else {
      break;
    }
    ++read_seq_;
    read_offset_ = 0;
  }
  return out;
}

std::string KernelLog::newest(size_t max) const {
  std::vector<std::string> records;
  size_t size = 0;
  const auto& lines = log_.lines();
  for (auto it = lines.rbegin(); it != lines.rend() && it->seq >= clear_seq_; ++it) {
    records.push_back(syslog_record(*it));
    size += records.back().size();
    if (size > max) {
      records.pop_back();
      break;
    }
  }
  std::string out;
  for (auto it = records.rbegin(); it != records.rend(); ++it) out += *it;
  return out;
}

void KernelLog::clear() { clear_seq_ = next_seq(); }

size_t KernelLog::unread_bytes() const {
  size_t n = 0;
  for (const Log::Line& line : log_.lines()) {
    if (line.seq < read_seq_) continue;
    n += syslog_record(line).size();
    if (line.seq == read_seq_) n -= std::min(n, read_offset_);
  }
  return n;
}

size_t KernelLog::capacity_bytes() const { return log_.max_lines() * kBytesALine; }

void KernelLog::write(std::string_view text) {
  unsigned priority = kUserFacility << kFacilityBits | static_cast<unsigned>(LogLevel::kWarn);
  if (text.starts_with('<')) {
    unsigned given = 0;
    auto [end, error] = std::from_chars(text.data() + 1, text.data() + text.size(), given);
    if (error == std::errc() && end < text.data() + text.size() && *end == '>' &&
        given <= kMostPriority) {
      priority = given >> kFacilityBits == 0 ? given | kUserFacility << kFacilityBits : given;
      text.remove_prefix(static_cast<size_t>(end - text.data()) + 1);
    }
  }
  while (!text.empty() && (text.back() == '\n' || text.back() == '\0')) text.remove_suffix(1);
  log_.add_from_outside(priority, std::string(text.substr(0, kMaxText)));
}

}  // namespace uk
