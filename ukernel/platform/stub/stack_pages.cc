#include "ukernel/platform/stub/stack_pages.h"

#include <fcntl.h>

#include "base/check.h"
#include "hostio/sys/file.h"

namespace uk::stub {

Result<StackPages> StackPages::create() {
  StackPages p;
  p.fd_ = TRY(sys::memfd_create("uk-stub-stacks"));
  TRY(sys::ftruncate(p.fd_.get(), kMaxStacks * kStackBytes));
  p.map_ = TRY(sys::Mapping::shared(p.fd_.get(), 0, kMaxStacks * kStackBytes,
                                    PROT_READ | PROT_WRITE, MAP_NORESERVE));
  return p;
}

Result<uint32_t> StackPages::take() {
  if (!free_.empty()) {
    uint32_t index = free_.back();
    free_.pop_back();
    return index;
  }
  if (next_ == kMaxStacks) return Err(Errno::kAGAIN);
  return next_++;
}

void StackPages::give_back(uint32_t index) {
  // The next owner must find nothing of this one's.
  CHECK_OK(sys::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset(index),
                          kStackBytes));
  free_.push_back(index);
}

}  // namespace uk::stub
