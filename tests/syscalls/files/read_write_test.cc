// read, write and their positional and vectored forms, and lseek.
#include <sys/resource.h>
#include <sys/uio.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

TEST(read, ReturnsBytesAndMovesThePosition) {
  Scratch dir;
  Fd fd = dir.Open("f", "hello world");
  char buffer[32] = {};
  EXPECT_EQ(syscall(SYS_read, fd.get(), buffer, 5), 5);
  EXPECT_STREQ(buffer, "hello");
  EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 5);
  EXPECT_EQ(syscall(SYS_read, fd.get(), buffer, sizeof buffer), 6);
  EXPECT_EQ(syscall(SYS_read, fd.get(), buffer, sizeof buffer), 0) << "end of file";
}

TEST(read, ZeroBytesDoesNotTouchTheBuffer) {
  Scratch dir;
  Fd fd = dir.Open("f", "x");
  EXPECT_EQ(syscall(SYS_read, fd.get(), BadPointer(), 0), 0);
  EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 0);
}

TEST(read, Errors) {
  Scratch dir;
  Fd fd = dir.Open("f", "hello");
  char c;
  EXPECT_ERRNO(EBADF, syscall(SYS_read, kBadFd, &c, 1));
  EXPECT_ERRNO(EBADF, syscall(SYS_read, -1, &c, 1));
  EXPECT_ERRNO(EFAULT, syscall(SYS_read, fd.get(), BadPointer(), 1));
  EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 0) << "a fault moves nothing";
  EXPECT_ERRNO(EISDIR, syscall(SYS_read, dir.Dir().get(), &c, 1));
  Fd wo(open((dir / "f").c_str(), O_WRONLY));
  EXPECT_ERRNO(EBADF, syscall(SYS_read, wo.get(), &c, 1));
  Fd path(open((dir / "f").c_str(), O_PATH));
  EXPECT_ERRNO(EBADF, syscall(SYS_read, path.get(), &c, 1));
}

TEST(read, StopsAtAnInaccessiblePage) {
  Scratch dir;
  Fd fd = dir.Open("f", std::string(8192, 'a'));
  Mapping m(2 * kPage);
  ASSERT_OK(mprotect(m.at(kPage), kPage, PROT_NONE));
  ssize_t n = read(fd, m.at(kPage - 100), 200);
  EXPECT_EQ(n, 100);
  EXPECT_EQ(m.at(kPage - 1)[0], 'a');
  EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 100);
}

TEST(write, ExtendsAndOverwrites) {
  Scratch dir;
  Fd fd = dir.Open("f", "abcdef");
  EXPECT_EQ(syscall(SYS_write, fd.get(), "XY", 2), 2);
  EXPECT_EQ(lseek(fd, 10, SEEK_SET), 10);
  EXPECT_EQ(syscall(SYS_write, fd.get(), "end", 3), 3);
  EXPECT_EQ(ReadFile(dir / "f"), std::string("XYcdef\0\0\0\0end", 13)) << "the gap reads as zeros";
}

TEST(write, AppendAlwaysGoesToTheEnd) {
  Scratch dir;
  dir.File("f", "abc");
  Fd fd(open((dir / "f").c_str(), O_WRONLY | O_APPEND));
  ASSERT_OK(lseek(fd, 0, SEEK_SET));
  EXPECT_EQ(write(fd, "d", 1), 1);
  EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 4);
  Fd other(open((dir / "f").c_str(), O_WRONLY | O_APPEND));
  EXPECT_EQ(write(other, "e", 1), 1);
  EXPECT_EQ(write(fd, "f", 1), 1);
  EXPECT_EQ(ReadFile(dir / "f"), "abcdef");
}

