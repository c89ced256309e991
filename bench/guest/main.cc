// guest_bench ROW [--quick] [--hold=SECONDS]: measures one thing, natively or in a guest, and
// prints `ROW VALUE UNIT DEVIATION`: the median over rounds and the median absolute deviation.
// guest_bench --list: `ROW UNIT WHAT` of every row.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <iterator>

#include "bench/guest/rows.h"

namespace uk::bench {
namespace {

double Median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return (v[v.size() / 2] + v[(v.size() - 1) / 2]) / 2;
}

std::vector<Row> AllRows() {
  std::vector<Row> all;
  for (auto rows : {CallRows, IpcRows, ProcessRows, MemoryRows, FileRows, BurstRows}) {
    std::vector<Row> more = rows();
    std::move(more.begin(), more.end(), std::back_inserter(all));
  }
  return all;
}

double InUnit(const Row& row, double ns) {
  if (row.bytes > 0) return row.bytes / ns;  // bytes a nanosecond are GB/s
  for (auto [unit, size] : {std::pair{"ns", 1e0}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}}) {
    if (strcmp(row.unit, unit) == 0) return ns / size;
  }
  abort();
}

}  // namespace

void Need(bool good, const char* what) {
  if (good) return;
  fprintf(stderr, "guest_bench: %s: %s\n", what, strerror(errno));
  exit(1);
}

void WaitFor(pid_t child) {
  int status = 0;
  Need(child > 0, "starting a child");
  Need(waitpid(child, &status, 0) == child, "waitpid");
  errno = 0;
  Need(status == 0, "a child failed");
}

void Report(const Row& row, const std::vector<double>& samples_ns) {
  std::vector<double> values, distances;
  for (double ns : samples_ns) values.push_back(InUnit(row, ns));
  double median = Median(values);
  for (double value : values) distances.push_back(std::abs(value - median));
  printf("%s %.6g %s %.3g\n", row.name, median, row.unit, Median(distances));
  fflush(stdout);
}

}  // namespace uk::bench

int main(int argc, char** argv) {
  using namespace uk::bench;  // NOLINT: main is all there is
  if (argc == 2 && strcmp(argv[1], kExitArgument) == 0) _exit(0);
  const char* name = nullptr;
  bool quick = false, good = true;
  int hold_s = 0;
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--list") == 0) {
      for (const Row& row : AllRows()) printf("%s %s %s\n", row.name, row.unit, row.what);
      return 0;
    } else if (strcmp(argv[i], "--quick") == 0) {
      quick = true;
    } else if (strncmp(argv[i], "--hold=", 7) == 0) {
      hold_s = atoi(argv[i] + 7);
    } else {
      good = good && !name && argv[i][0] != '-';
      name = argv[i];
    }
  }
  if (!good || !name) {
    fprintf(stderr, "usage: guest_bench ROW [--quick] [--hold=SECONDS] | --list\n");
    return 2;
  }
  for (const Row& row : AllRows()) {
    if (strcmp(row.name, name) != 0) continue;
    Meter meter(quick, hold_s);
    row.run(meter);
    // `idle` reports before it waits.
    if (!meter.samples().empty()) Report(row, meter.samples());
    return 0;
  }
  fprintf(stderr, "guest_bench: %s: no such row; see guest_bench --list\n", name);
  return 2;
}
