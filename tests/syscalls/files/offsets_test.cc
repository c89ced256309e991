// Where transfers begin and end: offsets that wrap around, limits of size, writes that fault,
// copies into pipes. Found by the differential oracle (tests/oracle).
#include <linux/falloc.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/xattr.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

TEST(read, MustEndWhereThereAreOffsets) {
  COVERS(write, writev, readv, lseek, pread64);
  Fd f(memfd_create("f", 0));
  ASSERT_EQ(lseek(f, INT64_MAX, SEEK_SET), INT64_MAX);
  char c[2] = {};
  struct iovec v {
    c, 1
  };
  EXPECT_ERRNO(EINVAL, read(f, c, 1));
  EXPECT_ERRNO(EINVAL, write(f, c, 1));
  EXPECT_ERRNO(EINVAL, readv(f, &v, 1));
  EXPECT_ERRNO(EINVAL, writev(f, &v, 1));
  EXPECT_ERRNO(EINVAL, pread(f, c, 2, INT64_MAX - 1));
  EXPECT_EQ(pread(f, c, 1, INT64_MAX - 1), 0);
}

TEST(copy_file_range, OffsetsThatWrapAround) {
  Fd f(memfd_create("f", 0));
  ASSERT_OK(ftruncate(f, 100));
  loff_t from = -1, to = 200;
  EXPECT_ERRNO(EOVERFLOW, copy_file_range(f, &from, f, &to, 10, 0));
  EXPECT_ERRNO(EINVAL, copy_file_range(f, &from, f, &to, 0, 0));
  from = 0, to = -1;
  EXPECT_ERRNO(EOVERFLOW, copy_file_range(f, &from, f, &to, 10, 0));
}

TEST(fallocate, RoomBeyondTheEndCountsAsSize) {
  Fd f(memfd_create("f", 0));
  ASSERT_OK(ftruncate(f, 100));
  IN_CHILD([&] {
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit {
      4096, 4096
    };
    CHILD_CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHILD_CHECK(fallocate(f, FALLOC_FL_KEEP_SIZE, 4096, 1) == -1 && errno == EFBIG);
    CHILD_CHECK(fallocate(f, FALLOC_FL_KEEP_SIZE, 4095, 1) == 0);
  });
  Fd sealed(memfd_create("f", MFD_ALLOW_SEALING));
  ASSERT_OK(fcntl(sealed, F_ADD_SEALS, F_SEAL_GROW));
  EXPECT_ERRNO(EPERM, fallocate(sealed, FALLOC_FL_KEEP_SIZE, 0, 1));
}

TEST(fallocate, RoomIsAHoleUntilItIsUsed) {
  COVERS(lseek);
  Fd f(memfd_create("f", 0));
  ASSERT_OK(fallocate(f, 0, 0, 4 * 4096));
  EXPECT_EQ(lseek(f, 0, SEEK_HOLE), 0);
  EXPECT_ERRNO(ENXIO, lseek(f, 0, SEEK_DATA));
  ASSERT_EQ(pwrite(f, "x", 1, 4096), 1);
  EXPECT_EQ(lseek(f, 0, SEEK_DATA), 4096);
  EXPECT_EQ(lseek(f, 4096, SEEK_HOLE), 2 * 4096);
  char* m = static_cast<char*>(mmap(nullptr, 4096, PROT_READ, MAP_SHARED, f, 3 * 4096));
  ASSERT_NE(m, MAP_FAILED);
  EXPECT_EQ(*static_cast<volatile char*>(m), 0);
  EXPECT_EQ(lseek(f, 2 * 4096, SEEK_DATA), 3 * 4096) << "a mapped page is used";
  munmap(m, 4096);
}

TEST(fallocate, IsAModification) {
  COVERS(ftruncate);
  Fd f(memfd_create("f", 0));
  struct timespec old[2] = {{1, 0}, {1, 0}};
  ASSERT_OK(futimens(f, old));
  ASSERT_OK(fallocate(f, FALLOC_FL_KEEP_SIZE, 0, 1));
  struct stat st = {};
  ASSERT_OK(fstat(f, &st));
  EXPECT_GT(st.st_mtime, 1000);
  ASSERT_OK(fchmod(f, 06755));
  ASSERT_OK(ftruncate(f, 0));
  ASSERT_OK(fstat(f, &st));
  EXPECT_EQ(st.st_mode & 07777, IsRoot() ? 06755u : 0755u);
}

