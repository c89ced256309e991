// The controllers of cgroup2: cpu, memory, pids. Each needs to be on the tree of version 2.
#include <time.h>

#include "tests/syscalls/cgroups/cgroup.h"

namespace uk::test {
namespace {

struct Limits : CgroupTest {
  // The test's group hands the controller on to `child`.
  void Need(const char* controller) {
    if (!group) return;
    const std::string top = group->path().substr(0, group->path().rfind('/'));
    Cgroup parent(top);
    parent.Write("cgroup.subtree_control", std::string("+") + controller);
    if (group->Write("cgroup.subtree_control", std::string("+") + controller) != 0)
      GTEST_SKIP() << "controller " << controller << " is not there to be given";
    child = std::make_unique<Cgroup>(*group / "child");
  }
  void TearDown() override { child.reset(); }
  std::unique_ptr<Cgroup> child;
};

using cgroup_pids = Limits;
using cgroup_cpu = Limits;
using cgroup_memory = Limits;

TEST_F(cgroup_pids, LimitsForks) {
  Need("pids");
  if (IsSkipped()) return;
  EXPECT_EQ(child->Read("pids.max"), "max\n");
  EXPECT_EQ(child->Write("pids.max", "-1"), EINVAL);
  EXPECT_EQ(child->Write("pids.max", "5000000"), EINVAL);
  ASSERT_EQ(child->Write("pids.max", "2"), 0);
  const pid_t pid = child->SpawnIn([&] {
    const pid_t one = Spawn([] { pause(); });
    CHILD_CHECK(one > 0);
    CHILD_CHECK(child->Read("pids.current") == "2\n");
    CHILD_CHECK(fork() == -1 && errno == EAGAIN);
    kill(one, SIGKILL);
    // What has ended counts until it is waited for.
    siginfo_t info;
    CHILD_CHECK(waitid(P_PID, static_cast<id_t>(one), &info, WEXITED | WNOWAIT) == 0);
    CHILD_CHECK(fork() == -1 && errno == EAGAIN);
    CHILD_CHECK(WaitFor(one) == SIGKILL);
    CHILD_CHECK(RunChild([] {}) == 0);
  });
  EXPECT_EQ(WaitFor(pid), 0);
  EXPECT_EQ(child->Read("pids.current"), "0\n");
  EXPECT_EQ(child->Read("pids.peak"), "2\n");
  EXPECT_EQ(child->Value("pids.events", "max"), 2);
}

double Seconds(clockid_t clock) {
  timespec t = {};
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

// Computes until `seconds` have passed; how much of them it had a processor.
double Share(double seconds) {
  const double wall = Seconds(CLOCK_MONOTONIC), used = Seconds(CLOCK_PROCESS_CPUTIME_ID);
  while (Seconds(CLOCK_MONOTONIC) < wall + seconds) {
  }
  return (Seconds(CLOCK_PROCESS_CPUTIME_ID) - used) / (Seconds(CLOCK_MONOTONIC) - wall);
}

TEST_F(cgroup_cpu, QuotaLimitsTheTimeOfAll) {
  Need("cpu");
  if (IsSkipped()) return;
  EXPECT_EQ(child->Read("cpu.max"), "max 100000\n");
  EXPECT_EQ(child->Write("cpu.max", "500"), EINVAL);
  EXPECT_EQ(child->Write("cpu.max", "10000 500"), EINVAL);
  EXPECT_EQ(child->Write("cpu.max", "10000 2000000"), EINVAL);
  EXPECT_EQ(child->Write("cpu.max", "x"), EINVAL);
  ASSERT_EQ(child->Write("cpu.max", "5000 20000"), 0);
  EXPECT_EQ(child->Read("cpu.max"), "5000 20000\n");
  const double began = Seconds(CLOCK_MONOTONIC);
  pid_t pids[3];
  for (pid_t& p : pids) p = child->SpawnIn([] { return static_cast<int>(Share(1.0) * 100); });
  int percent = 0;
  for (pid_t p : pids) percent += WEXITSTATUS(WaitFor(p));
  // A quarter of one processor, for all three; not much less unless the machine is busy.
  EXPECT_LE(percent, 32);
  EXPECT_GE(percent, 5);
  EXPECT_GT(child->Value("cpu.stat", "nr_throttled"), 10);
  EXPECT_GT(child->Value("cpu.stat", "throttled_usec"), 100'000);
  const double wall = Seconds(CLOCK_MONOTONIC) - began;
  EXPECT_LE(static_cast<double>(child->Value("cpu.stat", "usage_usec")) * 1e-6, wall * 0.32 + 0.05);
  // Without a quota it goes on as usual.
  ASSERT_EQ(child->Write("cpu.max", "max"), 0);
  EXPECT_EQ(child->Read("cpu.max"), "max 20000\n");
}

TEST_F(cgroup_cpu, WeightsShareAProcessor) {
  Need("cpu");
  if (IsSkipped()) return;
  EXPECT_EQ(child->Read("cpu.weight"), "100\n");
  EXPECT_EQ(child->Read("cpu.weight.nice"), "0\n");
  EXPECT_EQ(child->Write("cpu.weight", "0"), ERANGE);
  EXPECT_EQ(child->Write("cpu.weight", "10001"), ERANGE);
  EXPECT_EQ(child->Write("cpu.weight.nice", "20"), ERANGE);
  ASSERT_EQ(child->Write("cpu.weight", "400"), 0);
  Cgroup light(*group / "light");
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  auto hog = [&] {
    sched_setaffinity(0, sizeof one, &one);
    return static_cast<int>(Share(1.5) * 100);
  };
  // Two of the light ones share what their group gets.
  const pid_t heavy = child->SpawnIn(hog), a = light.SpawnIn(hog), b = light.SpawnIn(hog);
  const int most = WEXITSTATUS(WaitFor(heavy));
  const int rest = WEXITSTATUS(WaitFor(a)) + WEXITSTATUS(WaitFor(b));
  EXPECT_GT(most, 2 * rest) << most << " and " << rest;
  EXPECT_LT(most, 8 * rest + 8) << most << " and " << rest;
}

constexpr size_t kMiB = 1 << 20;

// Takes memory that stays until the process ends.
void Touch(size_t bytes) {
  auto* at = static_cast<volatile char*>(
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  for (size_t i = 0; i < bytes; i += kPage) at[i] = 1;
}

TEST_F(cgroup_memory, ProcessesAtTheLimitAreKilled) {
  Need("memory");
  if (IsSkipped()) return;
  EXPECT_EQ(child->Read("memory.max"), "max\n");
  EXPECT_EQ(child->Write("memory.max", "x"), EINVAL);
  ASSERT_EQ(child->Write("memory.max", "16M"), 0);
  EXPECT_EQ(child->Read("memory.max"), std::to_string(16 * kMiB) + "\n");
  const pid_t modest = child->SpawnIn([&] {
    Touch(8 * kMiB);
    CHILD_CHECK(atol(child->Read("memory.current").c_str()) >= static_cast<long>(8 * kMiB));
  });
  EXPECT_EQ(WaitFor(modest), 0);
  EXPECT_EQ(child->Value("memory.events", "oom_kill"), 0);
  EXPECT_GE(atol(child->Read("memory.peak").c_str()), static_cast<long>(8 * kMiB));
  const pid_t greedy = child->SpawnIn([] { Touch(64 * kMiB); });
  EXPECT_EQ(WaitFor(greedy), SIGKILL);
  EXPECT_EQ(child->Value("memory.events", "oom_kill"), 1);
  EXPECT_LE(atol(child->Read("memory.peak").c_str()), static_cast<long>(16 * kMiB));
  // With memory.oom.group all go together.
  ASSERT_EQ(child->Write("memory.oom.group", "1"), 0);
  const pid_t bystander = child->SpawnIn([] { pause(); });
  const pid_t second = child->SpawnIn([] { Touch(64 * kMiB); });
  EXPECT_EQ(WaitFor(second), SIGKILL);
  EXPECT_EQ(WaitFor(bystander), SIGKILL);
}

TEST_F(cgroup_memory, WhoTakesMoreThanHighIsHeldUp) {
  Need("memory");
  if (IsSkipped()) return;
  EXPECT_EQ(child->Read("memory.high"), "max\n");
  EXPECT_EQ(child->Write("memory.high", "-1"), EINVAL);
  ASSERT_EQ(child->Write("memory.high", "16M"), 0);
  EXPECT_EQ(child->Read("memory.high"), std::to_string(16 * kMiB) + "\n");
  EXPECT_EQ(WaitFor(child->SpawnIn([] { Touch(8 * kMiB); })), 0);
  EXPECT_EQ(child->Value("memory.events", "high"), 0);
  EXPECT_EQ(WaitFor(child->SpawnIn([] { Touch(17 * kMiB); })), 0);
  EXPECT_GT(child->Value("memory.events", "high"), 0);
  EXPECT_GT(child->Value("memory.events.local", "high"), 0);
  EXPECT_EQ(child->Value("memory.events", "oom_kill"), 0);
  // Far above it goes on for ever, but can be killed.
  const pid_t greedy = child->SpawnIn([] { Touch(64 * kMiB); });
  while (atol(child->Read("memory.current").c_str()) < static_cast<long>(17 * kMiB)) sched_yield();
  ASSERT_OK(kill(greedy, SIGKILL));
  EXPECT_EQ(WaitFor(greedy), SIGKILL);
}

TEST_F(cgroup_memory, ProtectionIsKept) {
  Need("memory");
  if (IsSkipped()) return;
  for (const char* name : {"memory.low", "memory.min"}) {
    EXPECT_EQ(child->Read(name), "0\n");
    EXPECT_EQ(child->Write(name, "1M"), 0);
    EXPECT_EQ(child->Read(name), "1048576\n");
    EXPECT_EQ(child->Write(name, "max"), 0);
    EXPECT_EQ(child->Read(name), "max\n");
    EXPECT_EQ(child->Write(name, "x"), EINVAL);
  }
}

}  // namespace
}  // namespace uk::test
