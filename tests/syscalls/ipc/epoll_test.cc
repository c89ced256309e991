// epoll: interest lists, level and edge triggering, nesting, waking.
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <thread>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

epoll_event Event(uint32_t events, uint64_t data) {
  epoll_event e = {};
  e.events = events;
  e.data.u64 = data;
  return e;
}

// The ready list now: (data, events) pairs; waits up to `timeout` milliseconds for the first.
std::vector<std::pair<uint64_t, uint32_t>> Ready(int ep, int timeout = 0) {
  epoll_event events[16];
  int n = epoll_wait(ep, events, 16, timeout);
  EXPECT_GE(n, 0);
  std::vector<std::pair<uint64_t, uint32_t>> out;
  for (int i = 0; i < n; i++) out.emplace_back(+events[i].data.u64, +events[i].events);
  return out;
}
using List = std::vector<std::pair<uint64_t, uint32_t>>;

TEST(epoll_create1, FlagsAndErrors) {
  COVERS(epoll_create);
  Fd ep(syscall(SYS_epoll_create1, EPOLL_CLOEXEC));
  ASSERT_OK(ep.get());
  EXPECT_EQ(fcntl(ep, F_GETFD), FD_CLOEXEC);
  EXPECT_ERRNO(EINVAL, syscall(SYS_epoll_create1, 1));
  Fd old(syscall(SYS_epoll_create, 1));
  ASSERT_OK(old.get());
  EXPECT_EQ(fcntl(old, F_GETFD), 0);
  EXPECT_ERRNO(EINVAL, syscall(SYS_epoll_create, 0));
  char c;
  EXPECT_ERRNO(EINVAL, read(ep, &c, 1));
}

TEST(epoll_ctl, AddModifyDelete) {
  Fd ep(epoll_create1(0));
  Pipe p;
  epoll_event e = Event(EPOLLIN, 1);
  EXPECT_OK(syscall(SYS_epoll_ctl, ep.get(), EPOLL_CTL_ADD, p.r.get(), &e));
  EXPECT_ERRNO(EEXIST, syscall(SYS_epoll_ctl, ep.get(), EPOLL_CTL_ADD, p.r.get(), &e));
  ASSERT_EQ(write(p.w, "x", 1), 1);
  EXPECT_EQ(Ready(ep), (List{{1, EPOLLIN}}));
  e = Event(0, 2);
  EXPECT_OK(syscall(SYS_epoll_ctl, ep.get(), EPOLL_CTL_MOD, p.r.get(), &e));
  EXPECT_EQ(Ready(ep), List{});
  e = Event(EPOLLIN, 3);
  EXPECT_OK(syscall(SYS_epoll_ctl, ep.get(), EPOLL_CTL_MOD, p.r.get(), &e));
  EXPECT_EQ(Ready(ep), (List{{3, EPOLLIN}}));
  EXPECT_OK(syscall(SYS_epoll_ctl, ep.get(), EPOLL_CTL_DEL, p.r.get(), nullptr));
  EXPECT_EQ(Ready(ep), List{});
  EXPECT_ERRNO(ENOENT, syscall(SYS_epoll_ctl, ep.get(), EPOLL_CTL_DEL, p.r.get(), nullptr));
  EXPECT_ERRNO(ENOENT, syscall(SYS_epoll_ctl, ep.get(), EPOLL_CTL_MOD, p.r.get(), &e));
}

TEST(epoll_ctl, Errors) {
  Scratch dir;
  Fd ep(epoll_create1(0));
  Fd file = dir.Open("f");
  Pipe p;
  epoll_event e = Event(EPOLLIN, 1);
  EXPECT_ERRNO(EBADF, syscall(SYS_epoll_ctl, kBadFd, EPOLL_CTL_ADD, p.r.get(), &e));
  EXPECT_ERRNO(EBADF, syscall(SYS_epoll_ctl, ep.get(), EPOLL_CTL_ADD, kBadFd, &e));
  EXPECT_ERRNO(EPERM, syscall(SYS_epoll_ctl, ep.get(), EPOLL_CTL_ADD, file.get(), &e));
  EXPECT_ERRNO(EINVAL, syscall(SYS_epoll_ctl, ep.get(), EPOLL_CTL_ADD, ep.get(), &e));
  EXPECT_ERRNO(EINVAL, syscall(SYS_epoll_ctl, p.r.get(), EPOLL_CTL_ADD, p.w.get(), &e));
  EXPECT_ERRNO(EINVAL, syscall(SYS_epoll_ctl, ep.get(), 99, p.r.get(), &e));
  EXPECT_ERRNO(EFAULT, syscall(SYS_epoll_ctl, ep.get(), EPOLL_CTL_ADD, p.r.get(), BadPointer()));
}

