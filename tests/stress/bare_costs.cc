// The bare primitives that the platforms are built on, without a kernel of ours: what intercepting
// and answering one system call costs at least on this host. Prints `NAME MEDIAN FASTEST` lines, in
// nanoseconds and over rounds, for both processes on one processor (`-1`), on two (`-2`), and
// placed by the host (`-free`).
//
//   ptrace-*   PTRACE_SYSEMU: wait, read the registers, write them with the result, resume
//   notify-*   seccomp user notification with the synchronous wake-up flag: receive and send
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

namespace {

constexpr int kRounds = 15, kCount = 1000;

[[noreturn]] void Fail(const char* what) {
  fprintf(stderr, "bare_costs: %s: %s\n", what, strerror(errno));
  exit(1);
}

int64_t Now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

void Print(const std::string& name, std::vector<int64_t> costs) {
  std::sort(costs.begin(), costs.end());
  printf("%s %lld %lld\n", name.c_str(), static_cast<long long>(costs[costs.size() / 2]),
         static_cast<long long>(costs[0]));
  fflush(stdout);
}

enum class Placement { kFree, kOne, kTwo };

// Binds the caller to the n-th processor it may use; false when there is no such.
bool Bind(int n) {
  cpu_set_t all, one;
  if (sched_getaffinity(0, sizeof all, &all) != 0) Fail("sched_getaffinity");
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET(cpu, &all) || n-- > 0) continue;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    return sched_setaffinity(0, sizeof one, &one) == 0;
  }
  return false;
}

void PlaceChild(Placement p) {
  if (p == Placement::kOne) Bind(0);
  if (p == Placement::kTwo) Bind(1);
}

// The guest's side: getppid for ever, through the bare instruction.
[[noreturn]] void Loop() {
  while (true) {
    long number = SYS_getppid;
    __asm__ volatile("syscall" : "+a"(number) : : "rcx", "r11", "memory");
    if (number != 4711) _exit(1);
  }
}

void Ptrace(const std::string& name, Placement place) {
  pid_t child = fork();
  if (child == 0) {
    PlaceChild(place);
    if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(1);
    raise(SIGSTOP);
    Loop();
  }
  int status;
  if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) Fail("waitpid");
  if (ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_EXITKILL) != 0) Fail("PTRACE_SETOPTIONS");
  auto step = [&] {
    if (ptrace(PTRACE_SYSEMU, child, nullptr, nullptr) != 0) Fail("PTRACE_SYSEMU");
    if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) Fail("waitpid");
    user_regs_struct regs;
    iovec iov = {&regs, sizeof regs};
    if (ptrace(PTRACE_GETREGSET, child, 1 /* NT_PRSTATUS */, &iov) != 0) Fail("PTRACE_GETREGSET");
    if (regs.orig_rax == SYS_getppid) regs.rax = 4711;
    if (ptrace(PTRACE_SETREGSET, child, 1, &iov) != 0) Fail("PTRACE_SETREGSET");
  };
  for (int i = 0; i < 200; i++) step();
  std::vector<int64_t> costs;
  for (int r = 0; r < kRounds; r++) {
    int64_t start = Now();
    for (int i = 0; i < kCount; i++) step();
    costs.push_back((Now() - start) / kCount);
  }
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  Print(name, costs);
}

void Notify(const std::string& name, Placement place) {
  // The child hands its listener over through this page and pidfd_getfd.
  auto* listener = static_cast<volatile int*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  *listener = -1;
  pid_t child = fork();
  if (child == 0) {
    PlaceChild(place);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    sock_fprog prog = {4, filter};
    *listener = static_cast<int>(
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &prog));
    if (*listener < 0) *listener = -2;
    Loop();
  }
  while (*listener == -1) sched_yield();
  int pidfd = static_cast<int>(syscall(SYS_pidfd_open, child, 0));
  int fd = static_cast<int>(syscall(SYS_pidfd_getfd, pidfd, *listener, 0));
  if (fd < 0) Fail("seccomp listener");
  if (ioctl(fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP) != 0) {
    Fail("SECCOMP_IOCTL_NOTIF_SET_FLAGS");
  }
  auto step = [&] {
    seccomp_notif request = {};
    if (ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &request) != 0) Fail("SECCOMP_IOCTL_NOTIF_RECV");
    seccomp_notif_resp response = {};
    response.id = request.id;
    response.val = 4711;
    if (ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &response) != 0) Fail("SECCOMP_IOCTL_NOTIF_SEND");
  };
  for (int i = 0; i < 200; i++) step();
  std::vector<int64_t> costs;
  for (int r = 0; r < kRounds; r++) {
    int64_t start = Now();
    for (int i = 0; i < kCount; i++) step();
    costs.push_back((Now() - start) / kCount);
  }
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  close(fd);
  close(pidfd);
  Print(name, costs);
}

// Runs one measurement in a process of its own, which may bind itself.
template <typename F>
void Separately(Placement place, F measure) {
  pid_t pid = fork();
  if (pid == 0) {
    if (place != Placement::kFree && !Bind(0)) Fail("sched_setaffinity");
    measure();
    _exit(0);
  }
  int status;
  if (waitpid(pid, &status, 0) != pid || status != 0) exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  std::string which = argc > 1 ? argv[1] : "all";
  bool two = sysconf(_SC_NPROCESSORS_ONLN) > 1;
  struct {
    const char* suffix;
    Placement place;
  } places[] = {{"-1", Placement::kOne}, {"-2", Placement::kTwo}, {"-free", Placement::kFree}};
  for (auto& p : places) {
    if (p.place == Placement::kTwo && !two) continue;
    if (which == "all" || which == "ptrace") {
      Separately(p.place, [&] { Ptrace(std::string("ptrace") + p.suffix, p.place); });
    }
    if (which == "all" || which == "notify") {
      Separately(p.place, [&] { Notify(std::string("notify") + p.suffix, p.place); });
    }
  }
  return 0;
}
