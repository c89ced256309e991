#include "tests/oracle/run.h"

#include <errno.h>
#include <linux/futex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>

namespace oracle {

Run* g_run;

namespace {

char g_in[kBufferSize];
char g_out[kBufferSize + 256];
volatile sig_atomic_t g_broken;
sigjmp_buf g_jump;
siginfo_t g_fault;

void on_break(int) { g_broken = 1; }

void on_fault(int, siginfo_t* info, void*) {
  g_fault = *info;
  siglongjmp(g_jump, 1);
}

// Nobody hands out anything for so long unless the supervisor was killed; then its processes end
// too.
constexpr timespec kPatience{30, 0};

void futex_wait(std::atomic<uint32_t>* word, uint32_t value) {
  if (syscall(SYS_futex, word, FUTEX_WAIT, value, &kPatience, nullptr, 0) != 0 &&
      errno == ETIMEDOUT)
    _exit(0);
}

// A pid above every limit (PID_MAX_LIMIT is 4 Mi).
constexpr int kNobody = 0x7ffffff0;
// Times a sequence sets itself are below this; the clock's are above.
constexpr int64_t kNow = 1'000'000'000;

}  // namespace

const char* error_name(int e) {
  const char* name = strerrorname_np(e);
  return name != nullptr ? name : "E?";
}

uint64_t hash(const void* p, size_t n, uint64_t h) {
  const auto* bytes = static_cast<const unsigned char*>(p);
  for (; n >= 8; n -= 8, bytes += 8) {
    uint64_t word;
    memcpy(&word, bytes, 8);
    h = (h ^ word) * 0x9e3779b97f4a7c15;
    h ^= h >> 29;
  }
  for (; n > 0; --n, ++bytes) h = (h ^ *bytes) * 0x100000001b3;
  return h;
}

void install_break_handler() {
  struct sigaction action {};
  action.sa_handler = on_break;
  sigaction(kBreakSignal, &action, nullptr);
  action.sa_flags = SA_SIGINFO;
  action.sa_sigaction = on_fault;
  sigaction(SIGSEGV, &action, nullptr);
  sigaction(SIGBUS, &action, nullptr);
}

bool load(uint64_t at, unsigned char* value, siginfo_t* fault) {
  if (sigsetjmp(g_jump, 1) != 0) {
    *fault = g_fault;
    return true;
  }
  *value = *reinterpret_cast<volatile unsigned char*>(at);
  return false;
}

bool store(uint64_t at, unsigned char value, siginfo_t* fault) {
  if (sigsetjmp(g_jump, 1) != 0) {
    *fault = g_fault;
    return true;
  }
  *reinterpret_cast<volatile unsigned char*>(at) = value;
  return false;
}

Run::Run(Shared* shared, const std::vector<Call>& calls, int self)
    : shared_(shared), calls_(calls), self_(self) {
  for (int& s : slot_) s = -1;
  for (size_t i = 0; i < sizeof g_out; ++i)
    g_out[i] = static_cast<char>('A' + i % 23 + i / 4096 % 7);
}

void Run::serve() {
  g_run = this;
  for (uint32_t last = 0;;) {
    uint32_t command;
    while ((command = part().command.load()) == last) futex_wait(&part().command, last);
    last = command;
    if (part().begin == part().end) {
      dump();
    }
    for (uint32_t i = part().begin; i < part().end; ++i) {
      index_ = static_cast<int>(i);
      make(calls_[i]);
    }
    part().done = last;
    syscall(SYS_futex, &part().done, FUTEX_WAKE, 1);
  }
}

void Run::log_caught() {
  if (part().caught_used == 0) return;
  uint64_t all = ~uint64_t{0}, old = 0;
  syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, &old, 8);
  log("caught%.*s\n", static_cast<int>(part().caught_used), part().caught);
  part().caught_used = 0;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old, nullptr, 8);
}

void Run::make(const Call& call) {
  call_ = &call;
  log_caught();
  log("%s", format(call).c_str());
  part().result_at = call.desc->settles ? part().used : 0;
  ++part().progress;
  call.desc->run(*this);
  ++part().progress;
  log("\n");
}

int Run::fd(int i) const {
  int64_t v = n(i);
  if (v == kCwd) return -100;
  if (v < 0) return static_cast<int>(v);
  return v < kSlots ? slot_[v] : static_cast<int>(v - 1000);
}

bool Run::is_pidfd(int i) const {
  struct stat st;
  return ::fstat(fd(i), &st) == 0 && st.st_mode == 0700;
}

const char* Run::path(int i) const {
  return n(i) == kBad ? reinterpret_cast<const char*>(8)
                      : paths()[static_cast<size_t>(n(i))].c_str();
}

bool Run::dots(int i) const {
  return n(i) != kBad && paths()[static_cast<size_t>(n(i))].find("..") != std::string::npos;
}

void* Run::addr(int i) const { return reinterpret_cast<void*>(n(i) == kBad ? 8 : n(i)); }

char* Run::buf(int i) const {
  if (n(i) == 0) return g_in;
  return static_cast<char*>(addr(i));
}

const char* Run::data(int i) const {
  if (n(i) == 0) return g_out + index_ % 97;
  return static_cast<const char*>(addr(i));
}

