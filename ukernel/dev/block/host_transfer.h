// One transfer between memory and a host file, on the ring: goes on after short transfers and
// interruptions until all is done or an error or the end of the file ends it.
//
// Ownership: the caller owns it and the memory; it may be destroyed when `done` is called, which is
// from Ring::drain(). What is read is not looked at.
#pragma once

#include <sys/uio.h>

#include <cstring>
#include <functional>
#include <vector>

#include "base/errno.h"
#include "hostio/ring.h"

namespace uk {

class HostTransfer final : public hostio::Completion {
 public:
  struct Args {
    int fd = -1;
    bool write = false;
    bool zero_past_end = false;  // of a read: the file may end early
    uint32_t rwf = 0;
    uint64_t offset = 0;
    std::vector<struct iovec> segments;
    std::function<void(Errno)> done;
  };
  HostTransfer(hostio::Ring& ring, Args args) : ring_(ring), a_(std::move(args)) {}

  void start() {
    auto rest = std::span(a_.segments).subspan(at_);
    const auto offset = static_cast<int64_t>(a_.offset);
    if (a_.write) {
      ring_.writev(*this, a_.fd, rest, offset, a_.rwf);
    } else {
      ring_.readv(*this, a_.fd, rest, offset, a_.rwf);
    }
  }

 private:
  void complete(int32_t res, bool) override {
    if (res == -static_cast<int32_t>(Errno::kINTR)) return start();
    if (res < 0) return end(static_cast<Errno>(-res));
    if (res == 0) {
      if (a_.write || !a_.zero_past_end) return end(Errno::kIO);  // the file has shrunk
      for (; at_ < a_.segments.size(); ++at_)
        std::memset(a_.segments[at_].iov_base, 0, a_.segments[at_].iov_len);
      return end(Errno::kOk);
    }
    a_.offset += static_cast<uint32_t>(res);
    for (auto left = static_cast<size_t>(res); left > 0;) {
      struct iovec& v = a_.segments[at_];
      const size_t n = std::min(left, v.iov_len);
      v.iov_base = static_cast<std::byte*>(v.iov_base) + n;
      v.iov_len -= n;
      left -= n;
      if (v.iov_len == 0) ++at_;
    }
    if (at_ == a_.segments.size()) return end(Errno::kOk);
    start();
  }
  void end(Errno error) {
    auto done = std::move(a_.done);
    done(error);  // we may be gone
  }

  hostio::Ring& ring_;
  Args a_;
  size_t at_ = 0;
};

}  // namespace uk
