// poll, ppoll, select, pselect6.
#include <poll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>

#include <algorithm>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

TEST(poll, ReportsReadiness) {
  Pipe p;
  pollfd fds[3] = {{p.r, POLLIN, 0}, {p.w, POLLOUT, 0}, {-1, POLLIN, 77}};
  EXPECT_EQ(syscall(SYS_poll, fds, 3, 0), 1);
  EXPECT_EQ(fds[0].revents, 0);
  EXPECT_EQ(fds[1].revents, POLLOUT);
  EXPECT_EQ(fds[2].revents, 0) << "a negative descriptor is passed over";
  ASSERT_EQ(write(p.w, "x", 1), 1);
  EXPECT_EQ(syscall(SYS_poll, fds, 2, -1), 2);
  EXPECT_EQ(fds[0].revents, POLLIN);
}

TEST(poll, HangupErrorAndInvalid) {
  Pipe p;
  pollfd fd = {p.r, POLLIN, 0};
  p.w.reset();
  EXPECT_EQ(syscall(SYS_poll, &fd, 1, 0), 1);
  EXPECT_EQ(fd.revents, POLLHUP);
  Pipe q;
  q.r.reset();
  fd = {q.w, POLLOUT, 0};
  EXPECT_EQ(syscall(SYS_poll, &fd, 1, 0), 1);
  EXPECT_EQ(fd.revents, POLLOUT | POLLERR);
  fd = {kBadFd, POLLIN, 0};
  EXPECT_EQ(syscall(SYS_poll, &fd, 1, 0), 1);
  EXPECT_EQ(fd.revents, POLLNVAL);
}

TEST(poll, FilesAndDevicesAreAlwaysReady) {
  Scratch dir;
  Fd f = dir.Open("f");
  Fd null(open("/dev/null", O_RDWR));
  pollfd fds[2] = {{f, POLLIN | POLLOUT, 0}, {null, POLLIN | POLLOUT, 0}};
  EXPECT_EQ(syscall(SYS_poll, fds, 2, 0), 2);
  EXPECT_EQ(fds[0].revents, POLLIN | POLLOUT);
  EXPECT_EQ(fds[1].revents, POLLIN | POLLOUT);
}

TEST(poll, TimesOutAndWakes) {
  Pipe p;
  pollfd fd = {p.r, POLLIN, 0};
  int64_t start = MonotonicNs();
  EXPECT_EQ(syscall(SYS_poll, &fd, 1, 20), 0);
  EXPECT_GE(MonotonicNs() - start, 20000000);
  pid_t child = Spawn([&] {
    WaitForState(getppid(), 'S');
    return write(p.w, "x", 1) == 1 ? 0 : 1;
  });
  EXPECT_EQ(syscall(SYS_poll, &fd, 1, -1), 1);
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(poll, Errors) {
  pollfd fd = {0, POLLIN, 0};
  EXPECT_ERRNO(EFAULT, syscall(SYS_poll, BadPointer(), 1, 0));
  IN_CHILD([&] {
    rlimit lim = {10, 10};
    CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &lim) == 0);
    std::vector<pollfd> many(11, fd);
    CHILD_CHECK(syscall(SYS_poll, many.data(), 11, 0) == -1 && errno == EINVAL);
  });
  EXPECT_EQ(syscall(SYS_poll, nullptr, 0, 0), 0);
}

TEST(poll, InterruptedByAHandler) {
  Gate ready;
  pid_t child = Spawn([&] {
    ScopedHandler h(
        SIGUSR1, [](int) {}, SA_RESTART);
    ready.Open();
    return poll(nullptr, 0, -1) == -1 && errno == EINTR ? 0 : 1;
  });
  ASSERT_TRUE(ready.Wait());
  EXPECT_TRUE(WaitForState(child, 'S'));
  kill(child, SIGUSR1);
  EXPECT_EQ(WaitFor(child), Exited(0)) << "poll never restarts";
}

