// Signal stacks of guest threads, one memfd: mapped whole in the kernel, kStackBytes of it in a
// stub for each thread. Untrusted: the guest writes them as it likes, also while the kernel reads.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/result.h"
#include "hostio/sys/mem.h"
#include "ukernel/platform/stub/layout.h"

namespace uk::stub {

class StackPages {
 public:
  static constexpr uint32_t kMaxStacks = 32768;
  static Result<StackPages> create();

  Result<uint32_t> take();  // zeroed; kAGAIN: all in use
  // Only when no stub maps it any more. Zeroes it; its memory goes back to the host.
  void give_back(uint32_t index);
  std::span<std::byte> bytes(uint32_t index) const {
    return map_.bytes().subspan(offset(index), kStackBytes);
  }
  static uint64_t offset(uint32_t index) { return index * kStackBytes; }
  int fd() const { return fd_.get(); }

 private:
  sys::Fd fd_;
  sys::Mapping map_;
  uint32_t next_ = 0;
  std::vector<uint32_t> free_;
};

// A stack, given back on destruction.
class Stack {
 public:
  Stack() = default;
  Stack(StackPages& pages, uint32_t index) : pages_(&pages), index_(index) {}
  Stack(Stack&& o) noexcept : pages_(std::exchange(o.pages_, nullptr)), index_(o.index_) {}
  Stack& operator=(Stack&& o) noexcept {
    std::swap(pages_, o.pages_);
    std::swap(index_, o.index_);
    return *this;
  }
  ~Stack() {
    if (pages_ != nullptr) pages_->give_back(index_);
  }
  std::span<std::byte> bytes() const { return pages_->bytes(index_); }
  uint64_t offset() const { return StackPages::offset(index_); }

 private:
  StackPages* pages_ = nullptr;
  uint32_t index_ = 0;
};

}  // namespace uk::stub
