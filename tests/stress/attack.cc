// A guest program that tries to make host system calls by every entrance there is. The runner
// (run_attack) watches the host for what the calls would do.
//
//   attack CANARY_PATH CANARY_PID CANARY_FD
//
// It first prints the executable ranges of its own map (`map START END`) and `ready`, then reads
// `range START END` lines from stdin: executable memory of its process that it was not told of.
// After an `end` line it attacks, by every number through `syscall`, `int $0x80`, `sysenter`, a far
// jump into a 32-bit code segment, the vsyscall page, and a jump to every byte of those ranges,
// with registers set up for calls that would be seen on the host: creating CANARY_PATH, killing
// CANARY_PID, writing to CANARY_FD, forking. Every attempt is made in a child, which may die.
// Prints `attack: NAME: N attempts, K killed` lines and `attack: done`.
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace {

// One host call that would be noticed: number and arguments, for 64-bit and 32-bit entrances.
struct Call {
  long number64, number32;
  long a, b, c;
};

char* g_low;  // memory below 4 GiB for 32-bit entrances: the path at its start, a stack at its end
constexpr size_t kLow = 65536;
sigjmp_buf g_env;
char g_stack[65536];

int g_escapes;  // since the last attempt began

// An attempt may have taken away what the way back needs, so that it ends here again and again.
void Escape(int) {
  constexpr int kHopeless = 100;
  if (++g_escapes > kHopeless) _exit(1);
  siglongjmp(g_env, 1);
}

// Every fault and a timer lead back, so that a child survives most attempts.
void CatchAll() {
  stack_t ss = {};
  ss.ss_sp = g_stack;
  ss.ss_size = sizeof g_stack;
  sigaltstack(&ss, nullptr);
  struct sigaction sa = {};
  sa.sa_handler = Escape;
  sa.sa_flags = SA_ONSTACK | SA_NODEFER;
  for (int sig : {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS, SIGALRM, SIGVTALRM}) {
    sigaction(sig, &sa, nullptr);
  }
}

void Arm() {
  itimerval t = {{0, 20000}, {0, 20000}};
  setitimer(ITIMER_REAL, &t, nullptr);
}

// Loads the registers for `call` as both conventions want them and jumps to `target`. rsp is a
// valid stack, so that even `ret` and `push` in the middle of something work. The others are zero:
// what executes there shall not write over what the campaign itself needs.
void Jump(uint64_t target, const Call& call, bool convention32) {
  static uint64_t frame[64];
  uint64_t* stack = frame + 32;
  for (int i = 0; i < 32; i++) stack[i] = 0;
  register uint64_t to __asm__("r11") = target;
  if (!convention32) {
    register uint64_t* top __asm__("r12") = stack;
    __asm__ volatile(
        "mov %%r12, %%rsp\n xor %%ebp, %%ebp\n mov %%r11, %%rcx\n"
        "xor %%r10d, %%r10d\n xor %%r8d, %%r8d\n xor %%r9d, %%r9d\n xor %%ebx, %%ebx\n"
        "xor %%r12d, %%r12d\n xor %%r13d, %%r13d\n xor %%r14d, %%r14d\n xor %%r15d, %%r15d\n"
        "jmp *%%r11\n"
        :
        : "r"(to), "r"(top), "a"(call.number64), "D"(call.a), "S"(call.b), "d"(call.c)
        : "rcx", "r8", "r9", "r10", "memory");
  } else {
    register char* top __asm__("r12") = g_low + kLow - 4096;
    __asm__ volatile(
        "mov %%r12, %%rsp\n mov %%rsp, %%rbp\n xor %%esi, %%esi\n xor %%edi, %%edi\n"
        "xor %%r12d, %%r12d\n xor %%r13d, %%r13d\n xor %%r14d, %%r14d\n"
        "xor %%r15d, %%r15d\n jmp *%%r11\n"
        :
        : "r"(to), "r"(top), "a"(call.number32), "b"(call.a), "c"(call.b), "d"(call.c)
        : "memory");
  }
  __builtin_unreachable();
}

uint64_t CodeAt(const std::vector<unsigned char>& bytes) {
  static char* page = static_cast<char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0));
  if (page == MAP_FAILED) {
    perror("attack: mmap");
    exit(1);
  }
  memset(page, 0xf4, 4096);  // hlt: a fault behind the attempt
  memcpy(page, bytes.data(), bytes.size());
  return reinterpret_cast<uint64_t>(page);
}

// The status of a child of a campaign. One that makes no progress for 10 s is killed: an attempt
// may have stopped the timer.
int Reap(pid_t child, const volatile size_t& progress) {
  sigset_t chld;
  sigemptyset(&chld);
  sigaddset(&chld, SIGCHLD);
  const timespec patience = {10, 0};
  int status = 0;
  for (size_t seen = progress; waitpid(child, &status, WNOHANG) == 0; seen = progress) {
    bool quiet = sigtimedwait(&chld, nullptr, &patience) < 0 && errno == EAGAIN;
    if (quiet && progress == seen) kill(child, SIGKILL);
  }
  return status;
}

