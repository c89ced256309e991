#include "ukernel/sched/reactor.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <string>
#include <thread>

#include "hostio/sys/event.h"
#include "hostio/sys/file.h"
#include "hostio/sys/process.h"
#include "ukernel/sched/host_clock.h"
#include "ukernel/sched/host_io.h"
#include "ukernel/sched/test_kit.h"

namespace uk {
namespace {

struct HostReactor {
  HostClock clock;
  std::unique_ptr<hostio::Ring> ring = hostio::make_ring();
  Reactor reactor{*ring, clock};
};

TEST(Reactor, OffloadRunsElsewhereAndInParallel) {
  HostReactor h;
  std::atomic<int> meeting = 0;
  int done = 0;
  pid_t self = sys::gettid();
  for (int n = 0; n < 2; ++n) {
    h.reactor.spawn("f", [&](Park& park) {
      park.reactor().offload(park, [&] {
        EXPECT_NE(sys::gettid(), self);
        ++meeting;
        while (meeting != 2) std::this_thread::yield();  // ends only if both run at once
      });
      if (++done == 2) park.reactor().stop();
    });
  }
  h.reactor.run();
  EXPECT_EQ(done, 2);
}

TEST(Reactor, ManyOffloadsAllReturn) {
  HostReactor h;
  int done = 0;
  for (int n = 0; n < 50; ++n) {
    h.reactor.spawn("f", [&, n](Park& park) {
      for (int i = 0; i < 20; ++i) {
        int out = 0;
        park.reactor().offload(park, [&] { out = n + i; });
        EXPECT_EQ(out, n + i);
      }
      if (++done == 50) park.reactor().stop();
    });
  }
  h.reactor.run();
  EXPECT_EQ(done, 50);
}

TEST(Reactor, IdleUsesNoCpu) {
  HostReactor h;
  struct rusage before = sys::getrusage(RUSAGE_THREAD).value();
  h.reactor.spawn("sleeper", [](Park& park) {
    for (int i = 1; i <= 3; ++i) {
      uint64_t until = park.reactor().now_ns() + 100'000'000;
      while (park.reactor().now_ns() < until) park.suspend({until});
    }
    park.reactor().stop();
  });
  h.reactor.run();
  struct rusage after = sys::getrusage(RUSAGE_THREAD).value();
  EXPECT_LT(after.ru_nvcsw - before.ru_nvcsw, 20);
  auto us = [](const struct rusage& r) {
    return r.ru_utime.tv_sec * 1'000'000 + r.ru_utime.tv_usec + r.ru_stime.tv_sec * 1'000'000 +
           r.ru_stime.tv_usec;
  };
  EXPECT_LT(us(after) - us(before), 20'000);
}

// An event source announced by SIGUSR1, as a platform's by SIGCHLD.
struct SignalSource final : EventSource {
  bool collect() override {
    ++looks;
    if (!happened.exchange(false)) return false;
    fiber->wake();
    return true;
  }
  bool pending() const override { return waiting; }
  void wake_signals(sigset_t& set) const override { sigaddset(&set, SIGUSR1); }
  std::atomic<bool> happened = false;
  bool waiting = false;
  int looks = 0;
  Ref<Fiber> fiber;
};

TEST(Reactor, ASignalEndsTheSleepOnlyWhilePending) {
  HostReactor h;
  SignalSource source;
  h.reactor.add_source(source);
  pid_t pid = sys::getpid(), tid = sys::gettid();
  std::atomic<int> phase = 0;
  std::thread other([&] {
    for (int i = 0; i < 100; ++i) {
      while (phase != 2 * i + 1) std::this_thread::yield();
      source.happened = true;
      phase = 2 * i + 2;
      (void)sys::tgkill(pid, tid, SIGUSR1);
    }
  });
  source.fiber = h.reactor.spawn("f", [&](Park& park) {
    source.waiting = true;
    for (int i = 0; i < 100; ++i) {
      phase = 2 * i + 1;
      int before = source.looks;
      while (phase != 2 * i + 2 || source.happened) park.suspend();
      EXPECT_LE(source.looks - before, 4);
    }
    source.waiting = false;
    (void)sys::tgkill(pid, tid, SIGUSR1);  // stays pending: nobody waits
    uint64_t until = park.reactor().now_ns() + 20'000'000;
    while (park.reactor().now_ns() < until) park.suspend({until});
    park.reactor().stop();
  });
  h.reactor.run();
  other.join();
  source.fiber.reset();
  sigset_t usr1;
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  siginfo_t info;
  EXPECT_EQ(sys::sigtake(usr1, &info).value(), SIGUSR1);
  EXPECT_TRUE(sys::sigprocmask(SIG_UNBLOCK, usr1));
}

TEST(Reactor, UnblocksWhatItBlocked) {
  sigset_t none;
  sigemptyset(&none);
  SignalSource source;
  {
    HostReactor h;
    h.reactor.add_source(source);
    sigset_t during = sys::sigprocmask(SIG_BLOCK, none).value();
    EXPECT_EQ(sigismember(&during, SIGUSR1), 1);
  }
  sigset_t after = sys::sigprocmask(SIG_BLOCK, none).value();
  EXPECT_EQ(sigismember(&after, SIGUSR1), 0);
}

TEST(Reactor, ASignalSourceIsNotStarvedByABusyLoop) {
  HostReactor h;
  SignalSource source;
  h.reactor.add_source(source);
  source.waiting = true;
  bool stop = false;
  source.fiber = h.reactor.spawn("f", [&](Park& park) {
    source.happened = true;
    while (source.happened) park.suspend();
    stop = true;
    park.reactor().stop();
  });
  h.reactor.spawn("busy", [&](Park& park) {
    while (!stop) park.yield();
  });
  h.reactor.run();
  EXPECT_TRUE(stop);
  source.fiber.reset();
}

// A source found by looking at memory, worth spinning for.
struct SpinSource final : EventSource {
  bool collect() override {
    if (!happened.exchange(false)) return false;
    fiber->wake();
    return true;
  }
  uint64_t spin_ns() override { return spin; }
  std::atomic<bool> happened = false;
  uint64_t spin = 20 * kNsPerSec;
  Ref<Fiber> fiber;
};

TEST(Reactor, SpinsForASourceThatAsksForIt) {
  HostReactor h;
  SpinSource source;
  h.reactor.add_source(source);
  std::atomic<bool> go = false;
  std::thread other([&] {
    while (!go) std::this_thread::yield();
    source.happened = true;
  });
  source.fiber = h.reactor.spawn("f", [&](Park& park) {
    go = true;
    park.suspend();
    park.reactor().stop();
  });
  h.reactor.run();  // nothing else could end it
  other.join();
  source.fiber.reset();
}

TEST(Reactor, SubmittedWorkStartsWhileTheLoopIsBusy) {
  HostReactor h;
  sys::Fd e = sys::eventfd(1, O_NONBLOCK).value();
  bool polled = false;
  h.reactor.spawn("poller", [&](Park& park) {
    EXPECT_TRUE(host_poll(park, e.get(), POLLIN));
    polled = true;
  });
  h.reactor.spawn("busy", [&](Park& park) {
    while (!polled) park.yield();
    park.reactor().stop();
  });
  h.reactor.run();
  EXPECT_TRUE(polled);
}

// The same seed runs the same way; the log is the order of completions of fibers doing fake I/O.
std::string simulate(uint64_t seed) {
  SimReactor sim(seed);
  sim.ring.faults = {.short_io = 200, .min_delay_ns = 100, .max_delay_ns = 10'000};
  int fd = sim.ring.add_file(std::string(4096, 'x'));
  std::string log;
  for (char c = 'a'; c < 'k'; ++c) {
    sim.reactor.spawn(std::string(1, c), [&, c](Park& park) {
      std::string buf(100, '-');
      for (int i = 0; i < 5; ++i) {
        size_t n = host_read(park, fd, std::as_writable_bytes(std::span(buf)), i * 100).value();
        log += c + std::to_string(n) + "@" + std::to_string(park.reactor().now_ns()) + " ";
      }
    });
  }
  sim.run();
  return log;
}

TEST(Reactor, ASeededRunIsRepeatable) {
  EXPECT_EQ(simulate(11), simulate(11));
  EXPECT_NE(simulate(11), simulate(12));
}

TEST(Reactor, EndsWithOperationsInFlight) {
  sys::PipePair pipe = sys::pipe2().value();
  std::string buf(4, '-');
  {
    HostReactor h;
    h.reactor.spawn("stuck", [&](Park& park) {
      (void)host_read(park, pipe.read_end.get(), std::as_writable_bytes(std::span(buf)), -1);
    });
    h.reactor.spawn("stop", [&](Park& park) {
      park.yield();
      park.reactor().stop();
    });
    h.reactor.run();
  }
  ASSERT_TRUE(sys::write_all(pipe.write_end.get(), "late"));
  EXPECT_EQ(buf, "----");
}

}  // namespace
}  // namespace uk
