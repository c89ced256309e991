// Where the bytes of a read go and those of a write come from: guest memory (an iovec) or a kernel
// buffer. A file's read puts bytes into a sink piece by piece; a fault in guest memory shows as a
// short count, or kFAULT if nothing moved. Both may suspend (guest pages may have to be faulted
// in). Borrowed for the length of a call.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>

#include "base/result.h"
#include "ukernel/sched/fiber.h"

namespace uk {

class IoSink {
 public:
  virtual ~IoSink() = default;
  virtual size_t remaining() const = 0;
  // Appends up to remaining() bytes. Returns how many went (short only on a fault; kFAULT if none
  // could).
  virtual Result<size_t> put(Park& park, std::span<const std::byte> from) = 0;
  // Appends n zero bytes (bounded by remaining()).
  Result<size_t> put_zeros(Park& park, size_t n);
};

class IoSource {
 public:
  virtual ~IoSource() = default;
  virtual size_t remaining() const = 0;
  // Takes up to to.size() bytes. Returns how many came (short at the end or on a fault; kFAULT if
  // none could).
  virtual Result<size_t> get(Park& park, std::span<std::byte> to) = 0;
};

class BufferSink final : public IoSink {
 public:
  explicit BufferSink(std::span<std::byte> buf) : buf_(buf) {}
  size_t remaining() const override { return buf_.size() - done_; }
  size_t done() const { return done_; }
  Result<size_t> put(Park&, std::span<const std::byte> from) override {
    size_t n = std::min(from.size(), remaining());
    if (n != 0) std::memcpy(buf_.data() + done_, from.data(), n);
    done_ += n;
    return n;
  }

 private:
  std::span<std::byte> buf_;
  size_t done_ = 0;
};

class BufferSource final : public IoSource {
 public:
  explicit BufferSource(std::span<const std::byte> buf) : buf_(buf) {}
  size_t remaining() const override { return buf_.size() - done_; }
  Result<size_t> get(Park&, std::span<std::byte> to) override {
    size_t n = std::min(to.size(), remaining());
    if (n != 0) std::memcpy(to.data(), buf_.data() + done_, n);
    done_ += n;
    return n;
  }

 private:
  std::span<const std::byte> buf_;
  size_t done_ = 0;
};

}  // namespace uk
