#include "ukernel/dev/jbd2/log_place.h"

#include "base/check.h"

namespace uk::jbd2 {

uint64_t LogPlace::blocks() const {
  uint64_t n = 0;
  for (const Extent& e : extents) n += e.count;
  return n;
}

Result<> LogPlace::check(const BlockDevice& device) const {
  if (block_size != 1024 && block_size != 2048 && block_size != 4096) return Err(Errno::kOPNOTSUPP);
  const uint64_t limit = device.size() / block_size;
  std::vector<Extent> sorted = extents;
  std::ranges::sort(sorted, {}, &Extent::block);
  uint64_t end = 0;
  for (const Extent& e : sorted) {
    if (e.count == 0 || e.block < end || e.block > limit || e.count > limit - e.block)
      return Err(Errno::kUCLEAN);
    end = e.block + e.count;
  }
  return end == 0 ? Err(Errno::kUCLEAN) : Result<>();
}

bool LogPlace::contains(uint64_t block) const {
  return std::ranges::any_of(
      extents, [&](const Extent& e) { return block >= e.block && block - e.block < e.count; });
}

LogPlace::Run LogPlace::run_at(uint32_t index) const {
  for (const Extent& e : extents) {
    if (index < e.count) return {(e.block + index) * block_size, e.count - index};
    index -= e.count;
  }
  CHECK(false);
}

Result<std::span<const std::byte>> LogReader::get(Park& park, uint32_t index) {
  CHECK(index < end_);
  const size_t size = place_.block_size;
  if (index < first_ || index - first_ >= count_) {
    const LogPlace::Run run = place_.run_at(index);
    const uint32_t n = std::min({kWindow, run.count, end_ - index});
    window_.resize(kWindow * size);
    count_ = 0;
    TRY(device_.submit(park, read_bio(run.offset, std::span(window_).first(n * size))));
    first_ = index;
    count_ = n;
  }
  return std::span<const std::byte>(window_).subspan((index - first_) * size, size);
}

}  // namespace uk::jbd2
