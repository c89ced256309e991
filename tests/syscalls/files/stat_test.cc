// stat, lstat, fstat, newfstatat, statx, statfs, fstatfs.
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

TEST(stat, DescribesARegularFile) {
  Scratch dir;
  std::string f = dir.File("f", "12345", 0640);
  struct stat st;
  ASSERT_OK(syscall(SYS_stat, f.c_str(), &st));
  EXPECT_TRUE(S_ISREG(st.st_mode));
  EXPECT_EQ(st.st_mode & 07777, 0640u);
  EXPECT_EQ(st.st_size, 5);
  EXPECT_EQ(st.st_nlink, 1u);
  EXPECT_EQ(st.st_uid, geteuid());
  EXPECT_EQ(st.st_gid, getegid());
  EXPECT_GT(st.st_blksize, 0);
  EXPECT_NE(st.st_ino, 0u);
  struct stat d;
  ASSERT_OK(syscall(SYS_stat, dir.c_str(), &d));
  EXPECT_TRUE(S_ISDIR(d.st_mode));
  EXPECT_EQ(d.st_dev, st.st_dev);
  EXPECT_NE(d.st_ino, st.st_ino);
}

TEST(stat, FollowsLinks) {
  Scratch dir;
  std::string f = dir.File("f", "12345");
  ASSERT_OK(symlink("f", (dir / "l").c_str()));
  struct stat a, b, l;
  ASSERT_OK(syscall(SYS_stat, f.c_str(), &a));
  ASSERT_OK(syscall(SYS_stat, (dir / "l").c_str(), &b));
  EXPECT_EQ(a.st_ino, b.st_ino);
  ASSERT_OK(syscall(SYS_lstat, (dir / "l").c_str(), &l));
  EXPECT_TRUE(S_ISLNK(l.st_mode));
  EXPECT_EQ(l.st_size, 1);
  EXPECT_EQ(l.st_mode & 07777, 0777u);
}

TEST(stat, Errors) {
  Scratch dir;
  std::string f = dir.File("f");
  struct stat st;
  EXPECT_ERRNO(ENOENT, syscall(SYS_stat, (dir / "none").c_str(), &st));
  EXPECT_ERRNO(ENOENT, syscall(SYS_stat, "", &st));
  EXPECT_ERRNO(ENOTDIR, syscall(SYS_stat, (f + "/x").c_str(), &st));
  EXPECT_ERRNO(EFAULT, syscall(SYS_stat, BadPointer(), &st));
  EXPECT_ERRNO(EFAULT, syscall(SYS_stat, f.c_str(), BadPointer()));
  EXPECT_ERRNO(ENAMETOOLONG, syscall(SYS_stat, std::string(5000, 'x').c_str(), &st));
}

TEST(stat, SearchPermissionIsNeeded) {
  Scratch dir;
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  dir.File("d/f");
  ASSERT_OK(chmod((dir / "d").c_str(), 0600));
  struct stat st;
  if (IsRoot()) {
    EXPECT_OK(syscall(SYS_stat, (dir / "d/f").c_str(), &st));
  } else {
    EXPECT_ERRNO(EACCES, syscall(SYS_stat, (dir / "d/f").c_str(), &st));
  }
}

TEST(lstat, TrailingSlashFollows) {
  Scratch dir;
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  ASSERT_OK(symlink("d", (dir / "l").c_str()));
  struct stat st;
  ASSERT_OK(syscall(SYS_lstat, (dir / "l/").c_str(), &st));
  EXPECT_TRUE(S_ISDIR(st.st_mode));
  EXPECT_ERRNO(EFAULT, syscall(SYS_lstat, BadPointer(), &st));
  EXPECT_ERRNO(ENOENT, syscall(SYS_lstat, (dir / "no").c_str(), &st));
}