TEST(pwritev2, NothingIsWrittenInAnyWay) {
  COVERS(preadv2);
  Fd f(memfd_create("f", 0));
  struct iovec v {
    nullptr, 0
  };
  EXPECT_EQ(pwritev2(f, &v, 1, 0, 0x40000000), 0);
  EXPECT_EQ(preadv2(f, &v, 1, 0, 0x40000000), 0);
  char c = 'x';
  v = {&c, 1};
  EXPECT_ERRNO(EOPNOTSUPP, pwritev2(f, &v, 1, 0, 0x40000000));
}

TEST(tee, SomebodyMustReadEvenNothing) {
  Pipe in(O_NONBLOCK), out(O_NONBLOCK);
  in.w.reset();
  EXPECT_EQ(tee(in.r, out.w, 1, 0), 0);
  out.r.reset();
  IN_CHILD([&] {
    signal(SIGPIPE, SIG_IGN);
    CHILD_CHECK(tee(in.r, out.w, 1, 0) == -1 && errno == EPIPE);
    CHILD_CHECK(splice(in.r, nullptr, out.w, nullptr, 1, 0) == -1 && errno == EPIPE);
  });
}

TEST(truncate, WhatItIsBeforeHowLong) {
  Scratch dir;
  Fd f = dir.Open("f", std::string(200, 'x'));
  IN_CHILD([&] {
    struct rlimit limit {
      100, 100
    };
    CHILD_CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHILD_CHECK(truncate(dir.c_str(), 1000) == -1 && errno == EISDIR);
    CHILD_CHECK(truncate((dir / "f").c_str(), 150) == 0);  // not longer than it was
    signal(SIGXFSZ, SIG_IGN);
    CHILD_CHECK(truncate((dir / "f").c_str(), 151) == -1 && errno == EFBIG);
  });
}

// Since Linux 6.16; before, memory was looked at first.
TEST(pwrite64, AFaultLeavesTheFileAsLongAsToItsPlace) {
  Fd f(memfd_create("f", 0));
  EXPECT_ERRNO(EFAULT, pwrite(f, Bad<char>(), 10, 100));
  struct stat st = {};
  ASSERT_OK(fstat(f, &st));
  if (st.st_size == 0) GTEST_SKIP() << "the host's Linux is older than 6.16";
  EXPECT_EQ(st.st_size, 100);
  EXPECT_EQ(st.st_blocks, 8);
}

TEST(ioctl, FionreadBeyondTheEndIsNegative) {
  Fd f(memfd_create("f", 0));
  ASSERT_OK(ftruncate(f, 100));
  ASSERT_EQ(lseek(f, 300, SEEK_SET), 300);
  int left = 0;
  ASSERT_OK(ioctl(f, FIONREAD, &left));
  EXPECT_EQ(left, -200);
}

TEST(sendfile, IntoAPipeIsASplice) {
  Pipe p;
  ASSERT_OK(fcntl(p.w, F_SETPIPE_SZ, 4096));
  Fd f(memfd_create("f", 0));
  ASSERT_OK(ftruncate(f, 10000));
  EXPECT_EQ(sendfile(p.w, f, nullptr, 10000), 4096) << "what fits, though the pipe may block";
  EXPECT_EQ(lseek(f, 0, SEEK_CUR), 4096);
  Pipe to(O_NONBLOCK);
  int s[2];
  ASSERT_OK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, s));
  Fd a(s[0]), b(s[1]);
  EXPECT_ERRNO(EAGAIN, sendfile(to.w, a, nullptr, 10));
  ASSERT_EQ(write(b, "text", 4), 4);
  EXPECT_EQ(sendfile(to.w, a, nullptr, 10), 4);
  EXPECT_ERRNO(EINVAL, sendfile(to.w, p.r, nullptr, 10)) << "a pipe cannot be spliced from so";
  ASSERT_OK(fcntl(to.w, F_SETPIPE_SZ, 4096));
  EXPECT_ERRNO(EAGAIN, write(to.w, "x", 1)) << "what was spliced in grows no more";
}

TEST(vmsplice, NothingIsDoneToAnything) {
  Fd f(memfd_create("f", 0));
  struct iovec none {
    nullptr, 0
  };
  EXPECT_EQ(vmsplice(f, &none, 1, 0), 0);
  Fd path(open("/", O_PATH));
  EXPECT_ERRNO(EBADF, vmsplice(path, &none, 1, 0));
}

TEST(vmsplice, OutOfAPipeKnowsNoPackets) {
  Pipe p(O_DIRECT);
  ASSERT_EQ(write(p.w, "ab", 2), 2);
  ASSERT_EQ(write(p.w, "cd", 2), 2);
  char got[8] = {};
  struct iovec v {
    got, sizeof got
  };
  EXPECT_EQ(vmsplice(p.r, &v, 1, 0), 4);
  EXPECT_STREQ(got, "abcd");
}

