// AF_NETLINK, as far as local programs use it, and mq_notify(2) that tells a thread through it.
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <mqueue.h>
#include <poll.h>
#include <sys/socket.h>

#include <future>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

TEST(netlink, Kinds) {
  COVERS(socket);
  EXPECT_ERRNO(ESOCKTNOSUPPORT, socket(AF_NETLINK, SOCK_STREAM, 0));
  EXPECT_ERRNO(EPROTONOSUPPORT, socket(AF_NETLINK, SOCK_RAW, 77));
  int pair[2];
  EXPECT_ERRNO(EOPNOTSUPP, socketpair(AF_NETLINK, SOCK_RAW, 0, pair));
  for (int type : {SOCK_RAW, SOCK_DGRAM}) {
    Fd s(socket(AF_NETLINK, type | SOCK_CLOEXEC, NETLINK_ROUTE));
    ASSERT_OK(s.get());
    int value = 0;
    socklen_t len = sizeof value;
    ASSERT_OK(getsockopt(s, SOL_SOCKET, SO_TYPE, &value, &len));
    EXPECT_EQ(value, type);
    ASSERT_OK(getsockopt(s, SOL_SOCKET, SO_DOMAIN, &value, &len));
    EXPECT_EQ(value, AF_NETLINK);
    struct stat st;
    ASSERT_OK(fstat(s, &st));
    EXPECT_TRUE(S_ISSOCK(st.st_mode));
    EXPECT_ERRNO(EOPNOTSUPP, listen(s, 1));
    EXPECT_ERRNO(EOPNOTSUPP, accept(s, nullptr, nullptr));
  }
}

