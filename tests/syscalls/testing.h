// What every guest-visible test shares: scratch directories, descriptors that close themselves,
// children whose failures are seen, bad pointers, and errno-aware expectations.
//
// These programs are ordinary Linux programs: they first pass on the host's own Linux, then in a
// guest. Conventions that tests/syscalls/coverage.py relies on:
//   * the suite of TEST(suite, Name) is the name of the system call it tests, as the kernel spells
//     it (`openat2`, `rt_sigaction`), or a topic that is not a call (`proc_self_maps`);
//   * COVERS(a, b) inside a test body names further calls whose semantics the test checks.
// Rules: no test depends on being root or not (branch on IsRoot()), none sleeps to synchronise,
// none needs a network, none leaves anything behind.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <type_traits>
#include <utility>
#include <vector>

// Names further system calls that a test covers; read by coverage.py, nothing at run time.
#define COVERS(...) static_assert(true, "covers " #__VA_ARGS__)

// Succeeds when the call returns anything but -1; otherwise prints its errno.
#define EXPECT_OK(expr) EXPECT_PRED_FORMAT1(::uk::test::IsOk, ::uk::test::AsLong(expr))
#define ASSERT_OK(expr) ASSERT_PRED_FORMAT1(::uk::test::IsOk, ::uk::test::AsLong(expr))

// Succeeds when the call fails (-1 or MAP_FAILED) with exactly this errno.
#define EXPECT_ERRNO(expected, expr) \
  EXPECT_PRED_FORMAT2(::uk::test::FailsWith, expected, ::uk::test::AsLong(expr))

