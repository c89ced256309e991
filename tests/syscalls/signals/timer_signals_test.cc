// Signals raised by time: alarm, interval timers, POSIX timers.
#include <sys/time.h>
#include <time.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

// Waits for the signal, which must be blocked.
siginfo_t Take(int sig) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, sig);
  siginfo_t info = {};
  EXPECT_EQ(sigwaitinfo(&set, &info), sig);
  return info;
}

// Blocks a timer's signal, and takes what the timer sends after the last Take(), lest it arrive
// when the signal is unblocked. The timer must be disarmed before this ends.
class TimerSignal {
 public:
  explicit TimerSignal(int sig) : sig_(sig), block_({sig}) {}
  ~TimerSignal() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, sig_);
    timespec zero = {};
    while (sigtimedwait(&set, nullptr, &zero) > 0) {
    }
  }

 private:
  int sig_;
  ScopedBlock block_;
};

TEST(alarm, ReportsTheRestAndFires) {
  TimerSignal block(SIGALRM);
  EXPECT_EQ(syscall(SYS_alarm, 100), 0);
  long rest = syscall(SYS_alarm, 1);
  EXPECT_TRUE(rest == 99 || rest == 100) << rest;
  siginfo_t info = Take(SIGALRM);
  EXPECT_EQ(info.si_code, SI_KERNEL);
  EXPECT_EQ(syscall(SYS_alarm, 0), 0) << "it has fired";
}

TEST(alarm, SurvivesExecAndNotFork) {
  pid_t child = Spawn([] {
    alarm(1);
    CHILD_CHECK(RunChild([] { return alarm(0) == 0 ? 0 : 1; }) == 0);
    execl("/bin/sh", "sh", "-c", "read x </dev/zero; while :; do :; done", nullptr);
    return 99;
  });
  EXPECT_EQ(WaitFor(child), Killed(SIGALRM));
}

TEST(setitimer, RepeatsAndReadsBack) {
  COVERS(getitimer);
  TimerSignal block(SIGALRM);
  itimerval set = {{0, 3000}, {0, 5000}}, now = {}, old = {};
  EXPECT_OK(syscall(SYS_setitimer, ITIMER_REAL, &set, nullptr));
  EXPECT_OK(syscall(SYS_getitimer, ITIMER_REAL, &now));
  EXPECT_EQ(now.it_interval.tv_usec, 3000);
  EXPECT_LE(now.it_value.tv_usec, 5000);
  for (int i = 0; i < 3; i++) Take(SIGALRM);
  itimerval zero = {};
  EXPECT_OK(syscall(SYS_setitimer, ITIMER_REAL, &zero, &old));
  EXPECT_EQ(old.it_interval.tv_usec, 3000);
  EXPECT_OK(syscall(SYS_getitimer, ITIMER_REAL, &now));
  EXPECT_EQ(now.it_value.tv_sec + now.it_value.tv_usec, 0);
}

TEST(setitimer, Errors) {
  itimerval set = {};
  EXPECT_ERRNO(EINVAL, syscall(SYS_setitimer, 99, &set, nullptr));
  EXPECT_ERRNO(EINVAL, syscall(SYS_getitimer, 99, &set));
  EXPECT_ERRNO(EFAULT, syscall(SYS_setitimer, ITIMER_REAL, BadPointer(), nullptr));
  EXPECT_ERRNO(EFAULT, syscall(SYS_getitimer, ITIMER_REAL, BadPointer()));
  set.it_value.tv_usec = 1000000;
  EXPECT_ERRNO(EINVAL, syscall(SYS_setitimer, ITIMER_REAL, &set, nullptr));
}

TEST(setitimer, CpuTimeTimersInterruptASpin) {
  for (auto [which, sig] :
       {std::pair{ITIMER_VIRTUAL, SIGVTALRM}, std::pair{ITIMER_PROF, SIGPROF}}) {
    static volatile sig_atomic_t count;
    count = 0;
    ScopedHandler h(sig, [](int) { count = count + 1; });
    itimerval set = {{0, 10000}, {0, 10000}}, zero = {};
    ASSERT_OK(setitimer(which, &set, nullptr));
    while (count < 3) {
    }
    ASSERT_OK(setitimer(which, &zero, nullptr));
  }
}

TEST(setitimer, RealTimerInterruptsASpinningProgram) {
  static volatile sig_atomic_t fired;
  fired = 0;
  ScopedHandler h(SIGALRM, [](int) { fired = 1; });
  itimerval set = {{0, 0}, {0, 10000}};
  ASSERT_OK(setitimer(ITIMER_REAL, &set, nullptr));
  while (!fired) {
  }
}

TEST(timer_create, SignalCarriesTheValue) {
  COVERS(timer_settime, timer_gettime, timer_delete);
  TimerSignal block(SIGRTMIN + 2);
  sigevent ev = {};
  ev.sigev_notify = SIGEV_SIGNAL;
  ev.sigev_signo = SIGRTMIN + 2;
  ev.sigev_value.sival_int = 31337;
  int id = -1;
  ASSERT_OK(syscall(SYS_timer_create, CLOCK_MONOTONIC, &ev, &id));
  itimerspec set = {{0, 0}, {0, 2000000}}, now = {};
  EXPECT_OK(syscall(SYS_timer_settime, id, 0, &set, nullptr));
  siginfo_t info = Take(SIGRTMIN + 2);
  EXPECT_EQ(info.si_code, SI_TIMER);
  EXPECT_EQ(info.si_value.sival_int, 31337);
  EXPECT_EQ(info.si_timerid, id);
  EXPECT_OK(syscall(SYS_timer_gettime, id, &now));
  EXPECT_EQ(now.it_value.tv_sec + now.it_value.tv_nsec, 0) << "one shot";
  EXPECT_OK(syscall(SYS_timer_delete, id));
  EXPECT_ERRNO(EINVAL, syscall(SYS_timer_delete, id));
  EXPECT_ERRNO(EINVAL, syscall(SYS_timer_gettime, id, &now));
}