TEST(epoll_wait, LevelTriggeredRepeatsEdgeTriggeredDoesNot) {
  Fd ep(epoll_create1(0));
  Pipe level, edge;
  epoll_event e = Event(EPOLLIN, 1);
  ASSERT_OK(epoll_ctl(ep, EPOLL_CTL_ADD, level.r, &e));
  e = Event(EPOLLIN | EPOLLET, 2);
  ASSERT_OK(epoll_ctl(ep, EPOLL_CTL_ADD, edge.r, &e));
  ASSERT_EQ(write(level.w, "x", 1), 1);
  ASSERT_EQ(write(edge.w, "xy", 2), 2);
  EXPECT_EQ(Ready(ep).size(), 2u);
  EXPECT_EQ(Ready(ep), (List{{1, EPOLLIN}}));
  char c;
  ASSERT_EQ(read(edge.r, &c, 1), 1);
  EXPECT_EQ(Ready(ep), (List{{1, EPOLLIN}})) << "reading makes no edge";
  ASSERT_EQ(write(edge.w, "z", 1), 1);
  EXPECT_EQ(Ready(ep).size(), 2u) << "new data does";
}

TEST(epoll_wait, OneshotDisarms) {
  Fd ep(epoll_create1(0));
  Pipe p;
  epoll_event e = Event(EPOLLIN | EPOLLONESHOT, 5);
  ASSERT_OK(epoll_ctl(ep, EPOLL_CTL_ADD, p.r, &e));
  ASSERT_EQ(write(p.w, "x", 1), 1);
  EXPECT_EQ(Ready(ep), (List{{5, EPOLLIN}}));
  ASSERT_EQ(write(p.w, "x", 1), 1);
  EXPECT_EQ(Ready(ep), List{});
  ASSERT_OK(epoll_ctl(ep, EPOLL_CTL_MOD, p.r, &e));
  EXPECT_EQ(Ready(ep), (List{{5, EPOLLIN}}));
}

TEST(epoll_wait, HangupIsAlwaysReported) {
  Fd ep(epoll_create1(0));
  Pipe p;
  epoll_event e = Event(0, 5);
  ASSERT_OK(epoll_ctl(ep, EPOLL_CTL_ADD, p.r, &e));
  p.w.reset();
  EXPECT_EQ(Ready(ep), (List{{5, EPOLLHUP}}));
  int sv[2];
  ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
  Fd a(sv[0]), b(sv[1]), ep2(epoll_create1(0));
  e = Event(EPOLLIN | EPOLLRDHUP, 6);
  ASSERT_OK(epoll_ctl(ep2, EPOLL_CTL_ADD, a, &e));
  shutdown(b, SHUT_WR);
  EXPECT_EQ(Ready(ep2), (List{{6, EPOLLIN | EPOLLRDHUP}}));
}

TEST(epoll_wait, ClosingRemovesUnlessDuplicated) {
  Fd ep(epoll_create1(0));
  Pipe p;
  epoll_event e = Event(EPOLLIN, 1);
  ASSERT_OK(epoll_ctl(ep, EPOLL_CTL_ADD, p.r, &e));
  ASSERT_EQ(write(p.w, "x", 1), 1);
  Fd copy(dup(p.r));
  p.r.reset();
  EXPECT_EQ(Ready(ep), (List{{1, EPOLLIN}})) << "the open description lives on";
  copy.reset();
  EXPECT_EQ(Ready(ep), List{});
}

TEST(epoll_wait, MaxeventsIsFair) {
  Fd ep(epoll_create1(0));
  Pipe pipes[4];
  for (int i = 0; i < 4; i++) {
    epoll_event e = Event(EPOLLIN, i);
    ASSERT_OK(epoll_ctl(ep, EPOLL_CTL_ADD, pipes[i].r, &e));
    ASSERT_EQ(write(pipes[i].w, "x", 1), 1);
  }
  unsigned seen = 0;
  for (int i = 0; i < 4; i++) {
    epoll_event e;
    ASSERT_EQ(epoll_wait(ep, &e, 1, 0), 1);
    seen |= 1u << e.data.u64;
  }
  EXPECT_EQ(seen, 15u) << "one at a time still reaches all of them";
}

