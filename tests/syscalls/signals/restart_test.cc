// restart_syscall: what was interrupted by a stop goes on until its own time is over.
#include <poll.h>
#include <time.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

TEST(restart_syscall, WithNothingToRestart) { EXPECT_ERRNO(EINTR, syscall(SYS_restart_syscall)); }

// The child waits for 300 ms; it is stopped in the midst, and goes on when these are over, not
// later.
TEST(restart_syscall, StoppedWaitsKeepTheirEnd) {
  COVERS(nanosleep, poll);
  for (bool polling : {false, true}) {
    int fds[2];
    ASSERT_OK(pipe(fds));
    pid_t child = Spawn([&] {
      CHILD_CHECK(write(fds[1], "x", 1) == 1);
      int64_t start = MonotonicNs();
      if (polling) {
        CHILD_CHECK(poll(nullptr, 0, 300) == 0);
      } else {
        timespec ts = {0, 300000000};
        CHILD_CHECK(nanosleep(&ts, nullptr) == 0);
      }
      int64_t took = MonotonicNs() - start;
      CHILD_CHECK(took >= 300000000);
      CHILD_CHECK(took < 450000000);
    });
    char c;
    ASSERT_EQ(read(fds[0], &c, 1), 1);
    int64_t start = MonotonicNs();
    while (MonotonicNs() - start < 200000000) usleep(1000);
    int status;
    ASSERT_OK(kill(child, SIGSTOP));
    ASSERT_EQ(waitpid(child, &status, WUNTRACED), child);
    EXPECT_TRUE(WIFSTOPPED(status));
    ASSERT_OK(kill(child, SIGCONT));
    EXPECT_EQ(WaitFor(child), 0) << (polling ? "poll" : "nanosleep");
    close(fds[0]);
    close(fds[1]);
  }
}

}  // namespace
}  // namespace uk::test
