// A bar on the terminal for work that takes a while: "commit a.cow [####......] 41% of 2.0 GiB".
// Nothing where standard error is no terminal, or when all is done in a moment.
//
// Ownership: the caller's, for one piece of work; the bar goes with it. Blocks for no longer than
// the terminal does.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace uk::boot {

class Progress {
 public:
  explicit Progress(std::string what);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void update(uint64_t done, uint64_t total);

  // The line for a terminal of so many columns.
  static std::string line(const std::string& what, uint64_t done, uint64_t total, int columns);

 private:
  const std::string what_;
  const bool terminal_;
  bool shown_ = false;
  std::chrono::steady_clock::time_point last_;
};

// "17", "4.0 KiB", "2.5 GiB".
std::string size_text(uint64_t bytes);

}  // namespace uk::boot