TEST(renameat2, TheFirstNameIsLookedUpBeforeTheSecondIsRead) {
  COVERS(linkat);
  Scratch dir;
  dir.File("f");
  Fd d = dir.Dir();
  const std::string too_long(256, 'x');
  EXPECT_ERRNO(ENOENT, renameat2(d, "none", d, too_long.c_str(), 0));
  EXPECT_ERRNO(ENAMETOOLONG, renameat2(d, "f", d, too_long.c_str(), 0));
  EXPECT_ERRNO(ENOENT, renameat2(d, "no/f", d, Bad<char>(), 0));
  EXPECT_ERRNO(EFAULT, renameat2(d, "none", d, Bad<char>(), 0));
  EXPECT_ERRNO(ENOTDIR, renameat2(d, "f/f", d, "", 0));
  EXPECT_ERRNO(ENOENT, renameat2(d, "f", d, "", 0));
}

TEST(symlink, LongTargetsHaveABlock) {
  Fd shm(open("/dev/shm", O_RDONLY | O_DIRECTORY));
  if (shm.get() < 0) GTEST_SKIP() << "no tmpfs";
  const std::string name = "ukt-link." + std::to_string(getpid());
  for (auto [length, blocks] : {std::pair(127, 0), std::pair(128, 8)}) {
    ASSERT_OK(symlinkat(std::string(static_cast<size_t>(length), 'x').c_str(), shm, name.c_str()));
    struct stat st = {};
    ASSERT_OK(fstatat(shm, name.c_str(), &st, AT_SYMLINK_NOFOLLOW));
    EXPECT_EQ(st.st_blocks, blocks) << length;
    ASSERT_OK(unlinkat(shm, name.c_str(), 0));
  }
}

TEST(readlinkat, FollowingIsReading) {
  COVERS(utimensat, openat);
  Fd shm(open("/dev/shm", O_RDONLY | O_DIRECTORY));
  if (shm.get() < 0) GTEST_SKIP() << "no tmpfs";
  const std::string name = "ukt-link." + std::to_string(getpid());
  ASSERT_OK(symlinkat("no-such-file", shm, name.c_str()));
  struct timespec old[2] = {{1, 0}, {2, 0}};
  EXPECT_OK(utimensat(shm, name.c_str(), old, AT_SYMLINK_NOFOLLOW));
  EXPECT_ERRNO(ENOENT, openat(shm, name.c_str(), O_RDONLY));
  struct stat st = {};
  EXPECT_OK(fstatat(shm, name.c_str(), &st, AT_SYMLINK_NOFOLLOW));
  EXPECT_GT(st.st_atime, 2);
  EXPECT_EQ(st.st_mtime, 2);
  ASSERT_OK(unlinkat(shm, name.c_str(), 0));
}

TEST(getxattr, RightsBeforeNamesThatNobodyKnows) {
  COVERS(setxattr);
  Scratch dir;
  const std::string file = dir.File("f", "", 0);
  char c;
  EXPECT_ERRNO(IsRoot() ? EOPNOTSUPP : EACCES, getxattr(file.c_str(), "other.a", &c, 1));
  EXPECT_ERRNO(IsRoot() ? EOPNOTSUPP : EACCES, setxattr(file.c_str(), "user", &c, 1, 0));
  EXPECT_ERRNO(EOPNOTSUPP, getxattr(file.c_str(), "system.a", &c, 1));
}

TEST(preadv2, DirectoriesKnowNoFlags) {
  Scratch dir;
  Fd d = dir.Dir();
  char c;
  struct iovec v {
    &c, 1
  };
  EXPECT_ERRNO(EISDIR, preadv2(d, &v, 1, 0, 0));
  EXPECT_ERRNO(EOPNOTSUPP, preadv2(d, &v, 1, 0, RWF_DSYNC));
}

TEST(fsetxattr, SeveralLargeOnesFit) {
  Fd f(memfd_create("f", 0));
  const std::string value(65536, 'v');
  if (fsetxattr(f, "user.a", value.data(), value.size(), 0) != 0) {
    GTEST_SKIP() << "the host's tmpfs has no user attributes (before Linux 6.6)";
  }
  EXPECT_OK(fsetxattr(f, "user.b", value.data(), value.size(), 0));
  EXPECT_OK(fsetxattr(f, "user.c", value.data(), value.size(), 0));
}

}  // namespace
}  // namespace uk::test
