// open, openat, creat, openat2, close, close_range: creation, flags, and the errors of each.
#include <linux/close_range.h>
#include <linux/openat2.h>
#include <sys/resource.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

long Openat2(int dirfd, const std::string& path, uint64_t flags, uint64_t resolve,
             uint64_t mode = 0) {
  open_how how = {};
  how.flags = flags;
  how.mode = mode;
  how.resolve = resolve;
  return syscall(SYS_openat2, dirfd, path.c_str(), &how, sizeof how);
}

TEST(open, CreatesWithUmaskAndTruncates) {
  Scratch dir;
  mode_t old = umask(027);
  Fd fd(syscall(SYS_open, (dir / "f").c_str(), O_CREAT | O_WRONLY, 0666));
  umask(old);
  ASSERT_OK(fd.get());
  EXPECT_EQ(ModeOf(dir / "f"), 0640u);
  EXPECT_EQ(write(fd, "abc", 3), 3);
  Fd again(syscall(SYS_open, (dir / "f").c_str(), O_WRONLY | O_TRUNC));
  EXPECT_EQ(ReadFile(dir / "f"), "");
}

TEST(open, ExclusiveCreation) {
  Scratch dir;
  Fd fd(syscall(SYS_open, (dir / "f").c_str(), O_CREAT | O_EXCL | O_RDWR, 0600));
  ASSERT_OK(fd.get());
  EXPECT_ERRNO(EEXIST, syscall(SYS_open, (dir / "f").c_str(), O_CREAT | O_EXCL | O_RDWR, 0600));
  ASSERT_OK(symlink("nowhere", (dir / "l").c_str()));
  EXPECT_ERRNO(EEXIST, syscall(SYS_open, (dir / "l").c_str(), O_CREAT | O_EXCL | O_RDWR, 0600));
  EXPECT_FALSE(Exists(dir / "nowhere"));
}

TEST(open, CreatesThroughADanglingSymlink) {
  Scratch dir;
  ASSERT_OK(symlink("target", (dir / "l").c_str()));
  Fd fd(syscall(SYS_open, (dir / "l").c_str(), O_CREAT | O_WRONLY, 0600));
  ASSERT_OK(fd.get());
  EXPECT_TRUE(Exists(dir / "target"));
}

TEST(open, Errors) {
  Scratch dir;
  dir.File("f");
  ASSERT_OK(symlink("loop", (dir / "loop").c_str()));
  EXPECT_ERRNO(ENOENT, syscall(SYS_open, (dir / "none").c_str(), O_RDONLY));
  EXPECT_ERRNO(ENOENT, syscall(SYS_open, (dir / "none/x").c_str(), O_RDWR | O_CREAT, 0600));
  EXPECT_ERRNO(ENOENT, syscall(SYS_open, "", O_RDONLY));
  EXPECT_ERRNO(ENOTDIR, syscall(SYS_open, (dir / "f/x").c_str(), O_RDONLY));
  EXPECT_ERRNO(ENOTDIR, syscall(SYS_open, (dir / "f/").c_str(), O_RDONLY));
  EXPECT_ERRNO(ENOTDIR, syscall(SYS_open, (dir / "f").c_str(), O_RDONLY | O_DIRECTORY));
  EXPECT_ERRNO(EISDIR, syscall(SYS_open, dir.c_str(), O_WRONLY));
  EXPECT_ERRNO(EISDIR, syscall(SYS_open, dir.c_str(), O_RDONLY | O_CREAT, 0600));
  EXPECT_ERRNO(EISDIR, syscall(SYS_open, (dir / "new/").c_str(), O_RDWR | O_CREAT, 0600));
  EXPECT_ERRNO(ELOOP, syscall(SYS_open, (dir / "loop").c_str(), O_RDONLY));
  EXPECT_ERRNO(EFAULT, syscall(SYS_open, BadPointer(), O_RDONLY));
  EXPECT_ERRNO(ENAMETOOLONG, syscall(SYS_open, (dir / std::string(256, 'n')).c_str(), O_RDONLY));
  EXPECT_ERRNO(ENAMETOOLONG, syscall(SYS_open, std::string(4096, '/').c_str(), O_RDONLY));
  EXPECT_OK(Fd(syscall(SYS_open, std::string(4095, '/').c_str(), O_RDONLY)).get());
}