TEST(fstat, WorksOnEveryKindOfDescriptor) {
  struct stat st;
  Pipe p;
  ASSERT_OK(syscall(SYS_fstat, p.r.get(), &st));
  EXPECT_TRUE(S_ISFIFO(st.st_mode));
  Fd null(open("/dev/null", O_RDONLY));
  ASSERT_OK(syscall(SYS_fstat, null.get(), &st));
  EXPECT_TRUE(S_ISCHR(st.st_mode));
  EXPECT_EQ(st.st_rdev, makedev(1, 3));
  EXPECT_ERRNO(EBADF, syscall(SYS_fstat, kBadFd, &st));
  EXPECT_ERRNO(EFAULT, syscall(SYS_fstat, p.r.get(), BadPointer()));
}

TEST(fstat, UnlinkedFileLivesOn) {
  Scratch dir;
  Fd fd = dir.Open("f", "abc");
  ASSERT_OK(unlink((dir / "f").c_str()));
  struct stat st;
  ASSERT_OK(syscall(SYS_fstat, fd.get(), &st));
  EXPECT_EQ(st.st_nlink, 0u);
  EXPECT_EQ(st.st_size, 3);
}

TEST(newfstatat, EmptyPathAndNoFollow) {
  Scratch dir;
  dir.File("f", "abc");
  ASSERT_OK(symlink("f", (dir / "l").c_str()));
  Fd d = dir.Dir();
  struct stat st;
  ASSERT_OK(syscall(SYS_newfstatat, d.get(), "l", &st, AT_SYMLINK_NOFOLLOW));
  EXPECT_TRUE(S_ISLNK(st.st_mode));
  ASSERT_OK(syscall(SYS_newfstatat, d.get(), "l", &st, 0));
  EXPECT_TRUE(S_ISREG(st.st_mode));
  ASSERT_OK(syscall(SYS_newfstatat, d.get(), "", &st, AT_EMPTY_PATH));
  EXPECT_TRUE(S_ISDIR(st.st_mode));
  EXPECT_ERRNO(ENOENT, syscall(SYS_newfstatat, d.get(), "", &st, 0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_newfstatat, d.get(), "f", &st, 0x40000000));
  EXPECT_ERRNO(EBADF, syscall(SYS_newfstatat, kBadFd, "f", &st, 0));
  EXPECT_ERRNO(EFAULT, syscall(SYS_newfstatat, d.get(), "f", BadPointer(), 0));
}

