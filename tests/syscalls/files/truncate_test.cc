// truncate, ftruncate, fallocate and what makes data durable or cached.
#include <linux/falloc.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

TEST(truncate, ShrinksAndGrowsWithZeros) {
  Scratch dir;
  std::string f = dir.File("f", "0123456789");
  EXPECT_OK(syscall(SYS_truncate, f.c_str(), 4l));
  EXPECT_EQ(ReadFile(f), "0123");
  EXPECT_OK(syscall(SYS_truncate, f.c_str(), 6l));
  EXPECT_EQ(ReadFile(f), std::string("0123\0\0", 6));
}

// As tmpfs has it; other filesystems set the time in both cases.
TEST(ftruncate, ASizeThatStaysIsAModificationByDescriptorOnly) {
  Fd fd(memfd_create("f", 0));
  ASSERT_OK(ftruncate(fd, 5));
  const timespec old[2] = {{100, 0}, {100, 0}};
  struct stat st;
  ASSERT_OK(futimens(fd, old));
  EXPECT_OK(truncate(("/proc/self/fd/" + std::to_string(fd.get())).c_str(), 5));
  ASSERT_OK(fstat(fd, &st));
  EXPECT_EQ(st.st_mtim.tv_sec, 100);
  EXPECT_OK(ftruncate(fd, 5));
  ASSERT_OK(fstat(fd, &st));
  EXPECT_GT(st.st_mtim.tv_sec, 100);
}

TEST(truncate, Errors) {
  Scratch dir;
  std::string f = dir.File("f");
  EXPECT_ERRNO(EINVAL, syscall(SYS_truncate, f.c_str(), -1l));
  EXPECT_ERRNO(EISDIR, syscall(SYS_truncate, dir.c_str(), 0l));
  EXPECT_ERRNO(ENOENT, syscall(SYS_truncate, (dir / "no").c_str(), 0l));
  EXPECT_ERRNO(EFAULT, syscall(SYS_truncate, BadPointer(), 0l));
  if (!IsRoot()) {
    EXPECT_ERRNO(EACCES, syscall(SYS_truncate, "/etc/passwd", 0l));
  }
}

TEST(ftruncate, NeedsAWritableDescriptor) {
  Scratch dir;
  Fd fd = dir.Open("f", "0123456789");
  ASSERT_OK(lseek(fd, 8, SEEK_SET));
  EXPECT_OK(syscall(SYS_ftruncate, fd.get(), 3l));
  EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 8) << "the position stays";
  EXPECT_EQ(write(fd, "x", 1), 1);
  EXPECT_EQ(ReadFile(dir / "f"), std::string("012\0\0\0\0\0x", 9));
  Fd ro(open((dir / "f").c_str(), O_RDONLY));
  EXPECT_ERRNO(EINVAL, syscall(SYS_ftruncate, ro.get(), 0l));
  EXPECT_ERRNO(EINVAL, syscall(SYS_ftruncate, fd.get(), -1l));
  EXPECT_ERRNO(EBADF, syscall(SYS_ftruncate, kBadFd, 0l));
  Pipe p;
  EXPECT_ERRNO(EINVAL, syscall(SYS_ftruncate, p.w.get(), 0l));
}

TEST(ftruncate, MappedTailReadsAsZeroAfterRegrowing) {
  Scratch dir;
  Fd fd = dir.Open("f", std::string(kPage * 2, 'x'));
  auto* m = static_cast<char*>(mmap(nullptr, 2 * kPage, PROT_READ, MAP_SHARED, fd, 0));
  ASSERT_NE(m, MAP_FAILED);
  EXPECT_EQ(m[100], 'x');
  ASSERT_OK(ftruncate(fd, 50));
  EXPECT_EQ(m[49], 'x');
  EXPECT_EQ(m[50], 0);
  ASSERT_OK(ftruncate(fd, 2 * kPage));
  EXPECT_EQ(m[100], 0);
  EXPECT_EQ(m[kPage], 0);
  munmap(m, 2 * kPage);
}

TEST(fallocate, ExtendsUnlessKeepSize) {
  Scratch dir;
  Fd fd = dir.Open("f", "abc");
  EXPECT_OK(syscall(SYS_fallocate, fd.get(), 0, 0l, 100l));
  struct stat st;
  ASSERT_OK(fstat(fd, &st));
  EXPECT_EQ(st.st_size, 100);
  EXPECT_OK(syscall(SYS_fallocate, fd.get(), FALLOC_FL_KEEP_SIZE, 0l, 10000l));
  ASSERT_OK(fstat(fd, &st));
  EXPECT_EQ(st.st_size, 100);
  EXPECT_EQ(ReadFile(dir / "f").substr(0, 4), std::string("abc\0", 4));
}