TEST(epoll_wait, BlocksTimesOutAndWakes) {
  COVERS(epoll_pwait, epoll_pwait2);
  Fd ep(epoll_create1(0));
  Pipe p;
  epoll_event e = Event(EPOLLIN, 1);
  ASSERT_OK(epoll_ctl(ep, EPOLL_CTL_ADD, p.r, &e));
  int64_t start = MonotonicNs();
  EXPECT_EQ(syscall(SYS_epoll_wait, ep.get(), &e, 1, 10), 0);
  EXPECT_GE(MonotonicNs() - start, 10000000);
  timespec ts = {0, 2000000};
  EXPECT_EQ(syscall(SYS_epoll_pwait2, ep.get(), &e, 1, &ts, nullptr, 8), 0);
  pid_t child = Spawn([&] {
    WaitForState(getppid(), 'S');
    return write(p.w, "x", 1) == 1 ? 0 : 1;
  });
  EXPECT_EQ(syscall(SYS_epoll_pwait, ep.get(), &e, 1, -1, nullptr, 8), 1);
  EXPECT_EQ(WaitFor(child), Exited(0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_epoll_wait, ep.get(), &e, 0, 0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_epoll_wait, p.r.get(), &e, 1, 0));
  EXPECT_ERRNO(EBADF, syscall(SYS_epoll_wait, kBadFd, &e, 1, 0));
  EXPECT_ERRNO(EFAULT, syscall(SYS_epoll_wait, ep.get(), BadPointer(), 1, 0));
}

TEST(epoll_pwait, SignalMask) {
  static volatile sig_atomic_t count;
  count = 0;
  ScopedHandler h(SIGUSR1, [](int) { count = count + 1; });
  ScopedBlock block({SIGUSR1});
  raise(SIGUSR1);
  Fd ep(epoll_create1(0));
  epoll_event e;
  uint64_t none = 0;
  EXPECT_ERRNO(EINTR, syscall(SYS_epoll_pwait, ep.get(), &e, 1, -1, &none, 8));
  EXPECT_EQ(count, 1);
  EXPECT_ERRNO(EINVAL, syscall(SYS_epoll_pwait, ep.get(), &e, 1, 0, &none, 4));
}

TEST(epoll_ctl, NestingAndLoops) {
  Fd inner(epoll_create1(0)), outer(epoll_create1(0));
  Pipe p;
  epoll_event e = Event(EPOLLIN, 1);
  ASSERT_OK(epoll_ctl(inner, EPOLL_CTL_ADD, p.r, &e));
  e = Event(EPOLLIN, 2);
  ASSERT_OK(epoll_ctl(outer, EPOLL_CTL_ADD, inner, &e));
  EXPECT_EQ(Ready(outer), List{});
  ASSERT_EQ(write(p.w, "x", 1), 1);
  EXPECT_EQ(Ready(outer), (List{{2, EPOLLIN}}));
  EXPECT_ERRNO(ELOOP, epoll_ctl(inner, EPOLL_CTL_ADD, outer, &e));
}

TEST(epoll_wait, ManyThreadsEachEventOnce) {
  Fd ep(epoll_create1(0));
  Pipe p(O_NONBLOCK), stop;
  epoll_event e = Event(EPOLLIN | EPOLLET, 1);
  ASSERT_OK(epoll_ctl(ep, EPOLL_CTL_ADD, p.r, &e));
  e = Event(EPOLLIN, 2);
  ASSERT_OK(epoll_ctl(ep, EPOLL_CTL_ADD, stop.r, &e));
  Pipe echo;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; i++) {
    threads.emplace_back([&] {
      while (true) {
        epoll_event got;
        if (epoll_wait(ep, &got, 1, -1) != 1) continue;
        if (got.data.u64 == 2) return;
        char c;
        while (read(p.r, &c, 1) == 1) ASSERT_EQ(write(echo.w, &c, 1), 1);
      }
    });
  }
  for (int i = 0; i < 100; i++) {
    ASSERT_EQ(write(p.w, "x", 1), 1);
    char c;
    ASSERT_EQ(read(echo.r, &c, 1), 1);
  }
  ASSERT_EQ(write(stop.w, "x", 1), 1);
  for (auto& t : threads) t.join();
}

// The end of the other socket of a pair of datagram sockets makes a full one writable, in its way,
// and is no event else.
TEST(epoll_wait, EndOfADatagramPeer) {
  for (bool full : {false, true}) {
    SCOPED_TRACE(full);
    int pair[2];
    ASSERT_OK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair));
    Fd mine(pair[0]), other(pair[1]);
    while (full && write(mine, "x", 1) == 1) {
    }
    Fd ep(epoll_create1(EPOLL_CLOEXEC));
    epoll_event e = Event(EPOLLIN | EPOLLOUT | EPOLLET, 1), got = {};
    ASSERT_OK(epoll_ctl(ep, EPOLL_CTL_ADD, mine, &e));
    EXPECT_EQ(epoll_wait(ep, &got, 1, 0), full ? 0 : 1);
    other = Fd();
    EXPECT_EQ(epoll_wait(ep, &got, 1, 0), full ? 1 : 0);
    EXPECT_ERRNO(ECONNREFUSED, write(mine, "x", 1));
  }
}

}  // namespace
}  // namespace uk::test
