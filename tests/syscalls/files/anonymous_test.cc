// Calls for files of all kinds on files of no kind: eventfd, timerfd, signalfd, inotify, epoll,
// pidfd, and what a memfd is told from by. Found by the differential oracle (tests/oracle).
#include <linux/fs.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/xattr.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

Fd Signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  return Fd(signalfd(-1, &set, SFD_NONBLOCK));
}

TEST(read, RoomForNothingIsTooLittle) {
  COVERS(readv, writev);
  char c;
  struct iovec none {
    &c, 0
  };
  Fd event(eventfd(1, 0)), timer(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
  Fd signals = Signals(), epoll(epoll_create1(0)), watch(inotify_init1(IN_NONBLOCK));
  for (int f : {event.get(), timer.get(), signals.get(), epoll.get()}) {
    EXPECT_ERRNO(EINVAL, read(f, &c, 0));
  }
  EXPECT_ERRNO(EAGAIN, read(watch, &c, 0));
  for (int f : {event.get(), timer.get(), signals.get(), watch.get()}) {
    EXPECT_EQ(readv(f, &none, 1), 0);
  }
  EXPECT_ERRNO(EINVAL, readv(epoll, &none, 1));
  EXPECT_EQ(writev(event, &none, 1), 0);
  EXPECT_ERRNO(EINVAL, writev(timer, &none, 1));
  Fd directory(open("/", O_RDONLY));
  EXPECT_ERRNO(EISDIR, read(directory, &c, 0));
  EXPECT_EQ(readv(directory, &none, 1), 0);
}

TEST(splice, NotFromOrToAnonymousFiles) {
  COVERS(sendfile);
  Pipe p(O_NONBLOCK);
  Fd event(eventfd(1, EFD_NONBLOCK)), timer(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
  EXPECT_ERRNO(EINVAL, splice(p.r, nullptr, event, nullptr, 8, 0));
  EXPECT_ERRNO(EINVAL, splice(event, nullptr, p.w, nullptr, 8, 0));
  EXPECT_ERRNO(EINVAL, splice(timer, nullptr, p.w, nullptr, 8, 0));
  EXPECT_ERRNO(EINVAL, sendfile(p.w, event, nullptr, 8));
}

TEST(ioctl, EpollKnowsRequestsOfItsOwn) {
  Fd epoll(epoll_create1(0)), event(eventfd(0, 0));
  int n = 0;
  if (ioctl(epoll, FIONREAD, &n) == -1 && errno == ENOTTY) {
    GTEST_SKIP() << "the host's Linux is older than 6.9";
  }
  EXPECT_ERRNO(EINVAL, ioctl(epoll, FIONREAD, &n));
  EXPECT_ERRNO(EINVAL, ioctl(epoll, FS_IOC_GETFLAGS, &n));
  EXPECT_ERRNO(ENOTTY, ioctl(event, FS_IOC_GETFLAGS, &n));
}

TEST(fchmod, NobodyChangesAnonymousFiles) {
  COVERS(fchown, fsetxattr, flistxattr);
  Fd event(eventfd(0, 0));
  EXPECT_ERRNO(EOPNOTSUPP, fchmod(event, 0644));
  EXPECT_ERRNO(EOPNOTSUPP, fchown(event, 0, 0));
  struct timespec times[2] = {{1, 1}, {2, 2}};
  EXPECT_ERRNO(EOPNOTSUPP, futimens(event, times));
  EXPECT_ERRNO(EPERM, fsetxattr(event, "user.", "x", 1, 0)) << "the kind of file before the name";
}

TEST(poll, AnonymousFilesSayWhatTheyHaveOnly) {
  Fd event(eventfd(1, 0)), timer(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
  struct itimerspec past = {};
  past.it_value.tv_nsec = 1;
  ASSERT_OK(timerfd_settime(timer, TFD_TIMER_ABSTIME, &past, nullptr));
  constexpr short kAll = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;
  struct pollfd p[] = {{event, kAll, 0}, {timer, kAll, 0}};
  while (poll(p + 1, 1, -1) != 1) {
  }
  ASSERT_EQ(poll(p, 2, 0), 2);
  EXPECT_EQ(p[0].revents, POLLIN | POLLOUT);
  EXPECT_EQ(p[1].revents, POLLIN);
}

TEST(poll, APidfdHangsUpWhenItsProcessWasWaitedFor) {
  COVERS(pidfd_open);
  const pid_t child = Spawn([] {});
  Fd f(syscall(SYS_pidfd_open, child, 0));
  ASSERT_GE(f.get(), 0);
  struct pollfd p = {f, POLLIN, 0};
  ASSERT_EQ(poll(&p, 1, -1), 1);
  EXPECT_EQ(p.revents, POLLIN);
  ASSERT_EQ(WaitFor(child), 0);
  ASSERT_EQ(poll(&p, 1, 0), 1);
  EXPECT_EQ(p.revents, POLLIN | POLLHUP);
}

TEST(ioctl, AnonymousFilesKnowNoAsync) {
  COVERS(fcntl);
  Fd event(eventfd(0, 0)), watch(inotify_init1(0));
  int on = 1;
  EXPECT_ERRNO(ENOTTY, ioctl(event, FIOASYNC, &on));
  EXPECT_OK(fcntl(event, F_SETFL, O_ASYNC));
  EXPECT_EQ(fcntl(event, F_GETFL), O_RDWR);
  EXPECT_OK(ioctl(watch, FIOASYNC, &on));
  EXPECT_EQ(fcntl(watch, F_GETFL), O_RDONLY | O_ASYNC);
}

TEST(inotify_add_watch, TimesThatAreSet) {
  COVERS(utimensat);
  Scratch dir;
  dir.File("f");
  Fd watch(inotify_init1(IN_NONBLOCK));
  ASSERT_OK(inotify_add_watch(watch, (dir / "f").c_str(), IN_ALL_EVENTS));
  auto told = [&](long atime, long mtime) {
    struct timespec t[2] = {{1, atime}, {1, mtime}};
    EXPECT_OK(utimensat(AT_FDCWD, (dir / "f").c_str(), t, 0));
    struct inotify_event e = {};
    EXPECT_EQ(read(watch, &e, sizeof e), static_cast<ssize_t>(sizeof e));
    return e.mask;
  };
  EXPECT_EQ(told(1, 1), unsigned{IN_ATTRIB});
  EXPECT_EQ(told(1, UTIME_OMIT), unsigned{IN_ACCESS});
  EXPECT_EQ(told(UTIME_OMIT, 1), unsigned{IN_MODIFY});
}

TEST(inotify_add_watch, AnyBitIsAMask) {
  Scratch dir;
  Fd watch(inotify_init1(0));
  EXPECT_ERRNO(EINVAL, inotify_add_watch(watch, dir.c_str(), 0));
  EXPECT_ERRNO(EBADF, inotify_add_watch(-1, dir.c_str(), IN_MASK_ADD));
  EXPECT_ERRNO(ENOENT, inotify_add_watch(watch, (dir / "none").c_str(), IN_DONT_FOLLOW));
  EXPECT_OK(inotify_add_watch(watch, dir.c_str(), IN_ONLYDIR));
}

TEST(memfd_create, CountsAsNobodysToWrite) {
  COVERS(fcntl);
  Fd f(memfd_create("f", 0));
  EXPECT_OK(fcntl(f, F_SETLEASE, F_RDLCK));
  EXPECT_OK(fcntl(f, F_SETLEASE, F_UNLCK));
  EXPECT_ERRNO(EAGAIN, fcntl(f, F_SETLEASE, F_WRLCK));
  Fd event(eventfd(0, 0));
  EXPECT_ERRNO(IsRoot() ? EINVAL : EACCES, fcntl(event, F_SETLEASE, F_UNLCK)) << "root's file";
}

TEST(memfd_create, SealedAgainstExecution) {
  COVERS(fchmod);
  Fd f(memfd_create("f", 8 /* MFD_NOEXEC_SEAL */));
  if (f.get() < 0) GTEST_SKIP() << "the host's Linux is older than 6.3";
  EXPECT_ERRNO(EPERM, fchmod(f, 0755));
  EXPECT_OK(fchmod(f, 0600));
}

TEST(fcntl, WhatIsExecutedForEverIsNeverWritten) {
  COVERS(memfd_create, mmap);
  Fd f(memfd_create("f", MFD_ALLOW_SEALING));
  ASSERT_OK(ftruncate(f, kPage));
  constexpr int kSealExec = 0x20;
  void* m = mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
  ASSERT_NE(m, MAP_FAILED);
  if (fcntl(f, F_ADD_SEALS, kSealExec) == -1 && errno == EINVAL) {
    GTEST_SKIP() << "the host's Linux is older than 6.3";
  }
  EXPECT_ERRNO(EBUSY, fcntl(f, F_ADD_SEALS, kSealExec));
  munmap(m, kPage);
  EXPECT_OK(fcntl(f, F_ADD_SEALS, kSealExec));
  EXPECT_ERRNO(EPERM, mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0));
}

TEST(mmap, NobodyWritesInFuture) {
  COVERS(fcntl);
  Fd f(memfd_create("f", MFD_ALLOW_SEALING));
  ASSERT_OK(ftruncate(f, kPage));
  ASSERT_OK(fcntl(f, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
  EXPECT_ERRNO(EPERM, mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0));
  void* m = mmap(nullptr, kPage, PROT_READ, MAP_SHARED, f, 0);
  ASSERT_NE(m, MAP_FAILED);
  EXPECT_ERRNO(EACCES, mprotect(m, kPage, PROT_READ | PROT_WRITE));
  munmap(m, kPage);
}

TEST(prctl, KeptCapabilitiesAreASecureBit) {
  IN_CHILD([] {
    const int before = prctl(PR_GET_SECUREBITS);
    CHILD_CHECK(prctl(PR_SET_KEEPCAPS, 1) == 0);
    CHILD_CHECK(prctl(PR_GET_SECUREBITS) == (before | 1 << 4));
  });
}

TEST(flistxattr, SocketsSayTheirProtocol) {
  COVERS(fgetxattr);
  Fd stream(socket(AF_UNIX, SOCK_STREAM, 0)), packet(socket(AF_UNIX, SOCK_DGRAM, 0));
  char text[64] = {};
  EXPECT_EQ(flistxattr(stream, nullptr, 0), 21);
  ASSERT_EQ(flistxattr(stream, text, sizeof text), 21);
  EXPECT_STREQ(text, "system.sockprotoname");
  EXPECT_EQ(fgetxattr(stream, text, text + 32, 32), 12);
  EXPECT_STREQ(text + 32, "UNIX-STREAM");
  EXPECT_EQ(fgetxattr(packet, text, text + 32, 32), 5);
  EXPECT_STREQ(text + 32, "UNIX");
}

TEST(writev, AnEventfdTakesItPieceByPiece) {
  Fd f(eventfd(0, EFD_NONBLOCK));
  const uint64_t one = 1, most = UINT64_MAX - 1;
  auto piece = [](const void* at, size_t n) { return iovec{const_cast<void*>(at), n}; };
  iovec two[] = {piece(&one, 8), piece(nullptr, 0), piece(&one, 8)};
  EXPECT_EQ(writev(f, two, 3), 16);
  iovec full[] = {piece(&one, 8), piece(&most, 8), piece(&one, 8)};
  EXPECT_EQ(writev(f, full, 3), 8) << "until there is no room";
  iovec bad[] = {piece(&one, 8), piece(BadPointer(), 8)};
  EXPECT_EQ(writev(f, bad, 2), 8);
  EXPECT_ERRNO(EFAULT, writev(f, bad + 1, 1));
  iovec none[] = {piece(nullptr, 0), piece(&one, 8)};
  EXPECT_ERRNO(EINVAL, writev(f, none, 2)) << "nothing is too little, if it comes first";
  iovec halves[] = {piece(&one, 4), piece(&one, 4)};
  EXPECT_ERRNO(EINVAL, writev(f, halves, 2));
  uint64_t count = 0;
  EXPECT_EQ(read(f, &count, sizeof count), 8);
  EXPECT_EQ(count, 4u);
}

TEST(write, UpToTheSizeThatIsSealed) {
  constexpr off_t kSize = 2 * kPage + 100;
  Fd f(memfd_create("sealed", MFD_ALLOW_SEALING));
  ASSERT_OK(ftruncate(f, kSize));
  ASSERT_OK(fcntl(f, F_ADD_SEALS, F_SEAL_GROW));
  const std::string data(3 * kPage, 'x');
  EXPECT_EQ(pwrite(f, data.data(), data.size(), 0), 2 * kPage) << "whole pages that stay within";
  EXPECT_EQ(pwrite(f, data.data(), data.size(), 10), 2 * kPage - 10);
  EXPECT_ERRNO(EPERM, pwrite(f, data.data(), 101, 2 * kPage));
  EXPECT_EQ(pwrite(f, data.data(), 100, 2 * kPage), 100);
  EXPECT_ERRNO(EPERM, pwrite(f, "x", 1, kSize));
}

TEST(pwritev2, AnEventfdKnowsNoFlags) {
  Fd f(eventfd(0, EFD_NONBLOCK));
  uint64_t one = 1;
  iovec piece = {&one, 8}, none = {&one, 0};
  for (int flags : {2, 4, 0x10}) {
    EXPECT_ERRNO(EOPNOTSUPP, syscall(SYS_pwritev2, f.get(), &piece, 1, -1l, -1l, flags));
    EXPECT_EQ(syscall(SYS_pwritev2, f.get(), &none, 1, -1l, -1l, flags), 0);
  }
  EXPECT_EQ(syscall(SYS_pwritev2, f.get(), &piece, 1, -1l, -1l, 1), 8) << "but RWF_HIPRI";
}

TEST(fallocate, TwiceIsAsGoodAsWritten) {
  COVERS(lseek);
  Fd f(memfd_create("m", 0));
  ASSERT_OK(fallocate(f, 0, 0, 3 * kPage));
  EXPECT_ERRNO(ENXIO, lseek(f, 0, SEEK_DATA));
  ASSERT_OK(fallocate(f, 0, kPage, 2 * kPage));
  EXPECT_EQ(lseek(f, 0, SEEK_DATA), static_cast<off_t>(kPage));
  EXPECT_EQ(lseek(f, 0, SEEK_HOLE), 0);
}

TEST(ftruncate, APidfdIsNotOpenForLargeSizes) {
  Fd f(syscall(SYS_pidfd_open, getpid(), 0));
  EXPECT_ERRNO(EOPNOTSUPP, ftruncate(f, INT32_MAX));
  EXPECT_ERRNO(EINVAL, ftruncate(f, INT32_MAX + 1L));
}

}  // namespace
}  // namespace uk::test
