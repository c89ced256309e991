// File leases and directory notification (fcntl(2) F_SETLEASE, F_NOTIFY), truncated core files.
#include <poll.h>
#include <sys/resource.h>
#include <time.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

// Takes a signal that is blocked; its number, or -1 after two seconds.
int TakeSignal(int sig, siginfo_t* info) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, sig);
  timespec limit = {2, 0};
  return sigtimedwait(&set, info, &limit);
}

TEST(fcntl, LeasesAreKeptByTheirRules) {
  Scratch dir;
  std::string path = dir.File("f", "x");
  Fd r(open(path.c_str(), O_RDONLY));
  EXPECT_EQ(fcntl(r, F_GETLEASE), F_UNLCK);
  EXPECT_ERRNO(EAGAIN, fcntl(r, F_SETLEASE, F_UNLCK)) << "there is none";
  EXPECT_ERRNO(EINVAL, fcntl(r, F_SETLEASE, 17));
  EXPECT_OK(fcntl(r, F_SETLEASE, F_RDLCK));
  EXPECT_EQ(fcntl(r, F_GETLEASE), F_RDLCK);
  EXPECT_OK(fcntl(r, F_SETLEASE, F_WRLCK)) << "nobody else has it open";
  EXPECT_EQ(fcntl(r, F_GETLEASE), F_WRLCK);
  EXPECT_OK(fcntl(r, F_SETLEASE, F_UNLCK));
  Fd name(open(path.c_str(), O_PATH));
  EXPECT_OK(fcntl(r, F_SETLEASE, F_WRLCK)) << "who has its name does not have it open";
  EXPECT_OK(fcntl(r, F_SETLEASE, F_UNLCK));
  Fd w(open(path.c_str(), O_RDWR));
  EXPECT_ERRNO(EAGAIN, fcntl(r, F_SETLEASE, F_RDLCK)) << "open for writing";
  EXPECT_ERRNO(EAGAIN, fcntl(w, F_SETLEASE, F_WRLCK)) << "open twice";
  Fd d = dir.Dir();
  EXPECT_ERRNO(EINVAL, fcntl(d, F_SETLEASE, F_RDLCK)) << "not a regular file";
}

TEST(fcntl, ALeaseIsBrokenByAnOpen) {
  Scratch dir;
  std::string path = dir.File("f", "x");
  ScopedBlock block({SIGIO});
  Fd r(open(path.c_str(), O_RDONLY));
  ASSERT_OK(fcntl(r, F_SETLEASE, F_RDLCK));
  Fd other(open(path.c_str(), O_RDONLY));
  ASSERT_OK(other) << "readers do not disturb a read lease";
  EXPECT_ERRNO(EWOULDBLOCK, open(path.c_str(), O_WRONLY | O_NONBLOCK));
  siginfo_t info;
  EXPECT_EQ(TakeSignal(SIGIO, &info), SIGIO);
  EXPECT_EQ(fcntl(r, F_GETLEASE), F_UNLCK) << "what it is to become";
  pid_t child = Spawn([&] {
    Fd w(open(path.c_str(), O_WRONLY));
    return w >= 0 ? 0 : 1;
  });
  EXPECT_TRUE(WaitForState(child, 'S'));
  ASSERT_OK(fcntl(r, F_SETLEASE, F_UNLCK));
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(fcntl, AWriteLeaseIsBrokenByATruncation) {
  Scratch dir;
  std::string path = dir.File("f", "content");
  ScopedBlock block({SIGIO});
  Fd r(open(path.c_str(), O_RDWR));
  ASSERT_OK(fcntl(r, F_SETLEASE, F_WRLCK));
  pid_t child = Spawn([&] {
    r.reset();  // the lease is the open file's, which the parent alone has now
    return truncate(path.c_str(), 1) == 0 ? 0 : 1;
  });
  siginfo_t info;
  EXPECT_EQ(TakeSignal(SIGIO, &info), SIGIO);
  struct stat st;
  fstat(r, &st);
  EXPECT_EQ(st.st_size, 7) << "not before the holder gives it up";
  r.reset();
  EXPECT_EQ(WaitFor(child), Exited(0));
  stat(path.c_str(), &st);
  EXPECT_EQ(st.st_size, 1);
}

TEST(fcntl, NotifyTellsOfRenamesWithinAndOfTheDirectoryItself) {
  Scratch dir;
  ScopedBlock block({SIGRTMIN + 3});
  std::string sub = dir / "sub";
  ASSERT_OK(mkdir(sub.c_str(), 0700));
  dir.File("a");
  Fd top = dir.Dir();
  ASSERT_OK(fcntl(top, F_SETSIG, SIGRTMIN + 3));
  ASSERT_OK(fcntl(top, F_NOTIFY, DN_RENAME | DN_MULTISHOT));
  siginfo_t info;
  ASSERT_OK(rename((dir / "a").c_str(), (sub + "/a").c_str()));
  ASSERT_OK(rename((sub + "/a").c_str(), (dir / "a").c_str()));
  ASSERT_OK(rename((dir / "a").c_str(), (dir / "b").c_str()));
  EXPECT_EQ(TakeSignal(SIGRTMIN + 3, &info), SIGRTMIN + 3);
  EXPECT_EQ(info.si_fd, top.get());
  timespec none = {0, 0};
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 3);
  EXPECT_ERRNO(EAGAIN, sigtimedwait(&set, &info, &none)) << "moves in and out are not renames";
  Fd inner(open(sub.c_str(), O_RDONLY));
  ASSERT_OK(fcntl(inner, F_SETSIG, SIGRTMIN + 3));
  ASSERT_OK(fcntl(inner, F_NOTIFY, DN_ATTRIB));
  ASSERT_OK(chmod(sub.c_str(), 0750));
  EXPECT_EQ(TakeSignal(SIGRTMIN + 3, &info), SIGRTMIN + 3);
  EXPECT_EQ(info.si_fd, inner.get());
}

TEST(core_dump, ALimitCutsTheFileShort) {
  std::string pattern = ReadFile("/proc/sys/kernel/core_pattern");
  rlimit limit;
  getrlimit(RLIMIT_CORE, &limit);
  if (pattern.empty() || pattern[0] == '|' || pattern[0] == '/' || limit.rlim_max < 4096)
    GTEST_SKIP() << "core files go elsewhere here";
  Scratch dir;
  pid_t child = Spawn([&] {
    CHILD_CHECK(chdir(dir.c_str()) == 0);
    rlimit small = {4096, 4096};
    CHILD_CHECK(setrlimit(RLIMIT_CORE, &small) == 0);
    raise(SIGABRT);
  });
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) && WCOREDUMP(status));
}

}  // namespace
}  // namespace uk::test
