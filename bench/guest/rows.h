// The rows of guest_bench, a program that measures what an ordinary program sees of its kernel. It
// runs natively and in guests alike, so it knows nothing of ukernel and needs nothing but libc and
// threads. A row takes its samples with a Meter; each sample is one round, in nanoseconds an
// operation. Nothing here is ever reached by two rows in one process.
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include <algorithm>
#include <vector>

namespace uk::bench {

inline int64_t Now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

// Ends the program with `what` and errno's text unless `good`.
void Need(bool good, const char* what);

// Waits for a child and needs it to have ended with status 0.
void WaitFor(pid_t child);

class Meter {
 public:
  Meter(bool quick, int hold_s) : quick_(quick), hold_s_(hold_s) {}

  bool quick() const { return quick_; }
  // How long `idle` keeps its processes after it has reported; seconds.
  int hold_s() const { return hold_s_; }

  // Rounds of many calls of `body`, as many as a round's time holds.
  template <typename F>
  void Each(F body) {
    Batches([&](int64_t count) {
      int64_t start = Now();
      for (int64_t i = 0; i < count; i++) body();
      return Now() - start;
    });
  }

  // Rounds of `batch(count)`, which does `count` operations and returns the nanoseconds they took.
  // The count is found by trying, which warms up as well; it never exceeds `most`.
  template <typename F>
  void Batches(F batch) {
    int64_t count = 1, took = batch(count);
    while (took < round_ns() / 2) {
      // At most ten times as many: a first call may be far slower than the rest.
      int64_t fit = round_ns() / (took / count + 1);
      count = std::min(fit + 1, count * 10);
      took = batch(count);
    }
    for (int i = 0; i < rounds(); i++) Add(static_cast<double>(batch(count)) / count);
  }

  // The same for operations that come in groups: `groups(n)` does n times `size` of them.
  template <typename F>
  void Groups(int size, F groups) {
    Batches([&](int64_t count) {
      int64_t n = (count + size - 1) / size;
      return groups(n) * count / (n * size);
    });
  }

  void Add(double sample_ns) { samples_.push_back(sample_ns); }
  const std::vector<double>& samples() const { return samples_; }

 private:
  int64_t round_ns() const { return quick_ ? 4000000 : 20000000; }
  int rounds() const { return quick_ ? 5 : 11; }

  bool quick_;
  int hold_s_;
  std::vector<double> samples_;
};

struct Row {
  const char* name;
  const char* unit;  // ns, us, ms or s, of one operation; GB/s with `bytes`
  const char* what;
  void (*run)(Meter&);
  double bytes = 0;  // of one operation, for rows of throughput
};

// The rows of each file, in the order they are listed.
std::vector<Row> CallRows();
std::vector<Row> IpcRows();
std::vector<Row> ProcessRows();
std::vector<Row> MemoryRows();
std::vector<Row> FileRows();
std::vector<Row> BurstRows();

// Prints a row's median and median absolute deviation: `NAME VALUE UNIT DEVIATION`.
void Report(const Row& row, const std::vector<double>& samples_ns);

// With this argument the program ends at once: what the rows that exec execute.
inline constexpr char kExitArgument[] = "--exit";

}  // namespace uk::bench
