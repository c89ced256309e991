#include "ukernel/fs/anonfs/eventfd.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "ukernel/vfs/anon_inode.h"

namespace uk {
namespace {
constexpr uint64_t kMax = UINT64_MAX - 1;
}

EventFd::EventFd(uint64_t initial, bool semaphore, int flags)
    : File(make_anon_path("eventfd"), O_RDWR | flags), count_(initial), semaphore_(semaphore) {}

Result<size_t> EventFd::read(Park& park, IoSink& to, uint64_t) {
  if (to.remaining() < sizeof(uint64_t)) return Err(Errno::kINVAL);
  if (count_ == 0 && nonblock()) return Err(Errno::kAGAIN);
  TRY(queue_.wait(
      park, [&] { return count_ > 0; }, WaitMode::kInterruptible, kNever, "eventfd_read"));
  uint64_t value = semaphore_ ? 1 : count_;
  count_ -= value;
  queue_.wake_one(POLLOUT | POLLWRNORM);
  return to.put(park, std::as_bytes(std::span(&value, 1)));
}

Result<size_t> EventFd::write(Park& park, IoSource& from, uint64_t&) {
  if (from.remaining() != sizeof(uint64_t)) return Err(Errno::kINVAL);
  uint64_t value = 0;
  if (TRY(from.get(park, std::as_writable_bytes(std::span(&value, 1)))) != sizeof value)
    return Err(Errno::kFAULT);
  if (value == UINT64_MAX) return Err(Errno::kINVAL);
  if (value > kMax - count_ && nonblock()) return Err(Errno::kAGAIN);
  TRY(queue_.wait(
      park, [&] { return value <= kMax - count_; }, WaitMode::kInterruptible, kNever,
      "eventfd_write"));
  count_ += value;
  queue_.wake_one(POLLIN | POLLRDNORM);
  return sizeof value;
}

void EventFd::signal(uint64_t n) {
  count_ += std::min(n, UINT64_MAX - count_);
  queue_.wake_one(POLLIN | POLLRDNORM);
}

uint32_t EventFd::ready() {
  uint32_t r = 0;
  if (count_ > 0) r |= POLLIN;
  if (count_ < kMax) r |= POLLOUT;
  if (count_ == UINT64_MAX) r |= POLLERR;  // signalled more often than it counts
  return r;
}

std::string EventFd::fdinfo() const { return absl::StrFormat("eventfd-count: %16x\n", count_); }

}  // namespace uk
