// Signal frames: registers, vector state and flags survive a handler; the handler sees and may
// change the interrupted context; sigaltstack; rt_sigreturn.
#include <immintrin.h>
#include <setjmp.h>
#include <ucontext.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

void Nothing(int) {}

TEST(rt_sigreturn, AllIntegerRegistersSurvive) {
  ScopedHandler h(SIGUSR1, Nothing);
  uint64_t out[10];
  long pid = getpid();
  long sig = SIGUSR1;
  uint64_t* place = out;
  // kill(getpid(), SIGUSR1) with known values everywhere else; rcx and r11 belong to syscall.
  __asm__ volatile(
      "push %%rbx\n push %%rbp\n mov %%rax, %%r15\n"
      "mov $0x1111, %%rbx\n mov $0x2222, %%rdx\n mov $0x3333, %%rbp\n mov $0x4444, %%r8\n"
      "mov $0x5555, %%r9\n mov $0x6666, %%r10\n mov $0x7777, %%r12\n mov $0x8888, %%r13\n"
      "mov $0x9999, %%r14\n mov $62, %%eax\n syscall\n"
      "mov %%rbx, 0(%%r15)\n mov %%rdx, 8(%%r15)\n mov %%rbp, 16(%%r15)\n mov %%r8, 24(%%r15)\n"
      "mov %%r9, 32(%%r15)\n mov %%r10, 40(%%r15)\n mov %%r12, 48(%%r15)\n"
      "mov %%r13, 56(%%r15)\n mov %%r14, 64(%%r15)\n mov %%rax, 72(%%r15)\n"
      "pop %%rbp\n pop %%rbx\n"
      : "+a"(place), "+D"(pid), "+S"(sig)
      :
      : "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
  for (int i = 0; i < 9; i++) EXPECT_EQ(out[i], 0x1111u * (i + 1)) << i;
  EXPECT_EQ(out[9], 0u) << "kill returned 0";
}

__attribute__((target("avx"))) bool AvxSurvives() {
  __m256d a = _mm256_set_pd(1.5, 2.5, 3.5, 4.5);
  double out[4];
  long pid = getpid(), result = 62;
  __asm__ volatile(
      "vmovupd %[a], %%ymm7\n"
      "mov %[pid], %%rdi\n mov %[sig], %%rsi\n syscall\n"
      "vmovupd %%ymm7, %[out]\n"
      : "+a"(result), [out] "=m"(out)
      : [a] "m"(a), [pid] "r"(pid), [sig] "i"(SIGUSR1)
      : "rdi", "rsi", "rcx", "r11", "memory", "xmm7");
  return result == 0 && out[0] == 4.5 && out[1] == 3.5 && out[2] == 2.5 && out[3] == 1.5;
}

__attribute__((target("avx"))) void ClobberVectors(int) {
  __asm__ volatile("vpxor %%xmm7, %%xmm7, %%xmm7\n vzeroall\n" ::: "memory");
  int control = 0x1f80 | 0x8000;  // flush to zero
  __asm__ volatile("ldmxcsr %0" ::"m"(control));
}

TEST(rt_sigreturn, VectorStateSurvives) {
  if (!__builtin_cpu_supports("avx")) GTEST_SKIP() << "this processor has no AVX";
  ScopedHandler h(SIGUSR1, ClobberVectors);
  EXPECT_TRUE(AvxSurvives());
}

TEST(rt_sigreturn, FloatingPointControlSurvivesAndHandlerStartsFresh) {
  static unsigned inside_mxcsr;
  ScopedHandler h(SIGUSR1, [](int) {
    __asm__ volatile("stmxcsr %0" : "=m"(inside_mxcsr));
    __asm__ volatile("fldpi\n fldpi\n");
  });
  unsigned round_up = 0x1f80 | 0x4000, old, after;
  __asm__ volatile("stmxcsr %0" : "=m"(old));
  __asm__ volatile("ldmxcsr %0" ::"m"(round_up));
  unsigned short cw = 0x027f, cw_old, cw_after;  // double precision
  __asm__ volatile("fnstcw %0" : "=m"(cw_old));
  __asm__ volatile("fldcw %0" ::"m"(cw));
  long double value = 0;
  __asm__ volatile("fld1\n" ::: "st");
  syscall(SYS_kill, getpid(), SIGUSR1);
  __asm__ volatile("fstpt %0" : "=m"(value)::"st");
  __asm__ volatile("stmxcsr %0" : "=m"(after));
  __asm__ volatile("fnstcw %0" : "=m"(cw_after));
  __asm__ volatile("fldcw %0" ::"m"(cw_old));
  __asm__ volatile("ldmxcsr %0" ::"m"(old));
  EXPECT_EQ(after & 0x6000, 0x4000u);
  EXPECT_EQ(cw_after, cw);
  EXPECT_EQ(value, 1.0L) << "the x87 stack of the interrupted code";
  EXPECT_EQ(inside_mxcsr, 0x1f80u) << "a handler starts with the default control word";
}

TEST(rt_sigreturn, VectorStateSurvivesForkAndThreads) {
  if (!__builtin_cpu_supports("avx")) GTEST_SKIP() << "this processor has no AVX";
  double in[4] = {1, 2, 3, 4}, out[4];
  long r;
  __asm__ volatile(
      "vmovupd %[in], %%ymm9\n"
      "mov $57, %%eax\n syscall\n"
      "vmovupd %%ymm9, %[out]\n"
      : "=a"(r), [out] "=m"(out)
      : [in] "m"(in)
      : "rcx", "r11", "memory", "xmm9");
  if (r == 0) _exit(memcmp(in, out, sizeof in) == 0 ? 0 : 1);
  EXPECT_EQ(memcmp(in, out, sizeof in), 0);
  EXPECT_EQ(WaitFor(static_cast<pid_t>(r)), Exited(0));
}

TEST(rt_sigreturn, TheHandlerMayEditTheContext) {
  struct sigaction sa = {}, old;
  sa.sa_flags = SA_SIGINFO;
  sa.sa_sigaction = [](int, siginfo_t*, void* context) {
    auto* uc = static_cast<ucontext_t*>(context);
    uc->uc_mcontext.gregs[REG_RIP] += 2;  // over the ud2
    uc->uc_mcontext.gregs[REG_RAX] = 4711;
    sigaddset(&uc->uc_sigmask, SIGUSR2);
  };
  ASSERT_OK(sigaction(SIGILL, &sa, &old));
  long rax = 1;
  __asm__ volatile("ud2" : "+a"(rax)::"memory");
  sigaction(SIGILL, &old, nullptr);
  EXPECT_EQ(rax, 4711);
  sigset_t now;
  sigprocmask(SIG_BLOCK, nullptr, &now);
  EXPECT_TRUE(sigismember(&now, SIGUSR2)) << "the mask in the frame takes effect";
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
}

TEST(rt_sigreturn, ContextDescribesTheFault) {
  static greg_t trap, error, cr2, rip, uc_flags;
  static sigjmp_buf env;
  struct sigaction sa = {}, old;
  sa.sa_flags = SA_SIGINFO;
  sa.sa_sigaction = [](int, siginfo_t*, void* context) {
    auto* uc = static_cast<ucontext_t*>(context);
    trap = uc->uc_mcontext.gregs[REG_TRAPNO];
    error = uc->uc_mcontext.gregs[REG_ERR];
    cr2 = uc->uc_mcontext.gregs[REG_CR2];
    rip = uc->uc_mcontext.gregs[REG_RIP];
    uc_flags = static_cast<greg_t>(uc->uc_flags);
    siglongjmp(env, 1);
  };
  ASSERT_OK(sigaction(SIGSEGV, &sa, &old));
  Mapping ro(kPage, PROT_READ);
  (void)*reinterpret_cast<volatile char*>(
      ro.at());  // present, so that the write is a protection fault
  if (sigsetjmp(env, 1) == 0) *reinterpret_cast<volatile char*>(ro.at(5)) = 1;
  sigaction(SIGSEGV, &old, nullptr);
  EXPECT_EQ(trap, 14) << "page fault";
  EXPECT_EQ(error & 6, 6) << "a write, from user mode";
  EXPECT_EQ(cr2, reinterpret_cast<greg_t>(ro.at(5)));
  EXPECT_NE(rip, 0);
  EXPECT_TRUE(uc_flags & 1) << "UC_FP_XSTATE";
}

TEST(rt_sigreturn, RedZoneIsLeftAlone) {
  ScopedHandler h(SIGUSR1, [](int) {
    volatile char frame[512];
    memset(const_cast<char*>(frame), 0xff, sizeof frame);
  });
  uint64_t got;
  long pid = getpid();
  __asm__ volatile(
      "movq $0x1234567, -128(%%rsp)\n movq $0x7654321, -8(%%rsp)\n"
      "mov %[pid], %%rdi\n mov %[sig], %%rsi\n mov $62, %%eax\n syscall\n"
      "mov -128(%%rsp), %[got]\n sub -8(%%rsp), %[got]\n"
      : [got] "=&r"(got)
      : [pid] "r"(pid), [sig] "i"(SIGUSR1)
      : "rax", "rdi", "rsi", "rcx", "r11", "memory", "cc");
  EXPECT_EQ(got, 0x1234567ull - 0x7654321ull);
}

TEST(rt_sigreturn, HandlerStackIsAlignedAndFlagsAreClean) {
  static uintptr_t stack;
  static uint64_t flags;
  ScopedHandler h(SIGUSR1, [](int) {
    __asm__ volatile("pushfq\n popq %0" : "=r"(flags));
    stack = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  });
  __asm__ volatile("std" ::: "cc");  // the direction flag must be clear in the handler
  long r = 62, pid = getpid();
  __asm__ volatile("syscall" : "+a"(r) : "D"(pid), "S"(SIGUSR1) : "rcx", "r11", "memory");
  uint64_t mine;
  __asm__ volatile("pushfq\n popq %0\n cld" : "=r"(mine)::"cc");
  EXPECT_EQ(flags & 0x400, 0u);
  EXPECT_EQ(mine & 0x400, 0x400u) << "and be as it was afterwards";
  EXPECT_EQ(stack % 16, 0u);
}

TEST(rt_sigreturn, NestedHandlers) {
  static std::string trace;
  trace.clear();
  ScopedHandler a(SIGUSR1, [](int) {
    trace += "(1";
    raise(SIGUSR2);
    trace += "1)";
  });
  ScopedHandler b(SIGUSR2, [](int) { trace += "(2)"; });
  raise(SIGUSR1);
  EXPECT_EQ(trace, "(1(2)1)");
}

TEST(rt_sigreturn, GarbageFrameKills) {
  EXPECT_EQ(RunChild([] {
              Mapping m(4 * kPage);
              memset(m.at(), 0xff, m.size());
              __asm__ volatile("mov %0, %%rsp\n mov $15, %%eax\n syscall" ::"r"(m.at(2 * kPage))
                               : "memory");
              return 0;
            }),
            Killed(SIGSEGV));
}

TEST(rt_sigreturn, FrameThatDoesNotFitKills) {
  EXPECT_EQ(
      RunChild([] {
        ScopedHandler h(SIGUSR1, Nothing);
        long pid = getpid();
        __asm__ volatile(
            "mov %1, %%rdi\n mov $10, %%esi\n mov $62, %%eax\n mov %0, %%rsp\n syscall\n" ::"r"(
                BadPointer()),
            "r"(pid)
            : "memory");
        return 0;
      }),
      Killed(SIGSEGV));
}

TEST(sigaltstack, HandlerRunsOnIt) {
  static std::vector<char> stack(65536);
  static bool on_it;
  static stack_t inside;
  stack_t ss = {}, old = {};
  ss.ss_sp = stack.data();
  ss.ss_size = stack.size();
  EXPECT_OK(syscall(SYS_sigaltstack, &ss, &old));
  EXPECT_EQ(old.ss_flags & SS_DISABLE, SS_DISABLE);
  {
    ScopedHandler h(
        SIGUSR1,
        [](int) {
          char here;
          on_it = &here >= stack.data() && &here < stack.data() + stack.size();
          syscall(SYS_sigaltstack, nullptr, &inside);
        },
        SA_ONSTACK);
    raise(SIGUSR1);
    EXPECT_TRUE(on_it);
    EXPECT_EQ(inside.ss_flags, SS_ONSTACK);
  }
  {
    ScopedHandler h(SIGUSR1, [](int) {
      char here;
      on_it = &here >= stack.data() && &here < stack.data() + stack.size();
    });
    raise(SIGUSR1);
    EXPECT_FALSE(on_it) << "without SA_ONSTACK";
  }
  stack_t now = {};
  EXPECT_OK(syscall(SYS_sigaltstack, nullptr, &now));
  EXPECT_EQ(now.ss_sp, stack.data());
  EXPECT_EQ(now.ss_flags, 0);
  ss.ss_flags = SS_DISABLE;
  EXPECT_OK(syscall(SYS_sigaltstack, &ss, nullptr));
}

TEST(sigaltstack, CannotChangeWhileOnIt) {
  static std::vector<char> stack(65536);
  static int error;
  stack_t ss = {};
  ss.ss_sp = stack.data();
  ss.ss_size = stack.size();
  ASSERT_OK(sigaltstack(&ss, nullptr));
  ScopedHandler h(
      SIGUSR1,
      [](int) {
        stack_t other = {};
        other.ss_flags = SS_DISABLE;
        error = sigaltstack(&other, nullptr) == -1 ? errno : 0;
      },
      SA_ONSTACK);
  raise(SIGUSR1);
  EXPECT_EQ(error, EPERM);
  ss.ss_flags = SS_DISABLE;
  ASSERT_OK(sigaltstack(&ss, nullptr));
}

TEST(sigaltstack, AutodisarmAndErrors) {
  static std::vector<char> stack(65536);
  static stack_t inside;
  stack_t ss = {};
  ss.ss_sp = stack.data();
  ss.ss_size = stack.size();
  ss.ss_flags = static_cast<int>(1u << 31);  // SS_AUTODISARM
  ASSERT_OK(syscall(SYS_sigaltstack, &ss, nullptr));
  ScopedHandler h(
      SIGUSR1, [](int) { syscall(SYS_sigaltstack, nullptr, &inside); }, SA_ONSTACK);
  raise(SIGUSR1);
  EXPECT_TRUE(inside.ss_flags & SS_DISABLE) << "disarmed inside the handler";
  stack_t now = {};
  ASSERT_OK(syscall(SYS_sigaltstack, nullptr, &now));
  EXPECT_EQ(now.ss_sp, stack.data()) << "and armed again after it";
  ss.ss_flags = 0x40;
  EXPECT_ERRNO(EINVAL, syscall(SYS_sigaltstack, &ss, nullptr));
  ss.ss_flags = 0;
  ss.ss_size = 100;
  EXPECT_ERRNO(ENOMEM, syscall(SYS_sigaltstack, &ss, nullptr));
  EXPECT_ERRNO(EFAULT, syscall(SYS_sigaltstack, BadPointer(), nullptr));
  EXPECT_ERRNO(EFAULT, syscall(SYS_sigaltstack, nullptr, BadPointer()));
  ss.ss_flags = SS_DISABLE;
  ASSERT_OK(sigaltstack(&ss, nullptr));
}

}  // namespace
}  // namespace uk::test
