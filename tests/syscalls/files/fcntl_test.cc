// Descriptor duplication and fcntl: flags, duplication, ownership, pipe sizes; file seals are in
// memory/memfd_test.cc, locks in locks_test.cc.
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

TEST(dup, SharesTheOpenFileDescription) {
  Scratch dir;
  Fd a = dir.Open("f", "abc");
  ASSERT_OK(fcntl(a, F_SETFD, FD_CLOEXEC));
  Fd b(syscall(SYS_dup, a.get()));
  ASSERT_OK(b.get());
  EXPECT_EQ(fcntl(b, F_GETFD), 0) << "close-on-exec is not inherited";
  ASSERT_OK(fcntl(a, F_SETFL, O_APPEND));
  EXPECT_TRUE(fcntl(b, F_GETFL) & O_APPEND) << "status flags are shared";
  EXPECT_ERRNO(EBADF, syscall(SYS_dup, kBadFd));
}

TEST(dup2, ReplacesTheTarget) {
  Pipe p;
  Fd victim(open("/dev/null", O_RDONLY));
  int number = victim;
  EXPECT_EQ(syscall(SYS_dup2, p.w.get(), number), number);
  EXPECT_EQ(write(number, "x", 1), 1);
  char c;
  EXPECT_EQ(read(p.r, &c, 1), 1);
  EXPECT_EQ(syscall(SYS_dup2, p.w.get(), p.w.get()), p.w.get()) << "same number: no-op";
  EXPECT_ERRNO(EBADF, syscall(SYS_dup2, kBadFd, number));
  EXPECT_ERRNO(EBADF, syscall(SYS_dup2, kBadFd, kBadFd));
  EXPECT_ERRNO(EBADF, syscall(SYS_dup2, p.w.get(), -1));
  EXPECT_ERRNO(EBADF, syscall(SYS_dup2, p.w.get(), 1 << 30));
  EXPECT_EQ(fcntl(number, F_GETFD), 0) << "failures leave the target open";
}

TEST(dup3, SetsCloexec) {
  Fd a(open("/dev/null", O_RDONLY));
  Fd b(dup(a));
  EXPECT_EQ(syscall(SYS_dup3, a.get(), b.get(), O_CLOEXEC), b.get());
  EXPECT_EQ(fcntl(b, F_GETFD), FD_CLOEXEC);
  EXPECT_ERRNO(EINVAL, syscall(SYS_dup3, a.get(), a.get(), 0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_dup3, a.get(), b.get(), O_NONBLOCK));
  EXPECT_ERRNO(EBADF, syscall(SYS_dup3, kBadFd, b.get(), 0));
}

TEST(fcntl, DupfdTakesTheLowestAtOrAbove) {
  Fd a(open("/dev/null", O_RDONLY));
  Fd b(syscall(SYS_fcntl, a.get(), F_DUPFD, 200));
  EXPECT_EQ(b.get(), 200);
  Fd c(syscall(SYS_fcntl, a.get(), F_DUPFD_CLOEXEC, 200));
  EXPECT_EQ(c.get(), 201);
  EXPECT_EQ(fcntl(c, F_GETFD), FD_CLOEXEC);
  EXPECT_ERRNO(EINVAL, syscall(SYS_fcntl, a.get(), F_DUPFD, -1));
}

TEST(fcntl, StatusFlags) {
  Scratch dir;
  dir.File("f");
  Fd fd(open((dir / "f").c_str(), O_RDWR | O_CLOEXEC | O_CREAT | O_TRUNC, 0600));
  int flags = syscall(SYS_fcntl, fd.get(), F_GETFL);
  EXPECT_EQ(flags & O_ACCMODE, O_RDWR);
  EXPECT_EQ(flags & (O_CREAT | O_TRUNC | O_CLOEXEC), 0) << "creation flags are not kept";
  EXPECT_OK(syscall(SYS_fcntl, fd.get(), F_SETFL, O_NONBLOCK | O_APPEND | O_WRONLY));
  flags = syscall(SYS_fcntl, fd.get(), F_GETFL);
  EXPECT_EQ(flags & O_ACCMODE, O_RDWR) << "the access mode cannot be changed";
  EXPECT_EQ(flags & (O_NONBLOCK | O_APPEND), O_NONBLOCK | O_APPEND);
}

