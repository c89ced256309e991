// mkdir, rmdir, getdents, chdir and their relatives.
#include <dirent.h>

#include <algorithm>
#include <map>
#include <set>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

struct Entry64 {
  uint64_t ino;
  int64_t off;
  uint16_t reclen;
  uint8_t type;
  char name[1];
} __attribute__((packed));

// All entries of a directory through getdents64 with a buffer of the given size.
std::map<std::string, int> List(int fd, size_t size = 4096) {
  std::map<std::string, int> out;
  std::vector<char> buffer(size);
  long n;
  while ((n = syscall(SYS_getdents64, fd, buffer.data(), size)) > 0) {
    for (long at = 0; at < n;) {
      auto* e = reinterpret_cast<Entry64*>(buffer.data() + at);
      EXPECT_EQ(e->reclen % 8, 0);
      EXPECT_TRUE(out.emplace(e->name, e->type).second) << e->name << " listed twice";
      at += e->reclen;
    }
  }
  EXPECT_EQ(n, 0) << strerrorname_np(errno);
  return out;
}

TEST(mkdir, ModeAndLinkCounts) {
  Scratch dir;
  mode_t old = umask(022);
  EXPECT_OK(syscall(SYS_mkdir, (dir / "d").c_str(), 01777));
  umask(old);
  struct stat st;
  ASSERT_OK(stat((dir / "d").c_str(), &st));
  EXPECT_EQ(st.st_mode, S_IFDIR | 01755u);
  EXPECT_EQ(st.st_nlink, 2u);
  EXPECT_OK(mkdir((dir / "d/e").c_str(), 0700));
  ASSERT_OK(stat((dir / "d").c_str(), &st));
  EXPECT_EQ(st.st_nlink, 3u);
  EXPECT_OK(syscall(SYS_mkdir, (dir / "slash/").c_str(), 0755)) << "a trailing slash is fine";
}

TEST(mkdir, Errors) {
  Scratch dir;
  dir.File("f");
  ASSERT_OK(symlink("nowhere", (dir / "l").c_str()));
  EXPECT_ERRNO(EEXIST, syscall(SYS_mkdir, dir.c_str(), 0755));
  EXPECT_ERRNO(EEXIST, syscall(SYS_mkdir, (dir / "f").c_str(), 0755));
  EXPECT_ERRNO(EEXIST, syscall(SYS_mkdir, (dir / "l").c_str(), 0755));
  EXPECT_ERRNO(EEXIST, syscall(SYS_mkdir, "/", 0755));
  EXPECT_ERRNO(EEXIST, syscall(SYS_mkdir, (dir / ".").c_str(), 0755));
  EXPECT_ERRNO(ENOENT, syscall(SYS_mkdir, (dir / "a/b").c_str(), 0755));
  EXPECT_ERRNO(ENOENT, syscall(SYS_mkdir, "", 0755));
  EXPECT_ERRNO(ENOTDIR, syscall(SYS_mkdir, (dir / "f/x").c_str(), 0755));
  EXPECT_ERRNO(EFAULT, syscall(SYS_mkdir, BadPointer(), 0755));
  EXPECT_ERRNO(ENAMETOOLONG, syscall(SYS_mkdir, (dir / std::string(256, 'd')).c_str(), 0755));
  EXPECT_OK(syscall(SYS_mkdir, (dir / std::string(255, 'd')).c_str(), 0755));
}

TEST(mkdirat, RelativeToDescriptor) {
  Scratch dir;
  Fd d = dir.Dir();
  EXPECT_OK(syscall(SYS_mkdirat, d.get(), "x", 0755));
  EXPECT_TRUE(Exists(dir / "x"));
  EXPECT_ERRNO(EBADF, syscall(SYS_mkdirat, kBadFd, "y", 0755));
  EXPECT_ERRNO(EEXIST, syscall(SYS_mkdirat, d.get(), "x", 0755));
}

TEST(mkdir, InheritsTheSetgidBitAndGroup) {
  Scratch dir;
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  ASSERT_OK(chmod((dir / "d").c_str(), 02755));
  ASSERT_OK(mkdir((dir / "d/e").c_str(), 0755));
  EXPECT_TRUE(ModeOf(dir / "d/e") & S_ISGID);
}

TEST(rmdir, RemovesOnlyEmptyDirectories) {
  Scratch dir;
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  dir.File("d/f");
  EXPECT_ERRNO(ENOTEMPTY, syscall(SYS_rmdir, (dir / "d").c_str()));
  ASSERT_OK(unlink((dir / "d/f").c_str()));
  EXPECT_ERRNO(EINVAL, syscall(SYS_rmdir, (dir / "d/.").c_str()));
  EXPECT_ERRNO(ENOTEMPTY, syscall(SYS_rmdir, (dir / "d/..").c_str()));
  EXPECT_OK(syscall(SYS_rmdir, (dir / "d/").c_str()));
  EXPECT_ERRNO(ENOENT, syscall(SYS_rmdir, (dir / "d").c_str()));
  dir.File("f");
  EXPECT_ERRNO(ENOTDIR, syscall(SYS_rmdir, (dir / "f").c_str()));
  ASSERT_OK(mkdir((dir / "e").c_str(), 0755));
  ASSERT_OK(symlink("e", (dir / "l").c_str()));
  EXPECT_ERRNO(ENOTDIR, syscall(SYS_rmdir, (dir / "l").c_str()));
  EXPECT_ERRNO(EFAULT, syscall(SYS_rmdir, BadPointer()));
}

