// Clocks and sleeping, by system call and through the vDSO; times and getrusage.
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/timex.h>
#include <time.h>

#include <thread>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

int64_t Ns(const timespec& t) { return t.tv_sec * 1000000000ll + t.tv_nsec; }

int64_t Read(clockid_t clock) {
  timespec t = {};
  EXPECT_OK(syscall(SYS_clock_gettime, clock, &t)) << clock;
  EXPECT_GE(t.tv_nsec, 0);
  EXPECT_LT(t.tv_nsec, 1000000000);
  return Ns(t);
}

TEST(clock_gettime, AllClocksAdvance) {
  for (clockid_t clock :
       {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME, CLOCK_TAI}) {
    int64_t before = Read(clock), after;
    while ((after = Read(clock)) == before) {
    }
    EXPECT_GT(after, before) << clock;
  }
  EXPECT_GT(Read(CLOCK_REALTIME), 1600000000ll * 1000000000ll);
  EXPECT_GE(Read(CLOCK_BOOTTIME), Read(CLOCK_MONOTONIC) - 1000000000);
  for (clockid_t clock : {CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE}) {
    int64_t fine = Read(clock == CLOCK_REALTIME_COARSE ? CLOCK_REALTIME : CLOCK_MONOTONIC);
    EXPECT_LT(std::abs(Read(clock) - fine), 100000000) << clock;
  }
}

TEST(clock_gettime, VdsoAndSystemCallAgree) {
  for (clockid_t clock : {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME}) {
    for (int i = 0; i < 1000; i++) {
      timespec fast;
      int64_t before = Read(clock);
      ASSERT_OK(clock_gettime(clock, &fast));
      int64_t after = Read(clock);
      ASSERT_LE(before, Ns(fast)) << clock;
      ASSERT_LE(Ns(fast), after) << clock;
    }
  }
}

TEST(clock_gettime, CpuClocksCountWork) {
  int64_t process = Read(CLOCK_PROCESS_CPUTIME_ID), thread = Read(CLOCK_THREAD_CPUTIME_ID);
  while (Read(CLOCK_THREAD_CPUTIME_ID) < thread + 20000000) {
  }
  EXPECT_GE(Read(CLOCK_PROCESS_CPUTIME_ID), process + 15000000);
  std::thread([&] { EXPECT_LT(Read(CLOCK_THREAD_CPUTIME_ID), 20000000); }).join();
  clockid_t other;
  ASSERT_EQ(clock_getcpuclockid(getpid(), &other), 0);
  EXPECT_GE(Read(other), process);
}

TEST(clock_gettime, SleepingCostsNoCpuTime) {
  int64_t before = Read(CLOCK_PROCESS_CPUTIME_ID);
  timespec ts = {0, 50000000};
  nanosleep(&ts, nullptr);
  EXPECT_LT(Read(CLOCK_PROCESS_CPUTIME_ID) - before, 40000000);
}

TEST(clock_gettime, Errors) {
  timespec t;
  EXPECT_ERRNO(EINVAL, syscall(SYS_clock_gettime, 99, &t));
  EXPECT_ERRNO(EFAULT, syscall(SYS_clock_gettime, CLOCK_MONOTONIC, BadPointer()));
}

TEST(clock_getres, FineClocksHaveNanoseconds) {
  timespec t = {};
  EXPECT_OK(syscall(SYS_clock_getres, CLOCK_MONOTONIC, &t));
  EXPECT_EQ(Ns(t), 1);
  EXPECT_OK(syscall(SYS_clock_getres, CLOCK_REALTIME_COARSE, &t));
  EXPECT_GE(Ns(t), 1000000);
  EXPECT_OK(syscall(SYS_clock_getres, CLOCK_MONOTONIC, nullptr));
  EXPECT_ERRNO(EINVAL, syscall(SYS_clock_getres, 99, &t));
}

TEST(clock_settime, IsPrivileged) {
  COVERS(settimeofday, clock_adjtime);
  timespec t = {-1, 0};
  EXPECT_ERRNO(EINVAL, syscall(SYS_clock_settime, CLOCK_MONOTONIC, &t));
  if (!IsRoot()) {
    clock_gettime(CLOCK_REALTIME, &t);
    EXPECT_ERRNO(EPERM, syscall(SYS_clock_settime, CLOCK_REALTIME, &t));
    timeval tv = {t.tv_sec, 0};
    EXPECT_ERRNO(EPERM, syscall(SYS_settimeofday, &tv, nullptr));
    timex tx = {};
    tx.modes = ADJ_TICK;
    EXPECT_ERRNO(EPERM, syscall(SYS_clock_adjtime, CLOCK_REALTIME, &tx));
  }
  t = {0, 2000000000};
  EXPECT_ERRNO(EINVAL, syscall(SYS_clock_settime, CLOCK_REALTIME, &t));
  EXPECT_ERRNO(EFAULT, syscall(SYS_clock_settime, CLOCK_REALTIME, BadPointer()));
  EXPECT_ERRNO(EFAULT, syscall(SYS_settimeofday, BadPointer(), nullptr));
  timeval wrong = {0, 1000001};
  EXPECT_ERRNO(EINVAL, syscall(SYS_settimeofday, &wrong, nullptr));
}

TEST(adjtimex, ReadingIsFree) {
  timex tx = {};
  long state = syscall(SYS_adjtimex, &tx);
  EXPECT_GE(state, 0);
  EXPECT_GT(tx.tick, 0);
  EXPECT_ERRNO(EFAULT, syscall(SYS_adjtimex, BadPointer()));
  EXPECT_EQ(syscall(SYS_clock_adjtime, CLOCK_REALTIME, &tx), state);
  EXPECT_ERRNO(EOPNOTSUPP, syscall(SYS_clock_adjtime, CLOCK_MONOTONIC, &tx));
  EXPECT_ERRNO(EINVAL, syscall(SYS_clock_adjtime, 99, &tx));
}

