// Fd: owner of one host file descriptor; closes it on destruction. `int` parameters elsewhere
// borrow. Nothing suspends. This directory, hostio/sys, makes the typed host calls: each returns
// Result, and no other code reads errno. Calls are the host's own, one to one; EINTR is reported,
// never retried here, unless the function says so.
#pragma once

#include <utility>

#include "base/result.h"

namespace uk::sys {

// The current host errno as an Errno. For this directory and the rare caller that makes a raw call
// of its own.
Errno last_errno();

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
  Fd& operator=(Fd&& o) noexcept {
    if (this != &o) {
      reset();
      fd_ = std::exchange(o.fd_, -1);
    }
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  // Closes now. Errors of close(2) are lost here; use close() where they matter.
  void reset();
  // Closes and reports what the host said (EIO, ENOSPC, EDQUOT from a network filesystem). The
  // descriptor is gone either way.
  Result<> close();

 private:
  int fd_ = -1;
};

}  // namespace uk::sys
