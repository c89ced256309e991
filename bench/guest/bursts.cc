// What two compilers at once are made of (measured under `make -j2`): a hundred pieces of computing
// for each file, and two dozen calls with little between them after each. And the least that this
// costs when another process answers the calls, as a kernel of this kind does: neither a piece nor
// a burst is long enough that waking somebody else for it is free, and whoever spins takes a core.
#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

#include "bench/guest/rows.h"

namespace uk::bench {
namespace {

constexpr int kWorkers = 2, kPieces = 100, kCalls = 24;
constexpr int kPieceSteps = 65000, kGapSteps = 600;  // 0.11 ms and 1 us at 2.6 GHz

void ComputeSteps(int steps) {
  uint64_t x = 88172645463325252ull;
  for (int i = 0; i < steps; i++) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
  }
  __asm__ volatile("" : : "r"(x) : "memory");
}

// A word that goes from a worker to the server and back.
struct alignas(64) Word {
  std::atomic<int> turn;
};
enum Turn { kMine, kAsked, kAskedAsleep };

// How both sides wait.
struct Waiting {
  int64_t server_spin_ns, worker_spin_ns;
  int worker_cpu[kWorkers], server_cpu;  // -1: wherever the host puts them
};
constexpr int64_t kForEver = 1ll << 40;
constexpr Waiting kWays[] = {
    {kForEver, kForEver, {0, 0}, 1},  // the server has a core, the workers share the other
    {200000, 200000, {-1, -1}, -1},   // it sleeps between bursts
    {5000, 20000, {0, 1}, -1},        // the same, and sooner; each worker has a core
    {0, 0, {0, 1}, -1},               // nobody spins
};

struct Shared {
  Word words[kWorkers];
  alignas(64) std::atomic<int> server_sleeps;
  std::atomic<int> go, over;
};

long Futex(std::atomic<int>* word, int op, int value) {
  return syscall(SYS_futex, word, op, value, nullptr, nullptr, 0);
}

void RunOn(int cpu) {
  if (cpu < 0) return;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  Need(sched_setaffinity(0, sizeof one, &one) == 0, "sched_setaffinity");
}

// Whether `found()` within so long.
template <typename F>
bool SpinUntil(int64_t ns, F found) {
  for (int64_t end = Now() + ns; Now() < end;) {
    for (int i = 0; i < 20; i++) {
      if (found()) return true;
      __builtin_ia32_pause();
    }
  }
  return found();
}

void Serve(Shared& shared, const Waiting& waiting) {
  auto asked = [&] {
    for (Word& word : shared.words) {
      if (word.turn.load() != kMine) return true;
    }
    return shared.over.load() != 0;
  };
  while (shared.over.load() == 0) {
    for (Word& word : shared.words) {
      if (word.turn.load() != kMine && word.turn.exchange(kMine) == kAskedAsleep)
        Futex(&word.turn, FUTEX_WAKE, 1);
    }
    if (SpinUntil(waiting.server_spin_ns, asked)) continue;
    shared.server_sleeps.store(1);
    if (!asked()) Futex(&shared.server_sleeps, FUTEX_WAIT, 1);
    shared.server_sleeps.store(0);
  }
}

void WakeServer(Shared& shared) {
  if (shared.server_sleeps.exchange(0) != 0) Futex(&shared.server_sleeps, FUTEX_WAKE, 1);
}

void Ask(Shared& shared, Word& word, const Waiting& waiting) {
  word.turn.store(kAsked);
  WakeServer(shared);
  if (SpinUntil(waiting.worker_spin_ns, [&] { return word.turn.load() == kMine; })) return;
  int asked = kAsked;
  if (!word.turn.compare_exchange_strong(asked, kAskedAsleep)) return;
  while (word.turn.load() == kAskedAsleep) Futex(&word.turn, FUTEX_WAIT, kAskedAsleep);
}

// The time two workers take for a file each; without `waiting`, their calls are those of the
// system.
int64_t TwoWorkers(Shared& shared, const Waiting* waiting, int64_t files) {
  shared.go = shared.over = 0;
  pid_t workers[kWorkers], server = 0;
  for (int w = 0; w < kWorkers; w++) {
    workers[w] = fork();
    if (workers[w] != 0) continue;
    if (waiting != nullptr) RunOn(waiting->worker_cpu[w]);
    while (shared.go.load() == 0) Futex(&shared.go, FUTEX_WAIT, 0);
    for (int64_t piece = 0; piece < files * kPieces; piece++) {
      ComputeSteps(kPieceSteps);
      for (int i = 0; i < kCalls; i++, ComputeSteps(kGapSteps)) {
        if (waiting == nullptr) {
          syscall(SYS_getppid);
        } else {
          Ask(shared, shared.words[w], *waiting);
        }
      }
    }
    _exit(0);
  }
  if (waiting != nullptr && (server = fork()) == 0) {
    RunOn(waiting->server_cpu);
    Serve(shared, *waiting);
    _exit(0);
  }
  int64_t start = Now();
  shared.go = 1;
  Futex(&shared.go, FUTEX_WAKE, kWorkers);
  for (pid_t worker : workers) WaitFor(worker);
  const int64_t took = Now() - start;
  if (waiting != nullptr) {
    shared.over = 1;
    WakeServer(shared);
    WaitFor(server);
  }
  return took;
}

Shared& NewShared() {
  void* at =
      mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  Need(at != MAP_FAILED, "mmap");
  return *new (at) Shared();
}

void Bursts(Meter& meter) {
  Shared& shared = NewShared();
  meter.Batches([&](int64_t files) { return TwoWorkers(shared, nullptr, files); });
}

// Of each round, the way that is best.
void LeastBursts(Meter& meter) {
  cpu_set_t cores;
  Need(sched_getaffinity(0, sizeof cores, &cores) == 0, "sched_getaffinity");
  const bool both = CPU_ISSET(0, &cores) && CPU_ISSET(1, &cores);
  Shared& shared = NewShared();
  const int64_t files = meter.quick() ? 1 : 4;
  for (int round = 0; round < (meter.quick() ? 1 : 5); round++) {
    int64_t best = INT64_MAX;
    for (const Waiting& way : kWays) {
      const bool has_place = way.worker_cpu[0] >= 0;
      if (both || !has_place) best = std::min(best, TwoWorkers(shared, &way, files));
    }
    meter.Add(static_cast<double>(best) / files);
  }
}

}  // namespace

std::vector<Row> BurstRows() {
  return {
      {"bursts", "ms",
       "two processes that compute and make bursts of calls, as two compilers do, the time of a "
       "file "
       "each",
       Bursts},
      {"bursts-least", "ms",
       "the same when a third process answers the calls, waiting in the best of four ways: the "
       "least "
       "that a kernel in another process costs on two cores",
       LeastBursts},
  };
}

}  // namespace uk::bench
