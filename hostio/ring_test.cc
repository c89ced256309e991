// One suite over both rings of the host.
#include "hostio/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <poll.h>
#include <seccomp.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <vector>

#include "hostio/sys/event.h"
#include "hostio/sys/file.h"
#include "hostio/sys/process.h"

namespace uk::hostio {
namespace {

struct Recorder final : Completion {
  void complete(int32_t res, bool more) override {
    results.push_back(res);
    last_more = more;
    if (on_complete) on_complete();
  }
  std::vector<int32_t> results;
  bool last_more = false;
  std::function<void()> on_complete;
};

std::span<std::byte> out(char* p, size_t n) { return std::as_writable_bytes(std::span(p, n)); }
std::span<const std::byte> in(std::string_view s) {
  return std::as_bytes(std::span(s.data(), s.size()));
}
constexpr int64_t kLong = 20'000'000'000;

class RingTest : public testing::TestWithParam<std::unique_ptr<Ring> (*)()> {
 protected:
  void SetUp() override {
    ring_ = GetParam()();
    if (ring_ == nullptr) GTEST_SKIP() << "the host refuses io_uring";
  }
  // Runs the ring until `c` has completed `n` times.
  void run_until(Recorder& c, size_t n = 1) {
    while (c.results.size() < n) {
      ASSERT_NE(ring_->wait(kLong, nullptr), WaitEnd::kTimeout);
      ring_->drain();
    }
  }
  std::unique_ptr<Ring> ring_;
};

INSTANTIATE_TEST_SUITE_P(Rings, RingTest, testing::Values(&make_uring, &make_thread_ring),
                         [](const auto& info) {
                           return std::string(info.index == 0 ? "uring" : "threads");
                         });

TEST_P(RingTest, NothingHappensInsideSubmission) {
  Recorder c;
  ring_->nop(c);
  EXPECT_FALSE(c.idle());
  ring_->submit();
  EXPECT_TRUE(c.results.empty());
  run_until(c);
  EXPECT_EQ(c.results[0], 0);
  EXPECT_TRUE(c.idle());
  EXPECT_FALSE(ring_->drain());
}

TEST_P(RingTest, CompletionsMayStartThemselvesAgain) {
  Recorder c;
  c.on_complete = [&] {
    if (c.results.size() < 1000) ring_->nop(c);
  };
  ring_->nop(c);
  run_until(c, 1000);
  EXPECT_TRUE(c.idle());
}

TEST_P(RingTest, MoreOperationsThanTheQueueHolds) {
  std::vector<std::unique_ptr<Recorder>> all;
  for (int i = 0; i < 5000; ++i) {
    all.push_back(std::make_unique<Recorder>());
    ring_->nop(*all.back());
  }
  for (auto& c : all) run_until(*c);
  EXPECT_TRUE(ring_->nothing_in_flight());
}

TEST_P(RingTest, FilesAreReadWrittenAndSynced) {
  sys::Fd f = sys::memfd_create("t").value();
  Recorder w, wv, s, r, rv;
  ring_->write(w, f.get(), in("hello"), 3);
  run_until(w);
  EXPECT_EQ(w.results[0], 5);
  char ab[] = "AB";
  struct iovec iov[2] = {{ab, 1}, {ab + 1, 1}};
  ring_->writev(wv, f.get(), iov, 8);
  run_until(wv);
  ring_->fsync(s, f.get(), true);
  char buf[8] = {};
  ring_->read(r, f.get(), out(buf, 8), 3);
  run_until(r);
  run_until(s);
  EXPECT_EQ(r.results[0], 7);
  EXPECT_STREQ(buf, "helloAB");
  EXPECT_EQ(s.results[0], 0);
  char x, y;
  struct iovec two[2] = {{&x, 1}, {&y, 1}};
  ring_->readv(rv, f.get(), two, 7);
  run_until(rv);
  EXPECT_EQ(x, 'o');
  EXPECT_EQ(y, 'A');
}

TEST_P(RingTest, ErrorsAreNegative) {
  Recorder r, w, p, o;
  char buf[4];
  ring_->read(r, -1, out(buf, 4), 0);
  ring_->write(w, -1, in("x"), -1);
  ring_->poll(p, -1, POLLIN);
  ring_->openat(o, AT_FDCWD, "/no/such/file", O_RDONLY, 0);
  for (Recorder* c : {&r, &w, &p, &o}) run_until(*c);
  EXPECT_EQ(r.results[0], -EBADF);
  EXPECT_EQ(w.results[0], -EBADF);
  EXPECT_EQ(p.results[0], -EBADF);
  EXPECT_EQ(o.results[0], -ENOENT);
}

TEST_P(RingTest, OpenatOpens) {
  Recorder o;
  ring_->openat(o, AT_FDCWD, "/dev/null", O_RDONLY | O_CLOEXEC, 0);
  run_until(o);
  ASSERT_GE(o.results[0], 0);
  sys::Fd fd(o.results[0]);
  EXPECT_TRUE(S_ISCHR(sys::fstat(fd.get())->st_mode));
}

TEST_P(RingTest, AStreamReadWaitsForData) {
  sys::PipePair pipe = sys::pipe2().value();
  Recorder r;
  char buf[8] = {};
  ring_->read(r, pipe.read_end.get(), out(buf, 8), -1);
  EXPECT_NE(ring_->wait(2'000'000, nullptr), WaitEnd::kEvent);
  ring_->drain();
  EXPECT_TRUE(r.results.empty());
  ASSERT_TRUE(sys::write_all(pipe.write_end.get(), "data"));
  run_until(r);
  EXPECT_EQ(r.results[0], 4);
  EXPECT_STREQ(buf, "data");
}

TEST_P(RingTest, PollOneShotAndMultishot) {
  sys::Fd e = sys::eventfd(0, O_NONBLOCK).value();
  Recorder once, many;
  ring_->poll(once, e.get(), POLLIN);
  ring_->poll(many, e.get(), POLLIN, true);
  ring_->submit();
  ASSERT_TRUE(sys::eventfd_signal(e.get()));
  run_until(once);
  run_until(many);
  EXPECT_EQ(once.results[0], POLLIN);
  EXPECT_TRUE(once.idle());
  EXPECT_EQ(many.results[0] & POLLIN, POLLIN);
  EXPECT_TRUE(many.last_more);
  for (size_t i = 2; i < 5; ++i) {
    ASSERT_TRUE(sys::eventfd_take(e.get()));
    ASSERT_TRUE(sys::eventfd_signal(e.get()));
    run_until(many, i);
  }
  ring_->cancel(many);
  while (!many.idle()) {
    ASSERT_NE(ring_->wait(kLong, nullptr), WaitEnd::kTimeout);
    ring_->drain();
  }
  EXPECT_EQ(many.results.back(), -ECANCELED);
  EXPECT_FALSE(many.last_more);
}

TEST_P(RingTest, CancelEndsAReadAndDetachIsSilent) {
  sys::PipePair pipe = sys::pipe2().value();
  Recorder a;
  char buf[4];
  ring_->read(a, pipe.read_end.get(), out(buf, 4), -1);
  ring_->submit();
  ring_->cancel(a);
  run_until(a);
  EXPECT_EQ(a.results[0], -ECANCELED);
  {
    Recorder b, c;
    ring_->read(b, pipe.read_end.get(), out(buf, 4), -1);
    ring_->poll(c, pipe.read_end.get(), POLLIN, true);
    ring_->detach(b);
    EXPECT_TRUE(b.idle());
    EXPECT_TRUE(b.results.empty());
    ring_->detach_all();
    EXPECT_TRUE(c.idle());
  }
  EXPECT_TRUE(ring_->nothing_in_flight());
  // Nobody took the data for the cancelled read.
  ASSERT_TRUE(sys::write_all(pipe.write_end.get(), "x"));
  EXPECT_EQ(sys::read(pipe.read_end.get(), out(buf, 4)).value(), 1u);
}

TEST_P(RingTest, DetachWhatHasFinished) {
  Recorder a, b;
  ring_->nop(a);
  ring_->nop(b);
  ring_->submit();
  ring_->detach(a);
  EXPECT_TRUE(a.idle());
  run_until(b);
  EXPECT_TRUE(a.results.empty());
}

TEST_P(RingTest, WaitEndsByTimeoutAndBySignal) {
  // Nothing was submitted, so the ends are told apart exactly.
  ring_->submit();
  uint64_t before = sys::clock_ns(CLOCK_MONOTONIC);
  EXPECT_EQ(ring_->wait(5'000'000, nullptr), WaitEnd::kTimeout);
  EXPECT_GE(sys::clock_ns(CLOCK_MONOTONIC) - before, 5'000'000u);

  struct sigaction action = {};
  action.sa_handler = [](int) {};
  struct sigaction old_action = sys::sigaction(SIGUSR1, action).value();
  sigset_t usr1;
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  sigset_t old = sys::sigprocmask(SIG_BLOCK, usr1).value();
  sigset_t open = old;
  sigdelset(&open, SIGUSR1);
  ASSERT_TRUE(sys::tgkill(sys::getpid(), sys::gettid(), SIGUSR1));
  EXPECT_EQ(ring_->wait(1'000'000, nullptr), WaitEnd::kTimeout);  // blocked
  EXPECT_EQ(ring_->wait(kLong, &open), WaitEnd::kSignal);
  EXPECT_EQ(ring_->wait(1'000'000, &open), WaitEnd::kTimeout);  // it was taken
  ASSERT_TRUE(sys::sigprocmask(SIG_SETMASK, old));
  ASSERT_TRUE(sys::sigaction(SIGUSR1, old_action));
}

TEST_P(RingTest, WaitidAndFutexWhereSupported) {
  Recorder f, w;
  uint32_t word = 0;
  siginfo_t info = {};
  if (!ring_->supports(OpCode::kFutexWait) || !ring_->supports(OpCode::kWaitid)) {
    if (!ring_->supports(OpCode::kFutexWait)) {
      ring_->futex_wait(f, &word, 0);
      run_until(f);
      EXPECT_EQ(f.results[0], -EOPNOTSUPP);
    }
    return;
  }
  ring_->futex_wait(f, &word, 1);  // differs already
  run_until(f);
  EXPECT_EQ(f.results[0], -EAGAIN);
  ring_->futex_wait(f, &word, 0);
  ring_->submit();
  word = 1;
  EXPECT_EQ(sys::futex_wake(&word, 1, true).value(), 1);
  run_until(f, 2);
  EXPECT_EQ(f.results[1], 0);

  pid_t pid = sys::fork().value();
  if (pid == 0) sys::exit_now(7);
  ring_->waitid(w, P_PID, static_cast<id_t>(pid), &info, WEXITED);
  run_until(w);
  EXPECT_EQ(w.results[0], 0);
  EXPECT_EQ(info.si_pid, pid);
  EXPECT_EQ(info.si_status, 7);
}

// Forks, forbids io_uring_setup with `error`, and expects that make_ring() gives a ring that works
// all the same.
void expect_fallback(int error) {
  pid_t pid = sys::fork().value();
  if (pid == 0) {
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (seccomp_rule_add(filter, SCMP_ACT_ERRNO(static_cast<uint32_t>(error)),
                         SCMP_SYS(io_uring_setup), 0) != 0 ||
        seccomp_load(filter) != 0)
      sys::exit_now(3);
    if (make_uring() != nullptr) sys::exit_now(4);
    std::unique_ptr<Ring> ring = make_ring();
    if (std::string_view(ring->name()) != "threads") sys::exit_now(5);
    Recorder c;
    char buf[4] = {};
    sys::Fd f = sys::memfd_create("t").value();
    (void)sys::pwrite(f.get(), in("ok"), 0);
    ring->read(c, f.get(), out(buf, 4), 0);
    while (!c.idle()) {
      ring->wait(kLong, nullptr);
      ring->drain();
    }
    sys::exit_now(strcmp(buf, "ok") == 0 ? 0 : 6);
  }
  int status = 0;
  ASSERT_EQ(sys::waitpid(pid, &status, 0).value(), pid);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(MakeRing, FallsBackWhenTheHostRefuses) {
  expect_fallback(EPERM);
  expect_fallback(ENOSYS);
}

TEST(RingDeathTest, ABusyCompletionMustNotDie) {
  EXPECT_DEATH(
      {
        std::unique_ptr<Ring> ring = make_thread_ring();
        Recorder c;
        ring->nop(c);
      },
      "idle");
}

}  // namespace
}  // namespace uk::hostio
