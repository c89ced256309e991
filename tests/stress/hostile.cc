// A guest program that misbehaves in the one way its argument names. It says on stdout what it got
// for it, so that tests/badinput can tell that the kernel answered as Linux does.
//
//   hostile fork      forks until fork fails; all children wait; ends them and prints the errno
//   hostile memory    touches anonymous memory without end (ends by the OOM killer, or prints)
//   hostile file DIR  fills a file in DIR until write fails, removes it, prints the errno
//   hostile map       maps single pages until mmap fails; prints the errno
//   hostile stack     recurses without end (ends by SIGSEGV)
//   hostile spin N    N threads in empty loops, without end
//   hostile threads   makes threads until that fails; prints the errno
//   hostile fds       opens descriptors and pipes until that fails; prints the errno
//   hostile garbage   passes garbage to every system call, each in a child of its own
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

namespace {

int Say(const char* what, int error) {
  printf("%s: %s\n", what, strerrorname_np(error));
  fflush(stdout);
  return 0;
}

int Fork() {
  std::vector<pid_t> children;
  int error = 0;
  while (true) {
    pid_t pid = fork();
    if (pid == 0) {
      while (true) pause();
    }
    if (pid < 0) {
      error = errno;
      break;
    }
    children.push_back(pid);
  }
  for (pid_t pid : children) kill(pid, SIGKILL);
  for (pid_t pid : children) {
    if (waitpid(pid, nullptr, 0) != pid) return 1;
  }
  return Say("fork", error);
}

int Memory() {
  constexpr size_t kChunk = 1 << 20;
  while (true) {
    void* p = mmap(nullptr, kChunk, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return Say("memory", errno);
    memset(p, 0x5a, kChunk);
  }
}

int File(const std::string& dir) {
  std::string path = dir + "/hostile-file";
  int fd = open(path.c_str(), O_CREAT | O_RDWR | O_TRUNC, 0600);
  if (fd < 0) return Say("open", errno);
  std::string chunk(1 << 20, 'f');
  while (write(fd, chunk.data(), chunk.size()) > 0) {
  }
  int error = errno;
  close(fd);
  unlink(path.c_str());
  return Say("file", error);
}

int Map() {
  // Alternating rights, so that neighbours do not merge.
  for (long i = 0;; i++) {
    void* p = mmap(nullptr, 4096, i % 2 ? PROT_READ : PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return Say("map", errno);
  }
}

int Recurse(int n) {
  volatile char frame[4096];
  frame[0] = static_cast<char>(n);
  return n < 0 ? 0 : Recurse(n + 1) + frame[0];
}

int Spin(int threads) {
  for (int i = 1; i < threads; i++) {
    std::thread([] {
      while (true) __asm__ volatile("");
    }).detach();
  }
  while (true) __asm__ volatile("");
}

int Threads() {
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, 65536);
  while (true) {
    pthread_t t;
    int error = pthread_create(
        &t, &attr,
        [](void*) -> void* {
          while (true) pause();
        },
        nullptr);
    if (error) return Say("threads", error);
  }
}

int Fds() {
  rlimit lim;
  getrlimit(RLIMIT_NOFILE, &lim);
  lim.rlim_cur = lim.rlim_max;
  setrlimit(RLIMIT_NOFILE, &lim);
  std::string fill(65536, 'p');
  while (true) {
    int fds[2];
    if (pipe2(fds, O_NONBLOCK) != 0) return Say("fds", errno);
    (void)!write(fds[1], fill.data(), fill.size());
  }
}

// Calls that would end or stop the child at once, or wait for ever, even with garbage.
bool Skipped(long number) {
  switch (number) {
    case SYS_exit:
    case SYS_exit_group:
    case SYS_pause:
    case SYS_rt_sigreturn:
    case SYS_vfork:
    case SYS_fork:
      return true;
    default:
      return false;
  }
}

int Garbage() {
  char* unmapped =
      static_cast<char*>(mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  const long kinds[] = {-1,
                        reinterpret_cast<long>(unmapped),
                        static_cast<long>(0x8000000000000000ul),
                        static_cast<long>(0xffffffff80000000ul),
                        0x7ffffffff000,
                        0x4141414141414141,
                        0};
  int calls = 0, failed = 0, odd = 0;
  for (long number = 0; number < 470; number++) {
    if (Skipped(number)) continue;
    for (long kind : kinds) {
      pid_t child = fork();
      if (child < 0) return Say("fork", errno);
      if (child == 0) {
        alarm(2);
        long r = syscall(number, kind, kind, kind, kind, kind, kind);
        _exit(r == -1 ? 1 : 0);
      }
      int status = 0;
      if (waitpid(child, &status, 0) != child) return Say("waitpid", errno);
      calls++;
      if (WIFEXITED(status)) {
        failed += WEXITSTATUS(status) == 1;
      } else {
        // By its own signal: SIGALRM where the call waits, SIGSEGV where it hurt its own stack.
        odd++;
      }
    }
  }
  printf("garbage: %d calls, %d failed, %d ended their caller\n", calls, failed, odd);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::string mode = argc > 1 ? argv[1] : "";
  if (mode == "fork") return Fork();
  if (mode == "memory") return Memory();
  if (mode == "file" && argc > 2) return File(argv[2]);
  if (mode == "map") return Map();
  if (mode == "stack") return Recurse(0) & 1;
  if (mode == "spin" && argc > 2) return Spin(atoi(argv[2]));
  if (mode == "threads") return Threads();
  if (mode == "fds") return Fds();
  if (mode == "garbage") return Garbage();
  fprintf(stderr, "usage: hostile fork|memory|file DIR|map|stack|spin N|threads|fds|garbage\n");
  return 2;
}