TEST(write, Errors) {
  Scratch dir;
  Fd fd = dir.Open("f");
  EXPECT_ERRNO(EBADF, syscall(SYS_write, kBadFd, "x", 1));
  EXPECT_ERRNO(EFAULT, syscall(SYS_write, fd.get(), BadPointer(), 1));
  Fd ro(open((dir / "f").c_str(), O_RDONLY));
  EXPECT_ERRNO(EBADF, syscall(SYS_write, ro.get(), "x", 1));
  EXPECT_EQ(syscall(SYS_write, fd.get(), BadPointer(), 0), 0);
}

TEST(write, ToAPipeWithoutReaderRaisesSigpipe) {
  EXPECT_EQ(RunChild([] {
              Pipe p;
              p.r.reset();
              (void)!write(p.w, "x", 1);
              return 0;
            }),
            Killed(SIGPIPE));
  ScopedHandler ignore(SIGPIPE, SIG_IGN);
  Pipe p;
  p.r.reset();
  EXPECT_ERRNO(EPIPE, write(p.w, "x", 1));
}

TEST(write, ToDevFullIsNoSpace) {
  Fd fd(open("/dev/full", O_RDWR));
  ASSERT_OK(fd.get());
  EXPECT_ERRNO(ENOSPC, write(fd, "x", 1));
  char buffer[16];
  memset(buffer, 'x', sizeof buffer);
  EXPECT_EQ(read(fd, buffer, sizeof buffer), 16);
  EXPECT_EQ(std::string(buffer, 16), std::string(16, '\0'));
}

TEST(write, DevNullTakesAllAndGivesNothing) {
  Fd fd(open("/dev/null", O_RDWR));
  ASSERT_OK(fd.get());
  EXPECT_EQ(write(fd, "abc", 3), 3);
  char c;
  EXPECT_EQ(read(fd, &c, 1), 0);
}

TEST(write, FileSizeLimitRaisesSigxfsz) {
  Scratch dir;
  std::string path = dir / "f";
  EXPECT_EQ(RunChild([&] {
              rlimit lim = {1000, 1000};
              CHILD_CHECK(setrlimit(RLIMIT_FSIZE, &lim) == 0);
              signal(SIGXFSZ, SIG_IGN);
              Fd fd(open(path.c_str(), O_RDWR | O_CREAT, 0600));
              std::string big(2000, 'x');
              CHILD_CHECK(write(fd, big.data(), big.size()) == 1000);
              CHILD_CHECK(write(fd, "x", 1) == -1 && errno == EFBIG);
              CHILD_CHECK(ftruncate(fd, 1001) == -1 && errno == EFBIG);
              signal(SIGXFSZ, SIG_DFL);
              (void)!write(fd, "x", 1);
              return 0;
            }),
            Killed(SIGXFSZ));
}

TEST(pread64, ReadsAtAnOffsetWithoutMoving) {
  Scratch dir;
  Fd fd = dir.Open("f", "0123456789");
  char b[4] = {};
  EXPECT_EQ(syscall(SYS_pread64, fd.get(), b, 3, 4l), 3);
  EXPECT_STREQ(b, "456");
  EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 0);
  EXPECT_EQ(syscall(SYS_pread64, fd.get(), b, 3, 100l), 0);
  EXPECT_ERRNO(EINVAL, syscall(SYS_pread64, fd.get(), b, 3, -1l));
  EXPECT_ERRNO(EBADF, syscall(SYS_pread64, kBadFd, b, 3, 0l));
  EXPECT_ERRNO(EFAULT, syscall(SYS_pread64, fd.get(), BadPointer(), 3, 0l));
  Pipe p;
  EXPECT_ERRNO(ESPIPE, syscall(SYS_pread64, p.r.get(), b, 1, 0l));
}

