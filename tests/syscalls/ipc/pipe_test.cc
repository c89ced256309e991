// Pipes: creation, blocking, atomicity, ends that go away.
#include <poll.h>
#include <sys/ioctl.h>

#include <thread>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

TEST(pipe, CarriesBytesInOrder) {
  int fds[2];
  ASSERT_OK(syscall(SYS_pipe, fds));
  Fd r(fds[0]), w(fds[1]);
  EXPECT_EQ(fcntl(r, F_GETFD), 0);
  EXPECT_EQ(fcntl(r, F_GETFL) & O_ACCMODE, O_RDONLY);
  EXPECT_EQ(fcntl(w, F_GETFL) & O_ACCMODE, O_WRONLY);
  EXPECT_EQ(write(w, "abc", 3), 3);
  EXPECT_EQ(write(w, "def", 3), 3);
  char text[10] = {};
  EXPECT_EQ(read(r, text, 4), 4);
  EXPECT_STREQ(text, "abcd");
  EXPECT_EQ(read(r, text, 10), 2);
  EXPECT_ERRNO(EBADF, read(w, text, 1));
  EXPECT_ERRNO(EBADF, write(r, text, 1));
  EXPECT_ERRNO(EFAULT, syscall(SYS_pipe, BadPointer()));
}

TEST(pipe2, Flags) {
  int fds[2];
  ASSERT_OK(syscall(SYS_pipe2, fds, O_CLOEXEC | O_NONBLOCK));
  Fd r(fds[0]), w(fds[1]);
  EXPECT_EQ(fcntl(r, F_GETFD), FD_CLOEXEC);
  EXPECT_TRUE(fcntl(w, F_GETFL) & O_NONBLOCK);
  char c;
  EXPECT_ERRNO(EAGAIN, read(r, &c, 1));
  EXPECT_ERRNO(EINVAL, syscall(SYS_pipe2, fds, O_TRUNC));
  EXPECT_ERRNO(EFAULT, syscall(SYS_pipe2, BadPointer(), 0));
}

TEST(pipe2, FailureLeavesNoDescriptors) {
  Fd probe(dup(0));
  int lowest = probe;
  probe.reset();
  EXPECT_ERRNO(EFAULT, syscall(SYS_pipe2, BadPointer(), 0));
  probe = Fd(dup(0));
  EXPECT_EQ(probe.get(), lowest);
}

TEST(pipe, HoldsSixtyFourKilobytes) {
  Pipe p(O_NONBLOCK);
  std::string chunk(4096, 'x');
  int total = 0;
  ssize_t n;
  while ((n = write(p.w, chunk.data(), chunk.size())) > 0) total += n;
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_EQ(total, 65536);
  int queued = 0;
  EXPECT_OK(ioctl(p.r, FIONREAD, &queued));
  EXPECT_EQ(queued, 65536);
  EXPECT_ERRNO(EAGAIN, write(p.w, "x", 1));
  char buffer[4096];
  EXPECT_EQ(read(p.r, buffer, sizeof buffer), 4096);
  EXPECT_EQ(write(p.w, "x", 1), 1);
}

TEST(pipe, NonblockingWritesUpToPipeBufAreAllOrNothing) {
  Pipe p(O_NONBLOCK);
  std::string big(65536 - 100, 'x');
  ASSERT_EQ(write(p.w, big.data(), big.size()), static_cast<ssize_t>(big.size()));
  std::string atomic(4096, 'y');
  EXPECT_ERRNO(EAGAIN, write(p.w, atomic.data(), atomic.size()));
}

TEST(pipe, WritersOfPipeBufDoNotInterleave) {
  Pipe p;
  constexpr int kWriters = 4, kRounds = 50;
  std::vector<std::thread> writers;
  for (int i = 0; i < kWriters; i++) {
    writers.emplace_back([&, i] {
      std::string record(1000, static_cast<char>('a' + i));
      for (int r = 0; r < kRounds; r++) {
        ASSERT_EQ(write(p.w, record.data(), record.size()), 1000);
      }
    });
  }
  std::string all;
  char buffer[5000];
  while (all.size() < kWriters * kRounds * 1000) {
    ssize_t n = read(p.r, buffer, sizeof buffer);
    ASSERT_GT(n, 0);
    all.append(buffer, n);
  }
  for (auto& t : writers) t.join();
  for (size_t at = 0; at < all.size(); at += 1000) {
    EXPECT_EQ(all.substr(at, 1000), std::string(1000, all[at]));
  }
}

TEST(pipe, BlockedReaderSeesTheEnd) {
  Pipe p;
  pid_t child = Spawn([&] {
    p.w.reset();
    char c;
    return read(p.r, &c, 1) == 0 ? 0 : 1;
  });
  EXPECT_TRUE(WaitForState(child, 'S'));
  p.w.reset();
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(pipe, BlockedWriterGetsSigpipe) {
  Pipe p;
  pid_t child = Spawn([&] {
    p.r.reset();
    std::string big(1 << 20, 'x');
    (void)!write(p.w, big.data(), big.size());
    return 0;
  });
  EXPECT_TRUE(WaitForState(child, 'S'));
  p.r.reset();
  EXPECT_EQ(WaitFor(child), Killed(SIGPIPE));
}

TEST(pipe, LargeTransferBetweenProcesses) {
  Pipe p;
  constexpr size_t kSize = 4 << 20;
  pid_t child = Spawn([&] {
    std::string data(kSize, 0);
    for (size_t i = 0; i < kSize; i++) data[i] = static_cast<char>(i * 7 + i / 4096);
    size_t done = 0;
    while (done < kSize) {
      ssize_t n = write(p.w, data.data() + done, kSize - done);
      if (n <= 0) return 1;
      done += n;
    }
    return 0;
  });
  p.w.reset();
  std::string got = ReadFd(p.r);
  ASSERT_EQ(got.size(), kSize);
  size_t wrong = 0;
  for (size_t i = 0; i < kSize; i++) wrong += got[i] != static_cast<char>(i * 7 + i / 4096);
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(pipe, ReopenThroughProc) {
  Pipe p;
  std::string path = "/proc/self/fd/" + std::to_string(p.r.get());
  char target[64] = {};
  ASSERT_OK(readlink(path.c_str(), target, sizeof target - 1));
  EXPECT_EQ(std::string(target).substr(0, 6), "pipe:[");
  Fd again(open(path.c_str(), O_WRONLY));
  ASSERT_OK(again.get());
  EXPECT_EQ(write(again, "x", 1), 1);
  char c;
  EXPECT_EQ(read(p.r, &c, 1), 1);
}

}  // namespace
}  // namespace uk::test
