// flock, POSIX record locks and open-file-description locks.
#include <sys/file.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

struct flock Range(short type, off_t start, off_t len) {
  struct flock fl = {};
  fl.l_type = type;
  fl.l_whence = SEEK_SET;
  fl.l_start = start;
  fl.l_len = len;
  return fl;
}

TEST(flock, ExcludesOtherOpenings) {
  Scratch dir;
  Fd a = dir.Open("f");
  Fd b(open((dir / "f").c_str(), O_RDONLY));
  EXPECT_OK(syscall(SYS_flock, a.get(), LOCK_EX));
  EXPECT_ERRNO(EAGAIN, syscall(SYS_flock, b.get(), LOCK_SH | LOCK_NB));
  EXPECT_OK(syscall(SYS_flock, a.get(), LOCK_SH));
  EXPECT_OK(syscall(SYS_flock, b.get(), LOCK_SH | LOCK_NB));
  EXPECT_ERRNO(EAGAIN, syscall(SYS_flock, b.get(), LOCK_EX | LOCK_NB));
  EXPECT_OK(syscall(SYS_flock, a.get(), LOCK_UN));
  EXPECT_OK(syscall(SYS_flock, b.get(), LOCK_EX | LOCK_NB));
  EXPECT_ERRNO(EINVAL, syscall(SYS_flock, a.get(), 0));
  EXPECT_ERRNO(EBADF, syscall(SYS_flock, kBadFd, LOCK_EX));
}

TEST(flock, BelongsToTheDescriptionAndEndsWithIt) {
  Scratch dir;
  Fd a = dir.Open("f");
  Fd b(open((dir / "f").c_str(), O_RDONLY));
  Fd copy(dup(a));
  ASSERT_OK(flock(a, LOCK_EX));
  a.reset();
  EXPECT_ERRNO(EAGAIN, flock(b, LOCK_EX | LOCK_NB)) << "the copy still holds it";
  IN_CHILD([&] { CHILD_CHECK(flock(copy, LOCK_UN) == 0); });
  EXPECT_OK(flock(b, LOCK_EX | LOCK_NB));
  EXPECT_OK(flock(b, LOCK_UN));
  ASSERT_OK(flock(copy, LOCK_EX));
  copy.reset();
  EXPECT_OK(flock(b, LOCK_EX | LOCK_NB));
}

