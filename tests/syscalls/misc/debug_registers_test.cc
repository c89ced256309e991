// The debug registers of a tracee (struct user's u_debugreg): what may be written to them, when
// they stop it, and who inherits what.
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

constexpr int kHardwareTrap = 4;                // TRAP_HWBKPT
constexpr unsigned long kNothing = 0xffff0ff0;  // DR6 when nothing has happened
constexpr unsigned long kTop = 0x7ffffffff000;  // Linux's TASK_SIZE_MAX
constexpr unsigned kExecute = 0, kWrite = 1, kPort = 2, kAccess = 3;
constexpr unsigned kOne = 0, kTwo = 1, kEight = 2, kFour = 3;

alignas(64) volatile long cells[4];

[[gnu::noinline]] void Place() { asm volatile("nop"); }

constexpr unsigned long Enable(unsigned n, unsigned type, unsigned len) {
  return 1ul << (2 * n) | static_cast<unsigned long>(type | len << 2) << (16 + 4 * n);
}

template <typename T>
unsigned long At(T* place) {
  return reinterpret_cast<unsigned long>(place);
}

size_t Offset(unsigned n) { return offsetof(struct user, u_debugreg) + 8 * n; }

long Poke(pid_t pid, unsigned n, unsigned long value) {
  return ptrace(PTRACE_POKEUSER, pid, Offset(n), value);
}

unsigned long Peek(pid_t pid, unsigned n) {
  errno = 0;
  const long value = ptrace(PTRACE_PEEKUSER, pid, Offset(n), nullptr);
  EXPECT_EQ(errno, 0);
  return static_cast<unsigned long>(value);
}

