// Host calls for waiting and waking (eventfd, poll, futex), clocks and randomness. See fd.h for the
// rules. Kernel code reads time through sched/clock.h only; the functions here are for its
// implementation.
#pragma once

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <time.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "hostio/sys/fd.h"

namespace uk::sys {

Result<Fd> eventfd(unsigned initial = 0, int flags = 0);
// Adds 1. EAGAIN (counter full) is success: the reader will wake.
Result<> eventfd_signal(int fd);
// Takes the count; EAGAIN when zero and nonblocking.
Result<uint64_t> eventfd_take(int fd);

// timeout_ns < 0: no timeout. mask null: the signal mask stays. Returns the number of ready
// descriptors.
Result<int> ppoll(std::span<struct pollfd> fds, int64_t timeout_ns, const sigset_t* mask);

Result<Fd> epoll_create();
Result<> epoll_ctl(int epfd, int operation, int fd, uint32_t events, void* data);
// Does not wait when timeout_ms is 0. Returns how many events were stored.
Result<size_t> epoll_wait(int epfd, std::span<struct epoll_event> events, int timeout_ms);

// `shared`: between processes (no FUTEX_PRIVATE_FLAG). timeout_ns < 0: none. Errors: EAGAIN (value
// differs), EINTR, ETIMEDOUT.
Result<> futex_wait(const uint32_t* addr, uint32_t expected, int64_t timeout_ns, bool shared);
// Returns how many were woken.
Result<int> futex_wake(const uint32_t* addr, int count, bool shared);

// ns of CLOCK_MONOTONIC, CLOCK_REALTIME, ...
uint64_t clock_ns(clockid_t clock);
// Fills buf from the host's random number generator.
Result<> getrandom(std::span<std::byte> buf);

}  // namespace uk::sys
