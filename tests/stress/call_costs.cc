// What one system call and one fork+exec cost, measured by the program that makes them; run it
// natively and in a guest. Prints `NAME NANOSECONDS` lines: the median over rounds.
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

// The median cost in nanoseconds of one `body()`, over `rounds` rounds of `count` calls.
template <typename F>
int64_t Median(int rounds, int count, F body) {
  std::vector<int64_t> costs;
  for (int r = 0; r < rounds; r++) {
    int64_t start = Now();
    for (int i = 0; i < count; i++) body();
    costs.push_back((Now() - start) / count);
  }
  std::sort(costs.begin(), costs.end());
  return costs[costs.size() / 2];
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
  int64_t cost = -1;
  if (mode == "null") {
    Median(1, 200, Null);
    cost = Median(15, 1000, Null);
  } else if (mode == "fork") {
    cost = Median(15, 10, [] {
      pid_t pid = fork();
      if (pid == 0) _exit(0);
      Wait(pid);
    });
  } else if (mode == "exec" || mode == "spawn") {
    bool v = mode == "spawn";
    const char* self = argv[0];
    cost = Median(15, 10, [&] {
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
  printf("%s %lld\n", mode.c_str(), static_cast<long long>(cost));
  return 0;
}
