// MOVE_MOUNT_BENEATH of move_mount(2): a mount goes between another and what that is mounted on.
#include <sys/syscall.h>

#include "tests/syscalls/mounts/mounts.h"

namespace uk::test {
namespace {

constexpr unsigned kFromEmptyPath = 0x4, kBeneath = 0x200, kClone = 1;

Fd Copy(const std::string& path) {
  return Fd(syscall(SYS_open_tree, AT_FDCWD, path.c_str(), kClone | O_CLOEXEC));
}

long Beneath(int tree, const std::string& to, unsigned flags = 0) {
  return syscall(SYS_move_mount, tree, "", AT_FDCWD, to.c_str(), kFromEmptyPath | kBeneath | flags);
}

bool Tmpfs(const std::string& path, const std::string& file) {
  return (mkdir(path.c_str(), 0755) == 0 || errno == EEXIST) &&
         mount("none", path.c_str(), "tmpfs", 0, nullptr) == 0 && WriteFile(path + file, "x");
}

TEST(move_mount, BeneathWhatIsMountedThere) {
  if (!IsRoot()) GTEST_SKIP() << "needs root";
  Scratch dir;
  IN_MOUNTS(dir, [&] {
    const std::string a = dir / "a", b = dir / "b";
    CHILD_CHECK(Tmpfs(a, "/A") && Tmpfs(b, "/B"));
    const int above = MountAt(b).id;
    Fd copy = Copy(a);
    CHILD_CHECK(copy >= 0 && Beneath(copy, b) == 0);
    copy.reset();
    CHILD_CHECK(Exists(b + "/B") && !Exists(b + "/A"));
    CHILD_CHECK(umount(b.c_str()) == 0);
    CHILD_CHECK(Exists(b + "/A") && !Exists(b + "/B"));
    CHILD_CHECK(IsMount(b) && MountAt(b).id != above);
    CHILD_CHECK(umount(b.c_str()) == 0 && !IsMount(b));
    // An attached mount is moved there too.
    CHILD_CHECK(Tmpfs(b, "/B"));
    CHILD_CHECK(syscall(SYS_move_mount, AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), kBeneath) == 0);
    CHILD_CHECK(!IsMount(a) && Exists(b + "/B"));
    CHILD_CHECK(umount(b.c_str()) == 0 && Exists(b + "/A"));
  });
}

TEST(move_mount, WhereNothingGoesBeneath) {
  if (!IsRoot()) GTEST_SKIP() << "needs root";
  Scratch dir;
  IN_MOUNTS(dir, [&] {
    const std::string a = dir / "a", b = dir / "b", inner = dir / "b/inner";
    CHILD_CHECK(Tmpfs(a, "/A") && Tmpfs(b, "/B") && Tmpfs(inner, "/I"));
    CHILD_CHECK(mkdir((b + "/plain").c_str(), 0755) == 0);
    Fd copy = Copy(a);
    CHILD_CHECK(Beneath(copy, b + "/plain") == -1 && errno == EINVAL);
    CHILD_CHECK(Beneath(copy, b, 0x100) == -1 && errno == EINVAL);
    CHILD_CHECK(Beneath(copy, b + "/none") == -1 && errno == ENOENT);
    // A mount beneath the one that it is mounted on.
    CHILD_CHECK(syscall(SYS_move_mount, AT_FDCWD, inner.c_str(), AT_FDCWD, b.c_str(), kBeneath) ==
                    -1 &&
                errno == EINVAL);
    // Its copy would come to lie on the mount, too.
    CHILD_CHECK(mount(nullptr, dir.c_str(), nullptr, MS_SHARED, nullptr) == 0);
    const std::string c = dir / "c";
    CHILD_CHECK(mkdir(c.c_str(), 0755) == 0);
    CHILD_CHECK(mount(c.c_str(), c.c_str(), nullptr, MS_BIND, nullptr) == 0);
    CHILD_CHECK(Beneath(copy, c) == -1 && errno == EINVAL);
    CHILD_CHECK(umount(c.c_str()) == 0);
    CHILD_CHECK(mount(dir.c_str(), c.c_str(), nullptr, MS_BIND, nullptr) == 0);
    // Peers get it beneath theirs, or alone.
    CHILD_CHECK(Beneath(copy, b) == 0);
    CHILD_CHECK(Exists(b + "/B") && IsMount(dir / "c/b") && Exists(dir / "c/b/A"));
    CHILD_CHECK(umount2(b.c_str(), MNT_DETACH) == 0 && Exists(b + "/A"));
  });
}

}  // namespace
}  // namespace uk::test
