// link, unlink, symlink, readlink and the *at forms; path walking through links.
#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

TEST(link, MakesASecondName) {
  Scratch dir;
  std::string f = dir.File("f", "abc");
  EXPECT_OK(syscall(SYS_link, f.c_str(), (dir / "g").c_str()));
  struct stat a, b;
  ASSERT_OK(stat(f.c_str(), &a));
  ASSERT_OK(stat((dir / "g").c_str(), &b));
  EXPECT_EQ(a.st_ino, b.st_ino);
  EXPECT_EQ(a.st_nlink, 2u);
  ASSERT_TRUE(WriteFile(dir / "g", "new"));
  EXPECT_EQ(ReadFile(f), "new");
  ASSERT_OK(unlink(f.c_str()));
  EXPECT_EQ(ReadFile(dir / "g"), "new");
}

TEST(link, Errors) {
  Scratch dir;
  std::string f = dir.File("f");
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  EXPECT_ERRNO(EEXIST, syscall(SYS_link, f.c_str(), f.c_str()));
  EXPECT_ERRNO(ENOENT, syscall(SYS_link, (dir / "no").c_str(), (dir / "x").c_str()));
  EXPECT_ERRNO(ENOENT, syscall(SYS_link, f.c_str(), (dir / "no/x").c_str()));
  EXPECT_ERRNO(EPERM, syscall(SYS_link, (dir / "d").c_str(), (dir / "x").c_str()));
  EXPECT_ERRNO(EXDEV, syscall(SYS_link, f.c_str(), "/dev/ukt-no-such"));
  EXPECT_ERRNO(EFAULT, syscall(SYS_link, BadPointer(), f.c_str()));
  EXPECT_ERRNO(EFAULT, syscall(SYS_link, f.c_str(), BadPointer()));
  EXPECT_ERRNO(ENOENT, syscall(SYS_link, f.c_str(), (dir / "slash/").c_str()));
}

TEST(linkat, SymlinkIsLinkedUnlessFollowed) {
  Scratch dir;
  dir.File("f");
  ASSERT_OK(symlink("f", (dir / "l").c_str()));
  Fd d = dir.Dir();
  EXPECT_OK(syscall(SYS_linkat, d.get(), "l", d.get(), "l2", 0));
  EXPECT_OK(syscall(SYS_linkat, d.get(), "l", d.get(), "f2", AT_SYMLINK_FOLLOW));
  struct stat st;
  ASSERT_OK(lstat((dir / "l2").c_str(), &st));
  EXPECT_TRUE(S_ISLNK(st.st_mode));
  EXPECT_EQ(st.st_nlink, 2u);
  ASSERT_OK(lstat((dir / "f2").c_str(), &st));
  EXPECT_TRUE(S_ISREG(st.st_mode));
  EXPECT_ERRNO(EINVAL, syscall(SYS_linkat, d.get(), "f", d.get(), "z", 0x4000000));
  EXPECT_ERRNO(EBADF, syscall(SYS_linkat, kBadFd, "f", d.get(), "z", 0));
}

TEST(unlink, RemovesTheNameNotTheFile) {
  Scratch dir;
  Fd fd = dir.Open("f", "abc");
  EXPECT_OK(syscall(SYS_unlink, (dir / "f").c_str()));
  EXPECT_FALSE(Exists(dir / "f"));
  EXPECT_EQ(ReadFd(fd), "abc");
}

TEST(unlink, Errors) {
  Scratch dir;
  std::string f = dir.File("f");
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  ASSERT_OK(symlink("d", (dir / "l").c_str()));
  EXPECT_ERRNO(ENOENT, syscall(SYS_unlink, (dir / "no").c_str()));
  EXPECT_ERRNO(EISDIR, syscall(SYS_unlink, (dir / "d").c_str()));
  EXPECT_ERRNO(ENOTDIR, syscall(SYS_unlink, (f + "/").c_str()));
  EXPECT_ERRNO(ENOTDIR, syscall(SYS_unlink, (dir / "l/").c_str()));
  EXPECT_ERRNO(EISDIR, syscall(SYS_unlink, dir.c_str()));
  EXPECT_ERRNO(EFAULT, syscall(SYS_unlink, BadPointer()));
  EXPECT_OK(syscall(SYS_unlink, (dir / "l").c_str())) << "the link, not its target";
  EXPECT_TRUE(Exists(dir / "d"));
  if (!IsRoot()) {
    dir.File("d/x");
    ASSERT_OK(chmod((dir / "d").c_str(), 0500));
    EXPECT_ERRNO(EACCES, syscall(SYS_unlink, (dir / "d/x").c_str()));
  }
}

TEST(unlinkat, RemovedirFlag) {
  Scratch dir;
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  dir.File("f");
  Fd d = dir.Dir();
  EXPECT_ERRNO(EISDIR, syscall(SYS_unlinkat, d.get(), "d", 0));
  EXPECT_ERRNO(ENOTDIR, syscall(SYS_unlinkat, d.get(), "f", AT_REMOVEDIR));
  EXPECT_ERRNO(EINVAL, syscall(SYS_unlinkat, d.get(), "f", 0x1));
  EXPECT_OK(syscall(SYS_unlinkat, d.get(), "d", AT_REMOVEDIR));
  EXPECT_OK(syscall(SYS_unlinkat, d.get(), "f", 0));
  EXPECT_ERRNO(EBADF, syscall(SYS_unlinkat, kBadFd, "f", 0));
}

