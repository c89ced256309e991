// cgroup.freeze and cgroup.kill (cgroups(7), cgroup-v2 "Core Interface Files").
#include <sys/prctl.h>

#include <atomic>

#include "tests/syscalls/cgroups/cgroup.h"

namespace uk::test {
namespace {

using cgroup_freeze = CgroupTest;
using cgroup_kill = CgroupTest;

// A counter that a child counts up while it runs.
class Counter {
 public:
  Counter()
      : at_(static_cast<std::atomic<uint64_t>*>(
            mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {}
  ~Counter() { munmap(at_, kPage); }
  void Run() {
    for (;;) at_->fetch_add(1);
  }
  uint64_t value() const { return at_->load(); }
  // Waits until it has moved on.
  bool Moves() const {
    const uint64_t from = value();
    for (int i = 0; i < 10'000 && value() == from; ++i) usleep(1000);
    return value() != from;
  }

 private:
  std::atomic<uint64_t>* at_;
};

TEST_F(cgroup_freeze, StopsWhatRunsAndLetsItGoOn) {
  Counter counter;
  const pid_t child = group->SpawnIn([&] {
    signal(SIGUSR1, [](int) { _exit(5); });
    counter.Run();
  });
  ASSERT_TRUE(counter.Moves());
  ASSERT_EQ(group->Write("cgroup.freeze", "1"), 0);
  ASSERT_TRUE(group->AwaitEvent("frozen 1"));
  EXPECT_EQ(group->Read("cgroup.freeze"), "1\n");
  const uint64_t stands = counter.value();
  usleep(50'000);  // it would have counted by millions
  EXPECT_EQ(counter.value(), stands);
  // A signal that is caught waits.
  kill(child, SIGUSR1);
  EXPECT_EQ(waitpid(child, nullptr, WNOHANG), 0);
  ASSERT_EQ(group->Write("cgroup.freeze", "0"), 0);
  EXPECT_EQ(WaitFor(child), Exited(5));
}

TEST_F(cgroup_freeze, ASleepGoesOn) {
  Pipe end;
  const pid_t child = group->SpawnIn([&] {
    char c = 0;
    return read(end.r, &c, 1) == 1 ? 7 : 1;  // not EINTR
  });
  ASSERT_TRUE(group->AwaitEvent("populated 1"));
  ASSERT_EQ(group->Write("cgroup.freeze", "1"), 0);
  ASSERT_TRUE(group->AwaitEvent("frozen 1"));
  EXPECT_EQ(write(end.w, "x", 1), 1);
  EXPECT_EQ(waitpid(child, nullptr, WNOHANG), 0);
  ASSERT_EQ(group->Write("cgroup.freeze", "0"), 0);
  EXPECT_EQ(WaitFor(child), Exited(7));
}

TEST_F(cgroup_freeze, TheFrozenCanBeKilled) {
  for (int signo : {SIGKILL, SIGTERM}) {
    const pid_t child = group->SpawnIn([] { pause(); });
    ASSERT_TRUE(group->AwaitEvent("populated 1"));
    ASSERT_EQ(group->Write("cgroup.freeze", "1"), 0);
    ASSERT_TRUE(group->AwaitEvent("frozen 1"));
    kill(child, signo);
    EXPECT_EQ(WaitFor(child), signo);
    ASSERT_EQ(group->Write("cgroup.freeze", "0"), 0);
  }
}

TEST_F(cgroup_freeze, GoesDownTheTree) {
  Cgroup below(*group / "below");
  const pid_t child = below.SpawnIn([] { pause(); });
  ASSERT_TRUE(below.AwaitEvent("populated 1"));
  ASSERT_EQ(group->Write("cgroup.freeze", "1"), 0);
  EXPECT_TRUE(below.AwaitEvent("frozen 1"));
  EXPECT_TRUE(group->AwaitEvent("frozen 1"));
  EXPECT_EQ(below.Read("cgroup.freeze"), "0\n");
  // Who leaves goes on; who comes stands still.
  ASSERT_EQ(group->Write("cgroup.freeze", "0"), 0);
  EXPECT_TRUE(below.AwaitEvent("frozen 0"));
  kill(child, SIGKILL);
  EXPECT_EQ(WaitFor(child), SIGKILL);
}

TEST_F(cgroup_freeze, WhoComesStandsStill) {
  Counter counter;
  ASSERT_EQ(group->Write("cgroup.freeze", "1"), 0);
  EXPECT_TRUE(group->AwaitEvent("frozen 1")) << "an empty group is frozen at once";
  Cgroup side(*group / ("../side." + std::to_string(getpid())));
  ASSERT_TRUE(side.made());
  const pid_t child = side.SpawnIn([&] { counter.Run(); });
  ASSERT_TRUE(counter.Moves());
  ASSERT_EQ(group->Write("cgroup.procs", std::to_string(child)), 0);
  ASSERT_TRUE(group->AwaitEvent("frozen 1"));
  const uint64_t stands = counter.value();
  usleep(50'000);
  EXPECT_EQ(counter.value(), stands);
  ASSERT_EQ(side.Write("cgroup.procs", std::to_string(child)), 0);
  EXPECT_TRUE(counter.Moves());
  kill(child, SIGKILL);
  EXPECT_EQ(WaitFor(child), SIGKILL);
}

TEST_F(cgroup_kill, EndsTheWholeTree) {
  Cgroup below(*group / "below");
  const pid_t a = group->SpawnIn([] { pause(); });
  const pid_t b = below.SpawnIn([] { pause(); });
  ASSERT_TRUE(below.AwaitEvent("populated 1"));
  while (group->Read("cgroup.procs").empty()) usleep(1000);
  ASSERT_EQ(group->Write("cgroup.kill", "1"), 0);
  EXPECT_EQ(WaitFor(a), SIGKILL);
  EXPECT_EQ(WaitFor(b), SIGKILL);
  EXPECT_TRUE(group->AwaitEvent("populated 0"));
}

}  // namespace
}  // namespace uk::test