TEST(open, NoFollowAndPath) {
  Scratch dir;
  dir.File("f", "data");
  ASSERT_OK(symlink("f", (dir / "l").c_str()));
  EXPECT_ERRNO(ELOOP, syscall(SYS_open, (dir / "l").c_str(), O_RDONLY | O_NOFOLLOW));
  Fd link(syscall(SYS_open, (dir / "l").c_str(), O_PATH | O_NOFOLLOW));
  ASSERT_OK(link.get());
  struct stat st;
  ASSERT_OK(fstat(link, &st));
  EXPECT_TRUE(S_ISLNK(st.st_mode));
  char target[8] = {};
  EXPECT_EQ(readlinkat(link, "", target, sizeof target), 1);
  Fd path(syscall(SYS_open, (dir / "f").c_str(), O_PATH));
  EXPECT_ERRNO(EBADF, fchmod(path, 0600));
  EXPECT_EQ(fcntl(path, F_GETFL) & O_PATH, O_PATH);
}

TEST(open, TrailingSlashFollowsTheLink) {
  Scratch dir;
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  ASSERT_OK(symlink("d", (dir / "l").c_str()));
  EXPECT_OK(Fd(syscall(SYS_open, (dir / "l/").c_str(), O_RDONLY | O_NOFOLLOW)).get());
}

TEST(open, LowestFreeDescriptor) {
  Fd a(open("/dev/null", O_RDONLY)), b(open("/dev/null", O_RDONLY));
  int low = a;
  a.reset();
  Fd c(syscall(SYS_open, "/dev/null", O_RDONLY));
  EXPECT_EQ(c.get(), low);
}

TEST(open, DescriptorLimit) {
  IN_CHILD([&] {
    rlimit lim = {20, 20};
    CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &lim) == 0);
    int last = -1;
    int fd;
    while ((fd = syscall(SYS_open, "/dev/null", O_RDONLY)) >= 0) last = fd;
    CHILD_CHECK(errno == EMFILE);
    CHILD_CHECK(last == 19);
    CHILD_CHECK(dup(0) == -1 && errno == EMFILE);
    CHILD_CHECK(fcntl(0, F_DUPFD, 20) == -1 && errno == EINVAL);
  });
}

TEST(open, NumbersAboveALoweredLimitDoNotCount) {
  IN_CHILD([&] {
    for (int fd = 20; fd < 60; ++fd) CHILD_CHECK(dup2(0, fd) == fd);
    rlimit lim = {20, 20};
    CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &lim) == 0);
    const int fd = static_cast<int>(syscall(SYS_open, "/dev/null", O_RDONLY));
    CHILD_CHECK(fd >= 0 && fd < 20);
    CHILD_CHECK(dup(0) > fd);
    while (syscall(SYS_open, "/dev/null", O_RDONLY) >= 0) {
    }
    CHILD_CHECK(errno == EMFILE);
    CHILD_CHECK(close(59) == 0 && open("/dev/null", O_RDONLY) == -1 && errno == EMFILE);
    CHILD_CHECK(close(7) == 0 && open("/dev/null", O_RDONLY) == 7);
  });
}

TEST(open, ModeZeroStillWritableByItsCreator) {
  Scratch dir;
  Fd fd(syscall(SYS_open, (dir / "f").c_str(), O_CREAT | O_RDWR, 0));
  ASSERT_OK(fd.get());
  EXPECT_EQ(write(fd, "x", 1), 1);
  if (IsRoot()) {
    EXPECT_OK(Fd(syscall(SYS_open, (dir / "f").c_str(), O_RDONLY)).get());
  } else {
    EXPECT_ERRNO(EACCES, syscall(SYS_open, (dir / "f").c_str(), O_RDONLY));
  }
}

