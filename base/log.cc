#include "base/log.h"

namespace uk {

void Log::add(LogLevel level, std::string text) {
  lines_.push_back(Line{next_seq_++, clock_ ? clock_() : 0, level, std::move(text)});
  if (lines_.size() > max_lines_) lines_.pop_front();
  if (sink_) sink_(lines_.back());
}

}  // namespace uk
