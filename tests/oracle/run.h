// How a process of a sequence makes one call and writes down what came of it.
//
// A Run belongs to the process; what it writes goes to its part of memory shared with the
// supervisor, so that a process that dies leaves what it had written. Whatever differs from run to
// run by nature is written in a form that does not: inode numbers by the order they are met in,
// times as "now" unless they were set, pids as the numbers of processes. Calls may block; the
// supervisor finds that and ends the call with kBreakSignal, and "blocked" is the result.
#pragma once

#include <signal.h>
#include <sys/stat.h>

#include <atomic>
#include <cstdint>
#include <string>

#include "tests/oracle/call.h"

struct statx;

namespace oracle {

// glibc keeps 32 and 33; nothing in a sequence blocks or handles this one.
constexpr int kBreakSignal = 64;
constexpr size_t kLog = 96 * 1024;
constexpr size_t kCaught = 8 * 1024;
constexpr size_t kBufferSize = 132 * 1024;

struct ProcessPart {
  std::atomic<uint32_t> command;   // futex: the number of the batch to run
  std::atomic<uint32_t> done;      // futex: the number of the batch that was run last
  std::atomic<uint32_t> progress;  // of calls begun and ended
  std::atomic<int32_t> pid;        // 0 until it exists
  std::atomic<bool> gone;          // its pid is no longer its own
  uint32_t begin, end;             // of the batch
  uint32_t used;                   // bytes of log
  // Where the result of the last call begins, if it is one that others' deeds are to settle after:
  // whether a process that dies of them has still written it is chance. Otherwise 0.
  uint32_t result_at;
  // What handlers have written since the last call began. When they ran, before or after a call's
  // result, is chance as well.
  uint32_t caught_used;
  char caught[kCaught];
  char log[kLog];
};

// Shared by the supervisor and the processes of a sequence.
struct Shared {
  ProcessPart process[kProcesses];
  std::atomic<int32_t> processes;
  int32_t supervisor;  // its pid
  bool dump_memory;    // the sequence uses the arena
  bool faulty_writes;  // and may write from memory that is not there
};

class Run {
 public:
  Run(Shared* shared, const std::vector<Call>& calls, int self);

  // Waits for batches and runs them, for ever; a batch of length 0 is a dump.
  [[noreturn]] void serve();
  // Makes a call and logs it.
  void make(const Call& call);
  // Logs what the process has: descriptors, signals, memory, place.
  void dump();

  // ---- for the rows of the table ----
  const Call& call() const { return *call_; }
  int64_t n(int i) const { return call_->arg[i]; }
  int fd(int i) const;
  bool is_pidfd(int i) const;  // which are more of a file inside Linux than they show
  const char* path(int i) const;
  bool dots(int i) const;  // does the path have a ".." in it?
  void* addr(int i) const;
  char* buf(int i) const;         // where to read to
  const char* data(int i) const;  // what to write: bytes that tell the call's place in the sequence
  int pid(int i) const;           // of a kProc argument; one that nobody has if that is gone
  // Makes a system call: its result, or an errno negated.
  long sys(long nr, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0);
  template <typename... A>
  long sys_(long nr, A... a) {
    return sys(nr, (long)a...);
  }
  void ret(long r);                   // logs a result: a number or the name of an error
  void ret_fd(long r, int slot = 0);  // and keeps the descriptor
  void ret_pid(long r);
  void skip(const char* why) { log(" -> skipped: %s", why); }
  void log(const char* format, ...) __attribute__((format(printf, 2, 3)));
  // In between, what is logged is what a signal handler has to say.
  void enter_handler() { handling_ = handling_ + 1; }
  void leave_handler() { handling_ = handling_ - 1; }
  void bytes(const void* p, long n);  // their contents, or a hash of them
  void stat(const struct stat& st);
  void statx(const struct statx& st);
  void time(int64_t seconds, int64_t nanoseconds);
  void signals(uint64_t set);
  long ino(uint64_t number, uint64_t device);
  int process_of(int64_t pid) const;  // -1 if it is none of ours, -2 the supervisor's, -3 for 0
  void spawn(long flags);             // fork or clone
  void start_child(int self);

 private:
  ProcessPart& part() { return shared_->process[self_]; }
  void log_caught();

  Shared* shared_;
  const std::vector<Call>& calls_;
  int self_;
  const Call* call_ = nullptr;
  int index_ = 0;
  volatile int handling_ = 0;
  int slot_[kSlots];
  struct Inode {
    uint64_t number, device;
  } inode_[64];
  int inodes_ = 0;
};

extern Run* g_run;  // the process's own, for signal handlers
const char* error_name(int e);
void install_break_handler();

// A read or write of guest memory as a program does it. True if there was a fault; then si_signo
// and so on say which.
bool load(uint64_t at, unsigned char* value, siginfo_t* fault);
bool store(uint64_t at, unsigned char value, siginfo_t* fault);

uint64_t hash(const void* p, size_t n, uint64_t h = 0xcbf29ce484222325);

}  // namespace oracle
