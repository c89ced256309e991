// A random system-call fuzzer that runs inside a guest: all numbers, hostile pointers, several
// threads, in children that may die of it. The parent restarts them until the time is over.
//
//   fuzz SECONDS SEED [THREADS]
//
// Prints the seed of every child that it starts, and a line `fuzz: N calls` each second, so that a
// hang is seen; ends with `fuzz: done`. It refuses to run where the host name is not `fuzzguest`:
// on a real machine it would do harm.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr unsigned long long kMostCalls = 100'000'000;  // more than a child can make in its time

// What a child shares with the parent: the number of calls it made.
struct Shared {
  std::atomic<uint64_t> calls;
};
Shared* g_shared;

// xorshift*: the whole run follows from the seed, up to the interleaving of threads.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ull + 1) {}
  uint64_t Next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1dull;
  }
  uint64_t Below(uint64_t n) { return Next() % n; }

 private:
  uint64_t state_;
};

// Calls that end the whole child, or make it deaf: rare, so that others get a chance first.
bool Rare(long number) {
  switch (number) {
    case SYS_exit:
    case SYS_exit_group:
    case SYS_pause:
    case SYS_rt_sigreturn:
    case SYS_rt_sigsuspend:
    case SYS_kill:
    case SYS_tkill:
    case SYS_tgkill:
    case SYS_munmap:
    case SYS_fork:
    case SYS_vfork:
    case SYS_clone:
    case SYS_clone3:
    case SYS_reboot:
    case SYS_close_range:
    case SYS_setrlimit:
    case SYS_prlimit64:
    case SYS_seccomp:
    case SYS_chroot:
    case SYS_execve:
    case SYS_execveat:
      return true;
    default:
      return false;
  }
}

constexpr size_t kArena = 64 * 4096;
uint64_t g_fuzzer;  // its pid
char* g_arena;      // writable memory that calls may fill; shared by the threads of a child

const char* const kPaths[] = {"/",
                              "/tmp/fuzz",
                              "/tmp",
                              "/proc/self/status",
                              "/dev/null",
                              "/dev/zero",
                              "/no/such",
                              "",
                              ".",
                              "..",
                              "/proc/self/mem",
                              "/tmp/fuzz/../fuzz",
                              "/dev/ptmx",
                              "/proc/self/fd",
                              "/dev/tty",
                              "/proc/self/maps",
                              "/bin/sh",
                              "/tmp/f",
                              "/dev/full",
                              "/proc/self/exe",
                              "/tmp/fifo",
                              "/etc/passwd",
                              "/proc/1",
                              "/dev/urandom",
                              "//tmp//./f",
                              "/proc/self/ns",
                              "/tmp/fuzz/link",
                              "/tmp/fuzz/"};

uint64_t Argument(Random& r) {
  static const uint64_t kEdges[] = {0,
                                    1,
                                    2,
                                    ~0ull,
                                    ~0ull - 1,
                                    0x7fffffff,
                                    0x80000000,
                                    0xffffffff,
                                    0x100000000,
                                    1ull << 47,
                                    (1ull << 47) - 1,
                                    (1ull << 47) - 4096,
                                    1ull << 63,
                                    0x7fffffffffffffff,
                                    0xffff800000000000,
                                    0xffffffff80000000,
                                    0x4141414141414141,
                                    4095,
                                    4096,
                                    4097,
                                    65536,
                                    1 << 20,
                                    1ull << 31,
                                    1ull << 40};
  switch (r.Below(12)) {
    case 0:
    case 1:
      return kEdges[r.Below(sizeof kEdges / sizeof *kEdges)];
    case 2:
    case 3:
      return r.Below(32);  // descriptors, small counts, commands
    case 4:
      return 1ull << r.Below(64);
    case 5:
      return r.Next();
    case 6:
      return r.Next() & 0xffff;
    case 7:
      return reinterpret_cast<uint64_t>(kPaths[r.Below(sizeof kPaths / sizeof *kPaths)]);
    case 8:  // the end of the arena: the next page is not there
      return reinterpret_cast<uint64_t>(g_arena + kArena - r.Below(64));
    case 9:
      return static_cast<uint64_t>(getpid());
    default:
      return reinterpret_cast<uint64_t>(g_arena + r.Below(kArena));
  }
}

long Number(Random& r) {
  uint64_t kind = r.Below(100);
  if (kind == 0) return static_cast<long>(r.Next());
  if (kind == 1) return static_cast<long>(470 + r.Below(200));
  if (kind == 2) return static_cast<long>(0x40000000 + r.Below(600));
  long number = static_cast<long>(r.Below(470));
  if (Rare(number) && r.Below(50) != 0) return SYS_getppid;
  return number;
}

// Puts plausible and implausible structures into the arena: pointers, sizes, descriptors.
void Scribble(Random& r) {
  for (int i = 0; i < 8; i++) {
    uint64_t value = Argument(r);
    memcpy(g_arena + r.Below(kArena - 8), &value, 8);
  }
}

