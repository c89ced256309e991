// seccomp_unotify(2): a supervisor that answers the calls of another process.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

constexpr unsigned kListen = SECCOMP_FILTER_FLAG_NEW_LISTENER;

// A listener for one call number; the other calls are allowed.
long Listen(unsigned number, unsigned flags = kListen, unsigned action = SECCOMP_RET_USER_NOTIF) {
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, action),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog prog = {static_cast<unsigned short>(std::size(filter)), filter};
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
}

int SendFd(int socket, int fd) {
  char byte = 'f';
  iovec iov = {&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr m = {};
  m.msg_iov = &iov, m.msg_iovlen = 1, m.msg_control = control, m.msg_controllen = sizeof control;
  cmsghdr* c = CMSG_FIRSTHDR(&m);
  c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(c), &fd, sizeof fd);
  return static_cast<int>(sendmsg(socket, &m, 0));
}

int ReceiveFd(int socket) {
  char byte;
  iovec iov = {&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr m = {};
  m.msg_iov = &iov, m.msg_iovlen = 1, m.msg_control = control, m.msg_controllen = sizeof control;
  if (recvmsg(socket, &m, MSG_CMSG_CLOEXEC) != 1) return -1;
  cmsghdr* c = CMSG_FIRSTHDR(&m);
  int fd = -1;
  if (c != nullptr) memcpy(&fd, CMSG_DATA(c), sizeof fd);
  return fd;
}

// A child that installs a listener for `number`, hands it over, and runs `body`.
struct Supervised {
  pid_t pid = -1;
  Fd listener;
  template <class F>
  Supervised(unsigned number, F body, unsigned flags = kListen) {
    int s[2];
    EXPECT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s));
    pid = Spawn([&] {
      close(s[0]);
      long fd = Listen(number, flags);
      CHILD_CHECK(fd >= 0 && fcntl(static_cast<int>(fd), F_GETFD) == FD_CLOEXEC);
      CHILD_CHECK(SendFd(s[1], static_cast<int>(fd)) == 1);
      close(static_cast<int>(fd));
      return body();
    });
    close(s[1]);
    listener = Fd(ReceiveFd(s[0]));
    close(s[0]);
    EXPECT_GE(listener.get(), 0);
  }
  seccomp_notif Receive() const {
    seccomp_notif n = {};
    EXPECT_OK(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &n));
    return n;
  }
  int Send(uint64_t id, int64_t val, int error = 0, unsigned flags = 0) const {
    seccomp_notif_resp r = {id, val, error, flags};
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &r);
  }
  int Valid(uint64_t id) const { return ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id); }
  short Poll(int timeout = 0) const {
    pollfd p = {listener, POLLIN | POLLOUT, 0};
    return poll(&p, 1, timeout) < 0 ? static_cast<short>(-1) : p.revents;
  }
};

TEST(seccomp_unotify, ReceivesAndAnswers) {
  COVERS(seccomp);
  Supervised s(SYS_mkdir, [] {
    CHILD_CHECK(syscall(SYS_mkdir, "/nowhere", 0711) == 12345);
    CHILD_CHECK(syscall(SYS_mkdir, "/nowhere", 1) == -1 && errno == EXDEV);
    CHILD_CHECK(syscall(SYS_mkdir, "/proc/nowhere/x", 2) == -1 && errno == ENOENT);
    return 5;
  });
  EXPECT_EQ(s.Poll(10000), POLLIN);
  seccomp_notif n = s.Receive();
  EXPECT_EQ(s.Poll(), POLLOUT);
  EXPECT_EQ(n.pid, static_cast<unsigned>(s.pid));
  EXPECT_EQ(n.flags, 0u);
  EXPECT_EQ(n.data.nr, SYS_mkdir);
  EXPECT_EQ(n.data.args[1], 0711u);
  EXPECT_NE(n.data.instruction_pointer, 0u);
  EXPECT_OK(s.Valid(n.id));
  EXPECT_ERRNO(ENOENT, s.Valid(n.id + 1));
  EXPECT_ERRNO(ENOENT, s.Send(n.id + 1, 0));
  EXPECT_ERRNO(EINVAL, s.Send(n.id, 0, 0, 2));
  EXPECT_ERRNO(EINVAL, s.Send(n.id, 1, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE));
  EXPECT_OK(s.Send(n.id, 12345));
  n = s.Receive();
  EXPECT_EQ(n.data.args[1], 1u);
  EXPECT_OK(s.Send(n.id, 0, -EXDEV));
  n = s.Receive();
  EXPECT_OK(s.Send(n.id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE));
  EXPECT_EQ(WaitFor(s.pid), Exited(5));
  EXPECT_EQ(s.Poll(), POLLHUP);
  seccomp_notif none = {};
  EXPECT_ERRNO(ENOENT, ioctl(s.listener, SECCOMP_IOCTL_NOTIF_RECV, &none));
  EXPECT_ERRNO(ENOENT, s.Valid(n.id));
}

