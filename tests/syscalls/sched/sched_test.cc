// Scheduling policies, priorities, affinity, getcpu, I/O priority.
#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

TEST(sched_yield, Returns) { EXPECT_EQ(syscall(SYS_sched_yield), 0); }

TEST(sched_setscheduler, PoliciesForEveryone) {
  COVERS(sched_getscheduler, sched_getparam, sched_setparam);
  IN_CHILD([&] {
    sched_param p = {};
    CHILD_CHECK(syscall(SYS_sched_getscheduler, 0) == SCHED_OTHER);
    CHILD_CHECK(syscall(SYS_sched_setscheduler, 0, SCHED_BATCH, &p) == 0);
    CHILD_CHECK(syscall(SYS_sched_getscheduler, 0) == SCHED_BATCH);
    CHILD_CHECK(syscall(SYS_sched_setscheduler, 0, SCHED_IDLE, &p) == 0);
    CHILD_CHECK(syscall(SYS_sched_getparam, 0, &p) == 0 && p.sched_priority == 0);
    CHILD_CHECK(syscall(SYS_sched_setparam, 0, &p) == 0);
    p.sched_priority = 5;
    CHILD_CHECK(syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, &p) == -1 && errno == EINVAL);
    CHILD_CHECK(syscall(SYS_sched_setparam, 0, &p) == -1 && errno == EINVAL);
  });
  sched_param p = {};
  EXPECT_ERRNO(EINVAL, syscall(SYS_sched_setscheduler, 0, 99, &p));
  EXPECT_ERRNO(ESRCH, syscall(SYS_sched_setscheduler, 0x3fffffff, SCHED_OTHER, &p));
  EXPECT_ERRNO(ESRCH, syscall(SYS_sched_getscheduler, 0x3fffffff));
  EXPECT_ERRNO(EINVAL, syscall(SYS_sched_getscheduler, -1));
  EXPECT_ERRNO(EFAULT, syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, BadPointer()));
  EXPECT_ERRNO(EINVAL, syscall(SYS_sched_getparam, 0, nullptr));
}

TEST(sched_setscheduler, RealtimeIsPrivileged) {
  IN_CHILD([&] {
    rlimit none = {0, 0};
    CHILD_CHECK(setrlimit(RLIMIT_RTPRIO, &none) == 0);
    if (IsRoot()) CHILD_CHECK(setresuid(12345, 12345, 12345) == 0);
    sched_param p = {};
    p.sched_priority = 10;
    CHILD_CHECK(syscall(SYS_sched_setscheduler, 0, SCHED_FIFO, &p) == -1 && errno == EPERM);
  });
}

TEST(sched_get_priority_max, RangePerPolicy) {
  COVERS(sched_get_priority_min, sched_rr_get_interval);
  EXPECT_EQ(syscall(SYS_sched_get_priority_max, SCHED_FIFO), 99);
  EXPECT_EQ(syscall(SYS_sched_get_priority_min, SCHED_RR), 1);
  EXPECT_EQ(syscall(SYS_sched_get_priority_max, SCHED_OTHER), 0);
  EXPECT_EQ(syscall(SYS_sched_get_priority_min, SCHED_IDLE), 0);
  EXPECT_ERRNO(EINVAL, syscall(SYS_sched_get_priority_max, 99));
  EXPECT_ERRNO(EINVAL, syscall(SYS_sched_get_priority_min, -1));
  timespec ts = {-1, -1};
  EXPECT_OK(syscall(SYS_sched_rr_get_interval, 0, &ts));
  EXPECT_GE(ts.tv_nsec, 0);
  EXPECT_ERRNO(EINVAL, syscall(SYS_sched_rr_get_interval, -1, &ts));
  EXPECT_ERRNO(ESRCH, syscall(SYS_sched_rr_get_interval, 0x3fffffff, &ts));
  EXPECT_ERRNO(EFAULT, syscall(SYS_sched_rr_get_interval, 0, BadPointer()));
}

