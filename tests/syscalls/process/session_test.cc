// Process groups and sessions, as ids; their terminal side is in tty/.
#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

TEST(setpgid, OwnAndChildGroups) {
  COVERS(getpgid, getpgrp);
  IN_CHILD([&] {
    CHILD_CHECK(syscall(SYS_setpgid, 0, 0) == 0);
    CHILD_CHECK(syscall(SYS_getpgrp) == getpid());
    CHILD_CHECK(syscall(SYS_getpgid, 0) == getpid());
    Gate go;
    pid_t a = Spawn([&] {
      go.Wait();
      return 0;
    });
    pid_t b = Spawn([&] {
      go.Wait();
      return 0;
    });
    CHILD_CHECK(getpgid(a) == getpid());
    CHILD_CHECK(syscall(SYS_setpgid, a, a) == 0);
    CHILD_CHECK(syscall(SYS_setpgid, b, a) == 0);
    CHILD_CHECK(syscall(SYS_getpgid, b) == a);
    go.Open();
    go.Open();
    WaitFor(a);
    WaitFor(b);
  });
}

TEST(setpgid, Errors) {
  IN_CHILD([&] {
    CHILD_CHECK(syscall(SYS_setpgid, 0, -1) == -1 && errno == EINVAL);
    CHILD_CHECK(syscall(SYS_setpgid, 0x3fffffff, 0) == -1 && errno == ESRCH);
    CHILD_CHECK(syscall(SYS_setpgid, getppid(), 0) == -1 && errno == ESRCH);
    CHILD_CHECK(syscall(SYS_getpgid, 0x3fffffff) == -1 && errno == ESRCH);
    // No such group in this session.
    CHILD_CHECK(syscall(SYS_setpgid, 0, 0x3fffffff) == -1 && errno == EPERM);
    CHILD_CHECK(setsid() == getpid());
    CHILD_CHECK(syscall(SYS_setpgid, 0, 0) == -1 && errno == EPERM);
  });
}

TEST(setpgid, NotAfterTheChildHasExeced) {
  Pipe started(0), hold(0);
  pid_t child = Spawn([&] {
    dup2(started.w, 1);
    dup2(hold.r, 0);
    execl("/bin/sh", "sh", "-c", "echo up; read line", nullptr);
    return 99;
  });
  char text[3];
  ASSERT_EQ(read(started.r, text, 3), 3);
  EXPECT_ERRNO(EACCES, setpgid(child, child));
  ASSERT_EQ(write(hold.w, "\n", 1), 1);
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(setsid, MakesASessionOnce) {
  COVERS(getsid);
  IN_CHILD([&] {
    CHILD_CHECK(syscall(SYS_setsid) == getpid());
    CHILD_CHECK(syscall(SYS_getsid, 0) == getpid());
    CHILD_CHECK(getpgrp() == getpid());
    CHILD_CHECK(syscall(SYS_setsid) == -1 && errno == EPERM);
    CHILD_CHECK(open("/dev/tty", O_RDWR) == -1 && errno == ENXIO);
    CHILD_CHECK(RunChild([] { return getsid(0) == getppid() ? 0 : 1; }) == 0);
  });
  EXPECT_ERRNO(ESRCH, syscall(SYS_getsid, 0x3fffffff));
}

TEST(setsid, NotForAGroupLeader) {
  IN_CHILD([&] {
    CHILD_CHECK(setpgid(0, 0) == 0);
    CHILD_CHECK(syscall(SYS_setsid) == -1 && errno == EPERM);
  });
}

TEST(setpgid, AcrossSessionsIsRefused) {
  Gate ready, go;
  pid_t child = Spawn([&] {
    CHILD_CHECK(setsid() > 0);
    ready.Open();
    go.Wait();
    return 0;
  });
  ASSERT_TRUE(ready.Wait());
  EXPECT_ERRNO(EPERM, setpgid(child, getpgrp()));
  go.Open();
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(kill, OrphanedStoppedGroupGetsHupAndCont) {
  // A stopped process whose group loses its last link to the session is hung up and continued.
  Pipe p;
  pid_t middle = Spawn([&] {
    pid_t child = Spawn([&] {
      CHILD_CHECK(setpgid(0, 0) == 0);
      static int out;
      out = p.w;
      signal(SIGHUP, [](int) { (void)!write(out, "hup ", 4); });
      signal(SIGCONT, [](int) { (void)!write(out, "cont ", 5); });
      raise(SIGSTOP);
      return 0;
    });
    int status;
    CHILD_CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
    return 0;
  });
  p.w.reset();
  std::string out = ReadFd(p.r);
  EXPECT_EQ(WaitFor(middle), Exited(0));
  EXPECT_NE(out.find("hup"), std::string::npos) << out;
  EXPECT_NE(out.find("cont"), std::string::npos) << out;
}

}  // namespace
}  // namespace uk::test
