// mknod, mount, umount2, pivot_root and the rest of what needs privilege over the tree.
#include <sched.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

TEST(mknod, FifosAndFilesForEveryone) {
  COVERS(mknodat);
  Scratch dir;
  mode_t old = umask(0);
  EXPECT_OK(syscall(SYS_mknod, (dir / "p").c_str(), S_IFIFO | 0640, 0));
  EXPECT_OK(syscall(SYS_mknod, (dir / "f").c_str(), 0600, 0)) << "no type means a file";
  EXPECT_OK(syscall(SYS_mknodat, dir.Dir().get(), "s", S_IFSOCK | 0600, 0));
  umask(old);
  struct stat st;
  ASSERT_OK(stat((dir / "p").c_str(), &st));
  EXPECT_EQ(st.st_mode, S_IFIFO | 0640u);
  ASSERT_OK(stat((dir / "f").c_str(), &st));
  EXPECT_EQ(st.st_mode, S_IFREG | 0600u);
  ASSERT_OK(stat((dir / "s").c_str(), &st));
  EXPECT_TRUE(S_ISSOCK(st.st_mode));
  EXPECT_ERRNO(ENXIO, open((dir / "s").c_str(), O_RDONLY)) << "a socket cannot be opened";
  EXPECT_ERRNO(EEXIST, syscall(SYS_mknod, (dir / "f").c_str(), S_IFIFO | 0600, 0));
  EXPECT_ERRNO(EPERM, syscall(SYS_mknod, (dir / "d").c_str(), S_IFDIR | 0700, 0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_mknod, (dir / "x").c_str(), 0170000 | 0700, 0));
  EXPECT_ERRNO(ENOENT, syscall(SYS_mknod, (dir / "no/x").c_str(), S_IFIFO | 0700, 0));
  EXPECT_ERRNO(EFAULT, syscall(SYS_mknod, BadPointer(), S_IFIFO | 0700, 0));
  EXPECT_ERRNO(EBADF, syscall(SYS_mknodat, kBadFd, "x", S_IFIFO | 0700, 0));
}

TEST(mknod, DevicesNeedPrivilege) {
  Scratch dir;
  std::string null = dir / "null";
  if (IsRoot()) {
    EXPECT_OK(syscall(SYS_mknod, null.c_str(), S_IFCHR | 0666, makedev(1, 3)));
    struct stat st;
    ASSERT_OK(stat(null.c_str(), &st));
    EXPECT_TRUE(S_ISCHR(st.st_mode));
    EXPECT_EQ(st.st_rdev, makedev(1, 3));
    Fd fd(open(null.c_str(), O_WRONLY));
    ASSERT_OK(fd.get());
    EXPECT_EQ(write(fd, "x", 1), 1);
  } else {
    EXPECT_ERRNO(EPERM, syscall(SYS_mknod, null.c_str(), S_IFCHR | 0666, makedev(1, 3)));
  }
}

TEST(mknod, FifoConnectsOpeners) {
  Scratch dir;
  std::string p = dir / "p";
  ASSERT_OK(mkfifo(p.c_str(), 0600));
  EXPECT_ERRNO(ENXIO, open(p.c_str(), O_WRONLY | O_NONBLOCK)) << "no reader";
  Fd early(open(p.c_str(), O_RDONLY | O_NONBLOCK));
  ASSERT_OK(early.get());
  early.reset();
  pid_t child = Spawn([&] {
    Fd w(open(p.c_str(), O_WRONLY));  // waits for the reader
    return write(w, "through", 7) == 7 ? 0 : 1;
  });
  Fd r(open(p.c_str(), O_RDONLY));
  EXPECT_EQ(ReadFd(r), "through");
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(mount, NeedsPrivilege) {
  COVERS(umount2, pivot_root);
  Scratch dir;
  std::string d = dir / "d";
  ASSERT_OK(mkdir(d.c_str(), 0755));
  if (IsRoot()) {
    // In a mount namespace where there is one, so that nothing is left behind.
    IN_CHILD([&] {
      CHILD_CHECK(unshare(CLONE_NEWNS) == 0);
      CHILD_CHECK(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
      CHILD_CHECK(syscall(SYS_mount, "none", d.c_str(), "tmpfs", 0l, "size=1m") == 0);
      CHILD_CHECK(WriteFile(d + "/f", "x"));
      struct stat outer;
      struct stat inner;
      CHILD_CHECK(stat(dir.c_str(), &outer) == 0 && stat(d.c_str(), &inner) == 0);
      CHILD_CHECK(outer.st_dev != inner.st_dev);
      Fd busy(open((d + "/f").c_str(), O_RDONLY));
      CHILD_CHECK(syscall(SYS_umount2, d.c_str(), 0) == -1 && errno == EBUSY);
      busy.reset();
      CHILD_CHECK(syscall(SYS_umount2, d.c_str(), 0) == 0);
      CHILD_CHECK(!Exists(d + "/f"));
      CHILD_CHECK(syscall(SYS_umount2, d.c_str(), 0) == -1 && errno == EINVAL);
      CHILD_CHECK(syscall(SYS_mount, "none", d.c_str(), "nosuchfs", 0l, nullptr) == -1 &&
                  errno == ENODEV);
      CHILD_CHECK(syscall(SYS_mount, "none", (d + "/no").c_str(), "tmpfs", 0l, nullptr) == -1 &&
                  errno == ENOENT);
    });
  } else {
    EXPECT_ERRNO(EPERM, syscall(SYS_mount, "none", d.c_str(), "tmpfs", 0l, nullptr));
    EXPECT_ERRNO(EPERM, syscall(SYS_umount2, d.c_str(), 0));
    EXPECT_ERRNO(EPERM, syscall(SYS_pivot_root, d.c_str(), d.c_str()));
  }
}

}  // namespace
}  // namespace uk::test