TEST(getdents64, ListsAllTypesOnce) {
  Scratch dir;
  dir.File("file");
  ASSERT_OK(mkdir((dir / "dir").c_str(), 0755));
  ASSERT_OK(symlink("x", (dir / "link").c_str()));
  ASSERT_OK(mkfifo((dir / "fifo").c_str(), 0600));
  std::map<std::string, int> want = {{".", DT_DIR},   {"..", DT_DIR},   {"file", DT_REG},
                                     {"dir", DT_DIR}, {"link", DT_LNK}, {"fifo", DT_FIFO}};
  EXPECT_EQ(List(dir.Dir()), want);
  EXPECT_EQ(List(dir.Dir(), 64), want) << "the same through a small buffer";
}

TEST(getdents64, ManyEntriesAndRewind) {
  Scratch dir;
  Fd d = dir.Dir();
  for (int i = 0; i < 500; i++) {
    Fd f(openat(d, ("entry" + std::to_string(i)).c_str(), O_CREAT | O_WRONLY, 0600));
    ASSERT_OK(f.get());
  }
  EXPECT_EQ(List(d, 512).size(), 502u);
  EXPECT_EQ(List(d).size(), 0u) << "at the end";
  ASSERT_OK(lseek(d, 0, SEEK_SET));
  EXPECT_EQ(List(d, 32768).size(), 502u);
}

TEST(getdents64, WhoIsAtTheEndStaysThere) {
  COVERS(lseek);
  if (access("/dev/shm", W_OK) != 0) GTEST_SKIP() << "no tmpfs";
  std::string path = "/dev/shm/end.XXXXXX";
  ASSERT_NE(mkdtemp(path.data()), nullptr);
  {
    Fd d(open(path.c_str(), O_RDONLY | O_DIRECTORY));
    EXPECT_EQ(List(d).size(), 2u);
    Fd a(openat(d, "a", O_CREAT | O_WRONLY, 0600));
    EXPECT_EQ(List(d).size(), 0u);
    EXPECT_EQ(lseek(d, 0, SEEK_CUR), INT32_MAX);
    ASSERT_OK(lseek(d, 0, SEEK_SET));
    EXPECT_EQ(List(d).size(), 3u);
    ASSERT_OK(unlinkat(d, "a", 0));
  }
  EXPECT_OK(rmdir(path.c_str()));
}

TEST(getdents64, RemovingWhileReading) {
  Scratch dir;
  Fd d = dir.Dir();
  for (int i = 0; i < 200; i++) {
    Fd f(openat(d, std::to_string(i).c_str(), O_CREAT | O_WRONLY, 0600));
    ASSERT_OK(f.get());
  }
  // What rm -r does: read a few, remove them, read on.
  char buffer[256];
  long n;
  std::set<std::string> seen;
  while ((n = syscall(SYS_getdents64, d.get(), buffer, sizeof buffer)) > 0) {
    for (long at = 0; at < n;) {
      auto* e = reinterpret_cast<Entry64*>(buffer + at);
      std::string name = e->name;
      if (name[0] != '.') {
        EXPECT_TRUE(seen.insert(name).second) << name;
        EXPECT_OK(unlinkat(d, name.c_str(), 0));
      }
      at += e->reclen;
    }
  }
  EXPECT_EQ(seen.size(), 200u);
  ASSERT_OK(lseek(d, 0, SEEK_SET));
  EXPECT_EQ(List(d).size(), 2u);
}

TEST(getdents64, Errors) {
  Scratch dir;
  char buffer[1024];
  Fd f = dir.Open("f");
  EXPECT_ERRNO(ENOTDIR, syscall(SYS_getdents64, f.get(), buffer, sizeof buffer));
  EXPECT_ERRNO(EBADF, syscall(SYS_getdents64, kBadFd, buffer, sizeof buffer));
  EXPECT_ERRNO(EFAULT, syscall(SYS_getdents64, dir.Dir().get(), BadPointer(), sizeof buffer));
  EXPECT_ERRNO(EINVAL, syscall(SYS_getdents64, dir.Dir().get(), buffer, 5));
  ASSERT_OK(mkdir((dir / "gone").c_str(), 0755));
  Fd gone(open((dir / "gone").c_str(), O_RDONLY));
  ASSERT_OK(rmdir((dir / "gone").c_str()));
  EXPECT_ERRNO(ENOENT, syscall(SYS_getdents64, gone.get(), buffer, sizeof buffer));
}

