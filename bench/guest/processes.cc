// Processes and threads come and go; a shell that starts many; a thousand that do nothing.
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "bench/guest/rows.h"

extern char** environ;

namespace uk::bench {
namespace {

// This program's file, as the caller names it.
std::string Self() {
  char path[4096];
  ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
  Need(n > 0, "/proc/self/exe");
  return std::string(path, n);
}

void ForkExit(Meter& meter) {
  meter.Each([] {
    pid_t child = fork();
    if (child == 0) _exit(0);
    WaitFor(child);
  });
}

void ForkExec(Meter& meter) {
  std::string self = Self();
  meter.Each([&] {
    pid_t child = fork();
    if (child == 0) {
      execl(self.c_str(), self.c_str(), kExitArgument, nullptr);
      _exit(1);
    }
    WaitFor(child);
  });
}

// glibc makes it of a vfork-like clone and exec.
void Spawn(Meter& meter) {
  std::string self = Self(), argument = kExitArgument;
  char* argv[] = {self.data(), argument.data(), nullptr};
  meter.Each([&] {
    pid_t child = 0;
    errno = posix_spawn(&child, self.c_str(), nullptr, nullptr, argv, environ);
    Need(errno == 0, "posix_spawn");
    WaitFor(child);
  });
}

void Thread(Meter& meter) {
  meter.Each([] {
    pthread_t thread;
    errno = pthread_create(
        &thread, nullptr, [](void*) -> void* { return nullptr; }, nullptr);
    Need(errno == 0, "pthread_create");
    pthread_join(thread, nullptr);
  });
}

// One round is one shell; it starts busybox by its path, so that it forks and executes.
void Shell(Meter& meter) {
  constexpr int kStarts = 200;
  const int starts = meter.quick() ? 20 : kStarts;
  const char* busybox = nullptr;
  for (const char* path : {"/usr/bin/busybox", "/bin/busybox"}) {
    if (access(path, X_OK) == 0) busybox = path;
  }
  Need(busybox != nullptr, "busybox");
  std::string script = "i=0; while [ $i -lt " + std::to_string(starts) + " ]; do " + busybox +
                       " true; i=$((i+1)); done";
  int64_t start = Now();
  pid_t child = fork();
  if (child == 0) {
    execl(busybox, busybox, "sh", "-c", script.c_str(), nullptr);
    _exit(1);
  }
  WaitFor(child);
  meter.Add(static_cast<double>(Now() - start) * kStarts / starts);
}

// Starts processes that wait for ever; a sample is one's start. They stay for the time asked for.
void Idle(Meter& meter);

}  // namespace

std::vector<Row> ProcessRows() {
  return {
      {"fork", "ms", "fork, exit and wait", ForkExit},
      {"exec", "ms", "fork, exec, exit and wait", ForkExec},
      {"spawn", "ms", "posix_spawn, exit and wait", Spawn},
      {"thread", "us", "thread create and join", Thread},
      {"shell", "s", "200 fork and exec in busybox sh", Shell},
      {"idle", "ms", "start of one of 1,000 processes that stay", Idle},
  };
}

namespace {

void Idle(Meter& meter) {
  const int count = meter.quick() ? 200 : 1000;
  std::vector<pid_t> children;
  int ready[2];
  Need(pipe(ready) == 0, "pipe");
  int64_t start = Now();
  for (int i = 0; i < count; i++) {
    pid_t child = fork();
    Need(child >= 0, "fork");
    if (child == 0) {
      Need(write(ready[1], "x", 1) == 1, "write");
      for (;;) pause();
    }
    children.push_back(child);
    char c;
    Need(read(ready[0], &c, 1) == 1, "read");
  }
  double each = static_cast<double>(Now() - start) / count;
  for (const Row& row : ProcessRows()) {
    if (row.run == Idle) Report(row, {each});
  }
  sleep(meter.hold_s());
  for (pid_t child : children) kill(child, SIGKILL);
  for (pid_t child : children) Need(waitpid(child, nullptr, 0) == child, "waitpid");
}

}  // namespace
}  // namespace uk::bench
