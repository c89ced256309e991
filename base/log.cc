#include "base/log.h"

namespace uk {

void Log::append(Line line) {
  line.seq = next_seq_++;
  line.time_ns = clock_ ? clock_() : 0;
  lines_.push_back(std::move(line));
  if (lines_.size() > max_lines_) lines_.pop_front();
  const Line& last = lines_.back();
  if (sink_ && static_cast<int>(last.level) < console_level) sink_(last);
  if (watcher_) watcher_();
}

void Log::add(LogLevel level, std::string text) { append(Line{0, 0, level, std::move(text)}); }

void Log::add_from_outside(unsigned priority, std::string text) {
  Line line{0, 0, static_cast<LogLevel>(priority & 7), std::move(text)};
  line.facility = priority >> 3;
  append(std::move(line));
}

}  // namespace uk
