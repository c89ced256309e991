// AF_UNIX datagrams, packets, and messages with ancillary data: descriptors and credentials.
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

struct SocketPair {
  Fd a, b;
  explicit SocketPair(int type) {
    int sv[2];
    EXPECT_OK(socketpair(AF_UNIX, type, 0, sv));
    a = Fd(sv[0]);
    b = Fd(sv[1]);
  }
};

sockaddr_un Path(const std::string& path) {
  sockaddr_un un = {};
  un.sun_family = AF_UNIX;
  strncpy(un.sun_path, path.c_str(), sizeof un.sun_path - 1);
  return un;
}

ssize_t SendFds(int socket, const std::vector<int>& fds, const char* text = "x") {
  char control[512] = {};
  iovec iov = {const_cast<char*>(text), strlen(text)};
  msghdr msg = {};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  msg.msg_control = control;
  msg.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
  cmsghdr* c = CMSG_FIRSTHDR(&msg);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
  memcpy(CMSG_DATA(c), fds.data(), fds.size() * sizeof(int));
  return syscall(SYS_sendmsg, socket, &msg, 0);
}

std::vector<Fd> ReceiveFds(int socket, int flags = 0, size_t control_size = 512,
                           int* out_flags = nullptr) {
  char control[512] = {}, text[64];
  iovec iov = {text, sizeof text};
  msghdr msg = {};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  msg.msg_control = control;
  msg.msg_controllen = control_size;
  std::vector<Fd> out;
  EXPECT_GE(syscall(SYS_recvmsg, socket, &msg, flags), 0);
  if (out_flags) *out_flags = msg.msg_flags;
  for (cmsghdr* c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < n; i++) {
      int fd;
      memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
      out.emplace_back(fd);
    }
  }
  return out;
}

TEST(sendmsg, PassesDescriptors) {
  COVERS(recvmsg);
  Scratch dir;
  Fd file = dir.Open("f", "contents");
  SocketPair s(SOCK_STREAM);
  EXPECT_EQ(SendFds(s.a, {file}), 1);
  struct stat before, after;
  ASSERT_OK(fstat(file, &before));
  file.reset();
  std::vector<Fd> got = ReceiveFds(s.b, MSG_CMSG_CLOEXEC);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(fcntl(got[0], F_GETFD), FD_CLOEXEC);
  ASSERT_OK(fstat(got[0], &after));
  EXPECT_EQ(before.st_ino, after.st_ino);
  EXPECT_EQ(ReadFd(got[0]), "contents");
}

TEST(sendmsg, DescriptorsSurviveTheSenderProcess) {
  SocketPair s(SOCK_STREAM);
  pid_t child = Spawn([&] {
    Pipe p;
    CHILD_CHECK(write(p.w, "from child", 10) == 10);
    return SendFds(s.a, {p.r}) == 1 ? 0 : 1;
  });
  EXPECT_EQ(WaitFor(child), Exited(0));
  std::vector<Fd> got = ReceiveFds(s.b);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(ReadFd(got[0]), "from child");
}

TEST(sendmsg, UnreadDescriptorsAreClosedWithTheSocket) {
  Pipe p;
  {
    SocketPair s(SOCK_STREAM);
    EXPECT_EQ(SendFds(s.a, {p.w}), 1);
    p.w.reset();
    pollfd fd = {p.r, POLLIN, 0};
    EXPECT_EQ(poll(&fd, 1, 0), 0) << "in flight, the write end lives";
  }
  char c;
  EXPECT_EQ(read(p.r, &c, 1), 0);
}

TEST(recvmsg, ControlBufferTooSmall) {
  SocketPair s(SOCK_STREAM);
  Pipe p;
  EXPECT_EQ(SendFds(s.a, {p.r, p.w, p.r, p.w}), 1);
  int flags = 0;
  std::vector<Fd> got = ReceiveFds(s.b, 0, CMSG_SPACE(2 * sizeof(int)), &flags);
  EXPECT_EQ(got.size(), 2u);
  EXPECT_TRUE(flags & MSG_CTRUNC);
}

TEST(recvmsg, DescriptorsStopAStreamRead) {
  SocketPair s(SOCK_STREAM);
  Pipe p;
  EXPECT_EQ(SendFds(s.a, {p.r}, "one"), 3);
  EXPECT_EQ(SendFds(s.a, {p.w}, "two"), 3);
  EXPECT_EQ(ReceiveFds(s.b).size(), 1u) << "messages with descriptors are not joined";
  EXPECT_EQ(ReceiveFds(s.b).size(), 1u);
}

TEST(sendmsg, Errors) {
  SocketPair s(SOCK_STREAM);
  EXPECT_ERRNO(EBADF, SendFds(s.a, {kBadFd}));
  EXPECT_ERRNO(EFAULT, syscall(SYS_sendmsg, s.a.get(), BadPointer(), 0));
  EXPECT_ERRNO(EFAULT, syscall(SYS_recvmsg, s.a.get(), BadPointer(), 0));
  msghdr msg = {};
  msg.msg_iovlen = 2000;
  EXPECT_ERRNO(EMSGSIZE, syscall(SYS_sendmsg, s.a.get(), &msg, 0));
  EXPECT_ERRNO(EBADF, syscall(SYS_sendmsg, kBadFd, &msg, 0));
  msg = {};
  iovec bad = {BadPointer(), 5};
  msg.msg_iov = &bad;
  msg.msg_iovlen = 1;
  EXPECT_ERRNO(EFAULT, syscall(SYS_sendmsg, s.a.get(), &msg, 0));
}