TEST(sched_getaffinity, AtLeastOneProcessor) {
  COVERS(sched_setaffinity);
  unsigned long mask[16] = {};
  long n = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
  ASSERT_GT(n, 0);
  EXPECT_EQ(n % 8, 0);
  cpu_set_t set;
  ASSERT_OK(sched_getaffinity(0, sizeof set, &set));
  ASSERT_GE(CPU_COUNT(&set), 1);
  EXPECT_ERRNO(EINVAL, syscall(SYS_sched_getaffinity, 0, 0l, mask));
  EXPECT_ERRNO(EINVAL, syscall(SYS_sched_getaffinity, 0, 3l, mask));
  EXPECT_ERRNO(ESRCH, syscall(SYS_sched_getaffinity, 0x3fffffff, sizeof mask, mask));
  EXPECT_ERRNO(ESRCH, syscall(SYS_sched_getaffinity, -1, sizeof mask, mask));
  EXPECT_ERRNO(ESRCH, syscall(SYS_sched_setaffinity, -1, sizeof mask, mask));
  EXPECT_ERRNO(EFAULT, syscall(SYS_sched_getaffinity, 0, sizeof mask, BadPointer()));
  // Pinned to each allowed processor in turn, that is where the thread runs.
  IN_CHILD([&] {
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
      if (!CPU_ISSET(cpu, &set)) continue;
      cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(cpu, &one);
      CHILD_CHECK(syscall(SYS_sched_setaffinity, 0, sizeof one, &one) == 0);
      unsigned at = ~0u;
      CHILD_CHECK(syscall(SYS_getcpu, &at, nullptr, nullptr) == 0);
      CHILD_CHECK(static_cast<int>(at) == cpu);
      cpu_set_t back;
      CHILD_CHECK(sched_getaffinity(0, sizeof back, &back) == 0);
      CHILD_CHECK(CPU_EQUAL(&one, &back));
      CHILD_CHECK(RunChild([&] {
                    cpu_set_t inherited;
                    sched_getaffinity(0, sizeof inherited, &inherited);
                    return CPU_EQUAL(&one, &inherited) ? 0 : 1;
                  }) == 0);
    }
  });
  cpu_set_t none;
  CPU_ZERO(&none);
  EXPECT_ERRNO(EINVAL, syscall(SYS_sched_setaffinity, 0, sizeof none, &none));
  EXPECT_ERRNO(ESRCH, syscall(SYS_sched_setaffinity, 0x3fffffff, sizeof set, &set));
  EXPECT_ERRNO(EFAULT, syscall(SYS_sched_setaffinity, 0, sizeof set, BadPointer()));
}

TEST(getcpu, NamesAnAllowedProcessor) {
  unsigned cpu = ~0u, node = ~0u;
  EXPECT_OK(syscall(SYS_getcpu, &cpu, &node, nullptr));
  cpu_set_t set;
  ASSERT_OK(sched_getaffinity(0, sizeof set, &set));
  EXPECT_TRUE(CPU_ISSET(cpu, &set));
  EXPECT_EQ(node, 0u);
  EXPECT_OK(syscall(SYS_getcpu, nullptr, nullptr, nullptr));
  EXPECT_ERRNO(EFAULT, syscall(SYS_getcpu, BadPointer(), nullptr, nullptr));
  EXPECT_TRUE(CPU_ISSET(sched_getcpu(), &set)) << "through the vDSO or rseq";
}