TEST(pwrite64, WritesAtAnOffsetWithoutMoving) {
  Scratch dir;
  Fd fd = dir.Open("f", "0123456789");
  EXPECT_EQ(syscall(SYS_pwrite64, fd.get(), "AB", 2, 8l), 2);
  EXPECT_EQ(syscall(SYS_pwrite64, fd.get(), "CD", 2, 12l), 2);
  EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 0);
  EXPECT_EQ(ReadFile(dir / "f"), std::string("01234567AB\0\0CD", 14));
  EXPECT_ERRNO(EINVAL, syscall(SYS_pwrite64, fd.get(), "x", 1, -5l));
  Pipe p;
  EXPECT_ERRNO(ESPIPE, syscall(SYS_pwrite64, p.w.get(), "x", 1, 0l));
}

TEST(readv, FillsBuffersInOrder) {
  Scratch dir;
  Fd fd = dir.Open("f", "abcdefgh");
  char a[3] = {}, b[10] = {};
  iovec iov[3] = {{a, 2}, {nullptr, 0}, {b, 9}};
  EXPECT_EQ(syscall(SYS_readv, fd.get(), iov, 3), 8);
  EXPECT_STREQ(a, "ab");
  EXPECT_STREQ(b, "cdefgh");
}

TEST(readv, Errors) {
  Scratch dir;
  Fd fd = dir.Open("f", "abc");
  char c;
  iovec iov[2] = {{&c, 1}, {&c, static_cast<size_t>(-1)}};
  EXPECT_ERRNO(EINVAL, syscall(SYS_readv, fd.get(), iov, -1));
  EXPECT_ERRNO(EINVAL, syscall(SYS_readv, fd.get(), iov, 1025));
  EXPECT_ERRNO(EINVAL, syscall(SYS_readv, fd.get(), iov, 2)) << "a length above SSIZE_MAX";
  EXPECT_ERRNO(EFAULT, syscall(SYS_readv, fd.get(), BadPointer(), 1));
  EXPECT_EQ(syscall(SYS_readv, fd.get(), iov, 0), 0);
  EXPECT_ERRNO(EBADF, syscall(SYS_readv, kBadFd, iov, 1));
}

TEST(writev, GathersBuffersAndStopsAtAFault) {
  Scratch dir;
  Fd fd = dir.Open("f");
  char one[] = "one ", two[] = "two";
  iovec iov[3] = {{one, 4}, {two, 3}, {BadPointer(), 5}};
  EXPECT_EQ(syscall(SYS_writev, fd.get(), iov, 2), 7);
  EXPECT_EQ(ReadFile(dir / "f"), "one two");
  ASSERT_OK(lseek(fd, 0, SEEK_SET));
  EXPECT_EQ(syscall(SYS_writev, fd.get(), iov, 3), 7) << "what could be written was";
  EXPECT_ERRNO(EFAULT, syscall(SYS_writev, fd.get(), iov + 2, 1));
  EXPECT_ERRNO(EINVAL, syscall(SYS_writev, fd.get(), iov, 1025));
}

TEST(preadv, ReadsAtOffset) {
  COVERS(pwritev);
  Scratch dir;
  Fd fd = dir.Open("f", "0123456789");
  char a[3] = {}, b[3] = {};
  iovec iov[2] = {{a, 2}, {b, 2}};
  EXPECT_EQ(syscall(SYS_preadv, fd.get(), iov, 2, 3l, 0l), 4);
  EXPECT_STREQ(a, "34");
  EXPECT_STREQ(b, "56");
  EXPECT_EQ(syscall(SYS_pwritev, fd.get(), iov, 2, 0l, 0l), 4);
  EXPECT_EQ(ReadFile(dir / "f"), "3456456789");
  EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 0);
  EXPECT_ERRNO(EINVAL, syscall(SYS_preadv, fd.get(), iov, 2, -1l, -1l));
  Pipe p;
  EXPECT_ERRNO(ESPIPE, syscall(SYS_preadv, p.r.get(), iov, 2, 0l, 0l));
  EXPECT_ERRNO(ESPIPE, syscall(SYS_pwritev, p.w.get(), iov, 2, 0l, 0l));
}

