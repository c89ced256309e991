// The rings of io_uring(7): setting up, submitting, completions, chains, draining, limits.
#include <poll.h>
#include <sys/eventfd.h>

#include <map>
#include <thread>

#include "tests/syscalls/async/uring.h"

namespace uk::test {
namespace {

TEST(io_uring_setup, ChecksItsArguments) {
  io_uring_params p = {};
  EXPECT_ERRNO(EFAULT, UringSetup(4, Bad<io_uring_params>()));
  EXPECT_ERRNO(EINVAL, UringSetup(0, &p));
  EXPECT_ERRNO(EINVAL, UringSetup(1 << 20, &p));
  p.resv[1] = 1;
  EXPECT_ERRNO(EINVAL, UringSetup(4, &p));
  p = {};
  p.flags = 1u << 31;
  EXPECT_ERRNO(EINVAL, UringSetup(4, &p));
  p = {};
  p.flags = IORING_SETUP_CQSIZE;
  EXPECT_ERRNO(EINVAL, UringSetup(4, &p));
  p.cq_entries = 2;
  EXPECT_ERRNO(EINVAL, UringSetup(4, &p));
  p = {};
  p.flags = IORING_SETUP_DEFER_TASKRUN;
  EXPECT_ERRNO(EINVAL, UringSetup(4, &p));
  p = {};
  p.flags = IORING_SETUP_CLAMP;
  Fd clamped(UringSetup(1 << 20, &p));
  ASSERT_OK(clamped.get());
  EXPECT_EQ(32768u, p.sq_entries);
}

TEST(io_uring_setup, TellsTheLayout) {
  Uring ring(5, IORING_SETUP_CQSIZE, 100);
  ASSERT_OK(ring.fd.get());
  EXPECT_EQ(8u, ring.params.sq_entries);
  EXPECT_EQ(128u, ring.params.cq_entries);
  EXPECT_EQ(8u, *ring.Word(ring.params.sq_off.ring_entries));
  EXPECT_EQ(7u, *ring.Word(ring.params.sq_off.ring_mask));
  EXPECT_EQ(128u, *ring.Word(ring.params.cq_off.ring_entries));
  EXPECT_EQ(127u, *ring.Word(ring.params.cq_off.ring_mask));
  EXPECT_NE(0u, ring.params.features & IORING_FEAT_SINGLE_MMAP);
  EXPECT_NE(0u, ring.params.features & IORING_FEAT_NODROP);
  EXPECT_EQ(FD_CLOEXEC, fcntl(ring.fd, F_GETFD));
  char link[64] = {};
  ASSERT_OK(readlink(("/proc/self/fd/" + std::to_string(ring.fd.get())).c_str(), link, 63));
  EXPECT_STREQ("anon_inode:[io_uring]", link);
}

TEST(io_uring_enter, Nops) {
  COVERS(io_uring_setup);
  Uring ring(8);
  for (int round = 0; round < 10; ++round) {
    for (uint64_t i = 0; i < 8; ++i) ring.Get(IORING_OP_NOP, -1, i);
    ASSERT_EQ(8, ring.Submit());
    ASSERT_EQ(8u, ring.Ready());
    for (uint64_t i = 0; i < 8; ++i) {
      const Done d = ring.Take();
      EXPECT_EQ(i, d.data);
      EXPECT_EQ(0, d.res);
    }
  }
}

TEST(io_uring_enter, ChecksItsArguments) {
  Uring ring(4);
  EXPECT_ERRNO(EBADF, UringEnter(kBadFd, 1, 0, 0));
  Pipe p;
  EXPECT_ERRNO(EOPNOTSUPP, UringEnter(p.r, 1, 0, 0));
  EXPECT_ERRNO(EINVAL, UringEnter(ring.fd, 0, 0, 1u << 30));
  EXPECT_EQ(0, UringEnter(ring.fd, 4, 0, 0)) << "nothing there";
  io_uring_getevents_arg arg = {};
  EXPECT_ERRNO(EINVAL, UringEnter(ring.fd, 0, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG,
                                  &arg, sizeof arg - 1));
  EXPECT_ERRNO(EFAULT, UringEnter(ring.fd, 0, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG,
                                  BadPointer(), sizeof arg));
}

TEST(io_uring_enter, TimesOut) {
  Uring ring(4);
  __kernel_timespec ts = Millis(20);
  io_uring_getevents_arg arg = {};
  arg.ts = reinterpret_cast<uint64_t>(&ts);
  const int64_t start = MonotonicNs();
  EXPECT_ERRNO(ETIME, UringEnter(ring.fd, 0, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg,
                                 sizeof arg));
  EXPECT_GE(MonotonicNs() - start, 20'000'000);
}

volatile int taken_signals = 0;
void OnSignal(int) { taken_signals = taken_signals + 1; }

TEST(io_uring_enter, SignalEndsTheWait) {
  IN_CHILD([] {
    ScopedBlock block({SIGUSR1});
    ScopedHandler handler(SIGUSR1, OnSignal, SA_RESTART);
    Uring ring(4);
    raise(SIGUSR1);
    CHILD_CHECK(taken_signals == 0);
    sigset_t none;
    sigemptyset(&none);
    CHILD_CHECK(UringEnter(ring.fd, 0, 1, IORING_ENTER_GETEVENTS, &none, 8) == -1);
    CHILD_CHECK(errno == EINTR && taken_signals == 1);
  });
}

TEST(io_uring_enter, ErrorsComeAsCompletions) {
  Uring ring(8);
  ring.Get(255);
  EXPECT_EQ(-EINVAL, ring.Do());
  ring.Get()->flags = 1 << 7;
  EXPECT_EQ(-EINVAL, ring.Do());
  char c;
  ring.Rw(IORING_OP_READ, kBadFd, &c, 1, 0);
  EXPECT_EQ(-EBADF, ring.Do());
  ring.Get()->personality = 77;
  EXPECT_EQ(-EINVAL, ring.Do());
  // A bad one stops the submission, unless one asks for all.
  ring.Get(IORING_OP_NOP, -1, 1);
  ring.Get(255, -1, 2);
  ring.Get(IORING_OP_NOP, -1, 3);
  EXPECT_EQ(2, ring.Submit());
  EXPECT_EQ(2u, ring.Ready());
  Uring all(8, IORING_SETUP_SUBMIT_ALL);
  all.Get(IORING_OP_NOP, -1, 1);
  all.Get(255, -1, 2);
  all.Get(IORING_OP_NOP, -1, 3);
  EXPECT_EQ(3, all.Submit());
  EXPECT_EQ(3u, all.Ready());
}

TEST(io_uring_enter, BadIndexIsDropped) {
  Uring ring(4);
  ring.Get();
  ring.Word(ring.params.sq_off.array)[0] = 1000;
  EXPECT_EQ(0, ring.Submit());
  EXPECT_EQ(1u, *ring.Word(ring.params.sq_off.dropped));
  EXPECT_EQ(0u, ring.Ready());
}

TEST(io_uring_enter, CompletionsOverflow) {
  Uring ring(4, IORING_SETUP_CQSIZE, 4);
  for (uint64_t i = 0; i < 12; ++i) {
    ring.Get(IORING_OP_NOP, -1, i);
    ASSERT_EQ(1, ring.Submit());
  }
  EXPECT_EQ(4u, ring.Ready());
  EXPECT_NE(0u, ring.SqFlags() & IORING_SQ_CQ_OVERFLOW);
  for (uint64_t i = 0; i < 12; ++i) EXPECT_EQ(i, ring.Take().data);
  EXPECT_EQ(0u, ring.SqFlags() & IORING_SQ_CQ_OVERFLOW);
  EXPECT_EQ(0u, *ring.Word(ring.params.cq_off.overflow));
}

TEST(io_uring_enter, ChainsRunInOrder) {
  Scratch dir;
  Fd f = dir.Open("f");
  Uring ring(16);
  char out[] = "chain", in[8] = {};
  ring.Rw(IORING_OP_WRITE, f, out, 5, 0, 1)->flags = IOSQE_IO_LINK;
  ring.Get(IORING_OP_FSYNC, f, 2)->flags = IOSQE_IO_LINK;
  ring.Rw(IORING_OP_READ, f, in, 5, 0, 3);
  ASSERT_EQ(3, ring.Submit(3));
  for (uint64_t i = 1; i <= 3; ++i) {
    const Done d = ring.Take();
    EXPECT_EQ(i, d.data);
    EXPECT_EQ(i == 2 ? 0 : 5, d.res);
  }
  EXPECT_STREQ("chain", in);
}

TEST(io_uring_enter, FailureBreaksAChain) {
  Scratch dir;
  Fd f = dir.Open("f", "abc");
  Uring ring(16);
  char in[8];
  ring.Rw(IORING_OP_READ, f, in, 8, 0, 1)->flags = IOSQE_IO_LINK;  // short
  ring.Get(IORING_OP_NOP, -1, 2)->flags = IOSQE_IO_LINK;
  ring.Get(IORING_OP_NOP, -1, 3);
  ring.Get(IORING_OP_NOP, -1, 4);
  ASSERT_EQ(4, ring.Submit(4));
  std::map<uint64_t, int> got;
  for (int i = 0; i < 4; ++i) {
    const Done d = ring.Take();
    got[d.data] = d.res;
  }
  EXPECT_EQ((std::map<uint64_t, int>{{1, 3}, {2, -ECANCELED}, {3, -ECANCELED}, {4, 0}}), got);
  ring.Rw(IORING_OP_READ, kBadFd, in, 8, 0, 1)->flags = IOSQE_IO_HARDLINK;
  ring.Get(IORING_OP_NOP, -1, 2);
  ASSERT_EQ(2, ring.Submit(2));
  EXPECT_EQ(-EBADF, ring.Take().res);
  EXPECT_EQ(0, ring.Take().res);
}

TEST(io_uring_enter, DrainWaitsForAllBefore) {
  Pipe p;
  Uring ring(16);
  char c;
  ring.Rw(IORING_OP_READ, p.r, &c, 1, 0, 1);
  ring.Get(IORING_OP_NOP, -1, 2)->flags = IOSQE_IO_DRAIN;
  ring.Get(IORING_OP_NOP, -1, 3);
  ASSERT_EQ(3, ring.Submit());
  EXPECT_EQ(0u, ring.Ready());
  ASSERT_EQ(1, write(p.w, "x", 1));
  for (uint64_t i = 1; i <= 3; ++i) EXPECT_EQ(i, ring.Take().data);
}

TEST(io_uring_enter, SuccessCanBeSilent) {
  Uring ring(8);
  ring.Get(IORING_OP_NOP, -1, 1)->flags = IOSQE_CQE_SKIP_SUCCESS;
  char c;
  ring.Rw(IORING_OP_READ, kBadFd, &c, 1, 0, 2)->flags = IOSQE_CQE_SKIP_SUCCESS;
  ring.Get(IORING_OP_NOP, -1, 3);
  ASSERT_EQ(3, ring.Submit());
  ASSERT_EQ(2u, ring.Ready());
  EXPECT_EQ(2u, ring.Take().data);
  EXPECT_EQ(3u, ring.Take().data);
}

TEST(io_uring_setup, PollsAndEventfd) {
  COVERS(io_uring_register);
  Uring ring(4);
  Fd event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  int fd = event;
  ASSERT_OK(UringRegister(ring.fd, IORING_REGISTER_EVENTFD, &fd, 1));
  EXPECT_ERRNO(EBUSY, UringRegister(ring.fd, IORING_REGISTER_EVENTFD, &fd, 1));
  pollfd pfd = {ring.fd, POLLIN | POLLOUT, 0};
  ASSERT_EQ(1, poll(&pfd, 1, 0));
  EXPECT_EQ(POLLOUT, pfd.revents);
  ring.Get();
  ASSERT_EQ(1, ring.Submit());
  ASSERT_EQ(1, poll(&pfd, 1, -1));
  EXPECT_EQ(POLLIN | POLLOUT, pfd.revents);
  uint64_t n = 0;
  ASSERT_EQ(8, read(event, &n, 8));
  EXPECT_EQ(1u, n);
  EXPECT_OK(UringRegister(ring.fd, IORING_UNREGISTER_EVENTFD, nullptr, 0));
  EXPECT_ERRNO(ENXIO, UringRegister(ring.fd, IORING_UNREGISTER_EVENTFD, nullptr, 0));
}

TEST(io_uring_setup, OneIssuer) {
  Uring ring(4, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
  if (ring.fd.get() < 0) GTEST_SKIP();
  ring.Get();
  EXPECT_EQ(0, ring.Do());
  std::thread other([&] {
    ring.Get();
    EXPECT_ERRNO(EEXIST, ring.Submit());
  });
  other.join();
}

TEST(io_uring_register, RestrictionsAndEnabling) {
  Uring ring(4, IORING_SETUP_R_DISABLED);
  ring.Get();
  EXPECT_ERRNO(EBADFD, ring.Submit());
  io_uring_restriction r[3] = {};
  r[0].opcode = IORING_RESTRICTION_SQE_OP;
  r[0].sqe_op = IORING_OP_NOP;
  r[1].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
  r[1].sqe_flags = IOSQE_IO_LINK;
  ASSERT_OK(UringRegister(ring.fd, IORING_REGISTER_RESTRICTIONS, r, 2));
  EXPECT_ERRNO(EBUSY, UringRegister(ring.fd, IORING_REGISTER_RESTRICTIONS, r, 2));
  ASSERT_OK(UringRegister(ring.fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0));
  EXPECT_EQ(1, UringEnter(ring.fd, 1, 1, IORING_ENTER_GETEVENTS));
  EXPECT_EQ(0, ring.Take().res);
  ring.Get(IORING_OP_TIMEOUT);
  EXPECT_EQ(-EACCES, ring.Do());
  ring.Get()->flags = IOSQE_IO_DRAIN;
  EXPECT_EQ(-EACCES, ring.Do());
  int fd = -1;
  EXPECT_ERRNO(EACCES, UringRegister(ring.fd, IORING_REGISTER_FILES, &fd, 1));
}

TEST(io_uring_register, ProbeTellsTheTruth) {
  Uring ring(4);
  std::vector<char> room(sizeof(io_uring_probe) + 256 * sizeof(io_uring_probe_op));
  auto* probe = reinterpret_cast<io_uring_probe*>(room.data());
  ASSERT_OK(UringRegister(ring.fd, IORING_REGISTER_PROBE, probe, 256));
  ASSERT_GT(probe->ops_len, 40);
  for (int op : {IORING_OP_NOP, IORING_OP_READV, IORING_OP_ACCEPT, IORING_OP_STATX,
                 IORING_OP_SPLICE, IORING_OP_MSG_RING})
    EXPECT_NE(0, probe->ops[op].flags & IO_URING_OP_SUPPORTED) << op;
  // What is not supported fails as such.
  for (int op = 0; op < 256; ++op) {
    if (op < probe->ops_len && (probe->ops[op].flags & IO_URING_OP_SUPPORTED) != 0) continue;
    ring.Get(op);
    const int res = ring.Do();
    EXPECT_TRUE(res == -EINVAL || res == -EOPNOTSUPP) << op << ": " << res;
  }
}

TEST(io_uring_register, PersonalityIsThatOfItsTime) {
  Uring ring(4);
  const long id = UringRegister(ring.fd, IORING_REGISTER_PERSONALITY, nullptr, 0);
  ASSERT_GT(id, 0);
  ring.Get()->personality = static_cast<uint16_t>(id);
  EXPECT_EQ(0, ring.Do());
  EXPECT_OK(
      UringRegister(ring.fd, IORING_UNREGISTER_PERSONALITY, nullptr, static_cast<unsigned>(id)));
  ring.Get()->personality = static_cast<uint16_t>(id);
  EXPECT_EQ(-EINVAL, ring.Do());
}

TEST(io_uring_register, RingsByNumber) {
  Uring ring(4);
  struct {
    uint32_t offset, resv;
    uint64_t data;
  } u = {~0u, 0, static_cast<uint64_t>(ring.fd.get())};
  ASSERT_EQ(1, UringRegister(ring.fd, IORING_REGISTER_RING_FDS, &u, 1));
  ring.Get();
  __atomic_store_n(ring.Word(ring.params.sq_off.tail), 1, __ATOMIC_RELEASE);
  EXPECT_EQ(1, UringEnter(static_cast<int>(u.offset), 1, 1,
                          IORING_ENTER_GETEVENTS | IORING_ENTER_REGISTERED_RING));
  EXPECT_EQ(0, ring.Take().res);
  u.data = 0;
  EXPECT_EQ(1, UringRegister(ring.fd, IORING_UNREGISTER_RING_FDS, &u, 1));
  EXPECT_ERRNO(EBADF, UringEnter(static_cast<int>(u.offset), 1, 0, IORING_ENTER_REGISTERED_RING));
}

// What waits ends with the process and with the ring.
TEST(io_uring_enter, EndsWithProcessAndRing) {
  Pipe p;
  EXPECT_EQ(0, RunChild([&] {
              Uring ring(4);
              char c;
              ring.Rw(IORING_OP_READ, p.r, &c, 1, 0);
              CHILD_CHECK(ring.Submit() == 1);
            }));
  Pipe q;
  {
    Uring ring(4);
    char c;
    ring.Rw(IORING_OP_READ, q.r, &c, 1, 0);
    ASSERT_EQ(1, ring.Submit());
    q.r.reset();
  }
  // The request held the last reading end.
  ScopedHandler ignore(SIGPIPE, SIG_IGN);
  pollfd pfd = {q.w, POLLERR, 0};
  EXPECT_EQ(1, poll(&pfd, 1, 10'000));
  EXPECT_NE(0, pfd.revents & POLLERR);
}

}  // namespace
}  // namespace uk::test
