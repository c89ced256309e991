/* The vDSO (vdso(7)): time without a system call. Runs in the guest; it has nothing but the page
   before it, and makes the ordinary system call whenever that page does not help. */
#include <stddef.h>
#include <sys/syscall.h>

#include "ukernel/vdso/vdso_page.h"

#define VISIBLE __attribute__((visibility("default")))

enum {
  kRealtime = 0,
  kMonotonic = 1,
  kMonotonicRaw = 4,
  kRealtimeCoarse = 5,
  kMonotonicCoarse = 6,
  kBoottime = 7,
};
#define NS_PER_SEC 1000000000ull
#define COARSE_NS 4000000

struct timespec64 {
  int64_t sec, nsec;
};
struct timeval64 {
  int64_t sec, usec;
};
struct timezone32 {
  int32_t minutes_west, dst_time;
};

extern const volatile struct VdsoPage vdso_page __attribute__((visibility("hidden")));

static long syscall2(long nr, long a, long b) {
  long r;
  __asm__ volatile("syscall" : "=a"(r) : "0"(nr), "D"(a), "S"(b) : "rcx", "r11", "memory");
  return r;
}

static uint64_t read_tsc(void) {
  uint32_t lo, hi;
  __asm__ volatile("lfence\n\trdtsc" : "=a"(lo), "=d"(hi) : : "memory");
  return (uint64_t)hi << 32 | lo;
}

/* ns of a clock; 0: the page cannot tell (no clock of ours is ever 0). */
static inline uint64_t now_ns(int realtime) {
  for (;;) {
    uint32_t seq = vdso_page.seq;
    if (seq & 1) {
      __asm__ volatile("pause");
      continue;
    }
    __asm__ volatile("" : : : "memory");
    uint32_t usable = vdso_page.usable;
    uint64_t base_tsc = vdso_page.tsc, mult = vdso_page.mult;
    uint32_t shift = vdso_page.shift;
    uint64_t ns = realtime ? vdso_page.realtime_ns : vdso_page.monotonic_ns;
    uint64_t tsc = read_tsc();
    __asm__ volatile("" : : : "memory");
    if (vdso_page.seq != seq) continue;
    if (!usable) return 0;
    if (tsc > base_tsc) ns += (uint64_t)((unsigned __int128)(tsc - base_tsc) * mult >> shift);
    return ns;
  }
}

VISIBLE int __vdso_clock_gettime(int clock, struct timespec64* ts) {
  uint64_t ns = 0;
  switch (clock) {
    case kRealtime:
    case kRealtimeCoarse:
      ns = now_ns(1);
      break;
    case kMonotonic:
    case kMonotonicRaw:
    case kMonotonicCoarse:
    case kBoottime:
      ns = now_ns(0);
      break;
  }
  if (ns == 0) return (int)syscall2(SYS_clock_gettime, clock, (long)ts);
  ts->sec = (int64_t)(ns / NS_PER_SEC);
  ts->nsec = (int64_t)(ns % NS_PER_SEC);
  return 0;
}

VISIBLE int __vdso_gettimeofday(struct timeval64* tv, struct timezone32* tz) {
  uint64_t ns = now_ns(1);
  if (ns == 0) return (int)syscall2(SYS_gettimeofday, (long)tv, (long)tz);
  if (tv != NULL) {
    tv->sec = (int64_t)(ns / NS_PER_SEC);
    tv->usec = (int64_t)(ns % NS_PER_SEC / 1000);
  }
  if (tz != NULL) tz->minutes_west = tz->dst_time = 0;
  return 0;
}

VISIBLE long __vdso_time(long* t) {
  uint64_t ns = now_ns(1);
  if (ns == 0) return syscall2(SYS_time, (long)t, 0);
  long sec = (long)(ns / NS_PER_SEC);
  if (t != NULL) *t = sec;
  return sec;
}

VISIBLE int __vdso_clock_getres(int clock, struct timespec64* ts) {
  int64_t ns;
  switch (clock) {
    case kRealtime:
    case kMonotonic:
    case kMonotonicRaw:
    case kBoottime:
      ns = 1;
      break;
    case kRealtimeCoarse:
    case kMonotonicCoarse:
      ns = COARSE_NS;
      break;
    default:
      return (int)syscall2(SYS_clock_getres, clock, (long)ts);
  }
  if (ts != NULL) {
    ts->sec = 0;
    ts->nsec = ns;
  }
  return 0;
}

VISIBLE int __vdso_getcpu(unsigned* cpu, unsigned* node, void* unused) {
  (void)unused;
  if (vdso_page.cpus != 1) return (int)syscall2(SYS_getcpu, (long)cpu, (long)node);
  if (cpu != NULL) *cpu = 0;
  if (node != NULL) *node = 0;
  return 0;
}

/* rt_sigreturn(2) as a restorer. */
__asm__(
    ".globl __kernel_rt_sigreturn\n"
    ".type __kernel_rt_sigreturn, @function\n"
    ".balign 16\n"
    "nop\n"
    "__kernel_rt_sigreturn:\n"
    "mov $15, %eax\n"
    "syscall\n"
    ".size __kernel_rt_sigreturn, . - __kernel_rt_sigreturn\n");

#define ALIAS(name, of) \
  extern __typeof__(of) name __attribute__((weak, alias(#of), visibility("default")))
ALIAS(clock_gettime, __vdso_clock_gettime);
ALIAS(gettimeofday, __vdso_gettimeofday);
ALIAS(time, __vdso_time);
ALIAS(clock_getres, __vdso_clock_getres);
ALIAS(getcpu, __vdso_getcpu);