TEST(seccomp_unotify, EpollAndPointers) {
  Supervised s(SYS_mkdir, [] { return syscall(SYS_mkdir, "/nowhere", 0) == 0 ? 0 : 1; });
  Fd ep(epoll_create1(EPOLL_CLOEXEC));
  epoll_event e = {EPOLLIN, {}};
  ASSERT_OK(epoll_ctl(ep, EPOLL_CTL_ADD, s.listener, &e));
  EXPECT_EQ(epoll_wait(ep, &e, 1, 10000), 1);
  seccomp_notif dirty = {};
  dirty.pid = 1;
  EXPECT_ERRNO(EINVAL, ioctl(s.listener, SECCOMP_IOCTL_NOTIF_RECV, &dirty));
  EXPECT_ERRNO(EFAULT, ioctl(s.listener, SECCOMP_IOCTL_NOTIF_RECV, BadPointer()));
  EXPECT_ERRNO(EFAULT, ioctl(s.listener, SECCOMP_IOCTL_NOTIF_SEND, BadPointer()));
  EXPECT_ERRNO(EFAULT, ioctl(s.listener, SECCOMP_IOCTL_NOTIF_ID_VALID, BadPointer()));
  EXPECT_ERRNO(EINVAL, ioctl(s.listener, 0x1234, 0));
  seccomp_notif n = s.Receive();
  EXPECT_OK(s.Send(n.id, 0));
  EXPECT_EQ(WaitFor(s.pid), 0);
}

TEST(seccomp_unotify, AddsDescriptors) {
  Scratch scratch;
  Fd file = scratch.Open("f", "hello");
  Supervised s(SYS_mkdir, [] {
    long fd = syscall(SYS_mkdir, "/nowhere", 0);
    char text[8] = {};
    CHILD_CHECK(fd >= 0 && pread(static_cast<int>(fd), text, 5, 0) == 5 && text[0] == 'h');
    CHILD_CHECK(fcntl(static_cast<int>(fd), F_GETFD) == FD_CLOEXEC);
    CHILD_CHECK(syscall(SYS_mkdir, "/nowhere", 1) == 77);
    CHILD_CHECK(pread(77, text, 5, 0) == 5 && fcntl(77, F_GETFD) == 0);
    return 0;
  });
  seccomp_notif_addfd a = {};
  a.srcfd = static_cast<unsigned>(file.get());
  a.id = 1;
  EXPECT_ERRNO(ENOENT, ioctl(s.listener, SECCOMP_IOCTL_NOTIF_ADDFD, &a));
  seccomp_notif n = s.Receive();
  a.id = n.id;
  a.newfd_flags = O_CLOEXEC | O_APPEND;
  EXPECT_ERRNO(EINVAL, ioctl(s.listener, SECCOMP_IOCTL_NOTIF_ADDFD, &a));
  a.newfd_flags = O_CLOEXEC;
  a.newfd = 5;
  EXPECT_ERRNO(EINVAL, ioctl(s.listener, SECCOMP_IOCTL_NOTIF_ADDFD, &a));
  a.newfd = 0;
  a.flags = 8;
  EXPECT_ERRNO(EINVAL, ioctl(s.listener, SECCOMP_IOCTL_NOTIF_ADDFD, &a));
  a.flags = 0;
  a.srcfd = kBadFd;
  EXPECT_ERRNO(EBADF, ioctl(s.listener, SECCOMP_IOCTL_NOTIF_ADDFD, &a));
  a.srcfd = static_cast<unsigned>(file.get());
  long fd = ioctl(s.listener, SECCOMP_IOCTL_NOTIF_ADDFD, &a);
  EXPECT_OK(fd);
  EXPECT_OK(s.Send(n.id, fd));
  n = s.Receive();
  a.id = n.id;
  a.newfd = 77;
  a.newfd_flags = 0;
  a.flags = SECCOMP_ADDFD_FLAG_SETFD | SECCOMP_ADDFD_FLAG_SEND;
  EXPECT_EQ(ioctl(s.listener, SECCOMP_IOCTL_NOTIF_ADDFD, &a), 77);
  EXPECT_EQ(WaitFor(s.pid), 0);
}