// A child that stopped itself and does `body` when it goes on.
template <typename F>
pid_t Tracee(F body) {
  const pid_t pid = Spawn([&] {
    CHILD_CHECK(ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0);
    raise(SIGSTOP);
    body();
    return 7;
  });
  int status = 0;
  EXPECT_EQ(waitpid(pid, &status, __WALL), pid);
  EXPECT_TRUE(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
  return pid;
}

int Go(pid_t pid, long request = PTRACE_CONT) {
  EXPECT_OK(ptrace(static_cast<__ptrace_request>(request), pid, nullptr, nullptr));
  int status = -1;
  EXPECT_EQ(waitpid(pid, &status, __WALL), pid);
  return status;
}

// It goes on to the next stop, which is that of breakpoint `n`.
void ExpectHit(pid_t pid, unsigned n, unsigned long also = 0) {
  const int status = Go(pid);
  ASSERT_TRUE(WIFSTOPPED(status)) << status;
  ASSERT_EQ(status >> 8, SIGTRAP);
  siginfo_t info = {};
  EXPECT_OK(ptrace(PTRACE_GETSIGINFO, pid, nullptr, &info));
  user_regs_struct regs;
  EXPECT_OK(ptrace(PTRACE_GETREGS, pid, nullptr, &regs));
  EXPECT_EQ(info.si_code, kHardwareTrap);
  EXPECT_EQ(At(static_cast<char*>(info.si_addr)), regs.rip);
  EXPECT_EQ(Peek(pid, 6), kNothing | 1ul << n | also);
}

void ExpectEnd(pid_t pid) { EXPECT_EQ(Go(pid), Exited(7)); }

// Some virtual machines take debug registers and never raise what they ask for.
bool BreakpointsWork() {
  const pid_t pid = Tracee([] { cells[0] = 1; });
  EXPECT_OK(Poke(pid, 0, At(&cells[0])));
  EXPECT_OK(Poke(pid, 7, Enable(0, kWrite, kEight)));
  const int status = Go(pid);
  if (WIFSTOPPED(status)) ExpectEnd(pid);
  return WIFSTOPPED(status);
}

// A test of breakpoints that must be hit. Whether they can be is the host's to say: who runs a
// guest's tests has what they skip confirmed natively (tests/guest/run_guest_tests).
#define NEEDS_BREAKPOINTS() \
  if (!BreakpointsWork()) GTEST_SKIP() << "this processor's debug registers do nothing"

TEST(ptrace, DebugRegistersTakeWhatLinuxTakes) {
  const pid_t pid = Tracee([] {});
  for (unsigned n = 0; n < 8; ++n) EXPECT_EQ(Peek(pid, n), n == 6 ? kNothing : 0);
  // Addresses.
  EXPECT_OK(Poke(pid, 0, kTop - 8));
  EXPECT_EQ(Peek(pid, 0), kTop - 8);
  EXPECT_ERRNO(EINVAL, Poke(pid, 0, kTop));
  EXPECT_ERRNO(EINVAL, Poke(pid, 0, 0xffffffff81000000));
  EXPECT_ERRNO(EINVAL, Poke(pid, 0, ~0ul));
  EXPECT_EQ(Peek(pid, 0), kTop - 8) << "nothing has changed";
  EXPECT_ERRNO(EIO, Poke(pid, 4, 0));
  EXPECT_ERRNO(EIO, Poke(pid, 5, 0));
  EXPECT_ERRNO(EIO, ptrace(PTRACE_POKEUSER, pid, Offset(0) - 8, 0));
  EXPECT_ERRNO(EIO, ptrace(PTRACE_POKEUSER, pid, Offset(0) + 1, 0));
  EXPECT_ERRNO(EIO, ptrace(PTRACE_POKEUSER, pid, Offset(8), 0));
  // Status: any word.
  EXPECT_OK(Poke(pid, 6, ~0ul));
  EXPECT_EQ(Peek(pid, 6), ~0ul);
  EXPECT_OK(Poke(pid, 6, 0));
  EXPECT_EQ(Peek(pid, 6), 0ul);
  // Reserved bits of the control register are kept and mean nothing.
  for (unsigned long bits : {0xffffffff00000000ul, 0xfc00ul, 0x300ul}) {
    EXPECT_OK(Poke(pid, 7, bits));
    EXPECT_EQ(Peek(pid, 7), bits);
  }
  // Types and lengths, also of a breakpoint that is not enabled but has an address.
  EXPECT_ERRNO(EINVAL, Poke(pid, 7, Enable(0, kPort, kOne)));
  EXPECT_ERRNO(EINVAL, Poke(pid, 7, Enable(0, kExecute, kFour)));
  EXPECT_ERRNO(EINVAL, Poke(pid, 7, Enable(0, kPort, kOne) & ~1ul));
  EXPECT_OK(Poke(pid, 7, Enable(1, kPort, kOne) & ~4ul)) << "which has none";
  EXPECT_OK(Poke(pid, 7, Enable(0, kWrite, kEight)));
  // Alignment, whichever is written last.
  EXPECT_ERRNO(EINVAL, Poke(pid, 0, 0x1004));
  EXPECT_OK(Poke(pid, 7, Enable(0, kWrite, kFour)));
  EXPECT_OK(Poke(pid, 0, 0x1004));
  EXPECT_ERRNO(EINVAL, Poke(pid, 7, Enable(0, kAccess, kEight)));
  EXPECT_EQ(Peek(pid, 7), Enable(0, kWrite, kFour)) << "the old one is in force";
  EXPECT_OK(Poke(pid, 7, Enable(0, kAccess, kTwo)));
  EXPECT_OK(Poke(pid, 7, 0));
  ExpectEnd(pid);
}

TEST(ptrace, WatchpointsAndBreakpointsStopTheTracee) {
  NEEDS_BREAKPOINTS();
  const pid_t pid = Tracee([] {
    cells[3] = 1;
    cells[0] = 1;
    cells[1] = cells[2];
    Place();
    cells[2] = 5;
  });
  EXPECT_OK(Poke(pid, 0, At(&cells[0])));
  EXPECT_OK(Poke(pid, 1, At(&cells[2])));
  EXPECT_OK(Poke(pid, 3, At(&Place)));
  EXPECT_OK(Poke(pid, 7,
                 Enable(0, kWrite, kEight) | Enable(1, kAccess, kEight) | Enable(3, kExecute, 0)));
  ExpectHit(pid, 0);
  EXPECT_EQ(ptrace(PTRACE_PEEKDATA, pid, &cells[0], nullptr), 1) << "the write is done";
  ExpectHit(pid, 1);  // read
  ExpectHit(pid, 3);
  user_regs_struct regs;
  EXPECT_OK(ptrace(PTRACE_GETREGS, pid, nullptr, &regs));
  EXPECT_EQ(regs.rip, At(&Place)) << "before the instruction";
  EXPECT_NE(regs.eflags & 0x10000, 0u) << "which will not trap again";
  ExpectHit(pid, 1);  // written
  EXPECT_OK(Poke(pid, 7, 0));
  ExpectEnd(pid);
}

TEST(ptrace, AWatchpointMovesWhileItIsInForce) {
  NEEDS_BREAKPOINTS();
  const pid_t pid = Tracee([] {
    for (int round = 0; round < 2; ++round)
      for (volatile long& cell : cells) cell = round;
  });
  EXPECT_OK(Poke(pid, 2, At(&cells[1])));
  EXPECT_OK(Poke(pid, 7, Enable(2, kWrite, kEight)));
  ExpectHit(pid, 2);
  EXPECT_OK(Poke(pid, 2, At(&cells[0])));
  ExpectHit(pid, 2);
  EXPECT_EQ(ptrace(PTRACE_PEEKDATA, pid, &cells[0], nullptr), 1) << "of the second round";
  EXPECT_OK(Poke(pid, 2, At(&cells[3])));
  ExpectHit(pid, 2);
  ExpectEnd(pid);
}

TEST(ptrace, StepsOverAWatchedWriteShowBoth) {
  NEEDS_BREAKPOINTS();
  const pid_t pid = Tracee([] {
    Place();
    cells[0] = 1;
  });
  EXPECT_OK(Poke(pid, 0, At(&Place)));
  EXPECT_OK(Poke(pid, 7, Enable(0, kExecute, 0)));
  ExpectHit(pid, 0);
  EXPECT_OK(Poke(pid, 1, At(&cells[0])));
  EXPECT_OK(Poke(pid, 7, Enable(1, kWrite, kEight)));
  for (int steps = 0; steps < 1000; ++steps) {
    ASSERT_EQ(Go(pid, PTRACE_SINGLESTEP), SIGTRAP << 8 | 0x7f);
    const unsigned long status = Peek(pid, 6);
    ASSERT_TRUE(status & 0x4000) << "a step";
    if (status == (kNothing | 0x4000)) continue;
    EXPECT_EQ(status, kNothing | 0x4002);
    siginfo_t info = {};
    EXPECT_OK(ptrace(PTRACE_GETSIGINFO, pid, nullptr, &info));
    EXPECT_EQ(info.si_code, TRAP_TRACE);
    return ExpectEnd(pid);
  }
  ADD_FAILURE() << "it never came";
}

TEST(ptrace, CallsOfTheKernelDoNotTrap) {
  NEEDS_BREAKPOINTS();
  const pid_t pid = Tracee([] {
    Pipe pipe;
    CHILD_CHECK(write(pipe.w, "12345678", 8) == 8);
    CHILD_CHECK(read(pipe.r, const_cast<long*>(&cells[0]), 8) == 8);
    cells[0] = 1;
  });
  EXPECT_OK(Poke(pid, 0, At(&cells[0])));
  EXPECT_OK(Poke(pid, 7, Enable(0, kAccess, kEight)));
  ExpectHit(pid, 0);
  EXPECT_EQ(ptrace(PTRACE_PEEKDATA, pid, &cells[0], nullptr), 1);
  ExpectEnd(pid);
}

TEST(ptrace, AWatchpointIsSetDuringASleepInACall) {
  NEEDS_BREAKPOINTS();
  Pipe pipe;
  const pid_t pid = Tracee([&] {
    char c;
    CHILD_CHECK(read(pipe.r, &c, 1) == 1);
    cells[0] = c;
  });
  EXPECT_OK(ptrace(PTRACE_DETACH, pid, nullptr, nullptr));
  EXPECT_TRUE(WaitForState(pid, 'S'));
  EXPECT_OK(ptrace(PTRACE_SEIZE, pid, nullptr, nullptr));
  EXPECT_OK(ptrace(PTRACE_INTERRUPT, pid, nullptr, nullptr));
  int status = 0;
  EXPECT_EQ(waitpid(pid, &status, __WALL), pid);
  EXPECT_OK(Poke(pid, 0, At(&cells[0])));
  EXPECT_OK(Poke(pid, 7, Enable(0, kWrite, kEight)));
  EXPECT_EQ(write(pipe.w, "x", 1), 1);
  ExpectHit(pid, 0);
  ExpectEnd(pid);
}

TEST(ptrace, ChildrenInheritTheWordsAndNotTheBreakpoints) {
  NEEDS_BREAKPOINTS();
  const pid_t pid = Tracee([] {
    cells[0] = 1;
    if (syscall(SYS_fork) == 0) {
      cells[0] = 2;
      _exit(0);
    }
  });
  EXPECT_OK(ptrace(PTRACE_SETOPTIONS, pid, nullptr, PTRACE_O_TRACEFORK));
  EXPECT_OK(Poke(pid, 0, At(&cells[0])));
  EXPECT_OK(Poke(pid, 7, Enable(0, kWrite, kEight)));
  ExpectHit(pid, 0);
  EXPECT_EQ(Go(pid) >> 8, SIGTRAP | PTRACE_EVENT_FORK << 8);
  unsigned long child = 0;
  EXPECT_OK(ptrace(PTRACE_GETEVENTMSG, pid, nullptr, &child));
  const pid_t other = static_cast<pid_t>(child);
  int status = 0;
  EXPECT_EQ(waitpid(other, &status, __WALL), other);
  EXPECT_EQ(Peek(other, 0), 0ul);
  EXPECT_EQ(Peek(other, 6), kNothing | 1);
  EXPECT_EQ(Peek(other, 7), Enable(0, kWrite, kEight));
  EXPECT_EQ(Go(other), Exited(0));
  status = Go(pid);
  if (WIFSTOPPED(status) && WSTOPSIG(status) == SIGCHLD) status = Go(pid);
  EXPECT_EQ(status, Exited(7));
}

TEST(ptrace, ExecClearsDebugRegisters) {
  NEEDS_BREAKPOINTS();
  const pid_t pid = Tracee([] {
    cells[0] = 1;
    execl("/bin/true", "true", nullptr);
  });
  EXPECT_OK(ptrace(PTRACE_SETOPTIONS, pid, nullptr, PTRACE_O_TRACEEXEC));
  EXPECT_OK(Poke(pid, 0, At(&cells[0])));
  EXPECT_OK(Poke(pid, 7, Enable(0, kWrite, kEight)));
  ExpectHit(pid, 0);
  EXPECT_EQ(Go(pid) >> 8, SIGTRAP | PTRACE_EVENT_EXEC << 8);
  for (unsigned n = 0; n < 8; ++n) EXPECT_EQ(Peek(pid, n), n == 6 ? kNothing : 0);
  EXPECT_EQ(Go(pid), Exited(0));
}

TEST(ptrace, BreakpointsOutliveTheTracer) {
  NEEDS_BREAKPOINTS();
  const pid_t pid = Tracee([] { cells[0] = 1; });
  EXPECT_OK(Poke(pid, 0, At(&cells[0])));
  EXPECT_OK(Poke(pid, 7, Enable(0, kWrite, kEight)));
  EXPECT_OK(ptrace(PTRACE_DETACH, pid, nullptr, nullptr));
  EXPECT_EQ(WaitFor(pid), Killed(SIGTRAP));
  // Nobody who comes after it has them.
  for (int i = 0; i < 3; ++i) IN_CHILD([] { cells[0] = 2; });
}

}  // namespace
}  // namespace uk::test
