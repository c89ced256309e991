#include "hostio/sys/event.h"

#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/check.h"
#include "hostio/sys/ret.h"

namespace uk::sys {

using internal::ret;
using internal::ret_fd;
using internal::ret_void;

namespace {
struct timespec to_timespec(int64_t ns) {
  return {.tv_sec = ns / 1'000'000'000, .tv_nsec = ns % 1'000'000'000};
}
}  // namespace

Result<Fd> eventfd(unsigned initial, int flags) {
  return ret_fd(::eventfd(initial, flags | EFD_CLOEXEC));
}

Result<> eventfd_signal(int fd) {
  uint64_t one = 1;
  Result<> r = ret_void(::write(fd, &one, sizeof(one)));
  if (!r && r.error() == Errno::kAGAIN) return {};
  return r;
}

Result<uint64_t> eventfd_take(int fd) {
  uint64_t count = 0;
  TRY(ret_void(::read(fd, &count, sizeof(count))));
  return count;
}

Result<int> ppoll(std::span<struct pollfd> fds, int64_t timeout_ns, const sigset_t* mask) {
  struct timespec ts = to_timespec(timeout_ns < 0 ? 0 : timeout_ns);
  return ret<int>(::ppoll(fds.data(), fds.size(), timeout_ns < 0 ? nullptr : &ts, mask));
}

Result<Fd> epoll_create() { return ret_fd(::epoll_create1(EPOLL_CLOEXEC)); }

Result<> epoll_ctl(int epfd, int operation, int fd, uint32_t events, void* data) {
  struct epoll_event e = {};
  e.events = events;
  e.data.ptr = data;
  return ret_void(::epoll_ctl(epfd, operation, fd, &e));
}

Result<size_t> epoll_wait(int epfd, std::span<struct epoll_event> events, int timeout_ms) {
  return ret<size_t>(
      ::epoll_wait(epfd, events.data(), static_cast<int>(events.size()), timeout_ms));
}

Result<> futex_wait(const uint32_t* addr, uint32_t expected, int64_t timeout_ns, bool shared) {
  struct timespec ts = to_timespec(timeout_ns < 0 ? 0 : timeout_ns);
  return ret_void(::syscall(SYS_futex, addr, FUTEX_WAIT | (shared ? 0 : FUTEX_PRIVATE_FLAG),
                            expected, timeout_ns < 0 ? nullptr : &ts, nullptr, 0));
}

Result<int> futex_wake(const uint32_t* addr, int count, bool shared) {
  return ret<int>(::syscall(SYS_futex, addr, FUTEX_WAKE | (shared ? 0 : FUTEX_PRIVATE_FLAG), count,
                            nullptr, nullptr, 0));
}

uint64_t clock_ns(clockid_t clock) {
  struct timespec ts;
  CHECK(::clock_gettime(clock, &ts) == 0);
  return static_cast<uint64_t>(ts.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(ts.tv_nsec);
}

Result<> getrandom(std::span<std::byte> buf) {
  while (!buf.empty()) {
    Result<size_t> n = ret<size_t>(::getrandom(buf.data(), buf.size(), 0));
    if (!n && n.error() == Errno::kINTR) continue;
    buf = buf.subspan(TRY(std::move(n)));
  }
  return {};
}

}  // namespace uk::sys
