// What F_GETFL shows of how a file was opened, and access mode 3, which gives neither right: found
// by the differential oracle (tests/oracle).
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

constexpr int kLargeFile = 0100000;

TEST(openat, CreationFlagsAreNotShown) {
  Scratch dir;
  Fd f(open((dir / "f").c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOCTTY | O_CLOEXEC, 0644));
  EXPECT_EQ(fcntl(f, F_GETFL), O_RDWR | kLargeFile) << "O_EXCL brings no O_NOFOLLOW with it";
  Fd g(open((dir / "f").c_str(), O_RDONLY | O_NOFOLLOW));
  EXPECT_EQ(fcntl(g, F_GETFL), O_RDONLY | O_NOFOLLOW | kLargeFile);
  ASSERT_OK(symlink("f", (dir / "l").c_str()));
  EXPECT_ERRNO(EEXIST, open((dir / "l").c_str(), O_RDWR | O_CREAT | O_EXCL, 0644));
}

TEST(openat, TmpfileIsShown) {
  Scratch dir;
  Fd f(open(dir.c_str(), O_RDWR | O_TMPFILE, 0644));
  ASSERT_GE(f.get(), 0);
  EXPECT_EQ(fcntl(f, F_GETFL), O_RDWR | O_TMPFILE | kLargeFile);
}

TEST(pipe2, PacketsAreTheWritersMatter) {
  Pipe p(O_DIRECT | O_NONBLOCK);
  EXPECT_EQ(fcntl(p.r, F_GETFL), O_RDONLY | O_NONBLOCK);
  EXPECT_EQ(fcntl(p.w, F_GETFL), O_WRONLY | O_NONBLOCK | O_DIRECT);
}

TEST(openat, AccessModeThreeGivesNothing) {
  Scratch dir;
  dir.File("f", "text");
  Fd f(open((dir / "f").c_str(), 3));
  ASSERT_GE(f.get(), 0);
  char c;
  EXPECT_ERRNO(EBADF, read(f, &c, 1));
  EXPECT_ERRNO(EBADF, write(f, "x", 1));
  EXPECT_EQ(fcntl(f, F_GETFL), 3 | kLargeFile);
  EXPECT_ERRNO(EACCES, mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, f, 0));
  if (!IsRoot()) {
    dir.File("r", "text", 0444);
    EXPECT_ERRNO(EACCES, open((dir / "r").c_str(), 3)) << "it asks for both rights";
  }
}

TEST(fcntl, AsyncStaysAsItIsWhereNothingComesOfIt) {
  COVERS(openat, ioctl);
  Scratch dir;
  dir.File("f");
  Fd f(open((dir / "f").c_str(), O_RDWR | O_ASYNC));
  ASSERT_OK(fcntl(f, F_SETFL, O_APPEND));
  EXPECT_EQ(fcntl(f, F_GETFL), O_RDWR | O_ASYNC | O_APPEND | kLargeFile);
  int off = 0, on = 1;
  EXPECT_ERRNO(ENOTTY, ioctl(f, FIOASYNC, &off)) << "ioctl(2) minds";
  EXPECT_OK(ioctl(f, FIOASYNC, &on)) << "but not where nothing changes";
  Fd g(open((dir / "f").c_str(), O_RDWR));
  ASSERT_OK(fcntl(g, F_SETFL, O_ASYNC));
  EXPECT_EQ(fcntl(g, F_GETFL), O_RDWR | kLargeFile);
}

TEST(fcntl, ALeaseIsAsync) {
  Scratch dir;
  dir.File("f");
  Fd f(open((dir / "f").c_str(), O_RDONLY));
  if (fcntl(f, F_SETLEASE, F_RDLCK) != 0) GTEST_SKIP() << "the file system has no leases";
  EXPECT_EQ(fcntl(f, F_GETFL), O_RDONLY | O_ASYNC | kLargeFile);
  ASSERT_OK(fcntl(f, F_SETLEASE, F_UNLCK));
  EXPECT_EQ(fcntl(f, F_GETFL), O_RDONLY | kLargeFile);
}

TEST(openat, DirectoriesHaveNoDirectReads) {
  COVERS(linkat);
  Scratch dir;
  EXPECT_ERRNO(EINVAL, open(dir.c_str(), O_RDONLY | O_DIRECT));
  IN_CHILD([&] {
    CHILD_CHECK(chdir(dir.c_str()) == 0);
    CHILD_CHECK(linkat(AT_FDCWD, "", AT_FDCWD, "l", AT_EMPTY_PATH) == -1);
    CHILD_CHECK(errno == EPERM || errno == ENOENT /* Linux before 6.10, unprivileged */);
  });
}

TEST(fcntl, ALocksTypeBeforeItsRange) {
  Scratch dir;
  Fd f = dir.Open("f");
  struct flock l = {};
  l.l_type = F_UNLCK;
  l.l_start = 10;
  l.l_len = INT64_MAX;
  EXPECT_ERRNO(EINVAL, fcntl(f, F_GETLK, &l));
  EXPECT_ERRNO(EOVERFLOW, fcntl(f, F_SETLK, &l));
  l.l_pid = 1;
  EXPECT_ERRNO(EOVERFLOW, fcntl(f, F_OFD_GETLK, &l));
  l.l_len = 1;
  EXPECT_ERRNO(EINVAL, fcntl(f, F_OFD_GETLK, &l));
}

TEST(openat, TheNumberBeforeTheDirectory) {
  COVERS(accept4);
  IN_CHILD([] {
    struct rlimit none {
      0, 0
    };
    Fd s(socket(AF_UNIX, SOCK_STREAM, 0));
    CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    CHILD_CHECK(openat(kBadFd, "x", O_RDONLY) == -1 && errno == EMFILE);
    CHILD_CHECK(accept4(s, nullptr, nullptr, 0) == -1 && errno == EMFILE);
    CHILD_CHECK(accept4(s, nullptr, nullptr, 1) == -1 && errno == EINVAL);
  });
  Pipe p;
  EXPECT_ERRNO(EINVAL, accept4(p.r, nullptr, nullptr, 1));
  EXPECT_ERRNO(ENOTSOCK, accept4(p.r, nullptr, nullptr, 0));
}

}  // namespace
}  // namespace uk::test
