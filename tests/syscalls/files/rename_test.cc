// rename, renameat, renameat2.
#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

TEST(rename, MovesAndReplacesFiles) {
  Scratch dir;
  dir.File("a", "A");
  dir.File("b", "B");
  Fd old_b(open((dir / "b").c_str(), O_RDONLY));
  EXPECT_OK(syscall(SYS_rename, (dir / "a").c_str(), (dir / "b").c_str()));
  EXPECT_FALSE(Exists(dir / "a"));
  EXPECT_EQ(ReadFile(dir / "b"), "A");
  EXPECT_EQ(ReadFd(old_b), "B") << "the replaced file lives while open";
}

TEST(rename, SameFileIsANoOp) {
  Scratch dir;
  dir.File("a", "A");
  ASSERT_OK(link((dir / "a").c_str(), (dir / "b").c_str()));
  EXPECT_OK(syscall(SYS_rename, (dir / "a").c_str(), (dir / "b").c_str()));
  EXPECT_TRUE(Exists(dir / "a")) << "two names of one file: nothing happens";
  EXPECT_OK(syscall(SYS_rename, (dir / "a").c_str(), (dir / "a").c_str()));
}

TEST(rename, Directories) {
  Scratch dir;
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  dir.File("d/f", "x");
  ASSERT_OK(mkdir((dir / "e").c_str(), 0755));
  EXPECT_OK(syscall(SYS_rename, (dir / "d").c_str(), (dir / "e").c_str())) << "e is empty";
  EXPECT_EQ(ReadFile(dir / "e/f"), "x");
  ASSERT_OK(mkdir((dir / "g").c_str(), 0755));
  EXPECT_ERRNO(ENOTEMPTY, syscall(SYS_rename, (dir / "g").c_str(), (dir / "e").c_str()));
  EXPECT_ERRNO(EINVAL, syscall(SYS_rename, (dir / "e").c_str(), (dir / "e/sub").c_str()));
  dir.File("f");
  EXPECT_ERRNO(EISDIR, syscall(SYS_rename, (dir / "f").c_str(), (dir / "g").c_str()));
  EXPECT_ERRNO(ENOTDIR, syscall(SYS_rename, (dir / "g").c_str(), (dir / "f").c_str()));
}

TEST(rename, DirectoryMoveUpdatesDotDotAndLinkCounts) {
  Scratch dir;
  ASSERT_OK(mkdir((dir / "a").c_str(), 0755));
  ASSERT_OK(mkdir((dir / "b").c_str(), 0755));
  ASSERT_OK(mkdir((dir / "a/d").c_str(), 0755));
  EXPECT_OK(rename((dir / "a/d").c_str(), (dir / "b/d").c_str()));
  struct stat b, up;
  ASSERT_OK(stat((dir / "b").c_str(), &b));
  ASSERT_OK(stat((dir / "b/d/..").c_str(), &up));
  EXPECT_EQ(b.st_ino, up.st_ino);
  EXPECT_EQ(b.st_nlink, 3u);
  ASSERT_OK(stat((dir / "a").c_str(), &b));
  EXPECT_EQ(b.st_nlink, 2u);
}

TEST(rename, Errors) {
  Scratch dir;
  std::string f = dir.File("f");
  EXPECT_ERRNO(ENOENT, syscall(SYS_rename, (dir / "no").c_str(), (dir / "x").c_str()));
  EXPECT_ERRNO(ENOENT, syscall(SYS_rename, f.c_str(), (dir / "no/x").c_str()));
  EXPECT_ERRNO(ENOTDIR, syscall(SYS_rename, f.c_str(), (f + "/x").c_str()));
  EXPECT_ERRNO(EXDEV, syscall(SYS_rename, f.c_str(), "/proc/self/x"));
  EXPECT_ERRNO(EBUSY, syscall(SYS_rename, (dir / ".").c_str(), (dir / "x").c_str()));
  EXPECT_ERRNO(EFAULT, syscall(SYS_rename, BadPointer(), f.c_str()));
  EXPECT_ERRNO(ENOTDIR, syscall(SYS_rename, (f + "/").c_str(), (dir / "x").c_str()));
  if (!IsRoot()) {
    ASSERT_OK(mkdir((dir / "ro").c_str(), 0500));
    EXPECT_ERRNO(EACCES, syscall(SYS_rename, f.c_str(), (dir / "ro/x").c_str()));
  }
}

TEST(rename, SymlinkItselfIsRenamed) {
  Scratch dir;
  dir.File("f", "x");
  ASSERT_OK(symlink("f", (dir / "l").c_str()));
  EXPECT_OK(syscall(SYS_rename, (dir / "l").c_str(), (dir / "m").c_str()));
  EXPECT_TRUE(Exists(dir / "f"));
  EXPECT_EQ(ReadFile(dir / "m"), "x");
}

TEST(rename, OpenDirectoryStaysUsable) {
  Scratch dir;
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  Fd d(open((dir / "d").c_str(), O_RDONLY));
  ASSERT_OK(rename((dir / "d").c_str(), (dir / "moved").c_str()));
  Fd f(openat(d, "new", O_CREAT | O_WRONLY, 0600));
  ASSERT_OK(f.get());
  EXPECT_TRUE(Exists(dir / "moved/new"));
  char path[4096] = {};
  ASSERT_OK(readlink(("/proc/self/fd/" + std::to_string(d.get())).c_str(), path, sizeof path - 1));
  EXPECT_EQ(path, dir / "moved");
}

TEST(renameat, RelativeToDescriptors) {
  Scratch dir;
  dir.File("a", "A");
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  Fd from = dir.Dir();
  Fd to(open((dir / "d").c_str(), O_PATH));
  EXPECT_OK(syscall(SYS_renameat, from.get(), "a", to.get(), "b"));
  EXPECT_EQ(ReadFile(dir / "d/b"), "A");
  EXPECT_ERRNO(EBADF, syscall(SYS_renameat, kBadFd, "a", to.get(), "b"));
}

TEST(renameat2, NoReplaceAndExchange) {
  Scratch dir;
  dir.File("a", "A");
  dir.File("b", "B");
  std::string a = dir / "a", b = dir / "b";
  EXPECT_ERRNO(EEXIST,
               syscall(SYS_renameat2, AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_NOREPLACE));
  EXPECT_OK(syscall(SYS_renameat2, AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE));
  EXPECT_EQ(ReadFile(a), "B");
  EXPECT_EQ(ReadFile(b), "A");
  EXPECT_OK(
      syscall(SYS_renameat2, AT_FDCWD, a.c_str(), AT_FDCWD, (dir / "c").c_str(), RENAME_NOREPLACE));
  EXPECT_ERRNO(ENOENT,
               syscall(SYS_renameat2, AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE));
  EXPECT_ERRNO(EINVAL, syscall(SYS_renameat2, AT_FDCWD, b.c_str(), AT_FDCWD, a.c_str(),
                               RENAME_EXCHANGE | RENAME_NOREPLACE));
  EXPECT_ERRNO(EINVAL, syscall(SYS_renameat2, AT_FDCWD, b.c_str(), AT_FDCWD, a.c_str(), 0x100));
}

}  // namespace
}  // namespace uk::test