TEST(seccomp_unotify, NobodyListens) {
  IN_CHILD([] {
    long fd = Listen(SYS_mkdir);
    CHILD_CHECK(fd >= 0);
    CHILD_CHECK(Listen(SYS_rmdir) == -1 && errno == EBUSY);
    close(static_cast<int>(fd));
    CHILD_CHECK(syscall(SYS_mkdir, "/nowhere", 0) == -1 && errno == ENOSYS);
    CHILD_CHECK(Listen(SYS_rmdir) >= 0);
  });
  IN_CHILD([] {
    CHILD_CHECK(Listen(SYS_mkdir, 0) == 0);
    CHILD_CHECK(syscall(SYS_mkdir, "/nowhere", 0) == -1 && errno == ENOSYS);
  });
  // The listener goes while a call waits.
  Supervised s(SYS_mkdir,
               [] { return syscall(SYS_mkdir, "/nowhere", 0) == -1 && errno == ENOSYS ? 0 : 1; });
  s.Receive();
  s.listener.reset();
  EXPECT_EQ(WaitFor(s.pid), 0);
}

std::atomic<int> handled;

TEST(seccomp_unotify, SignalsInterruptOrRestart) {
  Supervised s(SYS_mkdir, [] {
    ScopedHandler once(SIGUSR1, [](int) { ++handled; });
    CHILD_CHECK(syscall(SYS_mkdir, "/nowhere", 0) == -1 && errno == EINTR && handled == 1);
    ScopedHandler again(
        SIGUSR1, [](int) { ++handled; }, SA_RESTART);
    CHILD_CHECK(syscall(SYS_mkdir, "/nowhere", 1) == 7 && handled == 2);
    return 0;
  });
  seccomp_notif n = s.Receive();
  ASSERT_OK(kill(s.pid, SIGUSR1));
  seccomp_notif second = s.Receive();
  EXPECT_ERRNO(ENOENT, s.Valid(n.id));
  EXPECT_ERRNO(ENOENT, s.Send(n.id, 0));
  EXPECT_EQ(second.data.args[1], 1u);
  ASSERT_OK(kill(s.pid, SIGUSR1));
  seccomp_notif third = s.Receive();
  EXPECT_NE(third.id, second.id);
  EXPECT_ERRNO(ENOENT, s.Send(second.id, 0));
  EXPECT_OK(s.Send(third.id, 7));
  EXPECT_EQ(WaitFor(s.pid), 0);
}

TEST(seccomp_unotify, WaitKillable) {
  Supervised s(
      SYS_mkdir,
      [] {
        ScopedHandler h(SIGUSR1, [](int) { ++handled; });
        CHILD_CHECK(syscall(SYS_mkdir, "/nowhere", 0) == 9 && handled == 1);
        syscall(SYS_mkdir, "/nowhere", 1);
        return 1;
      },
      kListen | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
  seccomp_notif n = s.Receive();
  ASSERT_OK(kill(s.pid, SIGUSR1));
  EXPECT_OK(s.Valid(n.id));
  EXPECT_OK(s.Send(n.id, 9));
  s.Receive();
  ASSERT_OK(kill(s.pid, SIGKILL));
  EXPECT_EQ(WaitFor(s.pid), Killed(SIGKILL));
}

TEST(seccomp_unotify, SizesActionsAndFlags) {
  seccomp_notif_sizes sizes = {};
  ASSERT_OK(syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes));
  EXPECT_EQ(sizes.seccomp_notif, sizeof(seccomp_notif));
  EXPECT_EQ(sizes.seccomp_notif_resp, sizeof(seccomp_notif_resp));
  EXPECT_EQ(sizes.seccomp_data, sizeof(seccomp_data));
  EXPECT_ERRNO(EINVAL, syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 1, &sizes));
  EXPECT_ERRNO(EFAULT, syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, BadPointer()));
  unsigned action = SECCOMP_RET_USER_NOTIF;
  EXPECT_OK(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action));
  IN_CHILD([] {
    CHILD_CHECK(Listen(SYS_mkdir, kListen | SECCOMP_FILTER_FLAG_TSYNC) == -1 && errno == EINVAL);
    CHILD_CHECK(Listen(SYS_mkdir, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) == -1);
    CHILD_CHECK(errno == EINVAL);
    CHILD_CHECK(Listen(SYS_mkdir,
                       kListen | SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH) >= 0);
  });
}

