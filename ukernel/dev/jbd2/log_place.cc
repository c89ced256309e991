#include "ukernel/dev/jbd2/log_place.h"

#include "base/check.h"

namespace uk::jbd2 {

LogPlace::LogPlace(uint32_t block_size, std::vector<Extent> extents)
    : block_size_(block_size), extents_(std::move(extents)), sorted_(extents_) {
  for (const Extent& e : extents_) {
    starts_.push_back(blocks_);
    blocks_ += e.count;
  }
  std::ranges::sort(sorted_, {}, &Extent::block);
}

Result<> LogPlace::check(const BlockDevice& device) const {
  if (block_size_ != 1024 && block_size_ != 2048 && block_size_ != 4096)
    return Err(Errno::kOPNOTSUPP);
  const uint64_t limit = device.size() / block_size_;
  uint64_t end = 0;
  for (const Extent& e : sorted_) {
    if (e.count == 0 || e.block < end || e.block > limit || e.count > limit - e.block)
      return Err(Errno::kUCLEAN);
    end = e.block + e.count;
  }
  return end == 0 || blocks_ > UINT32_MAX ? Err(Errno::kUCLEAN) : Result<>();
}

bool LogPlace::contains(uint64_t block) const {
  auto after = std::ranges::upper_bound(sorted_, block, {}, &Extent::block);
  if (after == sorted_.begin()) return false;
  const Extent& e = *std::prev(after);
  return block - e.block < e.count;
}

LogPlace::Run LogPlace::run_at(uint32_t index) const {
  CHECK(index < blocks_);
  auto after = std::ranges::upper_bound(starts_, uint64_t{index});
  const auto i = static_cast<size_t>(after - starts_.begin()) - 1;
  const auto within = static_cast<uint32_t>(index - starts_[i]);
  return {(extents_[i].block + within) * block_size_, extents_[i].count - within};
}

Result<std::span<const std::byte>> LogReader::get(Park& park, uint32_t index) {
  CHECK(index < end_);
  const size_t size = place_.block_size();
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
