// name_to_handle_at(2), open_by_handle_at(2).
#include "tests/syscalls/mounts/mounts.h"

namespace uk::test {
namespace {

struct Handle {
  unsigned bytes = 128;
  int type = 0;
  unsigned char data[128] = {};
  bool operator==(const Handle&) const = default;
};
long NameTo(int dirfd, const std::string& path, Handle* h, int* mount, int flags = 0) {
  return syscall(SYS_name_to_handle_at, dirfd, path.c_str(), h, mount, flags);
}
long OpenBy(int mount, Handle* h, int flags) {
  return syscall(SYS_open_by_handle_at, mount, h, flags);
}

TEST(name_to_handle_at, Sizes) {
  // Devices of Linux have filesystems with handles everywhere but below /proc.
  int mount;
  Handle h;
  EXPECT_ERRNO(EOPNOTSUPP, NameTo(AT_FDCWD, "/proc/version", &h, &mount));
  h = {};
  EXPECT_OK(NameTo(AT_FDCWD, "/proc/version", &h, &mount, 0x200)) << "AT_HANDLE_FID: to compare";
  const std::string shm = "/dev/shm";
  h = {};
  h.bytes = 0;
  EXPECT_ERRNO(EOVERFLOW, NameTo(AT_FDCWD, shm, &h, &mount));
  EXPECT_GT(h.bytes, 0u);
  EXPECT_LE(h.bytes, 128u);
  Handle again;
  again.bytes = h.bytes;
  EXPECT_OK(NameTo(AT_FDCWD, shm, &again, &mount));
  EXPECT_EQ(again.bytes, h.bytes);
  again.bytes = 129;
  EXPECT_ERRNO(EINVAL, NameTo(AT_FDCWD, shm, &again, &mount));
  EXPECT_ERRNO(EINVAL, NameTo(AT_FDCWD, shm, &h, &mount, 1 << 20));
  EXPECT_ERRNO(ENOENT, NameTo(AT_FDCWD, shm + "/nowhere", &h, &mount));
  EXPECT_ERRNO(ENOENT, NameTo(AT_FDCWD, "", &h, &mount));
  EXPECT_ERRNO(EFAULT, NameTo(AT_FDCWD, shm, Bad<Handle>(), &mount));
  h = {};
  EXPECT_ERRNO(EFAULT, NameTo(AT_FDCWD, shm, &h, Bad<int>()));
}

TEST(open_by_handle_at, NeedsPrivilege) {
  Handle h;
  if (!IsRoot()) {
    EXPECT_ERRNO(EPERM, OpenBy(AT_FDCWD, &h, O_RDONLY));
    return;
  }
  h.bytes = 0;
  EXPECT_ERRNO(EINVAL, OpenBy(AT_FDCWD, &h, O_RDONLY));
  h.bytes = 129;
  EXPECT_ERRNO(EINVAL, OpenBy(AT_FDCWD, &h, O_RDONLY));
  EXPECT_ERRNO(EFAULT, OpenBy(AT_FDCWD, Bad<Handle>(), O_RDONLY));
}

TEST(open_by_handle_at, FindsTheFileAgain) {
  COVERS(name_to_handle_at);
  if (!IsRoot()) GTEST_SKIP() << "needs root";
  Scratch dir;
  IN_MOUNTS(dir, [&] {
    CHILD_CHECK(WriteFile(dir / "f", "found") && mkdir((dir / "d").c_str(), 0755) == 0);
    CHILD_CHECK(symlink("f", (dir / "l").c_str()) == 0);
    Fd root = dir.Dir();
    Handle file;
    Handle sub;
    Handle link;
    int id = 0;
    CHILD_CHECK(NameTo(root, "f", &file, &id) == 0 && id == MountAt(dir.path()).id);
    CHILD_CHECK(NameTo(AT_FDCWD, dir / "d", &sub, &id) == 0 && !(sub == file));
    CHILD_CHECK(NameTo(root, "l", &link, &id) == 0 && !(link == file));
    Handle followed;
    CHILD_CHECK(NameTo(root, "l", &followed, &id, AT_SYMLINK_FOLLOW) == 0 && followed == file);
    CHILD_CHECK(rename((dir / "f").c_str(), (dir / "d/g").c_str()) == 0);
    {
      Fd fd(OpenBy(root, &file, O_RDONLY | O_CLOEXEC));
      CHILD_CHECK(fd >= 0 && ReadFd(fd) == "found" && fcntl(fd, F_GETFD) == FD_CLOEXEC);
      Fd d(OpenBy(root, &sub, O_RDONLY | O_DIRECTORY));
      CHILD_CHECK(d >= 0 && faccessat(d, "g", F_OK, 0) == 0);
      CHILD_CHECK(OpenBy(root, &sub, O_RDWR) == -1 && errno == EISDIR);
      CHILD_CHECK(OpenBy(root, &link, O_RDONLY) == -1 && errno == ELOOP);
      CHILD_CHECK(OpenBy(kBadFd, &file, O_RDONLY) == -1 && errno == EBADF);
    }
    CHILD_CHECK(unlink((dir / "d/g").c_str()) == 0);
    CHILD_CHECK(OpenBy(root, &file, O_RDONLY) == -1 && errno == ESTALE);
    Handle odd = sub;
    odd.data[0] ^= 0x55;
    odd.data[4] ^= 0x55;
    CHILD_CHECK(OpenBy(root, &odd, O_RDONLY) == -1 && errno == ESTALE);
  });
}

}  // namespace
}  // namespace uk::test
