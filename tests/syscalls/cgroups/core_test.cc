// cgroup2 (cgroups(7)): the tree, its processes, events, delegation, clone3, namespaces.
#include <linux/sched.h>
#include <sched.h>
#include <sys/inotify.h>
#include <sys/vfs.h>

#include "tests/syscalls/cgroups/cgroup.h"

namespace uk::test {
namespace {

using cgroup2 = CgroupTest;

TEST_F(cgroup2, AGroupHasItsFiles) {
  struct statfs fs = {};
  ASSERT_OK(statfs(group->path().c_str(), &fs));
  EXPECT_EQ(fs.f_type, 0x63677270);
  EXPECT_EQ(group->Read("cgroup.type"), "domain\n");
  EXPECT_EQ(group->Read("cgroup.procs"), "");
  EXPECT_EQ(group->Read("cgroup.threads"), "");
  EXPECT_EQ(group->Read("cgroup.events"), "populated 0\nfrozen 0\n");
  EXPECT_EQ(group->Read("cgroup.freeze"), "0\n");
  EXPECT_EQ(group->Read("cgroup.max.depth"), "max\n");
  EXPECT_EQ(group->Read("cgroup.max.descendants"), "max\n");
  EXPECT_EQ(group->Read("cgroup.subtree_control"), "");
  EXPECT_EQ(group->Value("cgroup.stat", "nr_descendants"), 0);
  EXPECT_NE(group->Read("cpu.stat").find("usage_usec "), std::string::npos);
  EXPECT_ERRNO(EACCES, open((*group / "new").c_str(), O_CREAT | O_WRONLY, 0600));
  EXPECT_ERRNO(EEXIST, mkdir((*group / "cgroup.procs").c_str(), 0755));
  EXPECT_ERRNO(EINVAL, mkdir((*group / "a\nb").c_str(), 0755));
  EXPECT_ERRNO(EPERM, unlink((*group / "cgroup.procs").c_str()));
}

TEST_F(cgroup2, WhatIsWrittenIsChecked) {
  EXPECT_EQ(group->Write("cgroup.procs", "x"), EINVAL);
  EXPECT_EQ(group->Write("cgroup.procs", "-3"), EINVAL);
  EXPECT_EQ(group->Write("cgroup.procs", "999999999"), ESRCH);
  EXPECT_EQ(group->Write("cgroup.subtree_control", "+nothing"), EINVAL);
  EXPECT_EQ(group->Write("cgroup.subtree_control", "cpu"), EINVAL);
  EXPECT_EQ(group->Write("cgroup.freeze", "2"), ERANGE);
  EXPECT_EQ(group->Write("cgroup.freeze", "x"), EINVAL);
  EXPECT_EQ(group->Write("cgroup.kill", "0"), ERANGE);
  EXPECT_EQ(group->Write("cgroup.type", "domain"), EINVAL);
  EXPECT_EQ(group->Write("cgroup.max.depth", "-1"), ERANGE);
}

TEST_F(cgroup2, ProcessesMoveAndTheirChildrenFollow) {
  Pipe ready, end;
  const pid_t child = group->SpawnIn([&] {
    const pid_t grandchild = Spawn([&] {
      char c = 0;
      end.w.reset();
      read(end.r, &c, 1);
    });
    dprintf(ready.w, "%d %s\n", grandchild, OwnCgroup().c_str());
    end.w.reset();
    return WaitFor(grandchild);
  });
  char text[4096] = {};
  ASSERT_GT(read(ready.r, text, sizeof text - 1), 0);
  std::istringstream words(text);
  pid_t grandchild = 0;
  std::string own;
  words >> grandchild >> own;
  EXPECT_TRUE(group->path().ends_with(own)) << own;
  EXPECT_EQ(group->Read("cgroup.procs"),
            std::to_string(child) + "\n" + std::to_string(grandchild) + "\n");
  EXPECT_TRUE(group->AwaitEvent("populated 1"));
  EXPECT_ERRNO(EBUSY, rmdir(group->path().c_str()));
  end.w.reset();
  EXPECT_EQ(WaitFor(child), 0);
  EXPECT_TRUE(group->AwaitEvent("populated 0"));
  EXPECT_EQ(group->Read("cgroup.procs"), "");
}

TEST_F(cgroup2, AZombieDoesNotKeepItsGroup) {
  const pid_t child = group->SpawnIn([] {});
  siginfo_t info;
  ASSERT_OK(waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT));
  EXPECT_TRUE(group->AwaitEvent("populated 0"));
  EXPECT_OK(rmdir(group->path().c_str()));
  group->Forget();
  std::ifstream groups("/proc/" + std::to_string(child) + "/cgroup");
  std::string all((std::istreambuf_iterator<char>(groups)), {});
  EXPECT_NE(all.find(" (deleted)\n"), std::string::npos) << all;
  EXPECT_EQ(WaitFor(child), 0);
}

TEST_F(cgroup2, EventsAreTold) {
  Fd watch(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  ASSERT_OK(inotify_add_watch(watch, (*group / "cgroup.events").c_str(), IN_MODIFY));
  Fd events(open((*group / "cgroup.events").c_str(), O_RDONLY | O_CLOEXEC));
  char text[64] = {};
  ASSERT_GT(read(events, text, sizeof text), 0);
  pollfd p = {events, POLLPRI, 0};
  EXPECT_EQ(poll(&p, 1, 0), 0);
  Pipe end;
  const pid_t child = group->SpawnIn([&] {
    char c = 0;
    end.w.reset();
    read(end.r, &c, 1);
  });
  EXPECT_EQ(poll(&p, 1, 10'000), 1);
  EXPECT_EQ(p.revents, POLLPRI | POLLERR);
  pollfd w = {watch, POLLIN, 0};
  EXPECT_EQ(poll(&w, 1, 10'000), 1);
  ASSERT_GT(pread(events, text, sizeof text, 0), 0);
  EXPECT_TRUE(std::string(text).starts_with("populated 1\n")) << text;
  EXPECT_EQ(poll(&p, 1, 0), 0);
  end.w.reset();
  EXPECT_EQ(WaitFor(child), 0);
}

TEST_F(cgroup2, TheTreeCanBeLimited) {
  ASSERT_EQ(group->Write("cgroup.max.depth", "1"), 0);
  {
    Cgroup a(*group / "a");
    ASSERT_TRUE(a.made());
    EXPECT_ERRNO(EAGAIN, mkdir((a / "b").c_str(), 0755));
    ASSERT_EQ(group->Write("cgroup.max.depth", "max"), 0);
    ASSERT_EQ(group->Write("cgroup.max.descendants", "2"), 0);
    Cgroup b(a / "b");
    ASSERT_TRUE(b.made());
    EXPECT_ERRNO(EAGAIN, mkdir((*group / "c").c_str(), 0755));
    EXPECT_EQ(group->Value("cgroup.stat", "nr_descendants"), 2);
    EXPECT_ERRNO(EBUSY, rmdir(a.path().c_str()));
  }
  EXPECT_EQ(group->Value("cgroup.stat", "nr_descendants"), 0);
}

TEST_F(cgroup2, ControllersThatAreNotThereCannotBeGiven) {
  Cgroup child(*group / "child");
  ASSERT_TRUE(child.made());
  EXPECT_EQ(child.Read("cgroup.controllers"), group->Read("cgroup.subtree_control"));
  EXPECT_EQ(child.Write("cgroup.subtree_control", "+pids"), ENOENT);
}

TEST_F(cgroup2, ARemovedGroupIsGone) {
  Cgroup child(*group / "child");
  ASSERT_TRUE(child.made());
  Fd procs(open((child / "cgroup.procs").c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_OK(rmdir(child.path().c_str()));
  child.Forget();
  char c = 0;
  EXPECT_ERRNO(ENODEV, read(procs, &c, 1));
  EXPECT_ERRNO(ENODEV, write(procs, "0", 1));
}

TEST_F(cgroup2, Delegation) {
  if (!IsRoot()) GTEST_SKIP() << "gives a group to another user";
  constexpr uid_t kUser = 12345;
  Cgroup given(*group / "given"), kept(*group / "kept");
  ASSERT_OK(chown(given.path().c_str(), kUser, kUser));
  ASSERT_OK(chown((given / "cgroup.procs").c_str(), kUser, kUser));
  const pid_t inside = given.SpawnIn([&] {
    if (setresuid(kUser, kUser, kUser) != 0) return 1;
    Cgroup below(given / "below");
    if (!below.made()) return 2;
    const pid_t own = below.SpawnIn([] { pause(); });
    if (!below.AwaitEvent("populated 1")) return 3;
    // Back, as both are below the group that was given; not out of it.
    if (given.Write("cgroup.procs", std::to_string(own)) != 0) return 4;
    if (kept.Write("cgroup.procs", std::to_string(own)) != EACCES) return 5;
    if (below.Write("cgroup.procs", std::to_string(getppid())) != EACCES) return 6;
    kill(own, SIGKILL);
    return WaitFor(own) == SIGKILL ? 0 : 7;
  });
  EXPECT_EQ(WaitFor(inside), 0);
}

TEST_F(cgroup2, CloneIntoAGroup) {
  COVERS(clone3);
  Fd dir(open(group->path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  clone_args args = {};
  args.flags = CLONE_INTO_CGROUP;
  args.exit_signal = SIGCHLD;
  args.cgroup = static_cast<uint64_t>(dir.get());
  const std::string path = group->path();
  long pid = syscall(SYS_clone3, &args, sizeof args);
  if (pid == 0) _exit(path.ends_with(OwnCgroup()) ? 0 : 1);
  ASSERT_OK(pid);
  EXPECT_EQ(WaitFor(static_cast<pid_t>(pid)), 0);
  Scratch scratch;
  Fd other = scratch.Dir();
  args.cgroup = static_cast<uint64_t>(other.get());
  EXPECT_ERRNO(EBADF, syscall(SYS_clone3, &args, sizeof args));
  args.cgroup = 999;
  EXPECT_ERRNO(EBADF, syscall(SYS_clone3, &args, sizeof args));
  args.cgroup = uint64_t{1} << 31;
  EXPECT_ERRNO(EINVAL, syscall(SYS_clone3, &args, sizeof args));
  Cgroup child(*group / "child");
  Fd gone(open(child.path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  ASSERT_OK(rmdir(child.path().c_str()));
  child.Forget();
  args.cgroup = static_cast<uint64_t>(gone.get());
  EXPECT_ERRNO(ENOENT, syscall(SYS_clone3, &args, sizeof args));
}

TEST_F(cgroup2, ANamespaceHidesWhatIsAbove) {
  COVERS(unshare, setns);
  if (!IsRoot()) GTEST_SKIP() << "makes a namespace";
  Cgroup child(*group / "child"), side(*group / "side");
  Fd before(open("/proc/self/ns/cgroup", O_RDONLY | O_CLOEXEC));
  struct stat old = {};
  ASSERT_OK(fstat(before, &old));
  const std::string outside = OwnCgroup();
  const pid_t pid = child.SpawnIn([&] {
    CHILD_CHECK(unshare(CLONE_NEWCGROUP) == 0);
    struct stat now = {};
    CHILD_CHECK(stat("/proc/self/ns/cgroup", &now) == 0 && now.st_ino != old.st_ino);
    CHILD_CHECK(OwnCgroup() == "/");
    CHILD_CHECK(side.Write("cgroup.procs", "0") == 0);
    CHILD_CHECK(OwnCgroup() == "/../side");
    CHILD_CHECK(setns(before, CLONE_NEWCGROUP) == 0);
    CHILD_CHECK(side.path().ends_with(OwnCgroup()));
    return 0;
  });
  EXPECT_EQ(WaitFor(pid), 0);
}

}  // namespace
}  // namespace uk::test