TEST(fallocate, PunchHole) {
  Scratch dir;
  Fd fd = dir.Open("f", std::string(3 * kPage, 'x'));
  EXPECT_OK(syscall(SYS_fallocate, fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100l,
                    static_cast<long>(kPage)));
  std::string text = ReadFile(dir / "f");
  EXPECT_EQ(text.size(), 3 * kPage);
  EXPECT_EQ(text[99], 'x');
  EXPECT_EQ(text[100], 0);
  EXPECT_EQ(text[kPage + 99], 0);
  EXPECT_EQ(text[kPage + 100], 'x');
}

TEST(fallocate, Errors) {
  Scratch dir;
  Fd fd = dir.Open("f");
  EXPECT_ERRNO(EINVAL, syscall(SYS_fallocate, fd.get(), 0, -1l, 10l));
  EXPECT_ERRNO(EINVAL, syscall(SYS_fallocate, fd.get(), 0, 0l, 0l));
  EXPECT_ERRNO(EOPNOTSUPP, syscall(SYS_fallocate, fd.get(), FALLOC_FL_PUNCH_HOLE, 0l, 10l));
  EXPECT_ERRNO(EBADF, syscall(SYS_fallocate, kBadFd, 0, 0l, 10l));
  Fd ro(open((dir / "f").c_str(), O_RDONLY));
  EXPECT_ERRNO(EBADF, syscall(SYS_fallocate, ro.get(), 0, 0l, 10l));
  Pipe p;
  EXPECT_ERRNO(ESPIPE, syscall(SYS_fallocate, p.w.get(), 0, 0l, 10l));
  EXPECT_ERRNO(EFBIG, syscall(SYS_fallocate, fd.get(), 0, 1l, INT64_MAX));
}

TEST(fsync, AndItsRelatives) {
  COVERS(fdatasync, sync, syncfs, sync_file_range);
  Scratch dir;
  Fd fd = dir.Open("f", "abc");
  EXPECT_OK(syscall(SYS_fsync, fd.get()));
  EXPECT_OK(syscall(SYS_fdatasync, fd.get()));
  EXPECT_OK(syscall(SYS_fsync, dir.Dir().get()));
  EXPECT_OK(syscall(SYS_syncfs, fd.get()));
  EXPECT_OK(syscall(SYS_sync_file_range, fd.get(), 0l, 0l, 7));
  EXPECT_OK(syscall(SYS_sync));
  Pipe p;
  EXPECT_ERRNO(EINVAL, syscall(SYS_fsync, p.w.get()));
  EXPECT_ERRNO(EINVAL, syscall(SYS_fdatasync, p.w.get()));
  EXPECT_ERRNO(EBADF, syscall(SYS_fsync, kBadFd));
  EXPECT_ERRNO(EBADF, syscall(SYS_fdatasync, kBadFd));
  EXPECT_ERRNO(EBADF, syscall(SYS_syncfs, kBadFd));
  EXPECT_ERRNO(ESPIPE, syscall(SYS_sync_file_range, p.w.get(), 0l, 0l, 0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_sync_file_range, fd.get(), 0l, 0l, 64));
  EXPECT_ERRNO(EINVAL, syscall(SYS_sync_file_range, fd.get(), -1l, 0l, 0));
}

TEST(fadvise64, AdviceIsCheckedAndHarmless) {
  COVERS(readahead);
  Scratch dir;
  Fd fd = dir.Open("f", "abc");
  for (int advice = 0; advice <= 5; advice++) {
    EXPECT_OK(syscall(SYS_fadvise64, fd.get(), 0l, 0l, advice));
  }
  EXPECT_EQ(ReadFd(fd), "abc");
  EXPECT_ERRNO(EINVAL, syscall(SYS_fadvise64, fd.get(), 0l, 0l, 99));
  EXPECT_ERRNO(EBADF, syscall(SYS_fadvise64, kBadFd, 0l, 0l, 0));
  Pipe p;
  EXPECT_ERRNO(ESPIPE, syscall(SYS_fadvise64, p.r.get(), 0l, 0l, 0));
  EXPECT_OK(syscall(SYS_readahead, fd.get(), 0l, 4096l));
  EXPECT_ERRNO(EINVAL, syscall(SYS_readahead, p.r.get(), 0l, 4096l));
  EXPECT_ERRNO(EBADF, syscall(SYS_readahead, kBadFd, 0l, 4096l));
}

}  // namespace
}  // namespace uk::test