TEST(ppoll, MaskIsSwappedAtomicallyAndTimeoutUpdated) {
  static volatile sig_atomic_t count;
  count = 0;
  ScopedHandler h(SIGUSR1, [](int) { count = count + 1; });
  ScopedBlock block({SIGUSR1});
  raise(SIGUSR1);
  uint64_t none = 0;
  timespec ts = {10, 0};
  EXPECT_ERRNO(EINTR, syscall(SYS_ppoll, nullptr, 0, &ts, &none, 8));
  EXPECT_EQ(count, 1);
  EXPECT_LE(ts.tv_sec, 10);
  EXPECT_GT(ts.tv_sec, 5) << "the rest is reported";
  ts = {0, 1000000};
  EXPECT_EQ(syscall(SYS_ppoll, nullptr, 0, &ts, nullptr, 8), 0);
  EXPECT_EQ(ts.tv_nsec, 0);
  ts = {-1, 0};
  EXPECT_ERRNO(EINVAL, syscall(SYS_ppoll, nullptr, 0, &ts, nullptr, 8));
  ts = {0, 0};
  EXPECT_ERRNO(EINVAL, syscall(SYS_ppoll, nullptr, 0, &ts, &none, 4));
  EXPECT_ERRNO(EFAULT, syscall(SYS_ppoll, nullptr, 0, BadPointer(), nullptr, 8));
}

TEST(select, SetsAndCounts) {
  Pipe p, q;
  ASSERT_EQ(write(p.w, "x", 1), 1);
  fd_set in, out;
  FD_ZERO(&in);
  FD_ZERO(&out);
  FD_SET(p.r, &in);
  FD_SET(q.r, &in);
  FD_SET(p.w, &out);
  int n = std::max({p.r.get(), p.w.get(), q.r.get()}) + 1;
  timeval tv = {5, 0};
  EXPECT_EQ(syscall(SYS_select, n, &in, &out, nullptr, &tv), 2);
  EXPECT_TRUE(FD_ISSET(p.r, &in));
  EXPECT_FALSE(FD_ISSET(q.r, &in));
  EXPECT_TRUE(FD_ISSET(p.w, &out));
  EXPECT_GE(tv.tv_sec, 4) << "the rest of the time is written back";
}

TEST(select, TimeoutClearsTheSets) {
  Pipe p;
  fd_set in;
  FD_ZERO(&in);
  FD_SET(p.r, &in);
  timeval tv = {0, 10000};
  EXPECT_EQ(syscall(SYS_select, p.r + 1, &in, nullptr, nullptr, &tv), 0);
  EXPECT_FALSE(FD_ISSET(p.r, &in));
  EXPECT_EQ(tv.tv_sec + tv.tv_usec, 0);
}

TEST(select, Errors) {
  fd_set in;
  FD_ZERO(&in);
  FD_SET(60, &in);  // not open
  timeval tv = {0, 0};
  EXPECT_ERRNO(EBADF, syscall(SYS_select, 61, &in, nullptr, nullptr, &tv));
  EXPECT_ERRNO(EINVAL, syscall(SYS_select, -1, nullptr, nullptr, nullptr, &tv));
  Pipe p;
  EXPECT_ERRNO(EFAULT, syscall(SYS_select, p.w + 1, BadPointer(), nullptr, nullptr, &tv));
  tv.tv_sec = -1;
  EXPECT_ERRNO(EINVAL, syscall(SYS_select, 0, nullptr, nullptr, nullptr, &tv));
}

TEST(pselect6, MaskAndTimeout) {
  static volatile sig_atomic_t count;
  count = 0;
  ScopedHandler h(SIGUSR1, [](int) { count = count + 1; });
  ScopedBlock block({SIGUSR1});
  raise(SIGUSR1);
  uint64_t none = 0;
  struct {
    const uint64_t* set;
    size_t size;
  } sig = {&none, 8};
  timespec ts = {10, 0};
  EXPECT_ERRNO(EINTR, syscall(SYS_pselect6, 0, nullptr, nullptr, nullptr, &ts, &sig));
  EXPECT_EQ(count, 1);
  sig.size = 4;
  EXPECT_ERRNO(EINVAL, syscall(SYS_pselect6, 0, nullptr, nullptr, nullptr, &ts, &sig));
  EXPECT_ERRNO(EFAULT, syscall(SYS_pselect6, 0, nullptr, nullptr, nullptr, &ts, BadPointer()));
  ts = {0, 1};
  EXPECT_EQ(syscall(SYS_pselect6, 0, nullptr, nullptr, nullptr, &ts, nullptr), 0);
}

TEST(select, ExceptionalConditionOfASocket) {
  int sv[2];
  ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
  Fd a(sv[0]), b(sv[1]);
  shutdown(b, SHUT_WR);
  fd_set in;
  FD_ZERO(&in);
  FD_SET(a, &in);
  EXPECT_EQ(syscall(SYS_select, a + 1, &in, nullptr, nullptr, nullptr), 1) << "end of file reads";
}

}  // namespace
}  // namespace uk::test
