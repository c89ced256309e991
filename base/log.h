// The kernel log: a bounded ring of lines (what --dmesg prints and syslog(2) reads). One object per
// instance. Lines carry a monotonic time given by the owner's clock. Nothing here does I/O except
// through the sink the owner sets.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace uk {

enum class LogLevel : uint8_t { kErr = 3, kWarn = 4, kInfo = 6, kDebug = 7 };

class Log {
 public:
  struct Line {
    uint64_t seq;      // counts from 0
    uint64_t time_ns;  // since boot
    LogLevel level;
    std::string text;
    unsigned facility = 0;  // syslog(3): 0 is the kernel itself
    unsigned priority() const { return facility << 3 | static_cast<unsigned>(level); }
  };
  using Clock = std::function<uint64_t()>;
  using Sink = std::function<void(const Line&)>;

  explicit Log(size_t max_lines = 2000) : max_lines_(max_lines) {}

  void set_clock(Clock clock) { clock_ = std::move(clock); }
  // Called with every new line (e.g. to print it on stderr for --dmesg); may be empty.
  void set_sink(Sink sink) { sink_ = std::move(sink); }

  // Called behind the sink, whatever the level; may be empty. Must not log.
  void set_watcher(std::function<void()> watcher) { watcher_ = std::move(watcher); }
  // Lines of a level below this reach the sink (console_loglevel of proc(5)); all, by default.
  int console_level = 8;

  void add(LogLevel level, std::string text);
  // A line that is not the kernel's; priority as syslog(3) makes it, of any level.
  void add_from_outside(unsigned priority, std::string text);
  // The text is complete; callers format it (absl::StrFormat), so that this header stays light.
  void info(std::string text) { add(LogLevel::kInfo, std::move(text)); }
  void warn(std::string text) { add(LogLevel::kWarn, std::move(text)); }
  void err(std::string text) { add(LogLevel::kErr, std::move(text)); }

  size_t max_lines() const { return max_lines_; }
  const std::deque<Line>& lines() const { return lines_; }

 private:
  void append(Line line);
  size_t max_lines_;
  uint64_t next_seq_ = 0;
  Clock clock_;
  Sink sink_;
  std::function<void()> watcher_;
  std::deque<Line> lines_;
};

}  // namespace uk