TEST(open, TmpfileHasNoNameUntilLinked) {
  Scratch dir;
  Fd fd(syscall(SYS_open, dir.c_str(), O_TMPFILE | O_RDWR, 0600));
  ASSERT_OK(fd.get());
  struct stat st;
  ASSERT_OK(fstat(fd, &st));
  EXPECT_EQ(st.st_nlink, 0u);
  EXPECT_EQ(write(fd, "tmp", 3), 3);
  std::string self = "/proc/self/fd/" + std::to_string(fd.get());
  EXPECT_OK(linkat(AT_FDCWD, self.c_str(), AT_FDCWD, (dir / "named").c_str(), AT_SYMLINK_FOLLOW));
  EXPECT_EQ(ReadFile(dir / "named"), "tmp");
  ASSERT_OK(fstat(fd, &st));
  EXPECT_EQ(st.st_nlink, 1u);
  EXPECT_ERRNO(EINVAL, syscall(SYS_open, dir.c_str(), O_TMPFILE | O_RDONLY, 0600));
  Fd excl(syscall(SYS_open, dir.c_str(), O_TMPFILE | O_EXCL | O_RDWR, 0600));
  self = "/proc/self/fd/" + std::to_string(excl.get());
  EXPECT_ERRNO(ENOENT,
               linkat(AT_FDCWD, self.c_str(), AT_FDCWD, (dir / "no").c_str(), AT_SYMLINK_FOLLOW));
}

TEST(openat, RelativeToDirectory) {
  Scratch dir;
  dir.File("f", "x");
  Fd d = dir.Dir();
  EXPECT_OK(Fd(syscall(SYS_openat, d.get(), "f", O_RDONLY)).get());
  EXPECT_OK(Fd(syscall(SYS_openat, kBadFd, (dir / "f").c_str(), O_RDONLY)).get())
      << "an absolute path ignores the directory";
  EXPECT_ERRNO(EBADF, syscall(SYS_openat, kBadFd, "f", O_RDONLY));
  Fd file(open((dir / "f").c_str(), O_RDONLY));
  EXPECT_ERRNO(ENOTDIR, syscall(SYS_openat, file.get(), "f", O_RDONLY));
  Fd path(open(dir.c_str(), O_PATH | O_DIRECTORY));
  EXPECT_OK(Fd(syscall(SYS_openat, path.get(), "f", O_RDONLY)).get());
  EXPECT_ERRNO(ENOENT, syscall(SYS_openat, d.get(), "", O_RDONLY));
}

TEST(openat, DeletedDirectory) {
  Scratch dir;
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  Fd d(open((dir / "d").c_str(), O_RDONLY | O_DIRECTORY));
  ASSERT_OK(rmdir((dir / "d").c_str()));
  EXPECT_ERRNO(ENOENT, syscall(SYS_openat, d.get(), "f", O_CREAT | O_RDWR, 0600));
}

TEST(creat, IsWriteOnlyAndTruncates) {
  Scratch dir;
  dir.File("f", "old");
  Fd fd(syscall(SYS_creat, (dir / "f").c_str(), 0600));
  ASSERT_OK(fd.get());
  EXPECT_EQ(ReadFile(dir / "f"), "");
  EXPECT_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_WRONLY);
  EXPECT_ERRNO(EISDIR, syscall(SYS_creat, dir.c_str(), 0600));
}