TEST(setpriority, NiceValues) {
  COVERS(getpriority);
  IN_CHILD([&] {
    long now = 20 - syscall(SYS_getpriority, PRIO_PROCESS, 0);
    CHILD_CHECK(syscall(SYS_setpriority, PRIO_PROCESS, 0, now + 3) == 0);
    CHILD_CHECK(20 - syscall(SYS_getpriority, PRIO_PROCESS, 0) == now + 3);
    CHILD_CHECK(RunChild([&] {
                  return 20 - syscall(SYS_getpriority, PRIO_PROCESS, 0) == now + 3 ? 0 : 1;
                }) == 0);
    CHILD_CHECK(syscall(SYS_setpriority, PRIO_PROCESS, 0, 100) == 0);
    CHILD_CHECK(syscall(SYS_getpriority, PRIO_PROCESS, 0) == 1);
    rlimit lim = {0, 0};
    CHILD_CHECK(setrlimit(RLIMIT_NICE, &lim) == 0);
    if (IsRoot()) CHILD_CHECK(setresuid(12345, 12345, 12345) == 0);
    CHILD_CHECK(syscall(SYS_setpriority, PRIO_PROCESS, 0, 0) == -1 && errno == EACCES);
  });
  EXPECT_ERRNO(EINVAL, syscall(SYS_getpriority, 99, 0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_setpriority, 99, 0, 0));
  EXPECT_ERRNO(ESRCH, syscall(SYS_getpriority, PRIO_PROCESS, 0x3fffffff));
  EXPECT_ERRNO(ESRCH, syscall(SYS_setpriority, PRIO_PROCESS, 0x3fffffff, 0));
  if (InitIsForeign()) {
    EXPECT_ERRNO(EPERM, syscall(SYS_setpriority, PRIO_PROCESS, 1, 19));
  }
}

TEST(sched_setattr, RoundTrip) {
  COVERS(sched_getattr);
  struct Attr {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
    uint32_t util_min, util_max;
  };
  IN_CHILD([&] {
    Attr a = {};
    CHILD_CHECK(syscall(SYS_sched_getattr, 0, &a, sizeof a, 0) == 0);
    CHILD_CHECK(a.policy == SCHED_OTHER && a.size >= 48);
    a = {};
    a.size = 48;
    a.policy = SCHED_BATCH;
    a.nice = std::min(19, getpriority(PRIO_PROCESS, 0) + 3);
    CHILD_CHECK(syscall(SYS_sched_setattr, 0, &a, 0) == 0);
    Attr b = {};
    CHILD_CHECK(syscall(SYS_sched_getattr, 0, &b, sizeof b, 0) == 0);
    CHILD_CHECK(b.policy == SCHED_BATCH && b.nice == a.nice);
    CHILD_CHECK(syscall(SYS_sched_getattr, 0, &b, 10, 0) == -1 && errno == EINVAL);
    CHILD_CHECK(syscall(SYS_sched_getattr, 0, &b, sizeof b, 1) == -1 && errno == EINVAL);
    CHILD_CHECK(syscall(SYS_sched_setattr, 0, &a, 1) == -1 && errno == EINVAL);
    CHILD_CHECK(syscall(SYS_sched_getattr, 0x3fffffff, &b, sizeof b, 0) == -1 && errno == ESRCH);
    CHILD_CHECK(syscall(SYS_sched_setattr, 0, BadPointer(), 0) == -1 && errno == EFAULT);
  });
}

TEST(ioprio_set, ClassesAndErrors) {
  COVERS(ioprio_get);
  IN_CHILD([&] {
    int best_effort = (2 << 13) | 5;
    CHILD_CHECK(syscall(SYS_ioprio_set, 1, 0, best_effort) == 0);
    CHILD_CHECK(syscall(SYS_ioprio_get, 1, 0) == best_effort);
    CHILD_CHECK(syscall(SYS_ioprio_set, 1, 0, 7 << 13) == -1 && errno == EINVAL);
    CHILD_CHECK(syscall(SYS_ioprio_set, 9, 0, best_effort) == -1 && errno == EINVAL);
    CHILD_CHECK(syscall(SYS_ioprio_get, 9, 0) == -1 && errno == EINVAL);
    CHILD_CHECK(syscall(SYS_ioprio_get, 1, 0x3fffffff) == -1 && errno == ESRCH);
  });
}

