#include "tests/oracle/supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/oracle/run.h"
#include "tests/oracle/snapshot.h"

namespace oracle {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int kPatience = 12;  // looks, 3 ms apart, at a call that sleeps
constexpr int64_t kLimit = 10'000 * kMs;

int64_t now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000 * kMs + t.tv_nsec;
}

[[noreturn]] void fatal(const char* what) {
  fprintf(stderr, "oracle: %s: %s\n", what, strerror(errno));
  exit(2);
}

void limit(int what, rlim_t soft, rlim_t hard) {
  rlimit r{soft, hard};
  setrlimit(static_cast<__rlimit_resource>(what), &r);
}

}  // namespace

Supervisor::Supervisor(const Settings& settings) : settings_(settings) {
  void* memory =
      mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) fatal("shared memory");
  shared_ = static_cast<Shared*>(memory);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  umask(0);
  // Names with a ".." in them may lead out of the scratch directory by as many levels as a sequence
  // has links.
  std::string path = settings_.scratch;
  for (const char* level : {"/1", "/2", "/3", "/4", "/5", "/6"}) {
    path += level;
    if (mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) fatal(path.c_str());
  }
  place_ = path;
}

// Each sequence begins in a directory of its own: one that was there before might have kept a mode,
// an owner or attributes.
void Supervisor::enter_place() {
  if (rmdir(place_.c_str()) != 0 || mkdir(place_.c_str(), 0755) != 0) fatal(place_.c_str());
  if (settings_.uid != static_cast<int>(geteuid()) &&
      chown(place_.c_str(), static_cast<uid_t>(settings_.uid), static_cast<gid_t>(settings_.uid)) !=
          0) {
    fatal(place_.c_str());
  }
  directory_ = open(place_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory_ < 0) fatal(place_.c_str());
}

void Supervisor::first_process(const std::vector<Call>& calls) {
  setsid();
  umask(022);
  if (fchdir(directory_) != 0) fatal("fchdir");
  if (settings_.chroot && chroot(".") != 0) fatal("chroot");
  // Standard input is /dev/null; the others would tell how far the output has got.
  dup2(0, 1);
  dup2(0, 2);
  syscall(SYS_close_range, 3, ~0u, 0);
  install_break_handler();
  limit(RLIMIT_FSIZE, 1 << 20, 1 << 20);
  limit(RLIMIT_NOFILE, 40, 64);
  limit(RLIMIT_CORE, 0, 0);
  if (settings_.uid != static_cast<int>(geteuid())) {
    gid_t gid = static_cast<gid_t>(settings_.uid);
    if (setgroups(0, nullptr) != 0 || setresgid(gid, gid, gid) != 0 ||
        setresuid(gid, gid, gid) != 0) {
      fatal("setresuid");
    }
    prctl(PR_SET_DUMPABLE, 1);
  }
  // A container's root often lacks CAP_SYS_RESOURCE: the same everywhere.
  constexpr int kSysResource = 24;
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct capabilities[2] = {};
  if (syscall(SYS_capget, &header, capabilities) == 0) {
    capabilities[0].effective &= ~(1u << kSysResource);
    capabilities[0].permitted &= ~(1u << kSysResource);
    syscall(SYS_capset, &header, capabilities);
  }
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  static Run* run = new Run(shared_, calls, 0);
  run->serve();
}

void Supervisor::meet() {
  for (int i = 0; i < shared_->processes; ++i) {
    Watched& w = watched_[i];
    int pid = shared_->process[i].pid;
    if (pid <= 0 || w.pidfd >= 0 || shared_->process[i].gone) continue;
    w.pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    w.stat = open(path, O_RDONLY | O_CLOEXEC);
    if (w.pidfd < 0 || w.stat < 0) {
      if (w.pidfd >= 0) close(w.pidfd);
      if (w.stat >= 0) close(w.stat);
      w.pidfd = -1;
      shared_->process[i].gone = true;
    }
  }
}

char Supervisor::state(int process) {
  Watched& w = watched_[process];
  if (w.pidfd < 0) return 'X';
  char text[256];
  ssize_t n = pread(w.stat, text, sizeof text - 1, 0);
  if (n <= 0) return 'X';
  text[n] = 0;
  const char* end = strrchr(text, ')');
  return end != nullptr && end[1] == ' ' ? end[2] : 'X';
}