TEST(timer_settime, AbsoluteAndDisarm) {
  TimerSignal block(SIGALRM);
  int id;
  ASSERT_OK(syscall(SYS_timer_create, CLOCK_MONOTONIC, nullptr, &id));
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  itimerspec set = {{1, 0}, {t.tv_sec + 100, 0}}, old = {};
  EXPECT_OK(syscall(SYS_timer_settime, id, TIMER_ABSTIME, &set, nullptr));
  itimerspec off = {};
  EXPECT_OK(syscall(SYS_timer_settime, id, 0, &off, &old));
  EXPECT_GT(old.it_value.tv_sec, 90);
  EXPECT_LE(old.it_value.tv_sec, 100);
  EXPECT_EQ(old.it_interval.tv_sec, 1);
  set = {{0, 0}, {0, 1}};  // the system may have been up for less than a second
  EXPECT_OK(syscall(SYS_timer_settime, id, TIMER_ABSTIME, &set, nullptr));
  siginfo_t info = Take(SIGALRM);  // in the past: at once
  EXPECT_EQ(info.si_code, SI_TIMER);
  EXPECT_OK(syscall(SYS_timer_delete, id));
}

TEST(timer_getoverrun, CountsMissedExpirations) {
  TimerSignal block(SIGUSR1);
  sigevent ev = {};
  ev.sigev_notify = SIGEV_SIGNAL;
  ev.sigev_signo = SIGUSR1;
  int id;
  ASSERT_OK(syscall(SYS_timer_create, CLOCK_MONOTONIC, &ev, &id));
  itimerspec set = {{0, 1000000}, {0, 1000000}};
  ASSERT_OK(syscall(SYS_timer_settime, id, 0, &set, nullptr));
  timespec ts = {0, 20000000};
  nanosleep(&ts, nullptr);  // this much time passing is the subject
  siginfo_t info = Take(SIGUSR1);
  EXPECT_GE(info.si_overrun, 5);
  EXPECT_EQ(syscall(SYS_timer_getoverrun, id), info.si_overrun);
  EXPECT_OK(syscall(SYS_timer_delete, id));
  EXPECT_ERRNO(EINVAL, syscall(SYS_timer_getoverrun, id));
}

TEST(timer_create, ThreadAndNoneNotifications) {
  TimerSignal block(SIGUSR2);
  sigevent ev = {};
  ev.sigev_notify = SIGEV_NONE;
  int none, thread;
  ASSERT_OK(syscall(SYS_timer_create, CLOCK_REALTIME, &ev, &none));
  ev.sigev_notify = SIGEV_THREAD_ID;
  ev.sigev_signo = SIGUSR2;
  ev._sigev_un._tid = gettid();
  ASSERT_OK(syscall(SYS_timer_create, CLOCK_MONOTONIC, &ev, &thread));
  itimerspec set = {{0, 0}, {0, 1000000}};
  ASSERT_OK(syscall(SYS_timer_settime, thread, 0, &set, nullptr));
  Take(SIGUSR2);
  ASSERT_OK(syscall(SYS_timer_settime, none, 0, &set, nullptr));
  itimerspec now;
  do {
    ASSERT_OK(syscall(SYS_timer_gettime, none, &now));
  } while (now.it_value.tv_nsec != 0);
  EXPECT_OK(syscall(SYS_timer_delete, none));
  EXPECT_OK(syscall(SYS_timer_delete, thread));
}

TEST(timer_create, Errors) {
  int id;
  sigevent ev = {};
  EXPECT_ERRNO(EINVAL, syscall(SYS_timer_create, 99, nullptr, &id));
  ev.sigev_signo = 99;
  EXPECT_ERRNO(EINVAL, syscall(SYS_timer_create, CLOCK_MONOTONIC, &ev, &id));
  ev.sigev_signo = SIGUSR1;
  ev.sigev_notify = 77;
  EXPECT_ERRNO(EINVAL, syscall(SYS_timer_create, CLOCK_MONOTONIC, &ev, &id));
  EXPECT_ERRNO(EFAULT, syscall(SYS_timer_create, CLOCK_MONOTONIC, nullptr, BadPointer()));
  EXPECT_ERRNO(EFAULT, syscall(SYS_timer_create, CLOCK_MONOTONIC, BadPointer(), &id));
  itimerspec set = {};
  EXPECT_ERRNO(EINVAL, syscall(SYS_timer_settime, 12345, 0, &set, nullptr));
  ASSERT_OK(syscall(SYS_timer_create, CLOCK_MONOTONIC, nullptr, &id));
  set.it_value.tv_nsec = 1000000000;
  EXPECT_ERRNO(EINVAL, syscall(SYS_timer_settime, id, 0, &set, nullptr));
  EXPECT_ERRNO(EINVAL, syscall(SYS_timer_settime, id, 0, nullptr, nullptr));
  EXPECT_OK(syscall(SYS_timer_delete, id));
  // Not inherited by a child.
  ASSERT_OK(syscall(SYS_timer_create, CLOCK_MONOTONIC, nullptr, &id));
  IN_CHILD([&] {
    itimerspec now;
    CHILD_CHECK(syscall(SYS_timer_gettime, id, &now) == -1);
  });
  EXPECT_OK(syscall(SYS_timer_delete, id));
}

}  // namespace
}  // namespace uk::test