TEST(ioprio_get, FollowsNiceUntilItIsSet) {
  COVERS(ioprio_set);
  IN_CHILD([&] {
    constexpr int kProcess = 1, kGroup = 2, kUser = 3, kBest = 2, kIdle = 3;
    CHILD_CHECK(setpgid(0, 0) == 0);
    CHILD_CHECK(setpriority(PRIO_PROCESS, 0, 10) == 0);
    CHILD_CHECK(syscall(SYS_ioprio_get, kProcess, 0) == 0);  // what was set
    CHILD_CHECK(syscall(SYS_ioprio_get, kGroup, 0) == (kBest << 13 | 6));
    CHILD_CHECK(syscall(SYS_ioprio_set, kGroup, 0, kIdle << 13) == 0);
    CHILD_CHECK(syscall(SYS_ioprio_get, kProcess, getpid()) == kIdle << 13);
    CHILD_CHECK(syscall(SYS_ioprio_get, kGroup, 0) == kIdle << 13);
    CHILD_CHECK(syscall(SYS_ioprio_get, kUser, 0) > 0);
    CHILD_CHECK(RunChild([&] {  // it is inherited
                  CHILD_CHECK(syscall(SYS_ioprio_get, kProcess, 0) == kIdle << 13);
                }) == 0);
    CHILD_CHECK(syscall(SYS_ioprio_set, kProcess, 0, 3) == -1 && errno == EINVAL);
    CHILD_CHECK(syscall(SYS_ioprio_set, kProcess, 0, 0) == 0);
    CHILD_CHECK(syscall(SYS_ioprio_get, kProcess, 0) == 0);
    CHILD_CHECK(syscall(SYS_ioprio_get, kGroup, 0) == (kBest << 13 | 6));
    CHILD_CHECK(syscall(SYS_ioprio_set, kGroup, 0x3fffffff, kBest << 13) == -1 && errno == ESRCH);
    if (!IsRoot()) {
      CHILD_CHECK(syscall(SYS_ioprio_set, kProcess, 0, 1 << 13) == -1 && errno == EPERM);
    }
  });
}

TEST(scheduler, SpinnersDoNotStarveOthers) {
  // More spinning threads than processors, and still everybody gets on.
  std::atomic<bool> stop{false};
  constexpr int kThreads = 8;
  std::atomic<uint64_t> progress[kThreads] = {};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; i++) {
    threads.emplace_back([&, i] {
      while (!stop) progress[i]++;
    });
  }
  for (int i = 0; i < kThreads; i++) {
    while (progress[i] < 1000) sched_yield();
  }
  stop = true;
  for (auto& t : threads) t.join();
}

TEST(scheduler, NiceTasksGetLess) {
  // Two children on one processor for a while of wall time: the nicer one gets clearly less.
  cpu_set_t set, one;
  ASSERT_OK(sched_getaffinity(0, sizeof set, &set));
  CPU_ZERO(&one);
  for (int i = 0; i < CPU_SETSIZE; i++) {
    if (CPU_ISSET(i, &set)) {
      CPU_SET(i, &one);
      break;
    }
  }
  Mapping shared(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  auto* count = shared.as<std::atomic<uint64_t>>();
  auto* go = shared.as<std::atomic<bool>>(2048);
  int now = getpriority(PRIO_PROCESS, 0);  // may be above 0, as under nice(1)
  std::vector<pid_t> pids;
  for (int i = 0; i < 2; i++) {
    pids.push_back(Spawn([&, i] {
      CHILD_CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
      CHILD_CHECK(setpriority(PRIO_PROCESS, 0, i ? 19 : now) == 0);
      while (!*go) sched_yield();
      while (true) count[i]++;
      return 0;
    }));
  }
  *go = true;
  timespec ts = {0, 300000000};
  nanosleep(&ts, nullptr);  // the time in which they compete
  for (pid_t p : pids) {
    kill(p, SIGKILL);
    EXPECT_EQ(WaitFor(p), Killed(SIGKILL));
  }
  EXPECT_GT(count[0].load(), 2 * count[1].load());
}

}  // namespace
}  // namespace uk::test