// True if the process has run the batch; false if it ended or stopped over it.
bool Supervisor::hand_out(int process, uint32_t begin, uint32_t end) {
  ProcessPart& part = shared_->process[process];
  part.begin = begin;
  part.end = end;
  part.command = ++batch_;
  syscall(SYS_futex, &part.command, FUTEX_WAKE, 1);
  int64_t started = now();
  uint32_t progress = part.progress;
  int sleeping = 0;
  for (uint32_t done; (done = part.done) != batch_;) {
    timespec patience{0, 3 * kMs};
    long r = syscall(SYS_futex, &part.done, FUTEX_WAIT, done, &patience, nullptr, 0);
    if (r == 0 || errno != ETIMEDOUT) continue;
    char s = state(process);
    if (s == 'X' || s == 'Z' || s == 'T') return part.done == batch_;
    bool same = part.progress == progress && s == 'S';
    progress = part.progress;
    sleeping = same ? sleeping + 1 : 0;
    if (sleeping >= kPatience) {
      syscall(SYS_pidfd_send_signal, watched_[process].pidfd, kBreakSignal, nullptr, 0);
      sleeping = 0;
    }
    if (now() - started > kLimit) {
      syscall(SYS_pidfd_send_signal, watched_[process].pidfd, SIGKILL, nullptr, 0);
      part.used +=
          static_cast<uint32_t>(snprintf(part.log + part.used, kLog - part.used, " -> HANGS\n"));
      return false;
    }
  }
  return true;
}

// Waits until each process sleeps, is stopped or is dead: what signals and exits set going is over
// then.
void Supervisor::settle() {
  meet();
  int64_t started = now();
  int quiet = 0;
  while (quiet < 2 && now() - started < kLimit) {
    bool busy = false;
    for (int i = 0; i < shared_->processes; ++i) {
      char s = state(i);
      if (s == 'X') shared_->process[i].gone = true;
      if (s == 'R' || s == 'D') busy = true;
    }
    quiet = busy ? 0 : quiet + 1;
    // Yielding would hand the rest of a tick to whatever else is running here.
    timespec little{0, 30'000};
    if (busy) nanosleep(&little, nullptr);
  }
}

void Supervisor::end_all() {
  for (Watched& w : watched_) {
    if (w.pidfd >= 0) syscall(SYS_pidfd_send_signal, w.pidfd, SIGKILL, nullptr, 0);
  }
  // Everything that is left becomes a child of ours, as their parents die too.
  while (waitpid(-1, nullptr, 0) > 0 || errno == EINTR) {
  }
  for (Watched& w : watched_) {
    if (w.pidfd >= 0) close(w.pidfd);
    if (w.stat >= 0) close(w.stat);
    w = Watched();
  }
}

std::string Supervisor::run(const std::vector<Call>& calls) {
  for (ProcessPart& p : shared_->process) {
    p.command = p.done = p.progress = 0;
    p.pid = 0;
    p.gone = false;
    p.used = p.result_at = p.caught_used = 0;
  }
  batch_ = 0;
  shared_->processes = 1;
  shared_->supervisor = getpid();
  shared_->dump_memory = shared_->faulty_writes = false;
  bool alone = true;
  for (const Call& c : calls) {
    if ((c.desc->domains & kMemory) != 0) shared_->dump_memory = true;
    for (size_t i = 0; i < c.desc->args.size(); ++i) {
      if (c.desc->args[i].kind == Kind::kBuffer && c.arg[i] != 0) shared_->faulty_writes = true;
    }
    if (c.process != 0 || c.desc->settles) alone = false;
  }
  enter_place();
  pid_t first = fork();
  if (first < 0) fatal("fork");
  if (first == 0) first_process(calls);
  shared_->process[0].pid = first;
  meet();
  for (uint32_t begin = 0, end; begin < calls.size(); begin = end) {
    end = begin + 1;
    int process = calls[begin].process;
    while (end < calls.size() && calls[end].process == process && !calls[end - 1].desc->settles)
      ++end;
    if (shared_->process[process].pid == 0) continue;  // never made
    char s = alone ? 'S' : state(process);
    if (s == 'T' || s == 'Z' || s == 'X') continue;
    hand_out(process, begin, end);
    if (!alone) settle();
  }
  std::string out;
  std::string ended;
  siginfo_t info{};
  if (waitid(P_PID, static_cast<id_t>(first), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
      info.si_pid == first) {
    ended = "== process 0 ended: " + std::to_string(info.si_code) + " " +
            std::to_string(info.si_status) + "\n";
  }
  int dead = 0;
  for (int i = 0; i < shared_->processes; ++i) dead += state(i) == 'X' || state(i) == 'Z';
  for (int i = kProcesses - 1; i >= 0; --i) {
    ProcessPart& p = shared_->process[i];
    if (p.pid == 0) continue;
    char s = state(i);
    // Of several that one signal ended, a parent may or may not have outlived its child.
    if (dead > 1 && s == 'X') s = 'Z';
    if (s == 'S' || s == 'R') hand_out(i, 0, 0);
    if (s == 'R') s = 'S';
    if ((s == 'Z' || s == 'X') && p.result_at != 0) p.used = p.result_at;
    std::string log(p.log, p.used);
    if (!log.empty() && log.back() != '\n') log += '\n';
    if (p.caught_used != 0) log += "caught" + std::string(p.caught, p.caught_used) + "\n";
    out = "== process " + std::to_string(i) + " " + std::string(1, s) + "\n" + log + out;
  }
  out += ended;
  end_all();
  std::string files = tree(directory_, !shared_->faulty_writes);
  if (!files.empty()) out += "== files\n" + files;
  clear(directory_);
  close(directory_);
  return out;
}

}  // namespace oracle
