// PIDFD_GET_INFO: who a process is, and how it ended, without its number.
#include <sys/ioctl.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

struct Info {  // struct pidfd_info, newer than the headers
  uint64_t mask, cgroup;
  uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
  int32_t exit_code;
  uint64_t more;
};
constexpr uint64_t kPid = 1, kCreds = 2, kExit = 8;

int Get(int fd, Info* info, size_t size = sizeof(Info)) {
  return ioctl(fd, _IOC(_IOC_READ | _IOC_WRITE, 0xff, 11, size), info);
}

TEST(pidfd_info, LivingAndDead) {
  COVERS(pidfd_open, ioctl);
  Gate gate;
  pid_t child = Spawn([&] {
    gate.Wait();
    return 42;
  });
  Fd fd(syscall(SYS_pidfd_open, child, 0));
  ASSERT_OK(fd.get());
  Info info = {};
  info.mask = kExit;
  ASSERT_OK(Get(fd, &info));
  EXPECT_EQ(info.mask & (kPid | kCreds | kExit), kPid | kCreds);
  EXPECT_EQ(info.pid, static_cast<unsigned>(child));
  EXPECT_EQ(info.tgid, static_cast<unsigned>(child));
  EXPECT_EQ(info.ppid, static_cast<unsigned>(getpid()));
  EXPECT_EQ(info.euid, geteuid());
  EXPECT_EQ(info.sgid, getegid());
  EXPECT_EQ(info.exit_code, 0);
  gate.Open();
  siginfo_t si;
  ASSERT_OK(waitid(P_PID, static_cast<id_t>(child), &si, WEXITED | WNOWAIT));
  info = {};
  info.mask = kExit;
  ASSERT_OK(Get(fd, &info));
  EXPECT_EQ(info.mask & kExit, 0u) << "a zombie's end is its parent's to tell";
  EXPECT_EQ(WaitFor(child), Exited(42));
  info = {};
  info.mask = kExit;
  ASSERT_OK(Get(fd, &info, 64));
  EXPECT_EQ(info.mask & (kPid | kExit), kExit);
  EXPECT_EQ(info.exit_code, Exited(42));
  info = {};
  EXPECT_ERRNO(ESRCH, Get(fd, &info));
}

TEST(pidfd_info, Errors) {
  Fd fd(syscall(SYS_pidfd_open, getpid(), 0));
  Info info = {};
  EXPECT_ERRNO(EINVAL, Get(fd, nullptr));
  EXPECT_ERRNO(EFAULT, Get(fd, Bad<Info>()));
  EXPECT_ERRNO(ENOTTY, Get(fd, &info, 56));
  EXPECT_ERRNO(ENOTTY, ioctl(fd, 0x1234, &info));
  char large[160] = {};
  EXPECT_OK(Get(fd, reinterpret_cast<Info*>(large), sizeof large));
}

}  // namespace
}  // namespace uk::test