TEST(unlink, StickyDirectoryProtectsOthersFiles) {
  if (!IsRoot()) {
    // As an ordinary user: another user's file in a sticky directory; /tmp itself is the owner's.
    EXPECT_ERRNO(EACCES, unlink("/etc/passwd"));
    return;
  }
  Scratch dir;
  ASSERT_OK(chmod(dir.c_str(), 01777));
  std::string f = dir.File("f", "", 0666);
  IN_CHILD([&] {
    CHILD_CHECK(setresgid(12345, 12345, 12345) == 0);
    CHILD_CHECK(setresuid(12345, 12345, 12345) == 0);
    CHILD_CHECK(unlink(f.c_str()) == -1 && errno == EPERM);
    CHILD_CHECK(rename(f.c_str(), (f + "2").c_str()) == -1 && errno == EPERM);
  });
}

TEST(symlink, StoresTheTextAsGiven) {
  Scratch dir;
  EXPECT_OK(syscall(SYS_symlink, "../any//thing", (dir / "l").c_str()));
  char text[64] = {};
  EXPECT_EQ(syscall(SYS_readlink, (dir / "l").c_str(), text, sizeof text), 13);
  EXPECT_STREQ(text, "../any//thing");
  EXPECT_EQ(syscall(SYS_readlink, (dir / "l").c_str(), text, 4), 4) << "silently truncated";
}

TEST(symlink, Errors) {
  Scratch dir;
  dir.File("f");
  EXPECT_ERRNO(EEXIST, syscall(SYS_symlink, "x", (dir / "f").c_str()));
  EXPECT_ERRNO(ENOENT, syscall(SYS_symlink, "", (dir / "l").c_str()));
  EXPECT_ERRNO(ENOENT, syscall(SYS_symlink, "x", (dir / "no/l").c_str()));
  EXPECT_ERRNO(EFAULT, syscall(SYS_symlink, BadPointer(), (dir / "l").c_str()));
  EXPECT_ERRNO(ENAMETOOLONG,
               syscall(SYS_symlink, std::string(4096, 'x').c_str(), (dir / "l").c_str()));
  EXPECT_OK(syscall(SYS_symlink, std::string(4000, 'x').c_str(), (dir / "long").c_str()));
}

TEST(symlinkat, AndReadlinkat) {
  COVERS(readlinkat);
  Scratch dir;
  Fd d = dir.Dir();
  EXPECT_OK(syscall(SYS_symlinkat, "target", d.get(), "l"));
  char text[64] = {};
  EXPECT_EQ(syscall(SYS_readlinkat, d.get(), "l", text, sizeof text), 6);
  EXPECT_STREQ(text, "target");
  EXPECT_ERRNO(EBADF, syscall(SYS_symlinkat, "t", kBadFd, "l"));
  EXPECT_ERRNO(EBADF, syscall(SYS_readlinkat, kBadFd, "l", text, sizeof text));
  EXPECT_ERRNO(EINVAL, syscall(SYS_readlinkat, d.get(), "l", text, 0));
  EXPECT_ERRNO(ENOENT, syscall(SYS_readlinkat, d.get(), "", text, 10));
}

TEST(readlink, Errors) {
  Scratch dir;
  dir.File("f");
  char text[64];
  EXPECT_ERRNO(EINVAL, syscall(SYS_readlink, (dir / "f").c_str(), text, sizeof text));
  EXPECT_ERRNO(EINVAL, syscall(SYS_readlink, dir.c_str(), text, sizeof text));
  EXPECT_ERRNO(ENOENT, syscall(SYS_readlink, (dir / "no").c_str(), text, sizeof text));
  ASSERT_OK(symlink("f", (dir / "l").c_str()));
  EXPECT_ERRNO(EFAULT, syscall(SYS_readlink, (dir / "l").c_str(), BadPointer(), 64));
  EXPECT_ERRNO(EINVAL, syscall(SYS_readlink, (dir / "l").c_str(), text, -1));
}

TEST(path_walk, FortyLinksIsTheLimit) {
  Scratch dir;
  dir.File("l0", "end");
  for (int i = 1; i <= 41; i++) {
    ASSERT_OK(
        symlink(("l" + std::to_string(i - 1)).c_str(), (dir / ("l" + std::to_string(i))).c_str()));
  }
  EXPECT_EQ(ReadFile(dir / "l40"), "end");
  EXPECT_ERRNO(ELOOP, open((dir / "l41").c_str(), O_RDONLY));
}

TEST(path_walk, DotsSlashesAndRoot) {
  Scratch dir;
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  dir.File("f", "here");
  EXPECT_EQ(ReadFile(dir / "d/.././//d/../f"), "here");
  struct stat a, b;
  ASSERT_OK(stat("/", &a));
  ASSERT_OK(stat("/../../..", &b));
  EXPECT_EQ(a.st_ino, b.st_ino);
  EXPECT_ERRNO(ENOENT, stat((dir / "none/..").c_str(), &a)) << "dot-dot is not textual";
  ASSERT_OK(symlink("d", (dir / "l").c_str()));
  EXPECT_EQ(ReadFile(dir / "l/../f"), "here");
}

TEST(path_walk, LinkInTheMiddle) {
  Scratch dir;
  ASSERT_OK(mkdir((dir / "a").c_str(), 0755));
  ASSERT_OK(mkdir((dir / "a/b").c_str(), 0755));
  dir.File("a/b/f", "deep");
  ASSERT_OK(symlink((dir / "a").c_str(), (dir / "abs").c_str()));
  ASSERT_OK(symlink("b/../b", (dir / "a/rel").c_str()));
  EXPECT_EQ(ReadFile(dir / "abs/rel/f"), "deep");
}

}  // namespace
}  // namespace uk::test
