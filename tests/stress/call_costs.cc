// What one system call and one fork+exec cost, measured by the program that makes them; run it
// natively and in a guest. Prints `NAME MEDIAN FASTEST` lines: nanoseconds, over rounds.
//
//   call_costs null       getppid through the syscall instruction
//   call_costs fork       fork, exit and wait
//   call_costs exec       fork, exec of this program as `call_costs exit`, and wait
//   call_costs spawn      the same with vfork
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

namespace {

int64_t Now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

// The cost of one `body()` in nanoseconds, of every one of `rounds` rounds of `count` calls,
// sorted.
template <typename F>
std::vector<int64_t> Rounds(int rounds, int count, F body) {
  std::vector<int64_t> costs;
  for (int r = 0; r < rounds; r++) {
    int64_t start = Now();
    for (int i = 0; i < count; i++) body();
    costs.push_back((Now() - start) / count);
  }
  std::sort(costs.begin(), costs.end());
  return costs;
}

void Null() {
  long number = SYS_getppid, result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number) : "rcx", "r11", "memory");
}

void Wait(pid_t pid) {
  int status = 0;
  if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
    perror("child");
    exit(1);
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::string mode = argc > 1 ? argv[1] : "";
  if (mode == "exit") return 0;
  std::vector<int64_t> costs;
  if (mode == "null") {
    Rounds(1, 200, Null);
    costs = Rounds(15, 1000, Null);
  } else if (mode == "fork") {
    costs = Rounds(15, 10, [] {
      pid_t pid = fork();
      if (pid == 0) _exit(0);
      Wait(pid);
    });
  } else if (mode == "exec" || mode == "spawn") {
    bool v = mode == "spawn";
    const char* self = argv[0];
    costs = Rounds(15, 10, [&] {
      pid_t pid = v ? vfork() : fork();
      if (pid == 0) {
        execl(self, self, "exit", nullptr);
        _exit(1);
      }
      Wait(pid);
    });
  } else {
    fprintf(stderr, "usage: call_costs null|fork|exec|spawn\n");
    return 2;
  }
  printf("%s %lld %lld\n", mode.c_str(), static_cast<long long>(costs[costs.size() / 2]),
         static_cast<long long>(costs[0]));
  return 0;
}