TEST(statx, GivesTheBasicFields) {
  Scratch dir;
  std::string f = dir.File("f", "12345", 0604);
  struct statx stx = {};
  ASSERT_OK(syscall(SYS_statx, AT_FDCWD, f.c_str(), 0, STATX_BASIC_STATS, &stx));
  EXPECT_EQ(stx.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
  struct stat st;
  ASSERT_OK(stat(f.c_str(), &st));
  EXPECT_EQ(stx.stx_mode, st.st_mode);
  EXPECT_EQ(stx.stx_size, 5u);
  EXPECT_EQ(stx.stx_ino, st.st_ino);
  EXPECT_EQ(stx.stx_nlink, 1u);
  EXPECT_EQ(stx.stx_uid, st.st_uid);
  EXPECT_EQ(makedev(stx.stx_dev_major, stx.stx_dev_minor), st.st_dev);
  EXPECT_EQ(stx.stx_mtime.tv_sec, st.st_mtim.tv_sec);
  EXPECT_EQ(stx.stx_mtime.tv_nsec, st.st_mtim.tv_nsec);
}

TEST(statx, FlagsAndErrors) {
  Scratch dir;
  Fd fd = dir.Open("f", "abc");
  struct statx stx = {};
  EXPECT_OK(syscall(SYS_statx, fd.get(), "", AT_EMPTY_PATH, STATX_SIZE, &stx));
  EXPECT_EQ(stx.stx_size, 3u);
  std::string f = dir / "f";
  EXPECT_ERRNO(ENOENT, syscall(SYS_statx, fd.get(), "", 0, STATX_SIZE, &stx));
  EXPECT_ERRNO(EINVAL, syscall(SYS_statx, AT_FDCWD, f.c_str(), 0, 0x80000000u, &stx));
  EXPECT_ERRNO(EINVAL, syscall(SYS_statx, AT_FDCWD, f.c_str(),
                               AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC, 0, &stx));
  EXPECT_ERRNO(EINVAL, syscall(SYS_statx, AT_FDCWD, f.c_str(), 0x40000000, 0, &stx));
  EXPECT_ERRNO(EFAULT, syscall(SYS_statx, AT_FDCWD, f.c_str(), 0, 0, BadPointer()));
  EXPECT_ERRNO(EBADF, syscall(SYS_statx, kBadFd, "f", 0, 0, &stx));
}

TEST(stat, TimesFollowReadWriteAndChange) {
  Scratch dir;
  std::string f = dir.File("f", "abc");
  timespec old[2] = {{1000, 5}, {2000, 7}};
  ASSERT_OK(utimensat(AT_FDCWD, f.c_str(), old, 0));
  struct stat st;
  ASSERT_OK(stat(f.c_str(), &st));
  EXPECT_EQ(st.st_mtim.tv_sec, 2000);
  EXPECT_EQ(st.st_mtim.tv_nsec, 7);
  EXPECT_GT(st.st_ctim.tv_sec, 2000) << "the change time is now";
  ASSERT_TRUE(WriteFile(f, "more"));
  ASSERT_OK(stat(f.c_str(), &st));
  EXPECT_GT(st.st_mtim.tv_sec, 2000) << "writing renews the modification time";
}

TEST(stat, ExtendingAndPunchingShowInBlocks) {
  Scratch dir;
  Fd fd = dir.Open("f");
  ASSERT_OK(ftruncate(fd, 1 << 20));
  struct stat st;
  ASSERT_OK(fstat(fd, &st));
  EXPECT_EQ(st.st_size, 1 << 20);
  EXPECT_LT(st.st_blocks, 64) << "a hole takes no blocks";
  std::string data(65536, 'x');
  EXPECT_EQ(write(fd, data.data(), data.size()), 65536);
  ASSERT_OK(fsync(fd));
  ASSERT_OK(fstat(fd, &st));
  EXPECT_GE(st.st_blocks, 128);
}

TEST(statfs, DescribesTheFilesystem) {
  COVERS(fstatfs);
  Scratch dir;
  struct statfs a, b;
  ASSERT_OK(syscall(SYS_statfs, dir.c_str(), &a));
  EXPECT_GT(a.f_bsize, 0);
  EXPECT_NE(a.f_type, 0);
  EXPECT_GE(a.f_blocks, a.f_bfree);
  EXPECT_EQ(a.f_namelen, 255);
  Fd fd = dir.Open("f");
  ASSERT_OK(syscall(SYS_fstatfs, fd.get(), &b));
  EXPECT_EQ(a.f_type, b.f_type);
  EXPECT_EQ(memcmp(&a.f_fsid, &b.f_fsid, sizeof a.f_fsid), 0);
  ASSERT_OK(syscall(SYS_statfs, "/proc/self", &a));
  EXPECT_EQ(a.f_type, 0x9fa0) << "PROC_SUPER_MAGIC";
  Pipe p;
  ASSERT_OK(syscall(SYS_fstatfs, p.r.get(), &b));
  EXPECT_EQ(b.f_type, 0x50495045) << "PIPEFS_MAGIC";
  EXPECT_ERRNO(ENOENT, syscall(SYS_statfs, (dir / "none").c_str(), &a));
  EXPECT_ERRNO(EFAULT, syscall(SYS_statfs, dir.c_str(), BadPointer()));
  EXPECT_ERRNO(EBADF, syscall(SYS_fstatfs, kBadFd, &b));
  EXPECT_ERRNO(EFAULT, syscall(SYS_fstatfs, fd.get(), BadPointer()));
}

}  // namespace
}  // namespace uk::test