TEST(preadv2, MinusOneUsesThePositionAndFlagsAreChecked) {
  Scratch dir;
  Fd fd = dir.Open("f", "0123456789");
  char a[5] = {};
  iovec iov = {a, 4};
  EXPECT_EQ(syscall(SYS_preadv2, fd.get(), &iov, 1, -1l, -1l, 0), 4);
  EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 4);
  EXPECT_EQ(syscall(SYS_preadv2, fd.get(), &iov, 1, 1l, 0l, 0), 4);
  EXPECT_STREQ(a, "1234");
  EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 4);
  EXPECT_ERRNO(EOPNOTSUPP, syscall(SYS_preadv2, fd.get(), &iov, 1, 0l, 0l, 0x40000000));
}

TEST(pwritev2, AppendFlagWritesAtTheEnd) {
  Scratch dir;
  Fd fd = dir.Open("f", "abc");
  char a[] = "Z";
  iovec iov = {a, 1};
  EXPECT_EQ(syscall(SYS_pwritev2, fd.get(), &iov, 1, -1l, -1l, 0), 1);
  EXPECT_EQ(syscall(SYS_pwritev2, fd.get(), &iov, 1, 0l, 0l, RWF_APPEND), 1);
  EXPECT_EQ(ReadFile(dir / "f"), "ZbcZ");
  EXPECT_ERRNO(EOPNOTSUPP, syscall(SYS_pwritev2, fd.get(), &iov, 1, 0l, 0l, 0x40000000));
}

TEST(lseek, AllOrigins) {
  Scratch dir;
  Fd fd = dir.Open("f", "0123456789");
  EXPECT_EQ(syscall(SYS_lseek, fd.get(), 4l, SEEK_SET), 4);
  EXPECT_EQ(syscall(SYS_lseek, fd.get(), 3l, SEEK_CUR), 7);
  EXPECT_EQ(syscall(SYS_lseek, fd.get(), -3l, SEEK_END), 7);
  EXPECT_EQ(syscall(SYS_lseek, fd.get(), 100l, SEEK_END), 110) << "past the end is allowed";
  char c;
  EXPECT_EQ(read(fd, &c, 1), 0);
  EXPECT_ERRNO(EINVAL, syscall(SYS_lseek, fd.get(), -1l, SEEK_SET));
  EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 110) << "a failed seek moves nothing";
  EXPECT_ERRNO(EINVAL, syscall(SYS_lseek, fd.get(), 0l, 77));
  EXPECT_ERRNO(EBADF, syscall(SYS_lseek, kBadFd, 0l, SEEK_SET));
  Pipe p;
  EXPECT_ERRNO(ESPIPE, syscall(SYS_lseek, p.r.get(), 0l, SEEK_CUR));
}

TEST(lseek, DataAndHole) {
  Scratch dir;
  Fd fd = dir.Open("f", "0123456789");
  EXPECT_EQ(syscall(SYS_lseek, fd.get(), 3l, SEEK_DATA), 3);
  EXPECT_EQ(syscall(SYS_lseek, fd.get(), 3l, SEEK_HOLE), 10) << "the end counts as a hole";
  EXPECT_ERRNO(ENXIO, syscall(SYS_lseek, fd.get(), 10l, SEEK_DATA));
  EXPECT_ERRNO(ENXIO, syscall(SYS_lseek, fd.get(), 11l, SEEK_HOLE));
}

TEST(lseek, PositionIsSharedAcrossDupAndFork) {
  Scratch dir;
  Fd fd = dir.Open("f", "0123456789");
  Fd copy(dup(fd));
  ASSERT_OK(lseek(copy, 5, SEEK_SET));
  EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 5);
  IN_CHILD([&] { CHILD_CHECK(lseek(fd, 2, SEEK_CUR) == 7); });
  EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 7);
  Fd separate(open((dir / "f").c_str(), O_RDONLY));
  EXPECT_EQ(lseek(separate, 0, SEEK_CUR), 0);
}

}  // namespace
}  // namespace uk::test
