// The kernel log: a bounded ring of lines (what --dmesg prints and syslog(2) reads). One object per
// instance. Lines carry a monotonic time given by the owner's clock. Nothing here does I/O except
// through the sink the owner sets.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>

#include "absl/strings/str_format.h"

namespace uk {

enum class LogLevel : uint8_t { kErr = 3, kWarn = 4, kInfo = 6, kDebug = 7 };

class Log {
 public:
  struct Line {
    uint64_t seq;      // counts from 0
    uint64_t time_ns;  // since boot
    LogLevel level;
    std::string text;
  };
  using Clock = std::function<uint64_t()>;
  using Sink = std::function<void(const Line&)>;

  explicit Log(size_t max_lines = 2000) : max_lines_(max_lines) {}

  void set_clock(Clock clock) { clock_ = std::move(clock); }
  // Called with every new line (e.g. to print it on stderr for --dmesg); may be empty.
  void set_sink(Sink sink) { sink_ = std::move(sink); }

  void add(LogLevel level, std::string text);
  template <class... Args>
  void info(const absl::FormatSpec<Args...>& f, const Args&... args) {
    add(LogLevel::kInfo, absl::StrFormat(f, args...));
  }
  template <class... Args>
  void warn(const absl::FormatSpec<Args...>& f, const Args&... args) {
    add(LogLevel::kWarn, absl::StrFormat(f, args...));
  }
  template <class... Args>
  void err(const absl::FormatSpec<Args...>& f, const Args&... args) {
    add(LogLevel::kErr, absl::StrFormat(f, args...));
  }

  const std::deque<Line>& lines() const { return lines_; }

 private:
  size_t max_lines_;
  uint64_t next_seq_ = 0;
  Clock clock_;
  Sink sink_;
  std::deque<Line> lines_;
};

}  // namespace uk
