// Time namespaces (time_namespaces(7)): clocks that are ahead, by call and by the vDSO.
#include <sys/sysinfo.h>
#include <sys/timerfd.h>
#include <time.h>

#include "tests/syscalls/namespaces/namespaces.h"

namespace uk::test {
namespace {

constexpr int64_t kAhead = 1000000;  // s
constexpr int64_t kSec = 1000000000;

int64_t Now(clockid_t clock) {
  struct timespec t = {};
  CHILD_CHECK(clock_gettime(clock, &t) == 0);
  return t.tv_sec * kSec + t.tv_nsec;
}
int64_t NowByCall(clockid_t clock) {
  struct timespec t = {};
  CHILD_CHECK(syscall(SYS_clock_gettime, clock, &t) == 0);
  return t.tv_sec * kSec + t.tv_nsec;
}
struct timespec At(int64_t ns) {
  return {.tv_sec = ns / kSec, .tv_nsec = ns % kSec};
}

// Both clocks of the children are `kAhead`, CLOCK_BOOTTIME twice that.
void GoAhead() {
  CHILD_CHECK(BecomeMighty());
  CHILD_CHECK(unshare(CLONE_NEWTIME) == 0);
  CHILD_CHECK(Put("/proc/self/timens_offsets", "monotonic " + std::to_string(kAhead) +
                                                   " 0\nboottime " + std::to_string(2 * kAhead) +
                                                   " 0\n"));
}

bool Near(int64_t a, int64_t b) { return a - b < 100 * kSec && b - a < 100 * kSec; }

TEST(clock_gettime, TimeNamespacesAreAhead) {
  COVERS(unshare, fork, sysinfo);
  NEEDS_NAMESPACES();
  IN_CHILD([] {
    const int64_t mono = Now(CLOCK_MONOTONIC);
    const int64_t boot = Now(CLOCK_BOOTTIME);
    const int64_t wall = Now(CLOCK_REALTIME);
    struct sysinfo before;
    CHILD_CHECK(sysinfo(&before) == 0);
    GoAhead();
    CHILD_CHECK(Near(Now(CLOCK_MONOTONIC), mono));  // for the children only
    const pid_t child = Spawn([&] {
      for (clockid_t c : {CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_MONOTONIC_COARSE}) {
        CHILD_CHECK(Near(Now(c), mono + kAhead * kSec));
        CHILD_CHECK(Near(NowByCall(c), mono + kAhead * kSec));
      }
      CHILD_CHECK(Near(Now(CLOCK_BOOTTIME), boot + 2 * kAhead * kSec));
      CHILD_CHECK(Near(NowByCall(CLOCK_BOOTTIME), boot + 2 * kAhead * kSec));
      CHILD_CHECK(Near(Now(CLOCK_REALTIME), wall) && Near(NowByCall(CLOCK_REALTIME), wall));
      struct sysinfo info;
      CHILD_CHECK(sysinfo(&info) == 0 &&
                  Near(info.uptime * kSec, (before.uptime + 2 * kAhead) * kSec));
      const double up = strtod(ReadFile("/proc/uptime").c_str(), nullptr);
      CHILD_CHECK(Near(static_cast<int64_t>(up) * kSec, (before.uptime + 2 * kAhead) * kSec));
      // By the two ways the same, and never back.
      for (int i = 0; i < 100; ++i) {
        const int64_t a = Now(CLOCK_MONOTONIC), b = NowByCall(CLOCK_MONOTONIC);
        CHILD_CHECK(a <= b && b <= Now(CLOCK_MONOTONIC));
      }
    });
    CHILD_CHECK(WaitFor(child) == 0);
  });
}

TEST(execve, EntersTheTimeNamespaceOfTheChildren) {
  COVERS(vfork, unshare);
  NEEDS_NAMESPACES();
  IN_CHILD([] {
    GoAhead();
    const ino_t mine = NsInode("time"), theirs = NsInode("time_for_children");
    CHILD_CHECK(mine != theirs && mine != 0 && theirs != 0);
    const std::string probe =
        "test $(stat -L -c %i /proc/self/ns/time) = " + std::to_string(theirs) +
        " && test $(cut -d. -f1 /proc/uptime) -ge " + std::to_string(2 * kAhead);
    const pid_t child = vfork();
    if (child == 0) {
      execl("/bin/sh", "sh", "-c", probe.c_str(), nullptr);
      _exit(98);
    }
    CHILD_CHECK(WaitFor(child) == 0);
    CHILD_CHECK(NsInode("time") == mine);
    execl("/bin/sh", "sh", "-c", probe.c_str(), nullptr);
    _exit(97);
  });
}

TEST(clock_nanosleep, AbsoluteTimesAreTheNamespaces) {
  COVERS(timer_settime, timer_create, timerfd_settime, timerfd_create, futex);
  NEEDS_NAMESPACES();
  IN_CHILD([] {
    GoAhead();
    const pid_t child = Spawn([] {
      for (clockid_t c : {CLOCK_MONOTONIC, CLOCK_BOOTTIME}) {
        const int64_t end = Now(c) + 20 * 1000 * 1000;
        struct timespec at = At(end);
        CHILD_CHECK(clock_nanosleep(c, TIMER_ABSTIME, &at, nullptr) == 0);
        CHILD_CHECK(Now(c) >= end && Now(c) < end + 60 * kSec);

        Fd timer(timerfd_create(c, TFD_CLOEXEC));
        struct itimerspec spec = {};
        const int64_t due = Now(c) + 20 * 1000 * 1000;
        spec.it_value = At(due);
        CHILD_CHECK(timerfd_settime(timer, TFD_TIMER_ABSTIME, &spec, nullptr) == 0);
        struct itimerspec left = {};
        CHILD_CHECK(timerfd_gettime(timer, &left) == 0 && left.it_value.tv_sec == 0);
        uint64_t ticks = 0;
        CHILD_CHECK(read(timer, &ticks, sizeof ticks) == sizeof ticks && ticks == 1);
        CHILD_CHECK(Now(c) >= due);

        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGALRM);
        CHILD_CHECK(sigprocmask(SIG_BLOCK, &set, nullptr) == 0);
        timer_t posix;
        CHILD_CHECK(timer_create(c, nullptr, &posix) == 0);
        const int64_t rings = Now(c) + 20 * 1000 * 1000;
        spec.it_value = At(rings);
        CHILD_CHECK(timer_settime(posix, TIMER_ABSTIME, &spec, nullptr) == 0);
        int sig = 0;
        CHILD_CHECK(sigwait(&set, &sig) == 0 && Now(c) >= rings);
        CHILD_CHECK(timer_delete(posix) == 0);
      }
      // FUTEX_WAIT_BITSET has an absolute time of CLOCK_MONOTONIC.
      uint32_t word = 0;
      const int64_t end = Now(CLOCK_MONOTONIC) + 20 * 1000 * 1000;
      struct timespec at = At(end);
      CHILD_CHECK(syscall(SYS_futex, &word, 9, 0, &at, nullptr, ~0u) == -1 && errno == ETIMEDOUT);
      CHILD_CHECK(Now(CLOCK_MONOTONIC) >= end);
    });
    CHILD_CHECK(WaitFor(child) == 0);
  });
}

TEST(timens_offsets, AreWrittenBeforeAnybodyIsIn) {
  NEEDS_NAMESPACES();
  IN_CHILD([] {
    const char* file = "/proc/self/timens_offsets";
    CHILD_CHECK(BecomeMighty());
    CHILD_CHECK(ReadFile(file) ==
                "monotonic           0         0\nboottime            0         0\n");
    // The initial one's cannot be changed, by the mighty of another user namespace not even tried.
    if (NsInode("time") == 0xeffffffa) {
      CHILD_CHECK(!Put(file, "monotonic 1 0") && (errno == EACCES || errno == EPERM));
    }
    CHILD_CHECK(unshare(CLONE_NEWTIME) == 0);
    for (const char* bad : {"monotonic", "monotonic 1", "realtime 1 0", "monotonic 1 1000000000",
                            "monotonic x 0", "1 0", "0 1 0", "monotonic 1 0\nboottime 1 0\n1 1 0"})
      CHILD_CHECK(!Put(file, bad) && errno == EINVAL);
    for (const char* bad : {"monotonic -900000000 0", "monotonic 9223372037 0",
                            "boottime 5000000000 0", "boottime -9223372037 0"})
      CHILD_CHECK(!Put(file, bad) && errno == ERANGE);
    CHILD_CHECK(Put(file, "1 10 5"));
    CHILD_CHECK(Put(file, "boottime 20 0\n"));
    CHILD_CHECK(Put(file, "7 21 999999999\nmonotonic 11 6\n"));
    CHILD_CHECK(ReadFile(file) ==
                "monotonic          11         6\nboottime           21 999999999\n");
    CHILD_CHECK(RunChild([&] {
                  CHILD_CHECK(ReadFile(file) ==
                              "monotonic          11         6\nboottime           21 999999999\n");
                  CHILD_CHECK(!Put(file, "monotonic 1 0") && errno == EACCES);
                }) == 0);
    CHILD_CHECK(!Put(file, "monotonic 1 0") && errno == EACCES);
    // The next one begins with them.
    CHILD_CHECK(unshare(CLONE_NEWTIME) == 0);
    CHILD_CHECK(ReadFile(file).starts_with("monotonic          11         6\n"));
    CHILD_CHECK(Put(file, "monotonic -1 999999999"));
    CHILD_CHECK(ReadFile(file).starts_with("monotonic          -1 999999999\n"));
  });
}

TEST(setns, IntoATimeNamespace) {
  COVERS(clone3);
  NEEDS_NAMESPACES();
  IN_CHILD([] {
    const bool root = IsRoot();  // of the namespace of all
    const int64_t mono = Now(CLOCK_MONOTONIC);
    CHILD_CHECK(BecomeMighty());
    Fd old = OpenNs("time");
    CHILD_CHECK(unshare(CLONE_NEWTIME) == 0);
    CHILD_CHECK(Put("/proc/self/timens_offsets", "monotonic " + std::to_string(kAhead) + " 0\n"));
    Fd ahead = OpenNs("time_for_children");
    CHILD_CHECK(syscall(SYS_setns, ahead.get(), CLONE_NEWTIME) == 0);
    CHILD_CHECK(Near(Now(CLOCK_MONOTONIC), mono + kAhead * kSec));
    CHILD_CHECK(Near(NowByCall(CLOCK_MONOTONIC), mono + kAhead * kSec));
    CHILD_CHECK(NsInode("time") == NsInode("time_for_children"));
    if (!root) return;  // the old one is not theirs
    CHILD_CHECK(syscall(SYS_setns, old.get(), 0) == 0);
    CHILD_CHECK(Near(Now(CLOCK_MONOTONIC), mono) && Near(NowByCall(CLOCK_MONOTONIC), mono));
    // clone3 knows the flag, clone has it among the signals.
    const pid_t child = SpawnIn(CLONE_NEWTIME, [&] {
      CHILD_CHECK(Near(Now(CLOCK_MONOTONIC), mono));
      CHILD_CHECK(NsInode("time") == NsInode("time_for_children"));
    });
    CHILD_CHECK(child > 0 && WaitFor(child) == 0);
  });
}

}  // namespace
}  // namespace uk::test