TEST(gettimeofday, AgreesWithTheClock) {
  COVERS(time);
  timeval tv = {};
  int64_t before = Read(CLOCK_REALTIME);
  EXPECT_OK(syscall(SYS_gettimeofday, &tv, nullptr));
  int64_t now = tv.tv_sec * 1000000000ll + tv.tv_usec * 1000ll;
  EXPECT_GE(now, before - 1000);
  EXPECT_LE(now, Read(CLOCK_REALTIME));
  time_t t = 0;
  long r = syscall(SYS_time, &t);
  EXPECT_EQ(r, t);
  EXPECT_LE(std::abs(t - tv.tv_sec), 1);
  EXPECT_ERRNO(EFAULT, syscall(SYS_gettimeofday, BadPointer(), nullptr));
  EXPECT_ERRNO(EFAULT, syscall(SYS_time, BadPointer()));
}

TEST(nanosleep, SleepsAtLeastThatLong) {
  timespec ts = {0, 5000000};
  int64_t start = MonotonicNs();
  EXPECT_OK(syscall(SYS_nanosleep, &ts, nullptr));
  EXPECT_GE(MonotonicNs() - start, 5000000);
  ts = {0, 0};
  EXPECT_OK(syscall(SYS_nanosleep, &ts, nullptr));
  ts = {0, 1000000000};
  EXPECT_ERRNO(EINVAL, syscall(SYS_nanosleep, &ts, nullptr));
  ts = {-1, 0};
  EXPECT_ERRNO(EINVAL, syscall(SYS_nanosleep, &ts, nullptr));
  EXPECT_ERRNO(EFAULT, syscall(SYS_nanosleep, BadPointer(), nullptr));
}

TEST(clock_nanosleep, AbsoluteAndErrors) {
  timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  int64_t until = Ns(ts) + 5000000;
  ts = {until / 1000000000, until % 1000000000};
  EXPECT_OK(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, nullptr));
  EXPECT_GE(MonotonicNs(), until);
  ts = {1, 0};
  EXPECT_OK(syscall(SYS_clock_nanosleep, CLOCK_REALTIME, TIMER_ABSTIME, &ts, nullptr))
      << "the past is over at once";
  EXPECT_ERRNO(EINVAL, syscall(SYS_clock_nanosleep, 99, 0, &ts, nullptr));
  EXPECT_ERRNO(EOPNOTSUPP, syscall(SYS_clock_nanosleep, CLOCK_THREAD_CPUTIME_ID, 0, &ts, nullptr));
  ts.tv_nsec = -1;
  EXPECT_ERRNO(EINVAL, syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &ts, nullptr));
  EXPECT_ERRNO(EFAULT, syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, BadPointer(), nullptr));
}

TEST(nanosleep, ManySleepersEachWakeAfterTheirTime) {
  std::vector<std::thread> threads;
  int64_t start = MonotonicNs();
  for (int i = 0; i < 8; i++) {
    threads.emplace_back([&, i] {
      int64_t until = start + 5000000 + (7 - i) * 5000000;
      timespec ts = {until / 1000000000, until % 1000000000};
      EXPECT_OK(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, nullptr));
      EXPECT_GE(MonotonicNs(), until);
    });
  }
  for (auto& t : threads) t.join();
}

TEST(times, TicksOfSelfAndChildren) {
  tms before = {}, after = {};
  long start = syscall(SYS_times, &before);
  EXPECT_GT(start, 0);
  IN_CHILD([&] {
    int64_t limit = Read(CLOCK_PROCESS_CPUTIME_ID) + 40000000;
    while (Read(CLOCK_PROCESS_CPUTIME_ID) < limit) {
    }
  });
  long end = syscall(SYS_times, &after);
  EXPECT_GE(end, start + 3) << "a hundred ticks a second";
  EXPECT_GT(after.tms_cutime + after.tms_cstime, before.tms_cutime + before.tms_cstime);
  EXPECT_GE(after.tms_utime, before.tms_utime);
  EXPECT_ERRNO(EFAULT, syscall(SYS_times, BadPointer()));
}

TEST(getrusage, CountsTimeAndMemory) {
  rusage self = {}, children = {}, thread = {};
  EXPECT_OK(syscall(SYS_getrusage, RUSAGE_SELF, &self));
  EXPECT_GT(self.ru_maxrss, 100);
  EXPECT_OK(syscall(SYS_getrusage, RUSAGE_CHILDREN, &children));
  EXPECT_OK(syscall(SYS_getrusage, RUSAGE_THREAD, &thread));
  auto total = [](const rusage& r) {
    return (r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000 + r.ru_utime.tv_usec +
           r.ru_stime.tv_usec;
  };
  EXPECT_LE(total(thread), total(self) + 20000);
  IN_CHILD([&] {
    int64_t limit = Read(CLOCK_PROCESS_CPUTIME_ID) + 30000000;
    while (Read(CLOCK_PROCESS_CPUTIME_ID) < limit) {
    }
    rusage mine;
    CHILD_CHECK(getrusage(RUSAGE_CHILDREN, &mine) == 0 && total(mine) == 0);
  });
  rusage now = {};
  EXPECT_OK(getrusage(RUSAGE_CHILDREN, &now));
  EXPECT_GE(total(now), total(children) + 15000);
  EXPECT_ERRNO(EINVAL, syscall(SYS_getrusage, 99, &self));
  EXPECT_ERRNO(EFAULT, syscall(SYS_getrusage, RUSAGE_SELF, BadPointer()));
}

}  // namespace
}  // namespace uk::test
