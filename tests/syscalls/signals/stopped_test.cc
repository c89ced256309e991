// What a stopped process does with signals: it takes none but SIGKILL until it is continued. Found
// by the differential oracle (tests/oracle).
#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

pid_t StoppedChild() {
  pid_t child = Spawn([] { pause(); });
  EXPECT_OK(kill(child, SIGSTOP));
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, WUNTRACED), child);
  EXPECT_TRUE(WIFSTOPPED(status));
  return child;
}

TEST(kill, WhatEndsAStoppedProcessWaitsUntilItGoesOn) {
  COVERS(tgkill, wait4);
  for (int signal : {SIGTERM, SIGUSR1, SIGRTMIN + 6}) {
    const pid_t child = StoppedChild();
    ASSERT_OK(kill(child, signal));
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, WNOHANG), 0) << signal;
    ASSERT_OK(kill(child, SIGCONT));
    EXPECT_EQ(WaitFor(child), Killed(signal));
  }
}

TEST(kill, SigkillEndsAStoppedProcess) {
  const pid_t child = StoppedChild();
  ASSERT_OK(kill(child, SIGKILL));
  EXPECT_EQ(WaitFor(child), Killed(SIGKILL));
}

}  // namespace
}  // namespace uk::test
