// /proc/sys/kernel/sched_* and autogroups (sched(7)).
#include <sched.h>
#include <sys/resource.h>

#include <atomic>
#include <fstream>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

std::string Get(const std::string& path) {
  std::ifstream file(path);
  return std::string((std::istreambuf_iterator<char>(file)), {});
}

int Put(const std::string& path, const std::string& text) {
  Fd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (fd.get() < 0) return errno;
  return write(fd, text.data(), text.size()) < 0 ? errno : 0;
}

const std::string kSys = "/proc/sys/kernel/";

// Puts back what was there.
class Setting {
 public:
  explicit Setting(const std::string& name) : path_(kSys + name), before_(Get(path_)) {}
  ~Setting() { EXPECT_EQ(Put(path_, before_), 0); }
  int Set(const std::string& text) { return Put(path_, text); }
  long Value() const { return atol(Get(path_).c_str()); }

 private:
  std::string path_, before_;
};

TEST(proc_sys_kernel_sched, OnlyRootWrites) {
  EXPECT_EQ(atol(Get(kSys + "sched_rt_period_us").c_str()), 1'000'000);
  EXPECT_EQ(atol(Get(kSys + "sched_rt_runtime_us").c_str()), 950'000);
  if (IsRoot()) return;
  for (const char* name : {"sched_rt_period_us", "sched_rt_runtime_us", "sched_rr_timeslice_ms"})
    EXPECT_EQ(Put(kSys + name, "1"), EACCES);
}

TEST(proc_sys_kernel_sched, RealTimeLimitsAreChecked) {
  if (!IsRoot()) GTEST_SKIP() << "only root may write them";
  Setting runtime("sched_rt_runtime_us"), period("sched_rt_period_us");
  for (const char* bad : {"0", "-1", "x", "949999"}) EXPECT_EQ(period.Set(bad), EINVAL) << bad;
  for (const char* bad : {"-2", "1000001", "x"}) EXPECT_EQ(runtime.Set(bad), EINVAL) << bad;
  EXPECT_EQ(period.Value(), 1'000'000);
  EXPECT_EQ(runtime.Value(), 950'000);
  EXPECT_EQ(runtime.Set("-1"), 0);
  EXPECT_EQ(runtime.Value(), -1);
}

TEST(proc_sys_kernel_sched, RoundRobinSlice) {
  COVERS(sched_rr_get_interval);
  if (!IsRoot()) GTEST_SKIP() << "only root may write it";
  Setting slice("sched_rr_timeslice_ms");
  auto interval_ms = [] {
    return WEXITSTATUS(RunChild([] {
      sched_param p = {.sched_priority = 1};
      if (sched_setscheduler(0, SCHED_RR, &p) != 0) return 255;
      timespec t = {};
      sched_rr_get_interval(0, &t);
      return static_cast<int>(t.tv_nsec / 1'000'000);
    }));
  };
  ASSERT_EQ(slice.Set("40"), 0);
  EXPECT_EQ(slice.Value(), 40);
  EXPECT_EQ(interval_ms(), 40);
  ASSERT_EQ(slice.Set("-1"), 0);
  EXPECT_EQ(slice.Value(), 100);
  EXPECT_EQ(interval_ms(), 100);
}

// A real-time task that never stops leaves something to others on its processor.
TEST(sched_setscheduler, RealTimeDoesNotStarveOthers) {
  if (!IsRoot()) GTEST_SKIP() << "makes a real-time task";
  auto* count = static_cast<std::atomic<long>*>(
      mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  cpu_set_t mine, one;
  ASSERT_OK(sched_getaffinity(0, sizeof mine, &mine));
  if (CPU_COUNT(&mine) < 2) GTEST_SKIP() << "the test itself needs another processor";
  CPU_ZERO(&one);
  for (int cpu = CPU_SETSIZE - 1; CPU_COUNT(&one) == 0; --cpu)
    if (CPU_ISSET(cpu, &mine)) CPU_SET(cpu, &one);
  const pid_t fair = Spawn([&] {
    sched_setaffinity(0, sizeof one, &one);
    for (;;) count->fetch_add(1);
  });
  const pid_t hog = Spawn([&] {
    sched_setaffinity(0, sizeof one, &one);
    sched_param p = {.sched_priority = 50};
    CHILD_CHECK(sched_setscheduler(0, SCHED_FIFO, &p) == 0);
    for (;;) {
    }
  });
  // Until it is there, and then over the end of a period.
  while (sched_getscheduler(hog) != SCHED_FIFO && waitpid(hog, nullptr, WNOHANG) == 0) usleep(1000);
  usleep(100'000);
  const long before = count->load();
  for (int i = 0; i < 500 && count->load() == before; ++i) usleep(10'000);
  EXPECT_NE(count->load(), before);
  kill(hog, SIGKILL);
  kill(fair, SIGKILL);
  EXPECT_EQ(WaitFor(hog), SIGKILL);
  EXPECT_EQ(WaitFor(fair), SIGKILL);
  munmap(count, kPage);
}

TEST(proc_autogroup, EachSessionHasOne) {
  COVERS(setsid);
  if (access("/proc/self/autogroup", F_OK) != 0) GTEST_SKIP() << "built without autogroups";
  IN_CHILD([] {
    CHILD_CHECK(setsid() == getpid());
    const std::string mine = Get("/proc/self/autogroup");
    CHILD_CHECK(mine.starts_with("/autogroup-") && mine.ends_with(" nice 0\n"));
    CHILD_CHECK(RunChild([&] { return Get("/proc/self/autogroup") == mine ? 0 : 1; }) == 0);
    CHILD_CHECK(RunChild([&] {
                  setsid();
                  return Get("/proc/self/autogroup") != mine ? 0 : 1;
                }) == 0);
    CHILD_CHECK(Put("/proc/self/autogroup", "20") == EINVAL);
    CHILD_CHECK(Put("/proc/self/autogroup", "7") == 0);
    CHILD_CHECK(Get("/proc/self/autogroup").ends_with(" nice 7\n"));
    rlimit none = {0, 0};
    setrlimit(RLIMIT_NICE, &none);
    if (IsRoot()) CHILD_CHECK(setresuid(12345, 12345, 12345) == 0);
    const int lower = Put("/proc/self/autogroup", "-5");
    CHILD_CHECK(lower == EPERM || lower == EACCES);
  });
}

}  // namespace
}  // namespace uk::test
