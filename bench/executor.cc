// What the executor costs: a fiber switch, a turn of the reactor, a vCPU taken and left, and the
// ways an event ends the reactor's sleep. Each figure is the median of many batches, with the
// spread (median absolute deviation).
//
//   tools/dev bench executor [--quick]
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "hostio/ring.h"
#include "hostio/sys/event.h"
#include "hostio/sys/file.h"
#include "hostio/sys/process.h"
#include "ukernel/sched/host_clock.h"
#include "ukernel/sched/reactor.h"
#include "ukernel/sched/vcpu.h"

namespace uk {
namespace {

int batches = 51;

uint64_t now() { return sys::clock_ns(CLOCK_MONOTONIC); }

double median(std::vector<double>& v) {
  std::nth_element(v.begin(), v.begin() + static_cast<long>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

// Calls batch(n), which does the thing n times, and prints ns for one.
void report(const char* what, int n, const std::function<void(int)>& batch) {
  std::vector<double> ns;
  for (int i = 0; i < batches; ++i) {
    uint64_t start = now();
    batch(n);
    ns.push_back(static_cast<double>(now() - start) / n);
  }
  double mid = median(ns);
  for (double& x : ns) x = x > mid ? x - mid : mid - x;
  printf("%-52s %9.1f ns  +- %.1f\n", what, mid, median(ns));
}

struct QuietSource final : EventSource {
  bool collect() override { return false; }
};

void no_host_calls(hostio::Ring& ring) {
  HostClock clock;
  Reactor reactor(ring, clock);
  QuietSource source;
  reactor.add_source(source);
  report("clock read", 1000, [&](int n) {
    for (int i = 0; i < n; ++i) (void)clock.monotonic_ns();
  });
  bool stop = false;
  Ref<Fiber> f = reactor.spawn("yielder", [&](Park& park) {
    while (!stop) park.yield();
  });
  report("turn: one ready fiber, one source", 1000, [&](int n) {
    for (int i = 0; i < n; ++i) reactor.turn(false);
  });
  Timer far(reactor.timers(), [] {});
  far.arm({~0ull - 1});
  report("the same with a timer armed", 1000, [&](int n) {
    for (int i = 0; i < n; ++i) reactor.turn(false);
  });
  stop = true;
  while (!f->done()) reactor.turn(false);
  reactor.spawn("vcpu", [&](Park& park) {
    VcpuSet set(reactor.timers(), clock, 2);
    SchedEntity e([] {});
    report("VcpuSet enter + leave, free vCPU", 1000, [&](int n) {
      for (int i = 0; i < n; ++i) {
        (void)set.enter(park, e);
        set.leave(e);
      }
    });
    report("spawn + run + end of a fiber", 100, [&](int n) {
      int done = 0;
      for (int i = 0; i < n; ++i) reactor.spawn("f", [&](Park&) { ++done; });
      while (done < n) park.yield();
    });
    stop = false;
  });
  while (stop) reactor.turn(false);
}

struct Echo final : hostio::Completion {
  void complete(int32_t, bool more) override {
    ++count;
    (void)sys::eventfd_take(fd);
    if (!more) ring->poll(*this, fd, POLLIN, multishot);
  }
  hostio::Ring* ring = nullptr;
  int fd = -1;
  bool multishot = false;
  int count = 0;
};

// Runs `reply` on another thread each time it is asked to; both threads on one CPU, so that a round
// trip is two context switches, as with a guest.
class Partner {
 public:
  explicit Partner(std::function<void()> reply)
      : reply_(std::move(reply)), thread_([this] { loop(); }) {}
  ~Partner() {
    stop_ = true;
    ask();
    thread_.join();
  }
  void ask() { CHECK_OK(sys::eventfd_signal(asked_.get())); }

 private:
  void loop() {
    while (true) {
      CHECK_OK(sys::eventfd_take(asked_.get()));
      if (stop_) return;
      reply_();
    }
  }
  sys::Fd asked_ = sys::eventfd().value();
  std::atomic<bool> stop_ = false;
  std::function<void()> reply_;
  std::thread thread_;
};

void wake_by_read(const char* what) {
  sys::Fd fd = CHECK_OK(sys::eventfd());
  Partner partner([&] { CHECK_OK(sys::eventfd_signal(fd.get())); });
  report(what, 200, [&](int n) {
    for (int i = 0; i < n; ++i) {
      partner.ask();
      CHECK_OK(sys::eventfd_take(fd.get()));
    }
  });
}

void wake_by_poll(hostio::Ring& ring, bool multishot, const char* what) {
  sys::Fd fd = CHECK_OK(sys::eventfd(0, O_NONBLOCK));
  Echo echo;
  echo.ring = &ring;
  echo.fd = fd.get();
  echo.multishot = multishot;
  ring.poll(echo, fd.get(), POLLIN, multishot);
  ring.submit();
  {
    Partner partner([&] { CHECK_OK(sys::eventfd_signal(fd.get())); });
    report(what, 200, [&](int n) {
      for (int i = 0; i < n; ++i) {
        int before = echo.count;
        partner.ask();
        while (echo.count == before) {
          ring.wait(-1, nullptr);
          ring.drain();
        }
      }
    });
  }
  ring.detach(echo);
}

// As a ptrace stop announces itself by SIGCHLD.
void wake_by_signal(hostio::Ring& ring, const char* what) {
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  CHECK_OK(sys::sigaction(SIGUSR1, action));
  sigset_t usr1;
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  sigset_t open = CHECK_OK(sys::sigprocmask(SIG_BLOCK, usr1));
  pid_t pid = sys::getpid(), tid = sys::gettid();
  {
    Partner partner([&] { (void)sys::tgkill(pid, tid, SIGUSR1); });
    report(what, 200, [&](int n) {
      for (int i = 0; i < n; ++i) {
        partner.ask();
        while (ring.wait(-1, &open) != hostio::WaitEnd::kSignal) {
        }
      }
    });
  }
  CHECK_OK(sys::sigprocmask(SIG_SETMASK, open));
}

// The same through the whole loop: a fiber asks and suspends, a signal announces the answer, the
// source wakes the fiber.
struct SignalSource final : EventSource {
  bool collect() override {
    ++looks;
    if (!happened.exchange(false)) return false;
    fiber->wake();
    return true;
  }
  bool pending() const override { return true; }
  void wake_signals(sigset_t& set) const override { sigaddset(&set, SIGUSR1); }
  std::atomic<bool> happened = false;
  uint64_t looks = 0;
  Ref<Fiber> fiber;
};

void wake_fiber_by_signal(hostio::Ring& ring, const char* what) {
  HostClock clock;
  Reactor reactor(ring, clock);
  SignalSource source;
  reactor.add_source(source);
  pid_t pid = sys::getpid(), tid = sys::gettid();
  Partner partner([&] {
    source.happened = true;
    (void)sys::tgkill(pid, tid, SIGUSR1);
  });
  uint64_t asked = 0;
  source.fiber = reactor.spawn("guest", [&](Park& park) {
    report(what, 200, [&](int n) {
      for (int i = 0; i < n; ++i) {
        ++asked;
        partner.ask();
        park.suspend();
      }
    });
    park.reactor().stop();
  });
  reactor.run();
  printf("%-52s %9.2f\n", "  looks at the source for each",
         static_cast<double>(source.looks) / static_cast<double>(asked));
  source.fiber.reset();
}

struct Count final : hostio::Completion {
  void complete(int32_t, bool) override { ++count; }
  int count = 0;
};

void host_calls(hostio::Ring& ring) {
  printf("ring: %s\n", ring.name());
  Count c;
  report("nop through the ring", 500, [&](int n) {
    for (int i = 0; i < n; ++i) {
      ring.nop(c);
      while (!c.idle()) {
        ring.wait(-1, nullptr);
        ring.drain();
      }
    }
  });
  wake_by_poll(ring, false, "round trip, ring poll of an eventfd, one-shot");
  wake_by_poll(ring, true, "round trip, ring poll of an eventfd, multishot");
  wake_by_signal(ring, "round trip, sleep ended by a signal");
  wake_fiber_by_signal(ring, "round trip of a fiber, woken through the reactor");
}

}  // namespace
}  // namespace uk

int main(int argc, char** argv) {
  if (argc > 1 && strcmp(argv[1], "--quick") == 0) uk::batches = 5;
  uk::report("native getppid", 1000, [](int n) {
    for (int i = 0; i < n; ++i) (void)getppid();
  });
  if (std::unique_ptr<uk::hostio::Ring> ring = uk::hostio::make_uring()) {
    uk::no_host_calls(*ring);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    CHECK_OK(uk::sys::sched_setaffinity(0, one));
    uk::wake_by_read("round trip, blocking read of an eventfd");
    uk::host_calls(*ring);
  }
  std::unique_ptr<uk::hostio::Ring> threads = uk::hostio::make_thread_ring();
  uk::host_calls(*threads);
}