TEST(flock, WaitsUntilReleased) {
  Scratch dir;
  Fd a = dir.Open("f");
  ASSERT_OK(flock(a, LOCK_EX));
  pid_t child = Spawn([&] {
    Fd b(open((dir / "f").c_str(), O_RDONLY));
    return flock(b, LOCK_EX) == 0 ? 0 : 1;
  });
  EXPECT_TRUE(WaitForState(child, 'S'));
  ASSERT_OK(flock(a, LOCK_UN));
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(flock, InterruptedBySignal) {
  Scratch dir;
  Fd a = dir.Open("f");
  ASSERT_OK(flock(a, LOCK_EX));
  pid_t child = Spawn([&] {
    ScopedHandler h(SIGUSR1, [](int) {});
    Fd b(open((dir / "f").c_str(), O_RDONLY));
    return flock(b, LOCK_EX) == -1 && errno == EINTR ? 0 : 1;
  });
  EXPECT_TRUE(WaitForState(child, 'S'));
  ASSERT_OK(kill(child, SIGUSR1));
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(fcntl, RecordLocksConflictBetweenProcesses) {
  Scratch dir;
  Fd a = dir.Open("f", "0123456789");
  struct flock fl = Range(F_WRLCK, 0, 5);
  ASSERT_OK(syscall(SYS_fcntl, a.get(), F_SETLK, &fl));
  IN_CHILD([&] {
    Fd b(open((dir / "f").c_str(), O_RDWR));
    struct flock want = Range(F_RDLCK, 4, 1);
    CHILD_CHECK(fcntl(b, F_SETLK, &want) == -1 && (errno == EAGAIN || errno == EACCES));
    CHILD_CHECK(fcntl(b, F_GETLK, &want) == 0);
    CHILD_CHECK(want.l_type == F_WRLCK && want.l_start == 0 && want.l_len == 5);
    CHILD_CHECK(want.l_pid == getppid());
    want = Range(F_RDLCK, 5, 0);
    CHILD_CHECK(fcntl(b, F_SETLK, &want) == 0);
    CHILD_CHECK(fcntl(b, F_GETLK, &want) == 0 && want.l_type == F_UNLCK);
  });
}

TEST(fcntl, RecordLocksMergeSplitAndAreNotInherited) {
  Scratch dir;
  Fd a = dir.Open("f", "0123456789");
  struct flock fl = Range(F_WRLCK, 0, 10);
  ASSERT_OK(fcntl(a, F_SETLK, &fl));
  fl = Range(F_UNLCK, 4, 2);
  ASSERT_OK(fcntl(a, F_SETLK, &fl));
  IN_CHILD([&] {
    struct flock want = Range(F_WRLCK, 4, 2);
    CHILD_CHECK(fcntl(a, F_SETLK, &want) == 0);
    want = Range(F_WRLCK, 0, 0);
    CHILD_CHECK(fcntl(a, F_GETLK, &want) == 0);
    CHILD_CHECK(want.l_start == 0 && want.l_len == 4);
    want = Range(F_WRLCK, 5, 0);
    CHILD_CHECK(fcntl(a, F_GETLK, &want) == 0);
    CHILD_CHECK(want.l_start == 6 && want.l_len == 4);
  });
}

TEST(fcntl, ClosingAnyDescriptorDropsRecordLocks) {
  Scratch dir;
  Fd a = dir.Open("f", "0123456789");
  Fd other(open((dir / "f").c_str(), O_RDONLY));
  struct flock fl = Range(F_WRLCK, 0, 0);
  ASSERT_OK(fcntl(a, F_SETLK, &fl));
  other.reset();
  IN_CHILD([&] {
    struct flock want = Range(F_WRLCK, 0, 0);
    CHILD_CHECK(fcntl(a, F_SETLK, &want) == 0);
  });
}

TEST(fcntl, SetlkwWaitsAndDeadlockIsSeen) {
  Scratch dir;
  Fd a = dir.Open("f", "0123456789");
  struct flock mine = Range(F_WRLCK, 0, 1);
  ASSERT_OK(fcntl(a, F_SETLK, &mine));
  Gate ready;
  pid_t child = Spawn([&] {
    struct flock first = Range(F_WRLCK, 1, 1), second = Range(F_WRLCK, 0, 1);
    CHILD_CHECK(fcntl(a, F_SETLK, &first) == 0);
    ready.Open();
    return fcntl(a, F_SETLKW, &second) == 0 ? 0 : 1;
  });
  ASSERT_TRUE(ready.Wait());
  EXPECT_TRUE(WaitForState(child, 'S'));
  struct flock theirs = Range(F_WRLCK, 1, 1);
  EXPECT_ERRNO(EDEADLK, fcntl(a, F_SETLKW, &theirs));
  struct flock release = Range(F_UNLCK, 0, 1);
  ASSERT_OK(fcntl(a, F_SETLK, &release));
  EXPECT_EQ(WaitFor(child), Exited(0));
}

// One waits for two others; the first of them lets go, the second waits for the one.
TEST(fcntl, ADeadlockThatAnUnlockBringsIsSeen) {
  Scratch dir;
  Fd a = dir.Open("f", "0123456789");
  struct flock mine = Range(F_WRLCK, 0, 1);
  ASSERT_OK(fcntl(a, F_SETLK, &mine));
  Gate has_second, has_third, go;
  pid_t second = Spawn([&] {
    struct flock own = Range(F_WRLCK, 1, 1), want = Range(F_WRLCK, 2, 1);
    CHILD_CHECK(fcntl(a, F_SETLK, &own) == 0);
    has_second.Open();
    CHILD_CHECK(go.Wait());
    return fcntl(a, F_SETLKW, &want) == 0 ? 0 : 1;
  });
  pid_t third = Spawn([&] {
    struct flock own = Range(F_WRLCK, 2, 1), want = Range(F_WRLCK, 0, 2);
    CHILD_CHECK(fcntl(a, F_SETLK, &own) == 0);
    has_third.Open();
    return fcntl(a, F_SETLKW, &want) == -1 && errno == EDEADLK ? 0 : 1;
  });
  ASSERT_TRUE(has_second.Wait() && has_third.Wait());
  EXPECT_TRUE(WaitForState(third, 'S'));
  go.Open();
  EXPECT_TRUE(WaitForState(second, 'S'));
  struct flock release = Range(F_UNLCK, 0, 1);
  ASSERT_OK(fcntl(a, F_SETLK, &release));
  EXPECT_EQ(WaitFor(third), Exited(0));
  EXPECT_EQ(WaitFor(second), Exited(0));
}

TEST(fcntl, RecordLockErrors) {
  Scratch dir;
  Fd a = dir.Open("f");
  Fd ro(open((dir / "f").c_str(), O_RDONLY));
  struct flock fl = Range(F_WRLCK, 0, 0);
  EXPECT_ERRNO(EBADF, fcntl(ro, F_SETLK, &fl)) << "a write lock needs write access";
  fl = Range(77, 0, 0);
  EXPECT_ERRNO(EINVAL, fcntl(a, F_SETLK, &fl));
  fl = Range(F_RDLCK, -1, 0);
  EXPECT_ERRNO(EINVAL, fcntl(a, F_SETLK, &fl));
  EXPECT_ERRNO(EFAULT, syscall(SYS_fcntl, a.get(), F_SETLK, BadPointer()));
  EXPECT_ERRNO(EFAULT, syscall(SYS_fcntl, a.get(), F_GETLK, BadPointer()));
}

TEST(fcntl, OpenFileDescriptionLocks) {
  Scratch dir;
  Fd a = dir.Open("f", "0123456789");
  Fd b(open((dir / "f").c_str(), O_RDWR));
  struct flock fl = Range(F_WRLCK, 0, 0);
  EXPECT_OK(fcntl(a, F_OFD_SETLK, &fl));
  struct flock want = Range(F_WRLCK, 0, 1);
  EXPECT_ERRNO(EAGAIN, fcntl(b, F_OFD_SETLK, &want)) << "conflicts within one process";
  EXPECT_OK(fcntl(b, F_OFD_GETLK, &want));
  EXPECT_EQ(want.l_type, F_WRLCK);
  EXPECT_EQ(want.l_pid, -1);
  // F_UNLCK asks for what one has oneself (since Linux 6.6).
  want = Range(F_UNLCK, 5, 1);
  EXPECT_OK(fcntl(b, F_OFD_GETLK, &want));
  EXPECT_EQ(want.l_type, F_UNLCK);
  want = Range(F_UNLCK, 5, 1);
  EXPECT_OK(fcntl(a, F_OFD_GETLK, &want));
  EXPECT_EQ(want.l_type, F_WRLCK);
  fl.l_pid = 1;
  EXPECT_ERRNO(EINVAL, fcntl(a, F_OFD_SETLK, &fl));
  a.reset();
  want = Range(F_WRLCK, 0, 1);
  EXPECT_OK(fcntl(b, F_OFD_SETLK, &want));
}

}  // namespace
}  // namespace uk::test
