// A reactor over a fake ring and a fake clock, for the tests of this directory and those above it.
#pragma once

#include "hostio/fake_ring.h"
#include "ukernel/sched/fake_clock.h"
#include "ukernel/sched/reactor.h"

namespace uk {

struct SimReactor {
  explicit SimReactor(uint64_t seed = 1) : ring(clock.now(), seed), reactor(ring, clock) {
    ring.on_deadlock = [this] {
      deadlocked = true;
      reactor.stop();
    };
  }
  // Runs until stop(), or until nothing can ever happen any more.
  void run() { reactor.run(); }

  FakeClock clock;
  hostio::FakeRing ring;
  Reactor reactor;
  bool deadlocked = false;
};

}  // namespace uk