// What would take the process away that ends this one after a while: a tracer could stop it, a
// writer spoil it, and two signals cannot be ignored.
bool ReachesFuzzer(long number, const uint64_t (&a)[6]) {
  const auto takes_away = [](uint64_t signo) {
    return static_cast<int>(signo) == SIGKILL || static_cast<int>(signo) == SIGSTOP;
  };
  const int fuzzer = static_cast<int>(g_fuzzer), first = static_cast<int>(a[0]);
  switch (number) {
    case SYS_ptrace:
      return a[1] == g_fuzzer;
    case SYS_process_vm_writev:
      return a[0] == g_fuzzer;
    case SYS_kill:
      return takes_away(a[1]) && (first == -1 || first == fuzzer || first == -fuzzer);
    case SYS_tkill:
    case SYS_rt_sigqueueinfo:
      return takes_away(a[1]) && first == fuzzer;
    case SYS_tgkill:
    case SYS_rt_tgsigqueueinfo:
      return takes_away(a[2]) && static_cast<int>(a[1]) == fuzzer;
    default:
      return false;
  }
}

[[noreturn]] void Worker(uint64_t seed) {
  Random r(seed);
  while (true) {
    if (r.Below(4) == 0) Scribble(r);
    long number = Number(r);
    uint64_t a[6];
    for (uint64_t& v : a) v = Argument(r);
    g_shared->calls.fetch_add(1, std::memory_order_relaxed);
    if (ReachesFuzzer(number, a)) continue;
    syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  }
}

[[noreturn]] void Child(uint64_t seed, int threads) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (int s = 1; s <= SIGRTMAX; s++) signal(s, SIG_DFL);
  setpgid(0, 0);
  if (chdir("/tmp/fuzz") != 0) _exit(1);
  g_arena = static_cast<char*>(
      mmap(nullptr, kArena + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  munmap(g_arena + kArena, 4096);
  // Descriptors of many kinds at small numbers.
  int fds[2];
  (void)!pipe2(fds, O_NONBLOCK);
  (void)!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds);
  (void)!socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds);
  (void)!eventfd(0, EFD_NONBLOCK);
  (void)!open("/tmp/fuzz/file", O_RDWR | O_CREAT | O_NONBLOCK, 0666);
  (void)!open("/tmp/fuzz", O_RDONLY | O_DIRECTORY);
  (void)!open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK);
  (void)!open("/proc/self/maps", O_RDONLY);
  (void)!syscall(SYS_epoll_create1, 0);
  (void)!syscall(SYS_inotify_init1, O_NONBLOCK);
  (void)!syscall(SYS_timerfd_create, CLOCK_MONOTONIC, O_NONBLOCK);
  for (int i = 1; i < threads; i++) {
    std::thread([seed, i] { Worker(seed + i * 1000003ull); }).detach();
  }
  Worker(seed);
}

double Seconds() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

}  // namespace

int main(int argc, char** argv) {
  utsname u;
  if (uname(&u) != 0 || strcmp(u.nodename, "fuzzguest") != 0) {
    fprintf(stderr, "fuzz: not in a guest named fuzzguest; refusing to run\n");
    return 2;
  }
  if (argc < 3) {
    fprintf(stderr, "usage: fuzz SECONDS SEED [THREADS]\n");
    return 2;
  }
  double until = Seconds() + atof(argv[1]);
  uint64_t seed = strtoull(argv[2], nullptr, 0);
  int threads = argc > 3 ? atoi(argv[3]) : 8;
  g_shared = static_cast<Shared*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  mkdir("/tmp/fuzz", 0777);
  g_fuzzer = static_cast<uint64_t>(getpid());
  // Children send signals to this process too: by kill, as owner of a descriptor, as tracers.
  for (int s = 1; s <= SIGRTMAX; s++) {
    if (s != SIGCHLD) signal(s, SIG_IGN);
  }
  // The parent reaps what the children leave behind.
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  int children = 0;
  unsigned long long calls = 0;
  while (Seconds() < until) {
    uint64_t mine = seed + static_cast<uint64_t>(children) * 7919;
    printf("fuzz: child %d seed %llu\n", children++, static_cast<unsigned long long>(mine));
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) Child(mine, threads);
    if (child < 0) {
      printf("fuzz: fork: %s\n", strerrorname_np(errno));
      timespec pause = {0, 100000000};
      nanosleep(&pause, nullptr);
      continue;
    }
    // A child lives for two seconds at most: by then its threads tend to wait for something.
    double end = std::min(until, Seconds() + 2);
    g_shared->calls = 0;
    int status = 0;
    while (waitpid(child, &status, WNOHANG) == 0 && Seconds() < end) {
      timespec pause = {0, 50000000};
      nanosleep(&pause, nullptr);
    }
    kill(-child, SIGKILL);
    kill(child, SIGKILL);
    while (waitpid(-1, &status, WNOHANG) > 0) {
    }
    unsigned long long made = g_shared->calls;
    if (made > kMostCalls) made = 0;  // a call wrote over the counter
    printf("fuzz: %llu calls (%llu by this child)\n", calls += made, made);
    fflush(stdout);
  }
  printf("fuzz: done\n");
  return 0;
}
