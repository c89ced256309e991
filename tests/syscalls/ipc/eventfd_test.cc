// eventfd, timerfd, signalfd.
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

bool Readable(int fd, int timeout = 0) {
  pollfd p = {fd, POLLIN, 0};
  return poll(&p, 1, timeout) == 1 && (p.revents & POLLIN);
}

TEST(eventfd2, CounterSemantics) {
  COVERS(eventfd);
  Fd fd(syscall(SYS_eventfd2, 3, EFD_NONBLOCK | EFD_CLOEXEC));
  ASSERT_OK(fd.get());
  EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  uint64_t v = 0;
  EXPECT_EQ(read(fd, &v, 8), 8);
  EXPECT_EQ(v, 3u);
  EXPECT_ERRNO(EAGAIN, read(fd, &v, 8));
  v = 5;
  EXPECT_EQ(write(fd, &v, 8), 8);
  v = 6;
  EXPECT_EQ(write(fd, &v, 8), 8);
  EXPECT_TRUE(Readable(fd));
  EXPECT_EQ(read(fd, &v, 8), 8);
  EXPECT_EQ(v, 11u);
  EXPECT_ERRNO(EINVAL, read(fd, &v, 4));
  EXPECT_ERRNO(EINVAL, write(fd, &v, 4));
  v = ~0ull;
  EXPECT_ERRNO(EINVAL, write(fd, &v, 8));
  v = ~0ull - 1;
  EXPECT_EQ(write(fd, &v, 8), 8);
  v = 1;
  EXPECT_ERRNO(EAGAIN, write(fd, &v, 8)) << "full";
  EXPECT_ERRNO(EINVAL, syscall(SYS_eventfd2, 0, 0x1000));
  Fd old(syscall(SYS_eventfd, 1));
  ASSERT_OK(old.get());
  EXPECT_EQ(fcntl(old, F_GETFL) & O_NONBLOCK, 0);
  EXPECT_EQ(read(old, &v, 8), 8);
  EXPECT_EQ(v, 1u);
}

TEST(eventfd2, SemaphoreMode) {
  Fd fd(eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK));
  uint64_t v = 0;
  EXPECT_EQ(read(fd, &v, 8), 8);
  EXPECT_EQ(v, 1u);
  EXPECT_EQ(read(fd, &v, 8), 8);
  EXPECT_ERRNO(EAGAIN, read(fd, &v, 8));
}

TEST(eventfd2, BlocksUntilWritten) {
  Fd fd(eventfd(0, 0));
  pid_t child = Spawn([&] {
    uint64_t v = 0;
    return read(fd, &v, 8) == 8 && v == 9 ? 0 : 1;
  });
  EXPECT_TRUE(WaitForState(child, 'S'));
  uint64_t v = 9;
  EXPECT_EQ(write(fd, &v, 8), 8);
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(timerfd_create, ExpiresAndCounts) {
  COVERS(timerfd_settime, timerfd_gettime);
  Fd fd(syscall(SYS_timerfd_create, CLOCK_MONOTONIC, TFD_CLOEXEC));
  ASSERT_OK(fd.get());
  itimerspec set = {{0, 2000000}, {0, 2000000}}, now = {};
  EXPECT_OK(syscall(SYS_timerfd_settime, fd.get(), 0, &set, nullptr));
  uint64_t total = 0, v;
  while (total < 3) {
    ASSERT_EQ(read(fd, &v, 8), 8);
    EXPECT_GE(v, 1u);
    total += v;
  }
  EXPECT_OK(syscall(SYS_timerfd_gettime, fd.get(), &now));
  EXPECT_EQ(now.it_interval.tv_nsec, 2000000);
  EXPECT_LE(now.it_value.tv_nsec, 2000000);
  itimerspec off = {}, old = {};
  EXPECT_OK(syscall(SYS_timerfd_settime, fd.get(), 0, &off, &old));
  EXPECT_EQ(old.it_interval.tv_nsec, 2000000);
  EXPECT_FALSE(Readable(fd));
  EXPECT_OK(syscall(SYS_timerfd_gettime, fd.get(), &now));
  EXPECT_EQ(now.it_value.tv_nsec + now.it_value.tv_sec, 0);
}

TEST(timerfd_settime, AbsoluteTimeInThePastFiresAtOnce) {
  Fd fd(timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK));
  itimerspec set = {{0, 0}, {1, 0}};
  ASSERT_OK(timerfd_settime(fd, TFD_TIMER_ABSTIME, &set, nullptr));
  EXPECT_TRUE(Readable(fd, 1000));
  uint64_t v = 0;
  EXPECT_EQ(read(fd, &v, 8), 8);
  EXPECT_EQ(v, 1u);
  EXPECT_ERRNO(EAGAIN, read(fd, &v, 8));
}

