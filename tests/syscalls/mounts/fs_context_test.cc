// fsopen(2), fsconfig(2), fsmount(2), fspick(2).
#include <linux/mount.h>

#include "tests/syscalls/mounts/mounts.h"

namespace uk::test {
namespace {

enum { kFlag, kString, kBinary, kPath, kPathEmpty, kFd, kCreate, kReconfigure };

long FsOpen(const char* type, unsigned flags = FSOPEN_CLOEXEC) {
  return syscall(SYS_fsopen, type, flags);
}
long Config(int fd, unsigned cmd, const char* key = nullptr, const char* value = nullptr,
            int aux = 0) {
  return syscall(SYS_fsconfig, fd, cmd, key, value, aux);
}
long FsMount(int fd, unsigned attributes = 0) {
  return syscall(SYS_fsmount, fd, FSMOUNT_CLOEXEC, attributes);
}
long MoveTo(int fd, const std::string& to) {
  return syscall(SYS_move_mount, fd, "", AT_FDCWD, to.c_str(), 4);
}

TEST(fsopen, Arguments) {
  COVERS(fsmount, fspick, fsconfig);
  if (!IsRoot()) {
    EXPECT_ERRNO(EPERM, FsOpen("tmpfs"));
    EXPECT_ERRNO(EPERM, FsMount(-1));
    EXPECT_ERRNO(EPERM, syscall(SYS_fspick, AT_FDCWD, "/", 0));
    return;
  }
  EXPECT_ERRNO(EINVAL, FsOpen("tmpfs", 2));
  EXPECT_ERRNO(ENODEV, FsOpen("nosuchfs"));
  EXPECT_ERRNO(EFAULT, FsOpen(Bad<const char>()));
  Fd fd(FsOpen("tmpfs"));
  ASSERT_OK(fd.get());
  EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  char text[256];
  EXPECT_ERRNO(ENODATA, read(fd, text, sizeof text)) << "no message yet";
  EXPECT_ERRNO(EINVAL, Config(-1, kCreate));
  EXPECT_ERRNO(EBADF, Config(kBadFd, kCreate));
  EXPECT_ERRNO(EOPNOTSUPP, Config(fd, 99));
  EXPECT_ERRNO(EINVAL, Config(fd, kFlag, "ro", "x"));
  EXPECT_ERRNO(EINVAL, Config(fd, kString, "size"));
  EXPECT_ERRNO(EINVAL, Config(fd, kFlag));
  EXPECT_ERRNO(EINVAL, Config(fd, kCreate, "x"));
  EXPECT_ERRNO(EINVAL, Config(fd, kBinary, "x", "y", 0));
  EXPECT_ERRNO(EFAULT, Config(fd, kString, "size", Bad<const char>()));
  Fd null(open("/dev/null", O_RDWR));
  EXPECT_ERRNO(EINVAL, Config(null, kCreate));
  EXPECT_ERRNO(EINVAL, FsMount(fd)) << "not created yet";
  EXPECT_ERRNO(EINVAL, syscall(SYS_fsmount, fd.get(), 2, 0));
  EXPECT_ERRNO(EINVAL, FsMount(fd, 0x30));
  EXPECT_ERRNO(EINVAL, FsMount(fd, 1 << 30));
  EXPECT_ERRNO(EBUSY, Config(fd, kReconfigure)) << "nothing is there to change";
  Scratch dir;
  EXPECT_ERRNO(EINVAL, syscall(SYS_fspick, AT_FDCWD, dir.c_str(), 0)) << "no mount's root";
  EXPECT_ERRNO(EINVAL, syscall(SYS_fspick, AT_FDCWD, "/", 0x100));
  EXPECT_ERRNO(ENOENT, syscall(SYS_fspick, AT_FDCWD, "/nowhere", 0));
}

TEST(fsconfig, SaysWhatWasWrong) {
  if (!IsRoot()) GTEST_SKIP() << "needs root";
  Fd fd(FsOpen("tmpfs"));
  EXPECT_ERRNO(EINVAL, Config(fd, kString, "colour", "red"));
  char text[256] = {};
  EXPECT_ERRNO(EMSGSIZE, read(fd, text, 4));
  Fd fd2(FsOpen("tmpfs"));
  EXPECT_ERRNO(EINVAL, Config(fd2, kString, "colour", "red"));
  ssize_t n = read(fd2, text, sizeof text);
  ASSERT_GT(n, 0);
  EXPECT_EQ(std::string(text, static_cast<size_t>(n)), "e tmpfs: Unknown parameter 'colour'\n");
  EXPECT_ERRNO(ENODATA, read(fd2, text, sizeof text));
  EXPECT_OK(Config(fd2, kString, "source", "here"));
  EXPECT_ERRNO(EINVAL, Config(fd2, kString, "source", "there"));
  EXPECT_ERRNO(EINVAL, Config(fd2, kString, "size", "many"));
  EXPECT_OK(Config(fd2, kCreate)) << "what was refused has no effect";
}

TEST(fsmount, MountsStepByStep) {
  COVERS(fsopen, fsconfig, move_mount, fspick);
  if (!IsRoot()) GTEST_SKIP() << "needs root";
  Scratch dir;
  IN_MOUNTS(dir, [&] {
    const std::string at = dir / "m";
    CHILD_CHECK(mkdir(at.c_str(), 0755) == 0);
    Fd fs(FsOpen("tmpfs"));
    CHILD_CHECK(Config(fs, kString, "source", "step") == 0);
    CHILD_CHECK(Config(fs, kString, "size", "64k") == 0);
    CHILD_CHECK(Config(fs, kString, "mode", "0700") == 0);
    CHILD_CHECK(Config(fs, kCreate) == 0);
    CHILD_CHECK(Config(fs, kCreate) == -1 && errno == EBUSY);
    CHILD_CHECK(Config(fs, kString, "size", "1m") == -1 && errno == EBUSY);
    Fd tree(FsMount(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOATIME));
    CHILD_CHECK(tree >= 0 && (fcntl(tree, F_GETFL) & O_PATH) != 0);
    CHILD_CHECK(FsMount(fs) == -1 && errno == EBUSY);
    CHILD_CHECK(Fd(openat(tree, "early", O_CREAT | O_WRONLY, 0600)).get() >= 0);
    CHILD_CHECK(!Exists(at + "/early"));
    CHILD_CHECK(MoveTo(tree, at) == 0);
    const MountLine line = MountAt(at);
    CHILD_CHECK(line.source == "step" && line.type == "tmpfs");
    CHILD_CHECK(line.options == "rw,nosuid,noatime");
    CHILD_CHECK(line.super_options.find("size=64k") != std::string::npos);
    CHILD_CHECK(Exists(at + "/early") && ModeOf(at) == 0700);
    // The configuration may change it from now on.
    CHILD_CHECK(Config(fs, kFlag, "ro") == 0 && MountAt(at).super_options.starts_with("rw"));
    CHILD_CHECK(Config(fs, kReconfigure) == 0 && MountAt(at).super_options.starts_with("ro"));
    CHILD_CHECK(!WriteFile(at + "/late", ""));
    Fd picked(syscall(SYS_fspick, AT_FDCWD, at.c_str(), FSPICK_CLOEXEC));
    CHILD_CHECK(picked >= 0);
    CHILD_CHECK(Config(picked, kCreate) == -1 && errno == EBUSY);
    CHILD_CHECK(FsMount(picked) == -1 && errno == EBUSY);
    CHILD_CHECK(Config(picked, kFlag, "rw") == 0);
    CHILD_CHECK(Config(picked, kString, "size", "128k") == 0);
    CHILD_CHECK(Config(picked, kReconfigure) == 0);
    CHILD_CHECK(MountAt(at).super_options.starts_with("rw"));
    CHILD_CHECK(MountAt(at).super_options.find("size=128k") != std::string::npos);
    CHILD_CHECK(WriteFile(at + "/late", ""));
  });
}

TEST(fsmount, EveryKindThatIsThere) {
  COVERS(fsopen);
  if (!IsRoot()) GTEST_SKIP() << "needs root";
  Scratch dir;
  IN_MOUNTS(dir, [&] {
    for (const char* type : {"tmpfs", "proc", "sysfs", "devpts", "mqueue"}) {
      Fd fs(FsOpen(type));
      if (fs < 0 || Config(fs, kCreate) != 0) ChildFailed(__FILE__, __LINE__, type);
      Fd tree(FsMount(fs));
      if (tree < 0 || MoveTo(tree, dir.path()) != 0) ChildFailed(__FILE__, __LINE__, type);
      if (MountAt(dir.path()).type != type) ChildFailed(__FILE__, __LINE__, type);
    }
  });
}

}  // namespace
}  // namespace uk::test