TEST(openat2, ResolveBeneath) {
  Scratch dir;
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  dir.File("d/in", "x");
  dir.File("out", "x");
  ASSERT_OK(symlink("../out", (dir / "d/up").c_str()));
  ASSERT_OK(symlink("/etc", (dir / "d/abs").c_str()));
  Fd d(open((dir / "d").c_str(), O_PATH));
  EXPECT_OK(Fd(Openat2(d, "in", O_RDONLY, RESOLVE_BENEATH)).get());
  EXPECT_OK(Fd(Openat2(d, "../d/in", O_RDONLY, 0)).get());
  EXPECT_ERRNO(EXDEV, Openat2(d, "../d/in", O_RDONLY, RESOLVE_BENEATH));
  EXPECT_ERRNO(EXDEV, Openat2(d, "up", O_RDONLY, RESOLVE_BENEATH));
  EXPECT_ERRNO(EXDEV, Openat2(d, "abs", O_RDONLY, RESOLVE_BENEATH));
  EXPECT_ERRNO(EXDEV, Openat2(d, "/etc", O_RDONLY, RESOLVE_BENEATH));
}

TEST(openat2, ResolveInRootAndNoSymlinks) {
  Scratch dir;
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  dir.File("d/in", "x");
  ASSERT_OK(symlink("/in", (dir / "d/abs").c_str()));
  Fd d(open((dir / "d").c_str(), O_PATH));
  EXPECT_OK(Fd(Openat2(d, "abs", O_RDONLY, RESOLVE_IN_ROOT)).get());
  EXPECT_OK(Fd(Openat2(d, "/../../in", O_RDONLY, RESOLVE_IN_ROOT)).get());
  EXPECT_ERRNO(ELOOP, Openat2(d, "abs", O_RDONLY, RESOLVE_NO_SYMLINKS));
  EXPECT_ERRNO(ELOOP, Openat2(AT_FDCWD, "/proc/self/fd/" + std::to_string(d.get()), O_RDONLY,
                              RESOLVE_NO_MAGICLINKS));
  EXPECT_ERRNO(EXDEV, Openat2(AT_FDCWD, "/proc/self/status", O_RDONLY, RESOLVE_NO_XDEV));
}

TEST(openat2, ChecksItsArguments) {
  Scratch dir;
  dir.File("f");
  open_how how = {};
  how.flags = O_RDONLY;
  std::string f = dir / "f";
  EXPECT_OK(Fd(syscall(SYS_openat2, AT_FDCWD, f.c_str(), &how, sizeof how)).get());
  EXPECT_ERRNO(EINVAL, syscall(SYS_openat2, AT_FDCWD, f.c_str(), &how, sizeof how - 1));
  EXPECT_ERRNO(EFAULT, syscall(SYS_openat2, AT_FDCWD, f.c_str(), BadPointer(), sizeof how));
  struct {
    open_how how;
    uint64_t more;
  } big = {};
  EXPECT_OK(Fd(syscall(SYS_openat2, AT_FDCWD, f.c_str(), &big, sizeof big)).get());
  big.more = 1;
  EXPECT_ERRNO(E2BIG, syscall(SYS_openat2, AT_FDCWD, f.c_str(), &big, sizeof big));
  EXPECT_ERRNO(EINVAL, Openat2(AT_FDCWD, f, 1ull << 40, 0));
  EXPECT_ERRNO(EINVAL, Openat2(AT_FDCWD, f, O_RDONLY, 1ull << 40));
  EXPECT_ERRNO(EINVAL, Openat2(AT_FDCWD, f, O_RDONLY, 0, 0600)) << "a mode without O_CREAT";
  EXPECT_ERRNO(EINVAL, Openat2(AT_FDCWD, f, O_RDWR | O_CREAT, 0, 0200000));
  EXPECT_ERRNO(EINVAL, Openat2(AT_FDCWD, f, O_RDONLY, RESOLVE_BENEATH | RESOLVE_IN_ROOT));
}