int Run::pid(int i) const {
  int64_t p = n(i);
  if (p < 0 || p >= kProcesses || shared_->process[p].gone || shared_->process[p].pid == 0)
    return kNobody;
  return shared_->process[p].pid;
}

long Run::sys(long nr, long a, long b, long c, long d, long e, long f) {
  g_broken = 0;
  long r = syscall(nr, a, b, c, d, e, f);
  return r == -1 ? -errno : r;
}

void Run::ret(long r) {
  if (r == -EINTR && g_broken) {
    log(" -> blocked");
  } else if (r < 0 && r > -4096) {
    log(" -> %s", error_name(static_cast<int>(-r)));
  } else {
    log(" -> %ld", r);
  }
}

void Run::ret_fd(long r, int slot) {
  ret(r);
  if (r >= 0) slot_[call_->result[slot]] = static_cast<int>(r);
}

int Run::process_of(int64_t pid) const {
  if (pid == 0) return -3;
  for (int i = 0; i < kProcesses; ++i) {
    if (shared_->process[i].pid == pid) return i;
  }
  return pid == shared_->supervisor ? -2 : -1;
}

void Run::ret_pid(long r) {
  int p = process_of(r);
  if (r > 0 && p != -1) {
    log(p == -2 ? " -> supervisor" : " -> p%d", p);
  } else {
    ret(r);
  }
}

void Run::log(const char* format, ...) {
  va_list args;
  va_start(args, format);
  ProcessPart& p = part();
  const bool handler = handling_ > 0;
  char* text = handler ? p.caught : p.log;
  uint32_t& used = handler ? p.caught_used : p.used;
  int room = static_cast<int>((handler ? kCaught : kLog) - used);
  int n = vsnprintf(text + used, static_cast<size_t>(room), format, args);
  va_end(args);
  used += static_cast<uint32_t>(n < room ? n : room - 1);
}

void Run::bytes(const void* p, long n) {
  if (n <= 0) return;
  // Memory of the arena may not be readable any more, or be a page that a write has just filled.
  if (n <= 24) {
    log(" ");
    for (long i = 0; i < n; ++i) {
      unsigned char c = 0;
      siginfo_t fault;
      if (load(reinterpret_cast<uint64_t>(p) + static_cast<uint64_t>(i), &c, &fault)) {
        log("?");
      } else if (c > ' ' && c < 127) {
        log("%c", c);
      } else {
        log("\\%02x", c);
      }
    }
    return;
  }
  uint64_t h = 0xcbf29ce484222325;
  siginfo_t fault;
  unsigned char c;
  auto at = reinterpret_cast<uint64_t>(p);
  for (uint64_t end = at + static_cast<uint64_t>(n); at < end;) {
    uint64_t next = std::min(end, (at / kPage + 1) * kPage);
    if (load(at, &c, &fault)) {
      log(" unreadable after %ld", static_cast<long>(at - reinterpret_cast<uint64_t>(p)));
      break;
    }
    h = hash(reinterpret_cast<const void*>(at), next - at, h);
    at = next;
  }
  log(" #%016lx", h);
}

long Run::ino(uint64_t number, uint64_t device) {
  for (int i = 0; i < inodes_; ++i) {
    if (inode_[i].number == number && inode_[i].device == device) return i;
  }
  if (inodes_ == 64) return -1;
  inode_[inodes_] = {number, device};
  return inodes_++;
}

void Run::time(int64_t seconds, int64_t nanoseconds) {
  if (seconds < kNow) {
    log(" %ld.%09ld", seconds, nanoseconds);
  } else {
    log(" now");
  }
}

void Run::stat(const struct stat& st) {
  if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode) && !S_ISLNK(st.st_mode) &&
      !S_ISFIFO(st.st_mode)) {
    // Linux leaves the times of sockets to chance, and all of anonymous files of several kinds are
    // one.
    log(" {mode %o nlink %lu uid %u gid %u size %ld}", st.st_mode, st.st_nlink, st.st_uid,
        st.st_gid, st.st_size);
    return;
  }
  log(" {#%ld mode %o nlink %lu uid %u gid %u size %ld blocks %ld blksize %ld rdev %lx",
      ino(st.st_ino, st.st_dev), st.st_mode, st.st_nlink, st.st_uid, st.st_gid, st.st_size,
      shared_->faulty_writes ? -1 : st.st_blocks, st.st_blksize, st.st_rdev);
  time(st.st_atim.tv_sec, st.st_atim.tv_nsec);
  time(st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
  time(st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
  log("}");
}

void Run::signals(uint64_t set) {
  log(" [");
  for (int s = 1; s <= 64; ++s) {
    if ((set >> (s - 1) & 1) != 0 && s != kBreakSignal) log(" %d", s);
  }
  log("]");
}

void Run::spawn(long flags) {
  int self = shared_->processes;
  if (self == kProcesses) {
    skip("four processes are enough");
    return;
  }
  ++shared_->processes;
  // The child must have its own descriptors' slots and log, so it is a fork whatever else it
  // shares.
  long r = syscall(SYS_clone, flags, 0, 0, 0, 0);
  if (r == 0) start_child(self);
  if (r < 0) {
    // The number is not given to another, so that later lines mean what they meant.
    ret(-errno);
    return;
  }
  shared_->process[self].pid = static_cast<int32_t>(r);
  log(" -> p%d", self);
}

void Run::start_child(int self) {
  self_ = self;
  serve();
}

}  // namespace oracle
