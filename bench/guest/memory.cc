// Faults: first touches of fresh memory, and copies on write after fork.
#include <sys/mman.h>
#include <unistd.h>

#include "bench/guest/rows.h"

namespace uk::bench {
namespace {

constexpr size_t kPage = 4096;

volatile char* Map(size_t size) {
  void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  Need(at != MAP_FAILED, "mmap");
  return static_cast<volatile char*>(at);
}

// Nanoseconds a page.
double WriteEach(volatile char* at, size_t size) {
  int64_t start = Now();
  for (size_t i = 0; i < size; i += kPage) at[i] = at[i] + 1;
  return static_cast<double>(Now() - start) / (size / kPage);
}

double TouchAll(size_t size) {
  volatile char* at = Map(size);
  int64_t start = Now();
  for (size_t j = 0; j < size; j += kPage) at[j] = 1;
  const int64_t took = Now() - start;
  munmap(const_cast<char*>(at), size);
  return static_cast<double>(took) / (size / kPage);
}

// As in a program's life: what others have freed is used again.
void FirstTouch(Meter& meter) {
  const size_t size = meter.quick() ? 8 << 20 : 64 << 20;
  for (int i = 0; i < 11; i++) meter.Add(TouchAll(size));
}

// A kernel that has just started asks the one below it for every page.
void FirstTouchEver(Meter& meter) { meter.Add(TouchAll(meter.quick() ? 8 << 20 : 64 << 20)); }

// Memory that the kernel below has mapped already. Natively this is what a machine below that one
// adds to a page, and so a limit for every kernel in between.
void FirstTouchOfMapped(Meter& meter) {
  const size_t size = meter.quick() ? 8 << 20 : 64 << 20;
  for (int i = 0; i < 3; i++) {
    void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    Need(at != MAP_FAILED, "mmap");
    meter.Add(WriteEach(static_cast<volatile char*>(at), size));
    munmap(at, size);
  }
}

// The parent writes while a child keeps the old pages.
void CopyOnWrite(Meter& meter) {
  const size_t size = meter.quick() ? 4 << 20 : 16 << 20;
  volatile char* at = Map(size);
  WriteEach(at, size);
  for (int i = 0; i < 11; i++) {
    int gate[2];
    Need(pipe(gate) == 0, "pipe");
    pid_t child = fork();
    if (child == 0) {
      close(gate[1]);
      char c;
      _exit(read(gate[0], &c, 1) == 0 ? 0 : 1);
    }
    close(gate[0]);
    meter.Add(WriteEach(at, size));
    close(gate[1]);
    WaitFor(child);
  }
}

// Getting a mapping, using one page of it and giving it back.
void MapTouchUnmap(Meter& meter) {
  meter.Each([] {
    constexpr size_t kSize = 64 << 10;
    volatile char* at = Map(kSize);
    at[0] = 1;
    munmap(const_cast<char*>(at), kSize);
  });
}

}  // namespace

std::vector<Row> MemoryRows() {
  return {
      {"touch", "us", "first touch of a page, of 64 MiB anonymous", FirstTouch},
      {"touch-ever", "us", "the same, of memory that the kernel has never given to anybody",
       FirstTouchEver},
      {"touch-mapped", "us", "first touch of a page that is mapped already, of 64 MiB shared",
       FirstTouchOfMapped},
      {"cow", "us", "copy-on-write of a page, of 16 MiB after fork", CopyOnWrite},
      {"map", "us", "mmap 64 KiB, touch one page, munmap", MapTouchUnmap},
  };
}

}  // namespace uk::bench
