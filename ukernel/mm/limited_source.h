// At most `limit` bytes of another source: writes that a limit of the file's size cuts short. What
// is left over stays in the other, which must outlive this one. get() may suspend if the other's
// does.
#pragma once

#include <algorithm>

#include "ukernel/mm/io.h"

namespace uk {

class LimitedSource final : public IoSource {
 public:
  LimitedSource(IoSource& from, size_t limit)
      : from_(from), left_(std::min(limit, from.remaining())) {}
  size_t remaining() const override { return left_; }
  Result<size_t> get(Park& park, std::span<std::byte> to) override {
    size_t n = TRY(from_.get(park, to.first(std::min(to.size(), left_))));
    left_ -= n;
    return n;
  }

 private:
  IoSource& from_;
  size_t left_;
};

}  // namespace uk