TEST(netlink, Names) {
  COVERS(bind, getsockname);
  Fd a(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  Fd b(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  sockaddr_nl n = {};
  socklen_t len = sizeof n;
  ASSERT_OK(getsockname(a, reinterpret_cast<sockaddr*>(&n), &len));
  EXPECT_EQ(len, sizeof n);
  EXPECT_EQ(n.nl_family, AF_NETLINK);
  EXPECT_EQ(n.nl_pid, 0u);
  n = {};
  EXPECT_ERRNO(EINVAL, bind(a, reinterpret_cast<sockaddr*>(&n), sizeof n));
  n.nl_family = AF_NETLINK;
  ASSERT_OK(bind(a, reinterpret_cast<sockaddr*>(&n), sizeof n));
  ASSERT_OK(getsockname(a, reinterpret_cast<sockaddr*>(&n), &len));
  EXPECT_EQ(n.nl_pid, static_cast<unsigned>(getpid()));
  EXPECT_ERRNO(EADDRINUSE, bind(b, reinterpret_cast<sockaddr*>(&n), sizeof n));
  n.nl_pid = 0;
  ASSERT_OK(bind(b, reinterpret_cast<sockaddr*>(&n), sizeof n));
  ASSERT_OK(getsockname(b, reinterpret_cast<sockaddr*>(&n), &len));
  EXPECT_NE(n.nl_pid, 0u);
  EXPECT_NE(n.nl_pid, static_cast<unsigned>(getpid()));
}

// A dump of what is certainly empty still ends with NLMSG_DONE.
TEST(netlink, DumpsEnd) {
  COVERS(sendto, recvfrom);
  Fd s(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  struct {
    nlmsghdr h;
    rtgenmsg g;
  } request = {};
  request.h = {sizeof request, RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, 42, 0};
  request.g.rtgen_family = AF_INET6;
  sockaddr_nl kernel = {};
  kernel.nl_family = AF_NETLINK;
  ASSERT_EQ(
      sendto(s, &request, sizeof request, 0, reinterpret_cast<sockaddr*>(&kernel), sizeof kernel),
      static_cast<ssize_t>(sizeof request));
  bool done = false;
  while (!done) {
    alignas(nlmsghdr) char buffer[16384];
    sockaddr_nl from = {};
    socklen_t len = sizeof from;
    ssize_t n = recvfrom(s, buffer, sizeof buffer, 0, reinterpret_cast<sockaddr*>(&from), &len);
    ASSERT_GT(n, 0);
    EXPECT_EQ(from.nl_family, AF_NETLINK);
    EXPECT_EQ(from.nl_pid, 0u);
    auto left = static_cast<unsigned>(n);
    for (auto* h = reinterpret_cast<nlmsghdr*>(buffer); NLMSG_OK(h, left);
         h = NLMSG_NEXT(h, left)) {
      EXPECT_EQ(h->nlmsg_seq, 42u);
      done = done || h->nlmsg_type == NLMSG_DONE;
      ASSERT_NE(h->nlmsg_type, NLMSG_ERROR);
    }
  }
  char c;
  EXPECT_ERRNO(EAGAIN, recv(s, &c, 1, MSG_DONTWAIT));
}

TEST(netlink, KernelEvents) {
  Fd s(socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT));
  ASSERT_OK(s.get());
  sockaddr_nl n = {};
  n.nl_family = AF_NETLINK;
  n.nl_groups = 1;
  EXPECT_OK(bind(s, reinterpret_cast<sockaddr*>(&n), sizeof n));
  pollfd p = {s, POLLIN, 0};
  EXPECT_GE(poll(&p, 1, 0), 0);
}

// What glibc does under mq_notify(SIGEV_THREAD): the last of 32 bytes says what happened.
TEST(mq_notify, CookieThroughNetlink) {
  Fd s(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0));
  ASSERT_OK(s.get());
  std::string name = "/ukt-cookie-" + std::to_string(getpid());
  mq_attr attr = {};
  attr.mq_maxmsg = 2;
  attr.mq_msgsize = 8;
  Fd q(mq_open(name.c_str(), O_CREAT | O_RDWR | O_EXCL, 0600, &attr));
  ASSERT_OK(q.get());
  mq_unlink(name.c_str());
  char cookie[32];
  memset(cookie, 'c', sizeof cookie);
  sigevent e = {};
  e.sigev_notify = SIGEV_THREAD;
  e.sigev_signo = s;
  e.sigev_value.sival_ptr = cookie;
  auto notify = [&](const sigevent* event) { return syscall(SYS_mq_notify, q.get(), event); };
  ASSERT_OK(notify(&e));
  EXPECT_ERRNO(EBUSY, notify(&e));
  ASSERT_OK(mq_send(q, "x", 1, 0));
  char got[64] = {};
  ASSERT_EQ(recv(s, got, sizeof got, 0), 32);
  EXPECT_EQ(memcmp(got, cookie, 31), 0);
  EXPECT_EQ(got[31], 1);
  ASSERT_OK(notify(&e));
  ASSERT_OK(notify(nullptr));
  ASSERT_EQ(recv(s, got, sizeof got, MSG_DONTWAIT), 32);
  EXPECT_EQ(got[31], 2);
  ASSERT_OK(notify(&e));
  q.reset();
  ASSERT_EQ(recv(s, got, sizeof got, MSG_DONTWAIT), 32);
  EXPECT_EQ(got[31], 2);
}

TEST(mq_notify, CookieErrors) {
  std::string name = "/ukt-cookie-" + std::to_string(getpid());
  Fd q(mq_open(name.c_str(), O_CREAT | O_RDWR | O_EXCL, 0600, nullptr));
  ASSERT_OK(q.get());
  mq_unlink(name.c_str());
  char cookie[32] = {};
  sigevent e = {};
  e.sigev_notify = SIGEV_THREAD;
  e.sigev_value.sival_ptr = cookie;
  auto notify = [&] { return syscall(SYS_mq_notify, q.get(), &e); };
  e.sigev_signo = kBadFd;
  EXPECT_ERRNO(EBADF, notify());
  Fd file(open("/dev/null", O_RDONLY));
  e.sigev_signo = file;
  EXPECT_ERRNO(ENOTSOCK, notify());
  Fd local(socket(AF_UNIX, SOCK_DGRAM, 0));
  e.sigev_signo = local;
  EXPECT_ERRNO(EINVAL, notify());
  Fd s(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0));
  e.sigev_signo = s;
  e.sigev_value.sival_ptr = BadPointer();
  EXPECT_ERRNO(EFAULT, notify());
}

TEST(mq_notify, ThreadOfTheLibrary) {
  std::string name = "/ukt-thread-" + std::to_string(getpid());
  mqd_t q = mq_open(name.c_str(), O_CREAT | O_RDWR | O_EXCL, 0600, nullptr);
  ASSERT_OK(q);
  mq_unlink(name.c_str());
  std::promise<int> told;
  sigevent e = {};
  e.sigev_notify = SIGEV_THREAD;
  e.sigev_value.sival_ptr = &told;
  e.sigev_notify_function = [](sigval v) {
    static_cast<std::promise<int>*>(v.sival_ptr)->set_value(7);
  };
  ASSERT_OK(mq_notify(q, &e));
  ASSERT_OK(mq_send(q, "x", 1, 0));
  EXPECT_EQ(told.get_future().get(), 7);
  mq_close(q);
}

}  // namespace
}  // namespace uk::test
