// User namespaces (user_namespaces(7)): unshare(2), clone(2) and setns(2) with CLONE_NEWUSER, id
// mappings, what capabilities count for, mounts by ordinary users.
#include <grp.h>
#include <linux/capability.h>
#include <linux/nsfs.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include "tests/syscalls/mounts/mounts.h"

namespace uk::test {
namespace {

// The system may forbid them to ordinary users.
bool Allowed() {
  return RunChild([] { return unshare(CLONE_NEWUSER) == 0 ? 0 : 1; }) == 0;
}
#define NEEDS_USER_NAMESPACES() \
  if (!Allowed()) GTEST_SKIP() << "no user namespaces here"

bool Put(const std::string& path, const std::string& text) {
  Fd fd(open(path.c_str(), O_WRONLY));
  return fd >= 0 && write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
}
// Becomes root of a new namespace, in which only this user has a mapping.
void BecomeRoot(int more = 0) {
  const std::string uid = std::to_string(geteuid());
  const std::string gid = std::to_string(getegid());
  CHILD_CHECK(unshare(CLONE_NEWUSER | more) == 0);
  CHILD_CHECK(Put("/proc/self/setgroups", "deny"));
  CHILD_CHECK(Put("/proc/self/uid_map", "0 " + uid + " 1"));
  CHILD_CHECK(Put("/proc/self/gid_map", "0 " + gid + " 1"));
}
uint64_t Caps(const char* which) {
  return strtoull(ProcField("/proc/self/status", which).c_str(), nullptr, 16);
}
std::string Words(const std::string& s) {
  std::istringstream in(s);
  std::string out;
  std::string w;
  while (in >> w) out += (out.empty() ? "" : " ") + w;
  return out;
}

TEST(unshare, ANewUserIsNobodyWithAllCapabilities) {
  NEEDS_USER_NAMESPACES();
  IN_CHILD([] {
    struct stat before;
    struct stat after;
    CHILD_CHECK(stat("/proc/self/ns/user", &before) == 0 && unshare(CLONE_NEWUSER) == 0);
    CHILD_CHECK(stat("/proc/self/ns/user", &after) == 0 && before.st_ino != after.st_ino);
    CHILD_CHECK(geteuid() == 65534 && getegid() == 65534);
    CHILD_CHECK(ReadFile("/proc/self/uid_map").empty());
    CHILD_CHECK((Caps("CapEff") & (1ull << CAP_SYS_ADMIN)) != 0);
    CHILD_CHECK(Caps("CapEff") == Caps("CapPrm") && Caps("CapInh") == 0);
    CHILD_CHECK(setuid(0) == -1 && errno == EINVAL);
    uid_t r;
    uid_t e;
    uid_t s;
    CHILD_CHECK(syscall(SYS_getresuid, &r, &e, &s) == 0 && r == 65534 && s == 65534);
  });
}

TEST(unshare, MappingsAreWrittenOnce) {
  NEEDS_USER_NAMESPACES();
  IN_CHILD([] {
    const std::string uid = std::to_string(geteuid());
    const std::string gid = std::to_string(getegid());
    CHILD_CHECK(!Put("/proc/self/uid_map", "0 " + uid + " 1") && errno == EPERM);
    CHILD_CHECK(unshare(CLONE_NEWUSER) == 0);
    const char* map = "/proc/self/uid_map";
    for (const char* bad : {"", "x", "0 0", "0 0 0", "0 0 1 1", "0 4294967295 1", "4294967295 0 1"})
      CHILD_CHECK(*bad == 0 || (!Put(map, bad) && errno == EINVAL));
    CHILD_CHECK(!Put(map, "0 1 2\n1 5 1\n") && errno == EINVAL);
    CHILD_CHECK(Put(map, "0 " + uid + " 1\n"));
    CHILD_CHECK(getuid() == 0 && !Put(map, "0 " + uid + " 1") && errno == EPERM);
    CHILD_CHECK(Words(ReadFile(map)) == "0 " + uid + " 1");
    CHILD_CHECK(Words(ReadFile("/proc/self/setgroups")) == "allow");
    CHILD_CHECK(!Put("/proc/self/setgroups", "perhaps") && errno == EINVAL);
    CHILD_CHECK(Put("/proc/self/setgroups", "deny"));
    CHILD_CHECK(!Put("/proc/self/setgroups", "allow") && errno == EPERM);
    CHILD_CHECK(Put("/proc/self/gid_map", "5 " + gid + " 1"));
    CHILD_CHECK(getgid() == 5);
    gid_t group = 5;
    CHILD_CHECK(setgroups(1, &group) == -1 && errno == EPERM);
    CHILD_CHECK(Words(ProcField("/proc/self/status", "Uid")) == "0 0 0 0");
    CHILD_CHECK(setuid(7) == -1 && errno == EINVAL && setuid(0) == 0);
  });
}

TEST(stat, ShowsIdsOfTheNamespace) {
  COVERS(chown, getuid, geteuid, fstat, statx);
  NEEDS_USER_NAMESPACES();
  Scratch dir;
  const std::string file = dir.File("f", "text");
  IN_CHILD([&] {
    BecomeRoot();
    struct stat st;
    CHILD_CHECK(stat(file.c_str(), &st) == 0 && st.st_uid == 0 && st.st_gid == 0);
    CHILD_CHECK(stat("/proc/1", &st) == 0);
    CHILD_CHECK(chown(file.c_str(), 0, 0) == 0);
    CHILD_CHECK(chown(file.c_str(), 1, 0) == -1 && errno == EINVAL);
    struct statx sx;
    CHILD_CHECK(statx(AT_FDCWD, file.c_str(), 0, STATX_UID, &sx) == 0 && sx.stx_uid == 0);
    CHILD_CHECK(WriteFile(dir / "new", "x") && stat((dir / "new").c_str(), &st) == 0);
    CHILD_CHECK(st.st_uid == 0);
  });
  struct stat st;
  ASSERT_OK(stat((dir / "new").c_str(), &st));
  EXPECT_EQ(st.st_uid, geteuid());
}

TEST(unshare, CapabilitiesDoNotCountOutside) {
  COVERS(sethostname, mount, chroot, mknod);
  NEEDS_USER_NAMESPACES();
  Scratch dir;
  IN_CHILD([&] {
    BecomeRoot();
    CHILD_CHECK(sethostname("x", 1) == -1 && errno == EPERM);
    CHILD_CHECK(mount("t", dir.c_str(), "tmpfs", 0, nullptr) == -1 && errno == EPERM);
    CHILD_CHECK(syscall(SYS_mknod, (dir / "null").c_str(), S_IFCHR | 0666, 0x103) == -1 &&
                errno == EPERM);
    CHILD_CHECK(setpriority(0, 0, -5) == -1 && errno == EACCES);
    CHILD_CHECK(chroot(dir.c_str()) == 0);
    CHILD_CHECK(unshare(CLONE_NEWUSER) == -1 && errno == EPERM);
  });
  IN_CHILD([&] {
    BecomeRoot(CLONE_NEWUTS);
    CHILD_CHECK(sethostname("mine", 4) == 0);
    char name[16];
    CHILD_CHECK(gethostname(name, sizeof name) == 0 && std::string(name) == "mine");
  });
}

TEST(mount, ByAnyUserInsideANamespace) {
  COVERS(unshare, umount2, pivot_root);
  NEEDS_USER_NAMESPACES();
  Scratch dir;
  IN_CHILD([&] {
    BecomeRoot(CLONE_NEWNS);
    CHILD_CHECK(mount("mine", dir.c_str(), "tmpfs", 0, "size=1m") == 0);
    CHILD_CHECK(WriteFile(dir / "f", "x"));
    struct stat st;
    CHILD_CHECK(stat(dir.c_str(), &st) == 0 && st.st_uid == 0);
    CHILD_CHECK(mkdir((dir / "a").c_str(), 0755) == 0 && mkdir((dir / "b").c_str(), 0755) == 0);
    CHILD_CHECK(mount((dir / "a").c_str(), (dir / "b").c_str(), nullptr, MS_BIND, nullptr) == 0);
    CHILD_CHECK(umount2((dir / "b").c_str(), 0) == 0);
    // What the old namespace mounted stays where it is.
    CHILD_CHECK(umount2("/proc", MNT_DETACH) == -1 && errno == EINVAL);
    CHILD_CHECK(mkdir((dir / "old").c_str(), 0755) == 0);
    CHILD_CHECK(syscall(SYS_pivot_root, dir.c_str(), (dir / "old").c_str()) == 0 ||
                errno == EINVAL);
  });
  EXPECT_FALSE(Exists(dir / "f"));
}

TEST(setns, IntoTheNamespaceOfAChild) {
  NEEDS_USER_NAMESPACES();
  Gate ready;
  Gate done;
  pid_t child = Spawn([&] {
    BecomeRoot(CLONE_NEWUTS);
    CHILD_CHECK(sethostname("inside", 6) == 0);
    ready.Open();
    CHILD_CHECK(done.Wait());
  });
  ASSERT_TRUE(ready.Wait());
  IN_CHILD([&] {
    Fd user(open(("/proc/" + std::to_string(child) + "/ns/user").c_str(), O_RDONLY));
    Fd uts(open(("/proc/" + std::to_string(child) + "/ns/uts").c_str(), O_RDONLY));
    Fd mine(open("/proc/self/ns/user", O_RDONLY));
    CHILD_CHECK(user >= 0 && uts >= 0);
    uid_t owner;
    CHILD_CHECK(ioctl(user, NS_GET_OWNER_UID, &owner) == 0 && owner == geteuid());
    struct stat a;
    struct stat b;
    Fd parent(ioctl(user, NS_GET_PARENT));
    CHILD_CHECK(fstat(parent, &a) == 0 && fstat(mine, &b) == 0 && a.st_ino == b.st_ino);
    CHILD_CHECK(IsRoot() || (syscall(SYS_setns, uts.get(), 0) == -1 && errno == EPERM));
    CHILD_CHECK(syscall(SYS_setns, user.get(), 0) == 0 && getuid() == 0);
    CHILD_CHECK(syscall(SYS_setns, uts.get(), CLONE_NEWUTS) == 0);
    char name[16];
    CHILD_CHECK(gethostname(name, sizeof name) == 0 && std::string(name) == "inside");
    CHILD_CHECK(syscall(SYS_setns, mine.get(), 0) == -1 && errno == EPERM);
  });
  done.Open();
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(clone, AParentMapsItsChild) {
  NEEDS_USER_NAMESPACES();
  Gate made;
  Gate mapped;
  static char stack[65536];
  struct Both {
    Gate *made, *mapped;
  } both{&made, &mapped};
  int child = clone(
      [](void* p) {
        auto* b = static_cast<Both*>(p);
        b->made->Open();
        CHILD_CHECK(b->mapped->Wait());
        CHILD_CHECK(getuid() == 3 && geteuid() == 3);
        return 0;
      },
      stack + sizeof stack, CLONE_NEWUSER | SIGCHLD, &both);
  ASSERT_OK(child);
  ASSERT_TRUE(made.Wait());
  const std::string proc = "/proc/" + std::to_string(child) + "/";
  EXPECT_TRUE(Put(proc + "uid_map", "3 " + std::to_string(geteuid()) + " 1")) << strerror(errno);
  EXPECT_EQ(Words(ReadFile(proc + "uid_map")), "3 " + std::to_string(geteuid()) + " 1");
  mapped.Open();
  EXPECT_EQ(WaitFor(child), Exited(0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_clone, CLONE_NEWUSER | CLONE_FS | SIGCHLD, 0, 0, 0, 0));
}

}  // namespace
}  // namespace uk::test