TEST(seccomp_unotify, ThreadsSynchronise) {
  IN_CHILD([] {
    static Gate go, done;
    static std::atomic<pid_t> tid;
    pthread_t t;
    auto main = [](void*) -> void* {
      tid = gettid();
      if (Listen(SYS_rmdir, 0, SECCOMP_RET_ERRNO | 5) != 0) abort();
      done.Open();
      go.Wait();
      return nullptr;
    };
    CHILD_CHECK(pthread_create(&t, nullptr, main, nullptr) == 0);
    CHILD_CHECK(done.Wait());
    // Its filters are not ours.
    CHILD_CHECK(Listen(SYS_mkdir, SECCOMP_FILTER_FLAG_TSYNC) == tid);
    const unsigned esrch = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
    CHILD_CHECK(Listen(SYS_mkdir, esrch) == -1 && errno == ESRCH);
    go.Open();
    pthread_join(t, nullptr);
    CHILD_CHECK(Listen(SYS_mkdir, esrch, SECCOMP_RET_ERRNO | 6) == 0);
    CHILD_CHECK(syscall(SYS_mkdir, "/nowhere", 0) == -1 && errno == 6);
  });
}

TEST(seccomp_unotify, TracerReadsFilters) {
  COVERS(ptrace);
  if (!IsRoot()) return;
  pid_t child = Spawn([] {
    ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    Listen(SYS_mkdir, 0, SECCOMP_RET_ERRNO | 5);
    Listen(SYS_rmdir, SECCOMP_FILTER_FLAG_LOG, SECCOMP_RET_ERRNO | 6);
    raise(SIGSTOP);
    return 0;
  });
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  sock_filter program[4] = {};
  constexpr auto kGetFilter = static_cast<__ptrace_request>(0x420c);
  constexpr auto kGetMetadata = static_cast<__ptrace_request>(0x420d);
  EXPECT_EQ(ptrace(kGetFilter, child, nullptr, nullptr), 4);
  EXPECT_EQ(ptrace(kGetFilter, child, nullptr, program), 4);
  EXPECT_EQ(program[1].k, static_cast<unsigned>(SYS_mkdir));
  EXPECT_EQ(ptrace(kGetFilter, child, reinterpret_cast<void*>(1), program), 4);
  EXPECT_EQ(program[1].k, static_cast<unsigned>(SYS_rmdir));
  EXPECT_ERRNO(ENOENT, ptrace(kGetFilter, child, reinterpret_cast<void*>(2), program));
  uint64_t metadata[2] = {1, 0};
  EXPECT_EQ(ptrace(kGetMetadata, child, reinterpret_cast<void*>(16), metadata), 16);
  EXPECT_EQ(metadata[1], static_cast<uint64_t>(SECCOMP_FILTER_FLAG_LOG));
  EXPECT_OK(ptrace(PTRACE_CONT, child, nullptr, nullptr));
  EXPECT_EQ(WaitFor(child), 0);
}

TEST(ptrace, PeeksAtQueuedSignals) {
  pid_t child = Spawn([] {
    ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    ScopedBlock block({SIGUSR1, SIGRTMIN});
    for (int i = 0; i < 3; ++i) sigqueue(getpid(), SIGRTMIN, sigval{.sival_int = i});
    syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1);
    raise(SIGSTOP);
    _exit(0);
  });
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  siginfo_t infos[5] = {};
  __ptrace_peeksiginfo_args args = {0, 0, 5};
  EXPECT_EQ(ptrace(PTRACE_PEEKSIGINFO, child, &args, infos), 1);
  EXPECT_EQ(infos[0].si_signo, SIGUSR1);
  args = {1, PTRACE_PEEKSIGINFO_SHARED, 5};
  EXPECT_EQ(ptrace(PTRACE_PEEKSIGINFO, child, &args, infos), 2);
  EXPECT_EQ(infos[0].si_signo, SIGRTMIN);
  EXPECT_EQ(infos[0].si_value.sival_int, 1);
  EXPECT_EQ(infos[1].si_value.sival_int, 2);
  args = {9, PTRACE_PEEKSIGINFO_SHARED, 1};
  EXPECT_EQ(ptrace(PTRACE_PEEKSIGINFO, child, &args, infos), 0);
  args = {0, 2, 1};
  EXPECT_ERRNO(EINVAL, ptrace(PTRACE_PEEKSIGINFO, child, &args, infos));
  args = {0, 0, -1};
  EXPECT_ERRNO(EINVAL, ptrace(PTRACE_PEEKSIGINFO, child, &args, infos));
  args = {0, 0, 1};
  EXPECT_ERRNO(EFAULT, ptrace(PTRACE_PEEKSIGINFO, child, &args, BadPointer()));
  EXPECT_OK(kill(child, SIGKILL));
  WaitFor(child);
}

}  // namespace
}  // namespace uk::test
