// Shared subtrees (mount_namespaces(7)): MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE, as binds,
// mounts and unmounts spread, and as /proc/self/mountinfo shows them.
#include "tests/syscalls/mounts/mounts.h"

namespace uk::test {
namespace {

int Make(const std::string& at, unsigned long kind) {
  return mount(nullptr, at.c_str(), nullptr, kind, nullptr);
}
int Bind(const std::string& from, const std::string& to, unsigned long more = 0) {
  return mount(from.c_str(), to.c_str(), nullptr, MS_BIND | more, nullptr);
}
int Tmpfs(const std::string& at) { return mount("t", at.c_str(), "tmpfs", 0, nullptr); }
bool Dirs(const Scratch& dir, std::initializer_list<const char*> names) {
  for (const char* n : names)
    if (mkdir((dir / n).c_str(), 0755) != 0) return false;
  return true;
}

TEST(mount, PropagationTypesShowInMountinfo) {
  if (!IsRoot()) GTEST_SKIP() << "needs root";
  Scratch dir;
  IN_MOUNTS(dir, [&] {
    const std::string& d = dir.path();
    CHILD_CHECK(MountAt(d).tags.empty());
    CHILD_CHECK(Make(d, MS_SHARED) == 0 && Tag(MountAt(d), "shared") > 0);
    CHILD_CHECK(Make(d, MS_SLAVE) == 0 && MountAt(d).tags.empty());
    CHILD_CHECK(Make(d, MS_UNBINDABLE) == 0 && MountAt(d).tags == "unbindable");
    CHILD_CHECK(Make(d, MS_SLAVE) == 0 && MountAt(d).tags == "unbindable");
    CHILD_CHECK(Dirs(dir, {"a", "b"}));
    CHILD_CHECK(Bind(d, dir / "a") == -1 && errno == EINVAL);
    CHILD_CHECK(Make(d, MS_PRIVATE) == 0 && MountAt(d).tags.empty());
    CHILD_CHECK(Bind(d, dir / "a") == 0);
    CHILD_CHECK(Make(d, MS_SHARED | MS_SLAVE) == -1 && errno == EINVAL);
    CHILD_CHECK(Make(d, MS_SHARED | MS_NOSUID) == -1 && errno == EINVAL);
    CHILD_CHECK(Make(dir / "b", MS_SHARED) == -1 && errno == EINVAL);
    CHILD_CHECK(Make(d, MS_SHARED | MS_REC) == 0);
    CHILD_CHECK(Tag(MountAt(d), "shared") > 0 && Tag(MountAt(dir / "a"), "shared") > 0);
    CHILD_CHECK(Tag(MountAt(d), "shared") != Tag(MountAt(dir / "a"), "shared"));
  });
}

TEST(mount, PeersSeeEachOther) {
  COVERS(umount2);
  if (!IsRoot()) GTEST_SKIP() << "needs root";
  Scratch dir;
  IN_MOUNTS(dir, [&] {
    CHILD_CHECK(Dirs(dir, {"a", "b"}) && Tmpfs(dir / "a") == 0);
    CHILD_CHECK(mkdir((dir / "a/x").c_str(), 0755) == 0);
    CHILD_CHECK(Make(dir / "a", MS_SHARED) == 0);
    CHILD_CHECK(Bind(dir / "a", dir / "b") == 0);
    CHILD_CHECK(Tag(MountAt(dir / "a"), "shared") == Tag(MountAt(dir / "b"), "shared"));
    CHILD_CHECK(Tmpfs(dir / "a/x") == 0);
    CHILD_CHECK(IsMount(dir / "b/x"));
    CHILD_CHECK(Tag(MountAt(dir / "a/x"), "shared") > 0);
    CHILD_CHECK(Tag(MountAt(dir / "a/x"), "shared") == Tag(MountAt(dir / "b/x"), "shared"));
    CHILD_CHECK(WriteFile(dir / "b/x/f", "one") && ReadFile(dir / "a/x/f") == "one");
    {
      Fd busy(open((dir / "a/x/f").c_str(), O_RDONLY));
      CHILD_CHECK(umount2((dir / "b/x").c_str(), 0) == -1 && errno == EBUSY);
    }
    CHILD_CHECK(umount2((dir / "b/x").c_str(), 0) == 0);
    CHILD_CHECK(!IsMount(dir / "a/x") && !IsMount(dir / "b/x"));
    // What lies in a shared mount cannot be moved away.
    CHILD_CHECK(Tmpfs(dir / "a/x") == 0 && mkdir((dir / "y").c_str(), 0755) == 0);
    CHILD_CHECK(mount((dir / "a/x").c_str(), (dir / "y").c_str(), nullptr, MS_MOVE, nullptr) ==
                    -1 &&
                errno == EINVAL);
    // Private again, they go on alone.
    CHILD_CHECK(Make(dir / "b", MS_PRIVATE) == 0);
    CHILD_CHECK(umount2((dir / "a/x").c_str(), 0) == 0 && IsMount(dir / "b/x"));
  });
}

TEST(mount, SlavesFollowTheirMaster) {
  if (!IsRoot()) GTEST_SKIP() << "needs root";
  Scratch dir;
  IN_MOUNTS(dir, [&] {
    CHILD_CHECK(Dirs(dir, {"a", "b", "c", "d"}) && Tmpfs(dir / "a") == 0);
    CHILD_CHECK(mkdir((dir / "a/x").c_str(), 0755) == 0 && mkdir((dir / "a/y").c_str(), 0755) == 0);
    CHILD_CHECK(Make(dir / "a", MS_SHARED) == 0 && Bind(dir / "a", dir / "b") == 0);
    CHILD_CHECK(Make(dir / "b", MS_SLAVE) == 0);
    const int group = Tag(MountAt(dir / "a"), "shared");
    CHILD_CHECK(MountAt(dir / "b").tags == "master:" + std::to_string(group));
    CHILD_CHECK(Tmpfs(dir / "a/x") == 0 && IsMount(dir / "b/x"));
    CHILD_CHECK(Tag(MountAt(dir / "b/x"), "master") == Tag(MountAt(dir / "a/x"), "shared"));
    CHILD_CHECK(Tag(MountAt(dir / "b/x"), "shared") == 0);
    CHILD_CHECK(Tmpfs(dir / "b/y") == 0 && !IsMount(dir / "a/y"));
    CHILD_CHECK(MountAt(dir / "b/y").tags.empty());
    CHILD_CHECK(umount2((dir / "b/y").c_str(), 0) == 0);
    // A slave that is shared hands on to its peers.
    CHILD_CHECK(Make(dir / "b", MS_SHARED) == 0 && Bind(dir / "b", dir / "c") == 0);
    const MountLine c = MountAt(dir / "c");
    CHILD_CHECK(Tag(c, "master") == group && Tag(c, "shared") == Tag(MountAt(dir / "b"), "shared"));
    CHILD_CHECK(umount2((dir / "a/x").c_str(), 0) == 0);
    CHILD_CHECK(Tmpfs(dir / "a/x") == 0 && IsMount(dir / "b/x") && IsMount(dir / "c/x"));
    CHILD_CHECK(Tag(MountAt(dir / "c/x"), "shared") == Tag(MountAt(dir / "b/x"), "shared"));
    CHILD_CHECK(Tag(MountAt(dir / "c/x"), "master") == Tag(MountAt(dir / "a/x"), "shared"));
    CHILD_CHECK(umount2((dir / "a/x").c_str(), 0) == 0 && !IsMount(dir / "c/x"));
    // When the last peer goes its slaves get its own master.
    CHILD_CHECK(Bind(dir / "b", dir / "d") == 0 && Make(dir / "d", MS_SLAVE) == 0);
    CHILD_CHECK(Tag(MountAt(dir / "d"), "master") == Tag(MountAt(dir / "b"), "shared"));
    CHILD_CHECK(Make(dir / "b", MS_PRIVATE) == 0 && Make(dir / "c", MS_PRIVATE) == 0);
    CHILD_CHECK(Tag(MountAt(dir / "d"), "master") == group);
  });
}

TEST(mount, UnbindableTreesAreLeftOutOfRecursiveBinds) {
  if (!IsRoot()) GTEST_SKIP() << "needs root";
  Scratch dir;
  IN_MOUNTS(dir, [&] {
    CHILD_CHECK(Dirs(dir, {"a", "b"}) && Tmpfs(dir / "a") == 0);
    for (const char* n : {"a/u", "a/v"}) {
      CHILD_CHECK(mkdir((dir / n).c_str(), 0755) == 0 && Tmpfs(dir / n) == 0);
    }
    CHILD_CHECK(Make(dir / "a/u", MS_UNBINDABLE) == 0);
    CHILD_CHECK(Bind(dir / "a", dir / "b", MS_REC) == 0);
    CHILD_CHECK(IsMount(dir / "b/v") && !IsMount(dir / "b/u"));
    // Nor may such a tree be moved to where it would be copied.
    CHILD_CHECK(Make(dir / "b", MS_SHARED) == 0 && mkdir((dir / "b/w").c_str(), 0755) == 0);
    CHILD_CHECK(mount((dir / "a/u").c_str(), (dir / "b/w").c_str(), nullptr, MS_MOVE, nullptr) ==
                    -1 &&
                errno == EINVAL);
  });
}

TEST(unshare, CopiesOfAMountNamespaceArePeers) {
  COVERS(clone, mount);
  if (!IsRoot()) GTEST_SKIP() << "needs root";
  Scratch dir;
  IN_MOUNTS(dir, [&] {
    CHILD_CHECK(Dirs(dir, {"x", "y"}) && Make(dir.path(), MS_SHARED) == 0);
    Gate inside;
    Gate outside;
    pid_t child = Spawn([&] {
      CHILD_CHECK(unshare(CLONE_NEWNS) == 0);
      CHILD_CHECK(Tmpfs(dir / "x") == 0);
      inside.Open();
      CHILD_CHECK(outside.Wait());
      CHILD_CHECK(IsMount(dir / "y"));
      CHILD_CHECK(Make(dir.path(), MS_SLAVE) == 0);
      CHILD_CHECK(umount2((dir / "y").c_str(), 0) == 0);
    });
    CHILD_CHECK(inside.Wait());
    CHILD_CHECK(IsMount(dir / "x"));
    CHILD_CHECK(Tmpfs(dir / "y") == 0);
    outside.Open();
    CHILD_CHECK(WaitFor(child) == Exited(0));
    CHILD_CHECK(IsMount(dir / "y"));
  });
}

TEST(mount, WhatWasThereLiesOnTopOfWhatSpreads) {
  if (!IsRoot()) GTEST_SKIP() << "needs root";
  Scratch dir;
  IN_MOUNTS(dir, [&] {
    CHILD_CHECK(Dirs(dir, {"a", "b"}) && Tmpfs(dir / "a") == 0);
    CHILD_CHECK(mkdir((dir / "a/x").c_str(), 0755) == 0 && Make(dir / "a", MS_SHARED) == 0);
    CHILD_CHECK(Bind(dir / "a", dir / "b") == 0 && Make(dir / "b", MS_SLAVE) == 0);
    CHILD_CHECK(Tmpfs(dir / "b/x") == 0 && WriteFile(dir / "b/x/own", "1"));
    CHILD_CHECK(Tmpfs(dir / "a/x") == 0 && WriteFile(dir / "a/x/master", "2"));
    CHILD_CHECK(Exists(dir / "b/x/own") && !Exists(dir / "b/x/master"));
    CHILD_CHECK(umount2((dir / "b/x").c_str(), 0) == 0);
    CHILD_CHECK(Exists(dir / "b/x/master"));
  });
}

TEST(pivot_root, RefusesSharedMounts) {
  if (!IsRoot()) GTEST_SKIP() << "needs root";
  Scratch dir;
  IN_MOUNTS(dir, [&] {
    CHILD_CHECK(Dirs(dir, {"new"}) && Tmpfs(dir / "new") == 0);
    CHILD_CHECK(mkdir((dir / "new/old").c_str(), 0755) == 0);
    CHILD_CHECK(Make(dir / "new", MS_SHARED) == 0);
    CHILD_CHECK(syscall(SYS_pivot_root, (dir / "new").c_str(), (dir / "new/old").c_str()) == -1 &&
                errno == EINVAL);
    CHILD_CHECK(Make(dir / "new", MS_PRIVATE) == 0);
    CHILD_CHECK(syscall(SYS_pivot_root, (dir / "new").c_str(), (dir / "new/old").c_str()) == 0);
    CHILD_CHECK(Exists("/old") && chdir("/") == 0);
    CHILD_CHECK(umount2("/old", MNT_DETACH) == 0 && !Exists("/old/proc"));
  });
}

}  // namespace
}  // namespace uk::test
