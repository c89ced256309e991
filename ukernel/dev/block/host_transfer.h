// One transfer between memory and a host file, on the ring: goes on after short transfers and
// interruptions until all is done or an error or the end of the file ends it.
//
// Ownership: the caller owns it and the memory; it may be destroyed when `done` is called, which is
// from Ring::drain(). What is read is not looked at.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <vector>

#include "base/errno.h"
#include "hostio/ring.h"

namespace uk {

// Takes the place of memory that the host's O_DIRECT does not take: what is not at a multiple of a
// sector, or has not whole ones.
class Bounce {
 public:
  static bool needed(std::span<const struct iovec> segments) {
    constexpr uintptr_t kMask = 511;
    return std::ranges::any_of(segments, [](const struct iovec& v) {
      return ((reinterpret_cast<uintptr_t>(v.iov_base) | v.iov_len) & kMask) != 0;
    });
  }
  // Of the same contents; `segments` becomes its memory.
  explicit Bounce(std::vector<struct iovec>& segments) : own_(segments) {
    size_t bytes = 0;
    for (const struct iovec& v : own_) bytes += v.iov_len;
    memory_.reset(static_cast<std::byte*>(::operator new[](bytes, std::align_val_t{kAlign})));
    size_t at = 0;
    for (const struct iovec& v : own_) {
      std::memcpy(&memory_[at], v.iov_base, v.iov_len);
      at += v.iov_len;
    }
    segments = {{memory_.get(), bytes}};
  }
  // After a read: back to where it was wanted.
  void copy_back() const {
    size_t at = 0;
    for (const struct iovec& v : own_) {
      std::memcpy(v.iov_base, &memory_[at], v.iov_len);
      at += v.iov_len;
    }
  }

 private:
  static constexpr size_t kAlign = 4096;
  struct Free {
    void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t{kAlign}); }
  };
  const std::vector<struct iovec> own_;
  std::unique_ptr<std::byte[], Free> memory_;
};

class HostTransfer final : public hostio::Completion {
 public:
  struct Args {
    int fd = -1;
    bool write = false;
    bool direct = false;         // the file is O_DIRECT
    bool zero_past_end = false;  // of a read: the file may end early
    uint32_t rwf = 0;
    uint64_t offset = 0;
    std::vector<struct iovec> segments;
    std::function<void(Errno)> done;
  };
  HostTransfer(hostio::Ring& ring, Args args) : ring_(ring), a_(std::move(args)) {
    if (a_.direct && Bounce::needed(a_.segments)) bounce_ = std::make_unique<Bounce>(a_.segments);
  }

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
    if (bounce_ != nullptr && !a_.write && error == Errno::kOk) bounce_->copy_back();
    auto done = std::move(a_.done);
    done(error);  // we may be gone
  }

  hostio::Ring& ring_;
  Args a_;
  std::unique_ptr<Bounce> bounce_;
  size_t at_ = 0;
};

}  // namespace uk
