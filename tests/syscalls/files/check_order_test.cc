// What is looked at first when several things are wrong, and the little that calls say of files
// which are none: found by the differential oracle (tests/oracle).
#include <linux/fs.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/xattr.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

TEST(utimensat, WrongTimesAreToldOfFilesThatAreThere) {
  Scratch dir;
  Fd f = dir.Open("f", "x");
  struct timespec wrong[2] = {{1, 1'000'000'000}, {1, 0}};
  EXPECT_ERRNO(ENOENT, utimensat(AT_FDCWD, (dir / "none").c_str(), wrong, 0));
  EXPECT_ERRNO(EBADF, syscall(SYS_utimensat, -1, nullptr, wrong, 0));
  EXPECT_ERRNO(EINVAL, utimensat(AT_FDCWD, (dir / "f").c_str(), wrong, 0));
  struct timespec omit[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}};
  EXPECT_OK(syscall(SYS_utimensat, AT_FDCWD, (dir / "none").c_str(), omit, 0x10000));
}

TEST(splice, OffsetsOfPipesBeforeRights) {
  Pipe p;
  loff_t at = 0;
  EXPECT_ERRNO(ESPIPE, splice(p.w, &at, p.r, nullptr, 1, 0));
  EXPECT_ERRNO(EBADF, splice(p.w, nullptr, p.r, nullptr, 1, 0));
}

TEST(sendfile, PlaceBeforeValue) {
  Scratch dir;
  Fd out = dir.Open("out");
  Pipe p;
  off_t wrong = -1;
  EXPECT_ERRNO(ESPIPE, sendfile(out, p.r, &wrong, 1));
  Fd directory(open(dir.path().c_str(), O_RDONLY | O_DIRECTORY));
  EXPECT_ERRNO(EINVAL, sendfile(out, directory, nullptr, 1));
}

TEST(copy_file_range, OverlapIsOfWhatIsThere) {
  Scratch dir;
  Fd f = dir.Open("f");
  EXPECT_EQ(copy_file_range(f, nullptr, f, nullptr, 8, 0), 0) << "nothing cannot overlap";
  ASSERT_EQ(write(f, "0123456789", 10), 10);
  loff_t from = 8, to = 9;
  EXPECT_ERRNO(EINVAL, copy_file_range(f, &from, f, &to, 100, 0));
  to = 10;
  EXPECT_EQ(copy_file_range(f, &from, f, &to, 100, 0), 2);
  Fd reader(open((dir / "f").c_str(), O_RDONLY));
  from = -1;
  EXPECT_ERRNO(EBADF, copy_file_range(f, &from, reader, &to, 1, 0));
}

TEST(copy_file_range, TheLimitOfSizesCountsEvenWithNothingToCopy) {
  Scratch dir;
  Fd f = dir.Open("f");
  IN_CHILD([&] {
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit {
      4096, 4096
    };
    CHILD_CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    loff_t from = 0, to = 4096;
    CHILD_CHECK(copy_file_range(f, &from, f, &to, 1, 0) == -1 && errno == EFBIG);
  });
}

TEST(epoll_wait, DescriptorBeforeCount) {
  struct epoll_event e;
  EXPECT_ERRNO(EBADF, syscall(SYS_epoll_wait, -1, &e, -1, 0));
  Fd f(epoll_create1(0));
  EXPECT_ERRNO(EINVAL, epoll_wait(f, &e, 0, 0));
}

TEST(sync_file_range, DescriptorBeforeRange) {
  COVERS(readahead);
  EXPECT_ERRNO(EBADF, sync_file_range(-1, -1, 1, 1));
  Scratch dir;
  Fd f = dir.Open("f", "x");
  EXPECT_ERRNO(EINVAL, syscall(SYS_readahead, f.get(), 0l, -1l));
}

TEST(flock, OperationBeforeDescriptor) { EXPECT_ERRNO(EINVAL, flock(-1, LOCK_NB)); }

TEST(accept4, DescriptorBeforeFlags) { EXPECT_ERRNO(EBADF, accept4(-1, nullptr, nullptr, 1)); }

TEST(preadv2, RightsBeforeFlags) {
  COVERS(pwritev2);
  Scratch dir;
  Fd f = dir.Open("f", "x");
  Fd writer(open((dir / "f").c_str(), O_WRONLY)), reader(open((dir / "f").c_str(), O_RDONLY));
  char byte;
  struct iovec v {
    &byte, 1
  };
  EXPECT_ERRNO(EBADF, preadv2(writer, &v, 1, 0, 0x4000));
  EXPECT_ERRNO(EBADF, pwritev2(reader, &v, 1, 0, 0x4000));
  EXPECT_ERRNO(EOPNOTSUPP, preadv2(reader, &v, 1, 0, 0x4000));
}

TEST(mknodat, TypeBeforeDirectory) {
  EXPECT_ERRNO(EPERM, syscall(SYS_mknodat, -1, "d", S_IFDIR | 0700, 0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_mknodat, -1, "d", S_IFLNK | 0700, 0));
  EXPECT_ERRNO(EBADF, syscall(SYS_mknodat, -1, "d", S_IFIFO | 0700, 0));
}

TEST(kill, WhomBeforeWhat) {
  EXPECT_ERRNO(ESRCH, syscall(SYS_kill, 0x7ffffff0, 65));
  EXPECT_ERRNO(EINVAL, syscall(SYS_kill, getpid(), 65));
}

TEST(getxattr, NamesThatAreOnlyAPrefix) {
  COVERS(setxattr, removexattr);
  std::string path = "/dev/shm/uk-check-order." + std::to_string(getpid());
  Fd f(open(path.c_str(), O_RDWR | O_CREAT, 0600));
  char value[4];
  EXPECT_ERRNO(EINVAL, getxattr(path.c_str(), "user.", value, sizeof value));
  EXPECT_ERRNO(EINVAL, setxattr(path.c_str(), "user.", "x", 1, 0));
  EXPECT_ERRNO(EINVAL, removexattr(path.c_str(), "user."));
  unlink(path.c_str());
}

TEST(copy_file_range, NotFromOneFilesystemToAnother) {
  Fd m(memfd_create("m", 0));
  ASSERT_EQ(write(m, "0123456789", 10), 10);
  std::string path = "/dev/shm/uk-check-order." + std::to_string(getpid());
  Fd f(open(path.c_str(), O_RDWR | O_CREAT, 0600));
  loff_t from = 0;
  EXPECT_ERRNO(EXDEV, copy_file_range(m, &from, f, nullptr, 5, 0));
  unlink(path.c_str());
}

TEST(openat, FlagsAndNameBeforeDirectory) {
  EXPECT_ERRNO(EINVAL, openat(-1, "d", O_TMPFILE | O_CREAT | O_RDWR, 0600));
  EXPECT_ERRNO(EINVAL, openat(-1, "d", O_TMPFILE | O_RDONLY, 0600));
  EXPECT_ERRNO(EINVAL, openat(-1, "d", O_DIRECTORY | O_CREAT | O_RDWR, 0600));
  EXPECT_ERRNO(ENOENT, openat(-1, "", O_RDONLY));
}

TEST(renameat2, TheFirstNameIsWalkedBeforeTheSecondsDirectory) {
  Scratch dir;
  Fd f = dir.Open("f", "x");
  EXPECT_ERRNO(ENOENT, renameat(AT_FDCWD, (dir / "no/a").c_str(), -1, "b"));
  EXPECT_ERRNO(EBADF, renameat(AT_FDCWD, (dir / "f").c_str(), -1, "b"));
}

TEST(fgetxattr, NameAndSizeBeforeDescriptor) {
  COVERS(fsetxattr, fremovexattr);
  char value[8];
  EXPECT_ERRNO(ERANGE, fgetxattr(-1, "", value, sizeof value));
  EXPECT_ERRNO(ERANGE, fremovexattr(-1, ""));
  static char large[65537];
  EXPECT_ERRNO(E2BIG, fsetxattr(-1, "user.a", large, sizeof large, 0));
  EXPECT_ERRNO(EBADF, fgetxattr(-1, "user.a", value, sizeof value));
}

TEST(lseek, BeyondTheGreatestOffset) {
  Scratch dir;
  Fd f = dir.Open("f", "0123456789");
  ASSERT_EQ(lseek(f, 5, SEEK_SET), 5);
  EXPECT_ERRNO(EINVAL, lseek(f, INT64_MAX, SEEK_CUR));
  EXPECT_ERRNO(EINVAL, lseek(f, INT64_MAX, SEEK_END));
}

TEST(lseek, WhatHasNoFileBehindItStaysAtTheBegin) {
  Fd fds[] = {Fd(eventfd(0, 0)), Fd(epoll_create1(0)), Fd(timerfd_create(CLOCK_MONOTONIC, 0)),
              Fd(inotify_init1(0))};
  for (const Fd& f : fds) EXPECT_EQ(lseek(f, 10, SEEK_SET), 0);
  Pipe p;
  EXPECT_ERRNO(ESPIPE, lseek(p.r, 0, SEEK_CUR));
}

TEST(fcntl, LargeFilesAreOpenedByName) {
  constexpr int kLargeFile = 0100000;
  Scratch dir;
  Fd f = dir.Open("f", "x"), m(memfd_create("m", 0)), e(eventfd(0, 0)), path(open("/", O_PATH));
  Pipe p;
  Fd s(socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_TRUE(fcntl(f, F_GETFL) & kLargeFile);
  EXPECT_TRUE(fcntl(m, F_GETFL) & kLargeFile);
  for (int fd : {e.get(), path.get(), p.r.get(), p.w.get(), s.get()})
    EXPECT_FALSE(fcntl(fd, F_GETFL) & kLargeFile) << fd;
  EXPECT_ERRNO(EINVAL, fcntl(m, F_SETFL, O_DIRECT)) << "was not opened to be fit for it";
  EXPECT_OK(fcntl(p.w, F_SETFL, O_DIRECT));
}

TEST(ioctl, BlockSizeOfWhatever) {
  Pipe p;
  Fd m(memfd_create("m", 0));
  for (int fd : {p.r.get(), m.get()}) {
    int size = 0;
    EXPECT_OK(ioctl(fd, FIGETBSZ, &size));
    EXPECT_EQ(size, static_cast<int>(kPage));
  }
}

TEST(mkdir, OfTmpfsCountsEntries) {
  // /dev/shm is a tmpfs natively and in guests.
  std::string path = "/dev/shm/uk-check-order." + std::to_string(getpid());
  ASSERT_OK(mkdir(path.c_str(), 0755));
  struct stat st;
  ASSERT_OK(stat(path.c_str(), &st));
  EXPECT_EQ(st.st_size, 40);
  ASSERT_OK(mkdir((path + "/d").c_str(), 0755));
  ASSERT_OK(stat(path.c_str(), &st));
  EXPECT_EQ(st.st_size, 60);
  EXPECT_OK(rmdir((path + "/d").c_str()));
  EXPECT_OK(rmdir(path.c_str()));
}

TEST(pwritev2, APipeHasNoOffsetsWhicheverEnd) {
  COVERS(preadv2);
  Pipe pipe;
  char c = 0;
  iovec iov = {&c, 1};
  EXPECT_ERRNO(ESPIPE, syscall(SYS_pwritev2, pipe.r.get(), &iov, 1, 0l, 0l, 0));
  EXPECT_ERRNO(ESPIPE, syscall(SYS_preadv2, pipe.w.get(), &iov, 1, 0l, 0l, 0));
  EXPECT_ERRNO(EBADF, syscall(SYS_pwritev2, pipe.r.get(), &iov, 1, -1l, -1l, 0));
}

TEST(linkat, ADirectoryThatIsGoneBeforeTheLengthOfTheName) {
  COVERS(mkdirat, newfstatat, symlinkat);
  Scratch dir;
  const std::string path = dir / "gone", name(256, 'n');
  ASSERT_OK(mkdir(path.c_str(), 0755));
  Fd gone(open(path.c_str(), O_RDONLY | O_DIRECTORY)), there = dir.Dir();
  ASSERT_OK(rmdir(path.c_str()));
  Fd f = dir.Open("f");
  for (auto [at, error] : {std::pair{gone.get(), ENOENT}, std::pair{there.get(), ENAMETOOLONG}}) {
    struct stat st;
    EXPECT_ERRNO(error, linkat(there, "f", at, name.c_str(), 0));
    EXPECT_ERRNO(error, mkdirat(at, name.c_str(), 0755));
    EXPECT_ERRNO(error, symlinkat("f", at, name.c_str()));
    EXPECT_ERRNO(error, fstatat(at, name.c_str(), &st, 0));
  }
}

}  // namespace
}  // namespace uk::test
