// Single system calls that do not wait, and plain computing.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

#include "bench/guest/rows.h"

namespace uk::bench {
namespace {

// A file that every system has.
constexpr char kFile[] = "/etc/passwd";

void Null(Meter& meter) {
  meter.Each([] { syscall(SYS_getppid); });
}

void Getpid(Meter& meter) {
  meter.Each([] { syscall(SYS_getpid); });
}

void Gettid(Meter& meter) {
  meter.Each([] { syscall(SYS_gettid); });
}

void Read1(Meter& meter) {
  int fd = open("/dev/zero", O_RDONLY);
  char c;
  Need(fd >= 0 && read(fd, &c, 1) == 1, "/dev/zero");
  meter.Each([&] { (void)!read(fd, &c, 1); });
}

void Write1(Meter& meter) {
  int fd = open("/dev/null", O_WRONLY);
  char c = 'x';
  Need(fd >= 0 && write(fd, &c, 1) == 1, "/dev/null");
  meter.Each([&] { (void)!write(fd, &c, 1); });
}

void ClockGettime(Meter& meter) {
  timespec t;
  meter.Each([&] { clock_gettime(CLOCK_MONOTONIC, &t); });
}

void Stat(Meter& meter) {
  struct stat st;
  Need(stat(kFile, &st) == 0, kFile);
  meter.Each([&] { stat(kFile, &st); });
}

void OpenClose(Meter& meter) {
  meter.Each([] {
    int fd = open(kFile, O_RDONLY);
    Need(fd >= 0, kFile);
    close(fd);
  });
}

void Lseek(Meter& meter) {
  int fd = open(kFile, O_RDONLY);
  Need(fd >= 0, kFile);
  meter.Each([&] { lseek(fd, 1, SEEK_SET); });
}

void Fstat(Meter& meter) {
  int fd = open(kFile, O_RDONLY);
  struct stat st;
  Need(fd >= 0 && fstat(fd, &st) == 0, kFile);
  meter.Each([&] { fstat(fd, &st); });
}

void Yield(Meter& meter) {
  meter.Each([] { sched_yield(); });
}

struct Pair {
  pthread_barrier_t barrier;
  int64_t count;
};

void* SecondCaller(void* argument) {
  auto* pair = static_cast<Pair*>(argument);
  pthread_barrier_wait(&pair->barrier);
  for (int64_t i = 0; i < pair->count; i++) syscall(SYS_getppid);
  return nullptr;
}

// The time until both of two threads have made as many calls; with a core each it is that of one.
void NullByTwo(Meter& meter) {
  meter.Batches([](int64_t count) {
    Pair pair = {.barrier = {}, .count = count};
    pthread_t second;
    pthread_barrier_init(&pair.barrier, nullptr, 2);
    errno = pthread_create(&second, nullptr, SecondCaller, &pair);
    Need(errno == 0, "pthread_create");
    pthread_barrier_wait(&pair.barrier);
    int64_t start = Now();
    for (int64_t i = 0; i < count; i++) syscall(SYS_getppid);
    pthread_join(second, nullptr);
    return Now() - start;
  });
}

struct Line {
  alignas(64) std::atomic<int64_t> turn;
  int64_t count;
  cpu_set_t cores;
  bool one_each = CPU_COUNT(&cores) > 1;
};

// Two threads that spin give a word back and forth. With one core they have to take turns.
void AwaitTurn(const Line& line, int64_t turn) {
  while (line.turn.load(std::memory_order_acquire) != turn) {
    if (line.one_each) {
      __builtin_ia32_pause();
    } else {
      sched_yield();
    }
  }
}

// The calling thread runs on the first or on the last of the process's cores.
void RunAtEnd(const cpu_set_t& all, bool last) {
  int chosen = -1;
  for (int cpu = 0; cpu < CPU_SETSIZE && (chosen < 0 || last); cpu++) {
    if (CPU_ISSET(cpu, &all)) chosen = cpu;
  }
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(chosen, &one);
  Need(sched_setaffinity(0, sizeof one, &one) == 0, "sched_setaffinity");
}

void* OtherEnd(void* argument) {
  auto* line = static_cast<Line*>(argument);
  RunAtEnd(line->cores, true);
  for (int64_t i = 0; i < line->count; i++) {
    AwaitTurn(*line, 2 * i + 1);
    line->turn.store(2 * i + 2, std::memory_order_release);
  }
  return nullptr;
}

void LineRoundTrip(Meter& meter) {
  cpu_set_t cores;
  Need(sched_getaffinity(0, sizeof cores, &cores) == 0, "sched_getaffinity");
  RunAtEnd(cores, false);
  meter.Batches([&](int64_t count) {
    Line line = {.turn = 0, .count = count, .cores = cores};
    pthread_t other;
    errno = pthread_create(&other, nullptr, OtherEnd, &line);
    Need(errno == 0, "pthread_create");
    int64_t start = Now();
    for (int64_t i = 0; i < count; i++) {
      line.turn.store(2 * i + 1, std::memory_order_release);
      AwaitTurn(line, 2 * i + 2);
    }
    const int64_t took = Now() - start;
    pthread_join(other, nullptr);
    return took;
  });
}

// A million dependent steps over a table that fits the nearest cache.
void Compute(Meter& meter) {
  static uint64_t table[1024];
  meter.Each([] {
    uint64_t x = 88172645463325252ull;
    for (int i = 0; i < 1000000; i++) {
      x ^= x << 13;
      x ^= x >> 7;
      x ^= x << 17;
      table[x % 1024] += x;
    }
    __asm__ volatile("" : : "r"(x) : "memory");
  });
}

}  // namespace

std::vector<Row> CallRows() {
  return {
      {"line", "us",
       "round trip of a cache line between two spinning threads: the least that a call costs whose "
       "kernel is on another core",
       LineRoundTrip},
      {"null", "us", "null call: getppid", Null},
      {"getpid", "us", "getpid", Getpid},
      {"gettid", "us", "gettid", Gettid},
      {"read1", "us", "read 1 B of /dev/zero", Read1},
      {"write1", "us", "write 1 B to /dev/null", Write1},
      {"clock", "ns", "clock_gettime", ClockGettime},
      {"stat", "us", "stat", Stat},
      {"open", "us", "open and close", OpenClose},
      {"lseek", "us", "lseek", Lseek},
      {"fstat", "us", "fstat", Fstat},
      {"yield", "us", "sched_yield, nothing else to run", Yield},
      {"null2", "us", "null calls of two threads at once, a call of each", NullByTwo},
      {"compute", "ms", "a million steps of computing", Compute},
  };
}

}  // namespace uk::bench
