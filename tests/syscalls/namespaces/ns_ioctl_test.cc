// What descriptors of namespaces and processes tell: ioctl_nsfs(2), ioctl_pidfd(2).
#include <linux/nsfs.h>
#include <sys/ioctl.h>

#include "tests/syscalls/namespaces/namespaces.h"

namespace uk::test {
namespace {

constexpr unsigned long kGetPidFromPidns = _IOR(NSIO, 6, int),
                        kGetTgidFromPidns = _IOR(NSIO, 7, int), kGetPidInPidns = _IOR(NSIO, 8, int),
                        kGetTgidInPidns = _IOR(NSIO, 9, int);
constexpr unsigned long PidfdNs(int nr) { return _IO(0xff, nr); }

ino_t InodeOf(int fd) {
  struct stat st = {};
  return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

TEST(ioctl_nsfs, PidNamespacesHaveParents) {
  NEEDS_NAMESPACES();
  IN_CHILD([] {
    CHILD_CHECK(BecomeMighty());
    Gate done;
    int pidfd = -1;
    const pid_t init = SpawnIn(
        CLONE_NEWPID,
        [&] {
          Fd own = OpenNs("pid");
          CHILD_CHECK(ioctl(own, NS_GET_PARENT) == -1 && errno == EPERM);  // it is above us
          CHILD_CHECK(done.Wait());
        },
        {}, &pidfd);
    CHILD_CHECK(init > 0);
    Fd inner = OpenNs("pid", std::to_string(init));
    CHILD_CHECK(ioctl(inner, NS_GET_NSTYPE) == CLONE_NEWPID);
    Fd parent(ioctl(inner, NS_GET_PARENT));
    CHILD_CHECK(parent >= 0 && InodeOf(parent) == NsInode("pid"));
    Fd user(ioctl(inner, NS_GET_USERNS));
    CHILD_CHECK(user >= 0 && InodeOf(user) == NsInode("user"));
    Fd time = OpenNs("time");
    CHILD_CHECK(ioctl(time, NS_GET_NSTYPE) == CLONE_NEWTIME);
    CHILD_CHECK(ioctl(time, NS_GET_PARENT) == -1 && errno == EINVAL);
    done.Open();
    CHILD_CHECK(WaitFor(init) == 0);
  });
}

TEST(ioctl_nsfs, TranslatesNumbers) {
  NEEDS_NAMESPACES();
  IN_CHILD([] {
    CHILD_CHECK(BecomeMighty());
    Gate done;
    const pid_t init = SpawnIn(CLONE_NEWPID, [&] { CHILD_CHECK(done.Wait()); });
    CHILD_CHECK(init > 0);
    Fd inner = OpenNs("pid", std::to_string(init));
    Fd uts = OpenNs("uts");
    CHILD_CHECK(ioctl(uts, kGetPidFromPidns, 1) == -1 && errno == EINVAL);
    if (ioctl(inner, kGetPidFromPidns, 1) == -1 && errno == ENOTTY) _exit(0);  // before Linux 6.11
    CHILD_CHECK(ioctl(inner, kGetPidFromPidns, 1) == init);
    CHILD_CHECK(ioctl(inner, kGetTgidFromPidns, 1) == init);
    CHILD_CHECK(ioctl(inner, kGetPidInPidns, init) == 1);
    CHILD_CHECK(ioctl(inner, kGetTgidInPidns, init) == 1);
    CHILD_CHECK(ioctl(inner, kGetPidFromPidns, 2) == -1 && errno == ESRCH);
    CHILD_CHECK(ioctl(inner, kGetPidInPidns, getpid()) == -1 && errno == ESRCH);
    done.Open();
    CHILD_CHECK(WaitFor(init) == 0);
  });
}

TEST(ioctl_pidfd, GivesNamespaces) {
  COVERS(pidfd_open);
  NEEDS_NAMESPACES();
  const struct {
    int nr;
    const char* name;
  } kinds[] = {{1, "cgroup"}, {2, "ipc"},
               {3, "mnt"},    {4, "net"},
               {5, "pid"},    {6, "pid_for_children"},
               {7, "time"},   {8, "time_for_children"},
               {9, "user"},   {10, "uts"}};
  IN_CHILD([&] {
    CHILD_CHECK(BecomeMighty());
    Fd self(syscall(SYS_pidfd_open, getpid(), 0));
    for (const auto& k : kinds) {
      Fd ns(ioctl(self, PidfdNs(k.nr), 0));
      CHILD_CHECK(ns >= 0 && InodeOf(ns) == NsInode(k.name));
      CHILD_CHECK(fcntl(ns, F_GETFD) == FD_CLOEXEC);
      CHILD_CHECK(ioctl(self, PidfdNs(k.nr), 1) == -1 && errno == EINVAL);
    }
    CHILD_CHECK(ioctl(self, PidfdNs(99), 0) == -1 && errno == ENOTTY);
    Gate done;
    int pidfd = -1;
    const pid_t init = SpawnIn(
        CLONE_NEWPID | CLONE_NEWUTS, [&] { CHILD_CHECK(done.Wait()); }, {}, &pidfd);
    const std::string who = std::to_string(init);
    Fd pid(ioctl(pidfd, PidfdNs(5), 0));
    CHILD_CHECK(InodeOf(pid) == NsInode("pid", who) && InodeOf(pid) != NsInode("pid"));
    Fd uts(ioctl(pidfd, PidfdNs(10), 0));
    CHILD_CHECK(InodeOf(uts) == NsInode("uts", who) && InodeOf(uts) != NsInode("uts"));
    const std::string info = "/proc/self/fdinfo/" + std::to_string(pidfd);
    CHILD_CHECK(ProcField(info, "Pid") == who && ProcField(info, "NSpid") == who + "\t1");
    done.Open();
    CHILD_CHECK(WaitFor(init) == 0);
    CHILD_CHECK(ioctl(pidfd, PidfdNs(10), 0) == -1 && errno == ESRCH);
    CHILD_CHECK(ProcField(info, "Pid") == "-1");
  });
}

TEST(pidfd_send_signal, NotAgainstTheGrain) {
  NEEDS_NAMESPACES();
  IN_CHILD([] {
    CHILD_CHECK(BecomeMighty());
    Fd outside(syscall(SYS_pidfd_open, getpid(), 0));
    const pid_t init = SpawnIn(CLONE_NEWPID, [&] {
      CHILD_CHECK(syscall(SYS_pidfd_send_signal, outside.get(), 0, nullptr, 0) == -1 &&
                  errno == EINVAL);
    });
    CHILD_CHECK(WaitFor(init) == 0);
  });
}

}  // namespace
}  // namespace uk::test