TEST(fcntl, Errors) {
  EXPECT_ERRNO(EBADF, syscall(SYS_fcntl, kBadFd, F_GETFD));
  Fd fd(open("/dev/null", O_RDONLY));
  EXPECT_ERRNO(EINVAL, syscall(SYS_fcntl, fd.get(), 99999));
  Fd path(open("/dev/null", O_PATH));
  EXPECT_ERRNO(EBADF, syscall(SYS_fcntl, path.get(), F_SETFL, O_NONBLOCK));
  EXPECT_OK(syscall(SYS_fcntl, path.get(), F_GETFD));
}

TEST(fcntl, OwnerAndAsyncSignal) {
  ScopedBlock block({SIGIO, SIGUSR1});  // outlives the sockets, whose closing signals too
  int sv[2];
  ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
  Fd a(sv[0]), b(sv[1]);
  EXPECT_EQ(fcntl(a, F_GETOWN), 0);
  EXPECT_OK(fcntl(a, F_SETOWN, getpid()));
  EXPECT_EQ(fcntl(a, F_GETOWN), getpid());
  ASSERT_OK(fcntl(a, F_SETFL, O_ASYNC));
  EXPECT_EQ(write(b, "x", 1), 1);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGIO);
  EXPECT_EQ(sigwaitinfo(&set, nullptr), SIGIO);
  ASSERT_OK(fcntl(a, F_SETSIG, SIGUSR1));
  EXPECT_EQ(fcntl(a, F_GETSIG), SIGUSR1);
  EXPECT_EQ(write(b, "x", 1), 1);
  sigaddset(&set, SIGUSR1);
  siginfo_t info;
  EXPECT_EQ(sigwaitinfo(&set, &info), SIGUSR1);
  EXPECT_EQ(info.si_fd, a.get());
  EXPECT_ERRNO(EINVAL, fcntl(a, F_SETSIG, 9999));
  ASSERT_OK(fcntl(a, F_SETFL, 0));
}

TEST(fcntl, PipeSize) {
  Pipe p;
  EXPECT_EQ(fcntl(p.r, F_GETPIPE_SZ), 65536);
  EXPECT_EQ(fcntl(p.w, F_SETPIPE_SZ, 5000), 8192) << "rounded up to a power of two of pages";
  EXPECT_EQ(fcntl(p.r, F_GETPIPE_SZ), 8192);
  ASSERT_OK(fcntl(p.w, F_SETFL, O_NONBLOCK));
  std::string big(16384, 'x');
  EXPECT_EQ(write(p.w, big.data(), big.size()), 8192);
  EXPECT_ERRNO(EBUSY, fcntl(p.w, F_SETPIPE_SZ, 4096));
  Fd fd(open("/dev/null", O_RDONLY));
  EXPECT_ERRNO(EBADF, fcntl(fd, F_GETPIPE_SZ));
}

TEST(ioctl, FionreadFionbioFioclex) {
  Pipe p;
  EXPECT_EQ(write(p.w, "hello", 5), 5);
  int n = 0;
  EXPECT_OK(syscall(SYS_ioctl, p.r.get(), FIONREAD, &n));
  EXPECT_EQ(n, 5);
  int on = 1;
  EXPECT_OK(syscall(SYS_ioctl, p.r.get(), FIONBIO, &on));
  EXPECT_TRUE(fcntl(p.r, F_GETFL) & O_NONBLOCK);
  EXPECT_OK(syscall(SYS_ioctl, p.r.get(), FIONCLEX));
  EXPECT_EQ(fcntl(p.r, F_GETFD), 0);
  EXPECT_OK(syscall(SYS_ioctl, p.r.get(), FIOCLEX));
  EXPECT_EQ(fcntl(p.r, F_GETFD), FD_CLOEXEC);
  Scratch dir;
  Fd f = dir.Open("f", "0123456789");
  ASSERT_OK(lseek(f, 4, SEEK_SET));
  EXPECT_OK(syscall(SYS_ioctl, f.get(), FIONREAD, &n));
  EXPECT_EQ(n, 6);
}

TEST(ioctl, Errors) {
  Pipe p;
  int n;
  EXPECT_ERRNO(EBADF, syscall(SYS_ioctl, kBadFd, FIONREAD, &n));
  EXPECT_ERRNO(ENOTTY, syscall(SYS_ioctl, p.r.get(), 0x5401 /* TCGETS */, &n));
  EXPECT_ERRNO(EFAULT, syscall(SYS_ioctl, p.r.get(), FIONREAD, BadPointer()));
  Fd path(open("/dev/null", O_PATH));
  EXPECT_ERRNO(EBADF, syscall(SYS_ioctl, path.get(), FIONREAD, &n));
}

}  // namespace
}  // namespace uk::test