TEST(getdents, OldLayoutHasTheTypeLast) {
  Scratch dir;
  dir.File("file");
  char buffer[1024];
  struct Old {
    unsigned long ino, off;
    unsigned short reclen;
    char name[1];
  };
  Fd d = dir.Dir();
  long n = syscall(SYS_getdents, d.get(), buffer, sizeof buffer);
  ASSERT_GT(n, 0);
  std::map<std::string, int> found;
  for (long at = 0; at < n;) {
    auto* e = reinterpret_cast<Old*>(buffer + at);
    found[e->name] = buffer[at + e->reclen - 1];
    at += e->reclen;
  }
  std::map<std::string, int> want = {{".", DT_DIR}, {"..", DT_DIR}, {"file", DT_REG}};
  EXPECT_EQ(found, want);
  EXPECT_ERRNO(EBADF, syscall(SYS_getdents, kBadFd, buffer, sizeof buffer));
}

TEST(chdir, ChangesRelativeResolution) {
  Scratch dir;
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  dir.File("d/f", "x");
  IN_CHILD([&] {
    CHILD_CHECK(syscall(SYS_chdir, (dir / "d").c_str()) == 0);
    CHILD_CHECK(access("f", F_OK) == 0);
    char cwd[4096];
    long n = syscall(SYS_getcwd, cwd, sizeof cwd);
    CHILD_CHECK(n == static_cast<long>((dir / "d").size() + 1));
    CHILD_CHECK(cwd == dir / "d");
    CHILD_CHECK(chdir("..") == 0 && access("d/f", F_OK) == 0);
  });
  dir.File("f");
  EXPECT_ERRNO(ENOENT, syscall(SYS_chdir, (dir / "none").c_str()));
  EXPECT_ERRNO(ENOTDIR, syscall(SYS_chdir, (dir / "f").c_str()));
  EXPECT_ERRNO(EFAULT, syscall(SYS_chdir, BadPointer()));
  if (!IsRoot()) {
    ASSERT_OK(chmod((dir / "d").c_str(), 0600));
    EXPECT_ERRNO(EACCES, syscall(SYS_chdir, (dir / "d").c_str()));
  }
}

TEST(fchdir, ByDescriptor) {
  Scratch dir;
  Fd f = dir.Open("f");
  IN_CHILD([&] {
    Fd d = dir.Dir();
    CHILD_CHECK(syscall(SYS_fchdir, d.get()) == 0);
    CHILD_CHECK(access("f", F_OK) == 0);
  });
  EXPECT_ERRNO(ENOTDIR, syscall(SYS_fchdir, f.get()));
  EXPECT_ERRNO(EBADF, syscall(SYS_fchdir, kBadFd));
}

TEST(getcwd, Errors) {
  char small[2];
  IN_CHILD([&] {
    CHILD_CHECK(chdir("/tmp") == 0);
    CHILD_CHECK(syscall(SYS_getcwd, small, sizeof small) == -1 && errno == ERANGE);
  });
  EXPECT_ERRNO(EFAULT, syscall(SYS_getcwd, BadPointer(), 4096));
}

TEST(getcwd, DeletedDirectory) {
  Scratch dir;
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  IN_CHILD([&] {
    CHILD_CHECK(chdir((dir / "d").c_str()) == 0);
    CHILD_CHECK(rmdir((dir / "d").c_str()) == 0);
    char cwd[4096];
    CHILD_CHECK(syscall(SYS_getcwd, cwd, sizeof cwd) == -1 && errno == ENOENT);
    CHILD_CHECK(open("f", O_CREAT | O_RDWR, 0600) == -1 && errno == ENOENT);
    CHILD_CHECK(chdir("..") == 0);
  });
}

TEST(chroot, NeedsPrivilege) {
  Scratch dir;
  dir.File("marker");
  if (IsRoot()) {
    IN_CHILD([&] {
      CHILD_CHECK(syscall(SYS_chroot, dir.c_str()) == 0);
      CHILD_CHECK(access("/marker", F_OK) == 0);
      CHILD_CHECK(chdir("/") == 0 && chdir("../../..") == 0);
      CHILD_CHECK(access("marker", F_OK) == 0);
      char cwd[64];
      CHILD_CHECK(getcwd(cwd, sizeof cwd) && std::string(cwd) == "/");
    });
    EXPECT_ERRNO(ENOTDIR, syscall(SYS_chroot, (dir / "marker").c_str()));
    EXPECT_ERRNO(ENOENT, syscall(SYS_chroot, (dir / "none").c_str()));
  } else {
    EXPECT_ERRNO(EPERM, syscall(SYS_chroot, dir.c_str()));
  }
}

}  // namespace
}  // namespace uk::test