// Runs attempts [0, count) in children: `attempt(i)` may fault (it goes on with the next one) or
// kill the child (a new one goes on with the next one).
void Campaign(const char* name, size_t count, const std::function<void(size_t)>& attempt) {
  auto* progress = static_cast<volatile size_t*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  *progress = 0;
  size_t killed = 0;
  while (*progress < count) {
    size_t before = *progress;
    pid_t child = fork();
    if (child == 0) {
      CatchAll();
      volatile pid_t self = getpid();
      volatile size_t i = before;
      while (i < count) {
        if (getpid() != self) _exit(0);  // an attempt was a fork, and this is its child
        *progress = i + 1;
        g_escapes = 0;
        if (sigsetjmp(g_env, 1) == 0) {
          Arm();
          attempt(i);
        }
        i = i + 1;
      }
      _exit(0);
    }
    if (child < 0) {
      printf("attack: fork: %s\n", strerrorname_np(errno));
      exit(1);
    }
    killed += Reap(child, *progress) != 0;
    // It may have written over the count all the same.
    if (*progress <= before || *progress > count) *progress = before + 1;
  }
  printf("attack: %s: %zu attempts, %zu killed\n", name, count, killed);
  fflush(stdout);
  munmap(const_cast<size_t*>(progress), 4096);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: attack CANARY_PATH CANARY_PID CANARY_FD\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  sigset_t chld;
  sigemptyset(&chld);
  sigaddset(&chld, SIGCHLD);
  sigprocmask(SIG_BLOCK, &chld, nullptr);
  g_low = static_cast<char*>(
      mmap(nullptr, kLow, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0));
  strcpy(g_low, argv[1]);
  strcpy(g_low + 4000, "escaped\n");
  long path = reinterpret_cast<long>(g_low), text = reinterpret_cast<long>(g_low + 4000);
  long pid = atol(argv[2]), fd = atol(argv[3]);
  const std::vector<Call> calls = {
      {SYS_creat, 8, path, 0666, 0},  // creat(path)
      {SYS_open, 5, path, O_CREAT | O_RDWR, 0666},
      {SYS_kill, 37, pid, SIGKILL, 0},
      {SYS_write, 4, fd, text, 8},
      {SYS_mkdir, 39, path, 0777, 0},
      {SYS_fork, 2, 0, 0, 0},
  };

  FILE* maps = fopen("/proc/self/maps", "r");
  char line[512];
  while (maps && fgets(line, sizeof line, maps)) {
    unsigned long start, end;
    char rights[8];
    if (sscanf(line, "%lx-%lx %7s", &start, &end, rights) == 3 && rights[2] == 'x') {
      printf("map %lx %lx\n", start, end);
    }
  }
  if (maps) fclose(maps);
  printf("ready\n");
  fflush(stdout);
  std::vector<uint64_t> targets;
  while (fgets(line, sizeof line, stdin) && strncmp(line, "end", 3) != 0) {
    unsigned long start, end;
    if (sscanf(line, "range %lx %lx", &start, &end) == 2) {
      for (unsigned long at = start; at < end; at++) targets.push_back(at);
    }
  }

  // Every number, by every kind of gate, with arguments that fit the noticed calls best.
  const std::vector<std::pair<const char*, std::vector<unsigned char>>> gates = {
      {"syscall", {0x0f, 0x05, 0xf4}},
      {"int 0x80", {0xcd, 0x80, 0xf4}},
      {"sysenter", {0x0f, 0x34, 0xf4}},
  };
  for (const auto& [name, code] : gates) {
    uint64_t at = CodeAt(code);
    bool narrow = std::string(name) != "syscall";
    Campaign(name, calls.size() * 2, [&](size_t i) { Jump(at, calls[i / 2], i % 2); });
    Campaign((std::string(name) + ", all numbers").c_str(), 600, [&](size_t i) {
      // exit and its kin would end the child without telling anything.
      if (i == SYS_exit || i == SYS_exit_group || i == SYS_pause || i == SYS_vfork) return;
      Call c = {static_cast<long>(i), static_cast<long>(i), path, 0666, 0};
      Jump(at, c, narrow);
    });
    Campaign((std::string(name) + ", x32 numbers").c_str(), 600, [&](size_t i) {
      long number = 0x40000000 | static_cast<long>(i);
      Jump(at, {number, number, path, 0666, 0}, narrow);
    });
  }

  // A far return into the 32-bit code segment, where the gates mean something else again.
  for (const auto& [name, code] : gates) {
    std::vector<unsigned char> bytes = {
        0x6a, 0x23,                    // push $0x23: the 32-bit user code segment
        0xe8, 0x00, 0x00, 0x00, 0x00,  // call the next instruction
        0x48, 0x83, 0x04, 0x24, 0x07,  // add $7, (rsp): behind the lret
        0x48, 0xcb,                    // lretq
    };
    bytes.insert(bytes.end(), code.begin(), code.end());
    uint64_t at = CodeAt(bytes);
    Campaign((std::string("32-bit ") + name).c_str(), calls.size(),
             [&](size_t i) { Jump(at, calls[i], true); });
    Campaign((std::string("32-bit ") + name + ", all numbers").c_str(), 470, [&](size_t i) {
      if (i == 1 || i == 252 || i == 29 || i == 190) return;  // exit, exit_group, pause, vfork
      Jump(at, {0, static_cast<long>(i), path, 0666, 0}, true);
    });
  }

  // The vsyscall page: its three entries and between them.
  Campaign("vsyscall", 4096 / 16,
           [&](size_t i) { Jump(0xffffffffff600000ul + i * 16, calls[i % calls.size()], false); });

  // Every byte of the memory that is not the guest's, as a place to jump to: with creat and with
  // kill, and every eleventh byte with the others, as an attempt may cost a process.
  for (const Call& call : calls) {
    bool all = call.number64 == SYS_creat || call.number64 == SYS_kill;
    size_t step = all ? 1 : 11;
    Campaign(all ? "jumps" : "some jumps", (targets.size() + step - 1) / step,
             [&](size_t i) { Jump(targets[i * step], call, false); });
  }
  printf("attack: done\n");
  return 0;
}