// For code that runs in a child, where EXPECT would be lost: says what failed and exits with 99.
#define CHILD_CHECK(cond)                                            \
  do {                                                               \
    if (!(cond)) ::uk::test::ChildFailed(__FILE__, __LINE__, #cond); \
  } while (0)

// Runs a lambda in a forked child and expects it to end well: IN_CHILD([&] { ... });
#define IN_CHILD(...) \
  EXPECT_PRED_FORMAT1(::uk::test::ChildPassed, ::uk::test::RunChild(__VA_ARGS__))

namespace uk::test {

inline constexpr size_t kPage = 4096;

inline long AsLong(void* p) { return reinterpret_cast<long>(p); }
inline long AsLong(long v) { return v; }

inline testing::AssertionResult IsOk(const char* text, long got) {
  if (got != -1) return testing::AssertionSuccess();
  return testing::AssertionFailure() << text << " failed: " << strerrorname_np(errno);
}

inline testing::AssertionResult FailsWith(const char*, const char* text, int expected, long got) {
  int error = errno;
  if (got == -1 && error == expected) return testing::AssertionSuccess();
  auto failure = testing::AssertionFailure()
                 << text << " should fail with " << strerrorname_np(expected) << "; ";
  if (got != -1) return failure << "it returned " << got;
  return failure << "it failed with " << strerrorname_np(error);
}

inline testing::AssertionResult ChildPassed(const char*, int status) {
  if (status == 0) return testing::AssertionSuccess();
  return testing::AssertionFailure()
         << "the child ended with wait status " << status << ": exit code " << (status >> 8)
         << ", signal " << (status & 127);
}

inline bool IsRoot() { return geteuid() == 0; }
// Does process 1 belong to somebody whom this process may not touch? (In a guest it may be our
// own.)
inline bool InitIsForeign() {
  struct stat init = {};
  return !IsRoot() && (stat("/proc/1", &init) != 0 || init.st_uid != getuid());
}

[[noreturn]] inline void ChildFailed(const char* file, int line, const char* what) {
  dprintf(2, "%s:%d: in child: %s (errno %s)\n", file, line, what, strerrorname_np(errno));
  _exit(99);
}

// Wait statuses, as waitpid() reports them.
constexpr int Exited(int code) { return code << 8; }
constexpr int Killed(int sig) { return sig; }

// Waits for one child, over interruptions; -1 and errno when there is none.
inline int WaitFor(pid_t pid) {
  int status = -1;
  pid_t got;
  do {
    got = waitpid(pid, &status, 0);
  } while (got == -1 && errno == EINTR);
  // Core dumps are a matter of configuration: the flag is not compared.
  return got == pid ? (WIFSIGNALED(status) ? WTERMSIG(status) : status) : -1;
}

// Forks; the child runs `body` and exits with what it returns, or with 0. The parent gets the pid.
template <typename F>
pid_t Spawn(F body) {
  fflush(nullptr);
  pid_t pid = fork();
  if (pid != 0) return pid;
  if constexpr (std::is_void_v<decltype(body())>) {
    body();
    _exit(0);
  } else {
    _exit(static_cast<int>(body()));
  }
}

// Spawn and wait: the wait status without the core-dump flag.
template <typename F>
int RunChild(F body) {
  pid_t pid = Spawn(body);
  if (pid == -1) return -1;
  return WaitFor(pid);
}

// A descriptor that closes itself.
class Fd {
 public:
  Fd() = default;
  explicit Fd(long fd) : fd_(static_cast<int>(fd)) {}
  Fd(Fd&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
  Fd& operator=(Fd&& o) noexcept {
    if (this != &o) {
      reset();
      fd_ = std::exchange(o.fd_, -1);
    }
    return *this;
  }
  ~Fd() { reset(); }
  void reset() {
    int saved = errno;
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
    errno = saved;
  }
  int release() { return std::exchange(fd_, -1); }
  int get() const { return fd_; }
  operator int() const { return fd_; }

 private:
  int fd_ = -1;
};

// A fresh directory under $TMPDIR or /tmp, removed with all that is in it.
class Scratch {
 public:
  Scratch() {
    const char* base = getenv("TMPDIR");
    std::string pattern = std::string(base && *base ? base : "/tmp") + "/ukt.XXXXXX";
    if (mkdtemp(pattern.data()) == nullptr) {
      perror("mkdtemp");
      abort();
    }
    path_ = pattern;
  }
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  const std::string& path() const { return path_; }
  const char* c_str() const { return path_.c_str(); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  // A descriptor of the directory itself.
  Fd Dir() const { return Fd(open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)); }
  // Creates a file with these contents; its path.
  std::string File(const std::string& name, const std::string& contents = "", mode_t mode = 0644);
  // Creates and opens (read and write) a file with these contents.
  Fd Open(const std::string& name, const std::string& contents = "");

 private:
  std::string path_;
};

// Both ends of a pipe.
struct Pipe {
  Fd r, w;
  explicit Pipe(int flags = O_CLOEXEC) {
    int fds[2] = {-1, -1};
    if (pipe2(fds, flags) != 0) {
      perror("pipe2");
      abort();
    }
    r = Fd(fds[0]);
    w = Fd(fds[1]);
  }
};

// A two-way gate between processes: one side Wait()s until the other has Open()ed it.
class Gate {
 public:
  void Open() {
    char c = 'x';
    if (write(pipe_.w, &c, 1) != 1) abort();
  }
  // True when opened; false when the other side went away.
  bool Wait() {
    char c;
    ssize_t n;
    do {
      n = read(pipe_.r, &c, 1);
    } while (n == -1 && errno == EINTR);
    return n == 1;
  }

 private:
  Pipe pipe_;
};

// Anonymous memory; the last page can be made inaccessible to catch over-long accesses.
class Mapping {
 public:
  explicit Mapping(size_t bytes, int prot = PROT_READ | PROT_WRITE,
                   int flags = MAP_PRIVATE | MAP_ANONYMOUS)
      : size_(bytes), base_(mmap(nullptr, bytes, prot, flags, -1, 0)) {
    if (base_ == MAP_FAILED) {
      perror("mmap");
      abort();
    }
  }
  ~Mapping() { munmap(base_, size_); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  char* at(size_t offset = 0) const { return static_cast<char*>(base_) + offset; }
  template <typename T>
  T* as(size_t offset = 0) const {
    return reinterpret_cast<T*>(at(offset));
  }
  size_t size() const { return size_; }

 private:
  size_t size_;
  void* base_;
};

// A pointer at which nothing is mapped and nothing ever will be: one PROT_NONE page.
inline void* BadPointer() {
  static void* page = mmap(nullptr, kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return page;
}
template <typename T>
T* Bad() {
  return static_cast<T*>(BadPointer());
}

// A number that is no open descriptor.
inline constexpr int kBadFd = 987654;

bool WriteFile(const std::string& path, const std::string& contents, mode_t mode = 0644);
std::string ReadFile(const std::string& path);
std::string ReadFd(int fd);  // from the current position to the end of file
std::vector<std::string> Lines(const std::string& text);
// The value of one "Key:\tvalue" line of a proc file; empty when missing.
std::string ProcField(const std::string& path, const std::string& key);
// Blocks until the task has the given state letter in /proc/PID/stat; false when it never will.
bool WaitForState(pid_t pid, char state);
// Between two looks at something that another process is about to change.
void Breathe();
bool Exists(const std::string& path);
mode_t ModeOf(const std::string& path);
int64_t MonotonicNs();

// Sets a signal's handler for as long as it lives.
class ScopedHandler {
 public:
  ScopedHandler(int sig, void (*handler)(int), int flags = 0) : sig_(sig) {
    struct sigaction sa = {};
    sa.sa_handler = handler;
    sa.sa_flags = flags;
    sigaction(sig, &sa, &old_);
  }
  ScopedHandler(int sig, void (*handler)(int, siginfo_t*, void*), int flags = 0) : sig_(sig) {
    struct sigaction sa = {};
    sa.sa_sigaction = handler;
    sa.sa_flags = flags | SA_SIGINFO;
    sigaction(sig, &sa, &old_);
  }
  ~ScopedHandler() { sigaction(sig_, &old_, nullptr); }
  ScopedHandler(const ScopedHandler&) = delete;
  ScopedHandler& operator=(const ScopedHandler&) = delete;

 private:
  int sig_;
  struct sigaction old_ = {};
};

// Blocks signals for as long as it lives.
class ScopedBlock {
 public:
  explicit ScopedBlock(std::initializer_list<int> signals) {
    sigset_t set;
    sigemptyset(&set);
    for (int s : signals) sigaddset(&set, s);
    sigprocmask(SIG_BLOCK, &set, &old_);
  }
  ~ScopedBlock() { sigprocmask(SIG_SETMASK, &old_, nullptr); }
  ScopedBlock(const ScopedBlock&) = delete;
  ScopedBlock& operator=(const ScopedBlock&) = delete;

 private:
  sigset_t old_;
};

}  // namespace uk::test
