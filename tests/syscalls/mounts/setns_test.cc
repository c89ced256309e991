// setns(2) by files of /proc/PID/ns and by process descriptors, and what ioctl_ns(2) tells of them.
#include <linux/nsfs.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/vfs.h>

#include "tests/syscalls/mounts/mounts.h"

namespace uk::test {
namespace {

int SetNs(int fd, int kinds) { return static_cast<int>(syscall(SYS_setns, fd, kinds)); }
Fd NsOf(const char* kind, pid_t pid = 0) {
  const std::string who = pid == 0 ? "self" : std::to_string(pid);
  return Fd(open(("/proc/" + who + "/ns/" + kind).c_str(), O_RDONLY | O_CLOEXEC));
}
ino_t InodeOf(const char* kind) {
  struct stat st = {};
  return stat((std::string("/proc/self/ns/") + kind).c_str(), &st) == 0 ? st.st_ino : 0;
}
std::string HostName() {
  struct utsname u;
  return uname(&u) == 0 ? u.nodename : "";
}

TEST(setns, Arguments) {
  EXPECT_ERRNO(EBADF, SetNs(kBadFd, 0));
  Fd null(open("/dev/null", O_RDONLY));
  EXPECT_ERRNO(EINVAL, SetNs(null, 0));
  Fd uts = NsOf("uts");
  ASSERT_OK(uts.get());
  EXPECT_ERRNO(EINVAL, SetNs(uts, CLONE_NEWNS)) << "another kind";
  Fd path(open("/proc/self/ns/uts", O_PATH));
  EXPECT_ERRNO(EBADF, SetNs(path, 0));
  Fd self(syscall(SYS_pidfd_open, getpid(), 0));
  EXPECT_ERRNO(EINVAL, SetNs(self, 0)) << "a process has many";
  EXPECT_ERRNO(EINVAL, SetNs(self, CLONE_NEWUTS | CLONE_FS));
  Fd user = NsOf("user");
  EXPECT_ERRNO(EINVAL, SetNs(user, 0)) << "it is ours already";
  if (!IsRoot()) {
    EXPECT_ERRNO(EPERM, SetNs(uts, 0));
    EXPECT_ERRNO(EPERM, SetNs(self, CLONE_NEWUTS));
  }
}

TEST(setns, ReturnsToTheOldHostName) {
  COVERS(unshare);
  if (!IsRoot()) GTEST_SKIP() << "needs root";
  IN_CHILD([] {
    const std::string before = HostName();
    const ino_t number = InodeOf("uts");
    Fd old = NsOf("uts");
    CHILD_CHECK(unshare(CLONE_NEWUTS) == 0);
    CHILD_CHECK(InodeOf("uts") != number);
    CHILD_CHECK(sethostname("elsewhere", 9) == 0 && HostName() == "elsewhere");
    Fd mine = NsOf("uts");
    CHILD_CHECK(SetNs(old, CLONE_NEWUTS) == 0 && HostName() == before);
    CHILD_CHECK(InodeOf("uts") == number);
    CHILD_CHECK(SetNs(mine, 0) == 0 && HostName() == "elsewhere");
  });
}

TEST(setns, JoinsTheMountsOfAnother) {
  if (!IsRoot()) GTEST_SKIP() << "needs root";
  Scratch dir;
  Gate ready;
  Gate done;
  pid_t other = Spawn([&] {
    CHILD_CHECK(unshare(CLONE_NEWNS | CLONE_NEWIPC) == 0);
    CHILD_CHECK(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
    CHILD_CHECK(mount("there", dir.c_str(), "tmpfs", 0, nullptr) == 0);
    CHILD_CHECK(WriteFile(dir / "f", "inside"));
    ready.Open();
    CHILD_CHECK(done.Wait());
  });
  ASSERT_TRUE(ready.Wait());
  EXPECT_FALSE(Exists(dir / "f"));
  IN_CHILD([&] {
    CHILD_CHECK(chdir(dir.c_str()) == 0);
    Fd ns = NsOf("mnt", other);
    CHILD_CHECK(SetNs(ns, CLONE_NEWNS) == 0);
    CHILD_CHECK(ReadFile(dir / "f") == "inside");
    char cwd[64];
    CHILD_CHECK(getcwd(cwd, sizeof cwd) != nullptr && std::string(cwd) == "/");
  });
  IN_CHILD([&] {
    Fd pidfd(syscall(SYS_pidfd_open, other, 0));
    const ino_t ipc = InodeOf("ipc");
    CHILD_CHECK(SetNs(pidfd, CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS) == 0);
    CHILD_CHECK(ReadFile(dir / "f") == "inside" && InodeOf("ipc") != ipc);
  });
  IN_CHILD([&] {
    // Who shares its working directory with others may not.
    Fd ns = NsOf("mnt", other);
    static char stack[65536];
    int child =
        clone([](void*) { return pause(); }, stack + sizeof stack, CLONE_FS | SIGCHLD, nullptr);
    CHILD_CHECK(child > 0);
    CHILD_CHECK(SetNs(ns, 0) == -1 && errno == EINVAL);
    kill(child, SIGKILL);
  });
  done.Open();
  EXPECT_EQ(WaitFor(other), Exited(0));
  Fd gone(syscall(SYS_pidfd_open, getpid(), 0));
}

TEST(setns, AProcessThatEnded) {
  if (!IsRoot()) GTEST_SKIP() << "needs root";
  pid_t child = Spawn([] { return 0; });
  Fd pidfd(syscall(SYS_pidfd_open, child, 0));
  ASSERT_OK(pidfd.get());
  EXPECT_EQ(WaitFor(child), Exited(0));
  EXPECT_ERRNO(ESRCH, SetNs(pidfd, CLONE_NEWUTS));
}

TEST(ioctl_ns, KindsAndOwners) {
  const std::pair<const char*, int> kinds[] = {{"cgroup", CLONE_NEWCGROUP},
                                               {"ipc", CLONE_NEWIPC},
                                               {"mnt", CLONE_NEWNS},
                                               {"net", CLONE_NEWNET},
                                               {"pid", CLONE_NEWPID},
                                               {"pid_for_children", CLONE_NEWPID},
                                               {"time", 0x80},
                                               {"user", CLONE_NEWUSER},
                                               {"time_for_children", 0x80},
                                               {"uts", CLONE_NEWUTS}};
  for (auto [name, flag] : kinds) {
    SCOPED_TRACE(name);
    Fd fd = NsOf(name);
    ASSERT_OK(fd.get());
    EXPECT_EQ(ioctl(fd, NS_GET_NSTYPE), flag);
    struct statfs fs;
    ASSERT_OK(fstatfs(fd, &fs));
    EXPECT_EQ(fs.f_type, 0x6e736673);
    char text[64] = {};
    ASSERT_OK(readlink((std::string("/proc/self/ns/") + name).c_str(), text, sizeof text - 1));
    std::string kind = name;
    kind = kind.substr(0, kind.find('_'));
    struct stat st;
    ASSERT_OK(fstat(fd, &st));
    EXPECT_EQ(text, kind + ":[" + std::to_string(st.st_ino) + "]");
    EXPECT_ERRNO(EINVAL, read(fd, text, 1));
    EXPECT_ERRNO(ENOTTY, ioctl(fd, 0x1234, 0));
  }
  Fd uts = NsOf("uts");
  EXPECT_ERRNO(EINVAL, ioctl(uts, NS_GET_PARENT)) << "only user and pid namespaces have parents";
  uid_t uid;
  EXPECT_ERRNO(EINVAL, ioctl(uts, NS_GET_OWNER_UID, &uid));
  Fd user = NsOf("user");
  Fd owner(ioctl(uts, NS_GET_USERNS));
  ASSERT_OK(owner.get());
  struct stat a;
  struct stat b;
  ASSERT_OK(fstat(owner, &a));
  ASSERT_OK(fstat(user, &b));
  EXPECT_EQ(a.st_ino, b.st_ino);
  EXPECT_EQ(fcntl(owner, F_GETFD), FD_CLOEXEC);
  EXPECT_OK(ioctl(user, NS_GET_OWNER_UID, &uid));
  EXPECT_ERRNO(EFAULT, ioctl(user, NS_GET_OWNER_UID, BadPointer()));
  EXPECT_ERRNO(EPERM, ioctl(user, NS_GET_PARENT)) << "out of our sight";
}

TEST(mount, ANamespaceCanBeBoundToAName) {
  COVERS(setns, umount2);
  if (!IsRoot()) GTEST_SKIP() << "needs root";
  Scratch dir;
  IN_MOUNTS(dir, [&] {
    CHILD_CHECK(WriteFile(dir / "uts", ""));
    const std::string before = HostName();
    Fd old = NsOf("uts");
    CHILD_CHECK(unshare(CLONE_NEWUTS) == 0 && sethostname("kept", 4) == 0);
    CHILD_CHECK(mount("/proc/self/ns/uts", (dir / "uts").c_str(), nullptr, MS_BIND, nullptr) == 0);
    CHILD_CHECK(SetNs(old, 0) == 0 && HostName() == before);
    MountLine line = MountAt(dir / "uts");
    CHILD_CHECK(line.type == "nsfs" && line.source == "nsfs");
    CHILD_CHECK(line.root.starts_with("uts:["));
    Fd fd(open((dir / "uts").c_str(), O_RDONLY));
    CHILD_CHECK(SetNs(fd, CLONE_NEWUTS) == 0 && HostName() == "kept");
    fd.reset();
    CHILD_CHECK(umount2((dir / "uts").c_str(), 0) == 0);
    // Our own mount namespace may not be mounted inside itself.
    CHILD_CHECK(mount("/proc/self/ns/mnt", (dir / "uts").c_str(), nullptr, MS_BIND, nullptr) ==
                    -1 &&
                errno == EINVAL);
  });
}

}  // namespace
}  // namespace uk::test