TEST(close, ReleasesTheDescriptor) {
  int fd = open("/dev/null", O_RDONLY);
  EXPECT_OK(syscall(SYS_close, fd));
  EXPECT_ERRNO(EBADF, syscall(SYS_close, fd));
  EXPECT_ERRNO(EBADF, syscall(SYS_close, -1));
  EXPECT_ERRNO(EBADF, fcntl(fd, F_GETFD));
}

TEST(close_range, ClosesExactlyTheRange) {
  IN_CHILD([&] {
    for (int i = 0; i < 5; i++) CHILD_CHECK(dup2(0, 100 + i) == 100 + i);
    CHILD_CHECK(syscall(SYS_close_range, 101, 103, 0) == 0);
    CHILD_CHECK(fcntl(100, F_GETFD) == 0);
    for (int i = 101; i <= 103; i++) CHILD_CHECK(fcntl(i, F_GETFD) == -1);
    CHILD_CHECK(fcntl(104, F_GETFD) == 0);
    CHILD_CHECK(syscall(SYS_close_range, 100, 104, CLOSE_RANGE_CLOEXEC) == 0);
    CHILD_CHECK(fcntl(100, F_GETFD) == FD_CLOEXEC);
    CHILD_CHECK(syscall(SYS_close_range, 104, 103, 0) == -1 && errno == EINVAL);
    CHILD_CHECK(syscall(SYS_close_range, 104, 105, 64) == -1 && errno == EINVAL);
    CHILD_CHECK(syscall(SYS_close_range, 99, ~0u, CLOSE_RANGE_UNSHARE) == 0);
    CHILD_CHECK(fcntl(104, F_GETFD) == -1 && errno == EBADF);
  });
}

TEST(open, DirectlyOnlyWhatHasPages) {
  COVERS(fcntl);
  Scratch dir;
  const std::string fifo = dir / "fifo";
  ASSERT_OK(mkfifo(fifo.c_str(), 0600));
  EXPECT_ERRNO(ENXIO, open(fifo.c_str(), O_WRONLY | O_NONBLOCK | O_DIRECT)) << "the reader first";
  EXPECT_ERRNO(EINVAL, open(fifo.c_str(), O_RDONLY | O_NONBLOCK | O_DIRECT));
  EXPECT_ERRNO(ENXIO, open(fifo.c_str(), O_WRONLY | O_NONBLOCK)) << "it did not stay open";
  EXPECT_ERRNO(EINVAL, open("/dev/null", O_RDONLY | O_DIRECT));
  EXPECT_ERRNO(EINVAL, open("/", O_RDONLY | O_DIRECT));
  Fd r(open(fifo.c_str(), O_RDONLY | O_NONBLOCK)), null(open("/dev/null", O_RDONLY));
  Fd folder = dir.Dir();
  EXPECT_OK(fcntl(r, F_SETFL, O_NONBLOCK | O_DIRECT)) << "packets, of a pipe";
  EXPECT_ERRNO(EINVAL, fcntl(null, F_SETFL, O_DIRECT));
  EXPECT_ERRNO(EINVAL, fcntl(folder, F_SETFL, O_DIRECT));
  EXPECT_OK(Fd(open(fifo.c_str(), O_PATH | O_DIRECT)).get()) << "not opened at all";
}

TEST(open, TruncationTakesWhatMakesProgramsPrivileged) {
  COVERS(fchmod);
  if (IsRoot()) GTEST_SKIP() << "root keeps it (CAP_FSETID)";
  Scratch dir;
  const std::string path = dir.File("f", "abc");
  for (auto [before, after] : {std::pair{06711, 0711}, std::pair{06700, 02700}}) {
    ASSERT_OK(chmod(path.c_str(), before));
    Fd f(open(path.c_str(), O_WRONLY | O_TRUNC));
    ASSERT_OK(f.get());
    struct stat st;
    ASSERT_OK(fstat(f, &st));
    EXPECT_EQ(st.st_mode & 07777, static_cast<mode_t>(after));
  }
}

}  // namespace
}  // namespace uk::test
