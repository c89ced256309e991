#include "boot/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_format.h"
#include "hostio/sys/file.h"

namespace uk::boot {
namespace {

constexpr auto kInterval = std::chrono::milliseconds(100);
constexpr int kMaxBar = 40, kMinBar = 5;

int terminal_columns() {
  struct winsize size = {};
  Result<int> r = sys::ioctl(STDERR_FILENO, TIOCGWINSZ, &size);
  return r && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

std::string size_text(uint64_t bytes) {
  constexpr const char* kUnits[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
  return unit == 0 ? absl::StrFormat("%u bytes", bytes)
                   : absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

Progress::Progress(std::string what)
    : what_(std::move(what)),
      terminal_(isatty(STDERR_FILENO) == 1),
      last_(std::chrono::steady_clock::now()) {}

Progress::~Progress() {
  if (shown_) (void)sys::write_all(STDERR_FILENO, "\r\x1b[K");
}

std::string Progress::line(const std::string& what, uint64_t done, uint64_t total, int columns) {
  const uint64_t percent =
      total == 0 ? 100 : static_cast<uint64_t>(static_cast<__uint128_t>(done) * 100 / total);
  const std::string tail = absl::StrFormat(" %3u%% of %s", percent, size_text(total));
  const int room = columns - 1 - static_cast<int>(what.size() + tail.size()) - 3;
  if (room < kMinBar) return tail.substr(1);
  const int width = std::min(room, kMaxBar);
  const auto full = static_cast<size_t>(static_cast<uint64_t>(width) * percent / 100);
  return absl::StrFormat("%s [%s%s]%s", what, std::string(full, '#'),
                         std::string(static_cast<size_t>(width) - full, '.'), tail);
}

void Progress::update(uint64_t done, uint64_t total) {
  const auto now = std::chrono::steady_clock::now();
  if (!terminal_ || now - last_ < kInterval) return;
  last_ = now;
  shown_ = true;
  (void)sys::write_all(STDERR_FILENO, "\r\x1b[K" + line(what_, done, total, terminal_columns()));
}

}  // namespace uk::boot