TEST(sendmsg, Credentials) {
  SocketPair s(SOCK_DGRAM);
  int on = 1;
  ASSERT_OK(setsockopt(s.b, SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
  pid_t child = Spawn([&] { return write(s.a, "x", 1) == 1 ? 0 : 1; });
  EXPECT_EQ(WaitFor(child), Exited(0));
  char control[256] = {}, text[4];
  iovec iov = {text, sizeof text};
  msghdr msg = {};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  msg.msg_control = control;
  msg.msg_controllen = sizeof control;
  ASSERT_EQ(recvmsg(s.b, &msg, 0), 1);
  cmsghdr* c = CMSG_FIRSTHDR(&msg);
  ASSERT_NE(c, nullptr);
  ASSERT_EQ(c->cmsg_type, SCM_CREDENTIALS);
  ucred cred;
  memcpy(&cred, CMSG_DATA(c), sizeof cred);
  EXPECT_EQ(cred.pid, child);
  EXPECT_EQ(cred.uid, getuid());
}

TEST(socketpair, DatagramsKeepBoundaries) {
  SocketPair s(SOCK_DGRAM);
  EXPECT_EQ(write(s.a, "one", 3), 3);
  EXPECT_EQ(write(s.a, "", 0), 0);
  EXPECT_EQ(write(s.a, "three", 5), 5);
  int next = 0;
  EXPECT_OK(ioctl(s.b, FIONREAD, &next));
  EXPECT_EQ(next, 3);
  char text[8] = {};
  EXPECT_EQ(read(s.b, text, 2), 2);
  EXPECT_EQ(read(s.b, text, 8), 0) << "the rest of the first is gone; this is the empty one";
  iovec iov = {text, 2};
  msghdr msg = {};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  EXPECT_EQ(recvmsg(s.b, &msg, MSG_TRUNC), 5);
  EXPECT_TRUE(msg.msg_flags & MSG_TRUNC);
}

TEST(sendto, DatagramsByName) {
  Scratch dir;
  sockaddr_un server_name = Path(dir / "server"), client_name = Path(dir / "client");
  Fd server(socket(AF_UNIX, SOCK_DGRAM, 0)), client(socket(AF_UNIX, SOCK_DGRAM, 0));
  ASSERT_OK(bind(server, reinterpret_cast<sockaddr*>(&server_name), sizeof server_name));
  ASSERT_OK(bind(client, reinterpret_cast<sockaddr*>(&client_name), sizeof client_name));
  EXPECT_EQ(syscall(SYS_sendto, client.get(), "ping", 4l, 0, &server_name, sizeof server_name), 4);
  char text[8] = {};
  sockaddr_un from = {};
  socklen_t len = sizeof from;
  EXPECT_EQ(syscall(SYS_recvfrom, server.get(), text, 8l, 0, &from, &len), 4);
  EXPECT_EQ(std::string(from.sun_path), dir / "client");
  EXPECT_EQ(syscall(SYS_sendto, server.get(), "pong", 4l, 0, &from, len), 4);
  EXPECT_EQ(read(client, text, 8), 4);
  EXPECT_ERRNO(ENOTCONN, write(client, "x", 1));
  ASSERT_OK(connect(client, reinterpret_cast<sockaddr*>(&server_name), sizeof server_name));
  EXPECT_EQ(write(client, "x", 1), 1);
  server.reset();
  EXPECT_ERRNO(ECONNREFUSED, write(client, "x", 1));
  EXPECT_ERRNO(EOPNOTSUPP, listen(client, 1));
}

TEST(socketpair, Seqpacket) {
  SocketPair s(SOCK_SEQPACKET);
  EXPECT_EQ(write(s.a, "first", 5), 5);
  EXPECT_EQ(write(s.a, "second", 6), 6);
  char text[16] = {};
  EXPECT_EQ(read(s.b, text, 16), 5);
  EXPECT_EQ(read(s.b, text, 3), 3) << "the rest of a packet is dropped";
  s.a.reset();
  EXPECT_EQ(read(s.b, text, 16), 0);
}

TEST(sendmmsg, SendsAndReceivesSeveral) {
  COVERS(recvmmsg);
  SocketPair s(SOCK_DGRAM);
  char one[] = "one", two[] = "twotwo";
  iovec iov[2] = {{one, 3}, {two, 6}};
  mmsghdr msgs[2] = {};
  for (int i = 0; i < 2; i++) {
    msgs[i].msg_hdr.msg_iov = &iov[i];
    msgs[i].msg_hdr.msg_iovlen = 1;
  }
  EXPECT_EQ(syscall(SYS_sendmmsg, s.a.get(), msgs, 2, 0), 2);
  EXPECT_EQ(msgs[1].msg_len, 6u);
  char a[8] = {}, b[8] = {};
  iovec in[3] = {{a, 8}, {b, 8}, {a, 8}};
  mmsghdr got[3] = {};
  for (int i = 0; i < 3; i++) {
    got[i].msg_hdr.msg_iov = &in[i];
    got[i].msg_hdr.msg_iovlen = 1;
  }
  EXPECT_EQ(syscall(SYS_recvmmsg, s.b.get(), got, 3, MSG_DONTWAIT, nullptr), 2);
  EXPECT_EQ(got[0].msg_len, 3u);
  EXPECT_EQ(got[1].msg_len, 6u);
  EXPECT_STREQ(b, "twotwo");
  EXPECT_ERRNO(EAGAIN, syscall(SYS_recvmmsg, s.b.get(), got, 3, MSG_DONTWAIT, nullptr));
  EXPECT_ERRNO(EBADF, syscall(SYS_sendmmsg, kBadFd, msgs, 2, 0));
}

}  // namespace
}  // namespace uk::test