TEST(timerfd_create, Errors) {
  EXPECT_ERRNO(EINVAL, syscall(SYS_timerfd_create, 99, 0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_timerfd_create, CLOCK_MONOTONIC, 0x1000));
  Fd fd(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
  itimerspec set = {{0, 0}, {0, 1000000000}};
  EXPECT_ERRNO(EINVAL, syscall(SYS_timerfd_settime, fd.get(), 0, &set, nullptr));
  EXPECT_ERRNO(EINVAL, syscall(SYS_timerfd_settime, fd.get(), 0x100, &set, nullptr));
  EXPECT_ERRNO(EFAULT, syscall(SYS_timerfd_settime, fd.get(), 0, BadPointer(), nullptr));
  EXPECT_ERRNO(EFAULT, syscall(SYS_timerfd_gettime, fd.get(), BadPointer()));
  EXPECT_ERRNO(EBADF, syscall(SYS_timerfd_gettime, kBadFd, &set));
  Pipe p;
  EXPECT_ERRNO(EINVAL, syscall(SYS_timerfd_gettime, p.r.get(), &set));
  uint64_t v;
  EXPECT_ERRNO(EINVAL, read(fd, &v, 4));
  EXPECT_ERRNO(EAGAIN, read(fd, &v, 8));
  EXPECT_ERRNO(EINVAL, write(fd, &v, 8));
}

TEST(signalfd4, ReadsPendingSignals) {
  COVERS(signalfd);
  ScopedBlock block({SIGUSR1, SIGRTMIN});
  uint64_t mask = 1ull << (SIGUSR1 - 1) | 1ull << (SIGRTMIN - 1);
  Fd fd(syscall(SYS_signalfd4, -1, &mask, 8, SFD_NONBLOCK | SFD_CLOEXEC));
  ASSERT_OK(fd.get());
  signalfd_siginfo info[3] = {};
  EXPECT_ERRNO(EAGAIN, read(fd, info, sizeof info));
  EXPECT_FALSE(Readable(fd));
  ASSERT_OK(kill(getpid(), SIGUSR1));
  sigval value;
  value.sival_int = 42;
  ASSERT_OK(sigqueue(getpid(), SIGRTMIN, value));
  EXPECT_TRUE(Readable(fd));
  EXPECT_EQ(read(fd, info, sizeof info), static_cast<ssize_t>(2 * sizeof info[0]));
  EXPECT_EQ(info[0].ssi_signo, static_cast<uint32_t>(SIGUSR1));
  EXPECT_EQ(info[0].ssi_pid, static_cast<uint32_t>(getpid()));
  EXPECT_EQ(info[0].ssi_code, SI_USER);
  EXPECT_EQ(info[1].ssi_signo, static_cast<uint32_t>(SIGRTMIN));
  EXPECT_EQ(info[1].ssi_int, 42);
  EXPECT_FALSE(Readable(fd));
  // Narrow the mask of the same descriptor.
  mask = 1ull << (SIGRTMIN - 1);
  EXPECT_EQ(syscall(SYS_signalfd4, fd.get(), &mask, 8, 0), fd.get());
  ASSERT_OK(kill(getpid(), SIGUSR1));
  EXPECT_FALSE(Readable(fd));
  signal(SIGUSR1, SIG_IGN);
  signal(SIGUSR1, SIG_DFL);
  EXPECT_ERRNO(EINVAL, read(fd, info, 10));
  Fd old(syscall(SYS_signalfd, -1, &mask, 8));
  ASSERT_OK(old.get());
  EXPECT_EQ(fcntl(old, F_GETFL) & O_NONBLOCK, 0);
}

TEST(signalfd4, Errors) {
  uint64_t mask = 1;
  EXPECT_ERRNO(EINVAL, syscall(SYS_signalfd4, -1, &mask, 4, 0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_signalfd4, -1, &mask, 8, 0x1000));
  EXPECT_ERRNO(EBADF, syscall(SYS_signalfd4, kBadFd, &mask, 8, 0));
  EXPECT_ERRNO(EFAULT, syscall(SYS_signalfd4, -1, BadPointer(), 8, 0));
  Pipe p;
  EXPECT_ERRNO(EINVAL, syscall(SYS_signalfd4, p.r.get(), &mask, 8, 0));
}

TEST(signalfd4, BlockingReadWakes) {
  ScopedBlock block({SIGUSR2});
  uint64_t mask = 1ull << (SIGUSR2 - 1);
  Fd fd(syscall(SYS_signalfd4, -1, &mask, 8, 0));
  pid_t child = Spawn([] {
    WaitForState(getppid(), 'S');
    return kill(getppid(), SIGUSR2);
  });
  signalfd_siginfo info = {};
  EXPECT_EQ(read(fd, &info, sizeof info), static_cast<ssize_t>(sizeof info));
  EXPECT_EQ(info.ssi_pid, static_cast<uint32_t>(child));
  EXPECT_EQ(WaitFor(child), Exited(0));
}

}  // namespace
}  // namespace uk::test
