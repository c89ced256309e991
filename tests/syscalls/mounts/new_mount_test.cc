// open_tree(2), move_mount(2), mount_setattr(2), statmount(2), listmount(2).
#include <linux/mount.h>
#include <sys/sysmacros.h>

#include <algorithm>

#include "tests/syscalls/mounts/mounts.h"

namespace uk::test {
namespace {

constexpr unsigned kClone = 1, kRecursive = 0x8000;  // OPEN_TREE_CLONE, AT_RECURSIVE

long OpenTree(int dirfd, const std::string& path, unsigned flags) {
  return syscall(SYS_open_tree, dirfd, path.c_str(), flags | O_CLOEXEC);
}
// A descriptor's tree goes to `to`.
long MoveTo(int fd, const std::string& to, unsigned flags = 0) {
  return syscall(SYS_move_mount, fd, "", AT_FDCWD, to.c_str(), 4 | flags);
}
struct Attr {
  uint64_t set = 0, clear = 0, propagation = 0, userns = 0;
};
long SetAttr(const std::string& at, unsigned flags, Attr a, size_t size = sizeof(Attr)) {
  return syscall(SYS_mount_setattr, AT_FDCWD, at.c_str(), flags, &a, size);
}

struct IdRequest {
  uint32_t size = sizeof(IdRequest), spare = 0;
  uint64_t id = 0, param = 0, ns = 0;
};
uint64_t UniqueId(const std::string& path) {
  struct statx sx = {};
  constexpr unsigned kUnique = 0x4000;
  if (statx(AT_FDCWD, path.c_str(), 0, kUnique, &sx) != 0 || (sx.stx_mask & kUnique) == 0) return 0;
  return sx.stx_mnt_id;
}
struct StatMount {
  uint32_t size, options;
  uint64_t mask;
  uint32_t dev_major, dev_minor;
  uint64_t magic;
  uint32_t sb_flags, type;
  uint64_t id, parent_id;
  uint32_t old_id, old_parent_id;
  uint64_t attr, propagation, peer_group, master, from;
  uint32_t root, point;
  uint64_t ns_id;
  char rest[512 - 120];
  char strings[3584];
};
static_assert(offsetof(StatMount, strings) == 512);
long Stat(uint64_t id, uint64_t what, StatMount* out, size_t size = sizeof(StatMount)) {
  IdRequest r{.id = id, .param = what};
  return syscall(457, &r, out, size, 0);
}
std::vector<uint64_t> List(uint64_t id, uint64_t after = 0, unsigned flags = 0, size_t room = 500) {
  std::vector<uint64_t> ids(room);
  IdRequest r{.id = id, .param = after};
  long n = syscall(458, &r, ids.data(), ids.size(), flags);
  ids.resize(n < 0 ? 0 : static_cast<size_t>(n));
  return ids;
}

TEST(open_tree, Arguments) {
  COVERS(move_mount, mount_setattr);
  Scratch dir;
  EXPECT_ERRNO(EINVAL, OpenTree(AT_FDCWD, dir.path(), 2));
  EXPECT_ERRNO(EINVAL, OpenTree(AT_FDCWD, dir.path(), kRecursive)) << "of what is not copied";
  EXPECT_ERRNO(ENOENT, OpenTree(AT_FDCWD, dir / "no", 0));
  EXPECT_ERRNO(ENOENT, OpenTree(AT_FDCWD, "", 0));
  Fd plain(OpenTree(AT_FDCWD, dir.path(), 0));
  ASSERT_OK(plain.get());
  EXPECT_EQ(fcntl(plain, F_GETFL) & O_PATH, O_PATH);
  EXPECT_EQ(fcntl(plain, F_GETFD), FD_CLOEXEC);
  char c;
  EXPECT_ERRNO(EBADF, read(plain, &c, 1));
  Fd again(OpenTree(plain, "", AT_EMPTY_PATH));
  EXPECT_OK(again.get());
  Attr none;
  EXPECT_ERRNO(EINVAL, syscall(SYS_mount_setattr, -1, "", 1 << 30, &none, sizeof none));
  EXPECT_ERRNO(EINVAL, syscall(SYS_mount_setattr, -1, "", 0, &none, 31));
  EXPECT_ERRNO(E2BIG, syscall(SYS_mount_setattr, -1, "", 0, &none, 4097));
  if (!IsRoot()) {
    EXPECT_ERRNO(EPERM, OpenTree(AT_FDCWD, dir.path(), kClone));
    EXPECT_ERRNO(EPERM, syscall(SYS_move_mount, -1, "", -1, "", 0));
    EXPECT_ERRNO(EPERM, SetAttr(dir.path(), 0, {.set = 1}));
    return;
  }
  EXPECT_ERRNO(EINVAL, syscall(SYS_move_mount, AT_FDCWD, "/", AT_FDCWD, "/", 0x1000));
  EXPECT_ERRNO(EFAULT, syscall(SYS_mount_setattr, AT_FDCWD, "/", 0, BadPointer(), sizeof none));
  EXPECT_OK(syscall(SYS_mount_setattr, -1, "nowhere", 0, &none, sizeof none)) << "nothing to do";
}

TEST(open_tree, ACopyWithoutAPlace) {
  COVERS(move_mount);
  if (!IsRoot()) GTEST_SKIP() << "needs root";
  Scratch dir;
  IN_MOUNTS(dir, [&] {
    CHILD_CHECK(mkdir((dir / "a").c_str(), 0755) == 0 && mkdir((dir / "b").c_str(), 0755) == 0);
    CHILD_CHECK(mount("inner", (dir / "a").c_str(), "tmpfs", 0, nullptr) == 0);
    CHILD_CHECK(WriteFile(dir / "a/f", "text") && mkdir((dir / "a/sub").c_str(), 0755) == 0);
    CHILD_CHECK(mount("deep", (dir / "a/sub").c_str(), "tmpfs", 0, nullptr) == 0);
    CHILD_CHECK(WriteFile(dir / "a/sub/g", "deep"));
    Fd flat(OpenTree(AT_FDCWD, dir / "a", kClone));
    Fd deep(OpenTree(AT_FDCWD, dir / "a", kClone | kRecursive));
    CHILD_CHECK(flat >= 0 && deep >= 0);
    // Files are reached through the descriptor.
    Fd file(openat(deep, "sub/g", O_RDONLY));
    CHILD_CHECK(ReadFd(file) == "deep");
    CHILD_CHECK(faccessat(flat, "sub/g", F_OK, 0) == -1 && faccessat(flat, "f", F_OK, 0) == 0);
    CHILD_CHECK(!IsMount(dir / "b"));
    CHILD_CHECK(MoveTo(deep, dir / "b") == 0 && IsMount(dir / "b") && IsMount(dir / "b/sub"));
    CHILD_CHECK(ReadFile(dir / "b/sub/g") == "deep");
    CHILD_CHECK(MoveTo(flat, dir / "nowhere") == -1 && errno == ENOENT);
    // Once it has a place it is an ordinary mount, and outlives the descriptor.
    deep.reset();
    CHILD_CHECK(IsMount(dir / "b"));
    Fd here(OpenTree(AT_FDCWD, dir / "b/sub", 0));
    CHILD_CHECK(mkdir((dir / "c").c_str(), 0755) == 0 && MoveTo(here, dir / "c") == 0);
    CHILD_CHECK(IsMount(dir / "c") && !IsMount(dir / "b/sub"));
    CHILD_CHECK(MoveTo(here, dir / "c/g") == -1 && errno == EINVAL);
    CHILD_CHECK(mkdir((dir / "c/under").c_str(), 0755) == 0);
    CHILD_CHECK(MoveTo(here, dir / "c/under") == -1 && errno == ELOOP);
    // A directory that is no mount cannot be moved.
    Fd plain(OpenTree(AT_FDCWD, dir / "a/sub/..", 0));
    CHILD_CHECK(plain >= 0);
    Fd sub(OpenTree(AT_FDCWD, dir / "c/under", 0));
    CHILD_CHECK(MoveTo(sub, dir / "b") == -1 && errno == EINVAL);
    // Unbindable ones are not copied.
    CHILD_CHECK(mount(nullptr, (dir / "a").c_str(), nullptr, MS_UNBINDABLE, nullptr) == 0);
    CHILD_CHECK(OpenTree(AT_FDCWD, dir / "a", kClone) == -1 && errno == EINVAL);
    // Umount knows only what has a place.
    CHILD_CHECK(umount2(("/proc/self/fd/" + std::to_string(flat.get())).c_str(), 0) == -1 &&
                errno == EINVAL);
  });
}

TEST(mount_setattr, FlagsAndPropagation) {
  if (!IsRoot()) GTEST_SKIP() << "needs root";
  Scratch dir;
  IN_MOUNTS(dir, [&] {
    CHILD_CHECK(mkdir((dir / "a").c_str(), 0755) == 0);
    CHILD_CHECK(mount("inner", (dir / "a").c_str(), "tmpfs", 0, nullptr) == 0);
    const std::string& d = dir.path();
    CHILD_CHECK(MountAt(d).options == "rw,relatime");
    CHILD_CHECK(SetAttr(d, 0, {.set = 1 | 2 | 8}) == 0);
    CHILD_CHECK(MountAt(d).options == "ro,nosuid,noexec,relatime");
    CHILD_CHECK(MountAt(dir / "a").options == "rw,relatime");
    CHILD_CHECK(open((dir / "x").c_str(), O_CREAT | O_WRONLY, 0600) == -1 && errno == EROFS);
    CHILD_CHECK(SetAttr(d, 0, {.set = 4, .clear = 1 | 8}) == 0);
    CHILD_CHECK(MountAt(d).options == "rw,nosuid,nodev,relatime");
    CHILD_CHECK(SetAttr(d, 0, {.set = 0x10}) == -1 && errno == EINVAL);
    CHILD_CHECK(SetAttr(d, 0, {.clear = 0x10}) == -1 && errno == EINVAL);
    CHILD_CHECK(SetAttr(d, 0, {.set = 0x10 | 0x80, .clear = 0x70}) == 0);
    CHILD_CHECK(MountAt(d).options == "rw,nosuid,nodev,noatime,nodiratime");
    CHILD_CHECK(SetAttr(d, 0, {.set = 0x20, .clear = 0x70 | 0x80}) == 0);
    CHILD_CHECK(MountAt(d).options == "rw,nosuid,nodev");
    CHILD_CHECK(SetAttr(d, kRecursive, {.clear = 0x70 | 6}) == 0);
    CHILD_CHECK(MountAt(d).options == "rw,relatime");
    CHILD_CHECK(SetAttr(d, kRecursive, {.set = 0x200000, .propagation = MS_SHARED}) == 0);
    CHILD_CHECK(Tag(MountAt(dir / "a"), "shared") > 0);
    CHILD_CHECK(MountAt(dir / "a").options == "rw,relatime,nosymfollow");
    CHILD_CHECK(symlink("f", (dir / "link").c_str()) == 0 && WriteFile(dir / "f", "x"));
    CHILD_CHECK(open((dir / "link").c_str(), O_RDONLY) == -1 && errno == ELOOP);
    char target[8];
    CHILD_CHECK(readlink((dir / "link").c_str(), target, sizeof target) == 1);
    CHILD_CHECK(SetAttr(d, kRecursive, {.propagation = MS_PRIVATE}) == 0);
    CHILD_CHECK(MountAt(dir / "a").tags.empty());
    CHILD_CHECK(SetAttr(d, 0, {.propagation = MS_SHARED | MS_SLAVE}) == -1 && errno == EINVAL);
    CHILD_CHECK(SetAttr(d, 0, {.set = 1ull << 40}) == -1 && errno == EINVAL);
    CHILD_CHECK(mkdir((dir / "a/n").c_str(), 0755) == 0);
    CHILD_CHECK(SetAttr(dir / "a/n", 0, {.set = 1}) == -1 && errno == EINVAL);
    // Trees without a place too.
    Fd tree(OpenTree(AT_FDCWD, dir / "a", kClone));
    Attr ro{.set = 1};
    CHILD_CHECK(syscall(SYS_mount_setattr, tree.get(), "", AT_EMPTY_PATH, &ro, sizeof ro) == 0);
    CHILD_CHECK(openat(tree, "new", O_CREAT | O_WRONLY, 0600) == -1 && errno == EROFS);
    CHILD_CHECK(WriteFile(dir / "a/new", "x"));
  });
}

TEST(statmount, TellsOfAMount) {
  if (!IsRoot()) GTEST_SKIP() << "needs root";
  Scratch dir;
  IN_MOUNTS(dir, [&] {
    CHILD_CHECK(mount(nullptr, dir.c_str(), nullptr, MS_SHARED, nullptr) == 0);
    CHILD_CHECK(SetAttr(dir.path(), 0, {.set = 2 | 8}) == 0);
    const uint64_t id = UniqueId(dir.path());
    CHILD_CHECK(id > 1ull << 31);
    StatMount m = {};
    CHILD_CHECK(Stat(id, 0x1 | 0x2 | 0x8 | 0x10 | 0x20 | 0x40 | 0x200, &m) == 0);
    CHILD_CHECK((m.mask & 0x7b) == 0x7b);
    struct stat st;
    CHILD_CHECK(stat(dir.c_str(), &st) == 0);
    CHILD_CHECK(makedev(m.dev_major, m.dev_minor) == st.st_dev && m.magic == 0x01021994);
    const MountLine line = MountAt(dir.path());
    CHILD_CHECK(m.id == id && m.old_id == static_cast<uint32_t>(line.id) &&
                m.old_parent_id == static_cast<uint32_t>(line.parent));
    CHILD_CHECK(m.parent_id == UniqueId(dir / ".."));
    CHILD_CHECK(m.attr == (2 | 8) && m.propagation == MS_SHARED);
    CHILD_CHECK(m.peer_group == static_cast<uint64_t>(Tag(line, "shared")) && m.master == 0);
    CHILD_CHECK(std::string(m.strings + m.type) == "tmpfs");
    CHILD_CHECK(std::string(m.strings + m.root) == "/");
    CHILD_CHECK(std::string(m.strings + m.point) == dir.path());
    CHILD_CHECK(m.size > 512 && m.size < 700);
    CHILD_CHECK(Stat(id, 0x10, &m, 512) == -1 && errno == EOVERFLOW);
    CHILD_CHECK(Stat(id, 0x10, &m, 514) == -1 && errno == EOVERFLOW);
    CHILD_CHECK(Stat(id, 0x2, &m, 64) == 0);
    CHILD_CHECK(Stat(id + (1ull << 40), 1, &m) == -1 && errno == ENOENT);
    CHILD_CHECK(Stat(12, 1, &m) == -1 && errno == EINVAL);
    IdRequest r{.id = id, .param = 1};
    CHILD_CHECK(syscall(457, &r, &m, sizeof m, 1 << 20) == -1 && errno == EINVAL);
    CHILD_CHECK(syscall(457, BadPointer(), &m, sizeof m, 0) == -1 && errno == EFAULT);
    CHILD_CHECK(syscall(457, &r, BadPointer(), sizeof m, 0) == -1 && errno == EFAULT);
    r.size = 16;
    CHILD_CHECK(syscall(457, &r, &m, sizeof m, 0) == -1 && errno == EINVAL);
    r.size = 5000;
    CHILD_CHECK(syscall(457, &r, &m, sizeof m, 0) == -1 && errno == E2BIG);
    r = {.id = id, .param = 1, .ns = 1ull << 60};
    CHILD_CHECK(syscall(457, &r, &m, sizeof m, 0) == -1 && errno == ENOENT);
  });
}

TEST(listmount, ListsWhatIsBelow) {
  if (!IsRoot()) GTEST_SKIP() << "needs root";
  Scratch dir;
  IN_MOUNTS(dir, [&] {
    std::vector<uint64_t> made;
    for (const char* name : {"a", "b", "b/c"}) {
      CHILD_CHECK(mkdir((dir / name).c_str(), 0755) == 0);
      CHILD_CHECK(mount("m", (dir / name).c_str(), "tmpfs", 0, nullptr) == 0);
      made.push_back(UniqueId(dir / name));
    }
    const uint64_t top = UniqueId(dir.path());
    CHILD_CHECK(List(top) == made);
    std::vector<uint64_t> back(made.rbegin(), made.rend());
    CHILD_CHECK(List(top, 0, 1) == back);
    CHILD_CHECK(List(top, made[0]) == std::vector<uint64_t>(made.begin() + 1, made.end()));
    CHILD_CHECK(List(top, made[1], 1) == std::vector<uint64_t>(1, made[0]));
    CHILD_CHECK(List(top, 0, 0, 2) == std::vector<uint64_t>(made.begin(), made.begin() + 2));
    CHILD_CHECK(List(made[0]).empty());
    const auto all = List(UINT64_MAX);
    CHILD_CHECK(std::find(all.begin(), all.end(), made[2]) != all.end());
    CHILD_CHECK(std::is_sorted(all.begin(), all.end()));
    IdRequest r{.id = top};
    uint64_t one;
    CHILD_CHECK(syscall(458, &r, &one, 1, 2) == -1 && errno == EINVAL);
    CHILD_CHECK(syscall(458, &r, &one, 1000001, 0) == -1 && errno == EOVERFLOW);
    CHILD_CHECK(syscall(458, &r, BadPointer(), 1, 0) == -1 && errno == EFAULT);
    r.param = 5;
    CHILD_CHECK(syscall(458, &r, &one, 1, 0) == -1 && errno == EINVAL);
  });
}

}  // namespace
}  // namespace uk::test
