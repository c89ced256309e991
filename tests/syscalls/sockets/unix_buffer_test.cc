// AF_UNIX: how much of the sender's buffer messages take, what of them is sent if memory cannot be
// read, and what of the sender is told. Found by the differential oracle (tests/oracle).
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

struct Pair {
  Fd a, b;
  explicit Pair(int type) {
    int s[2] = {-1, -1};
    EXPECT_OK(socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, s));
    a = Fd(s[0]);
    b = Fd(s[1]);
  }
};

struct Name {
  struct sockaddr_un address {};
  socklen_t length = sizeof address;
  explicit Name(const std::string& path = "") {
    address.sun_family = AF_UNIX;
    strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  }
  struct sockaddr* get() {
    return reinterpret_cast<struct sockaddr*>(&address);
  }
};

// Bytes of the send buffer in use after a message of `size` bytes.
int Charge(int type, size_t size) {
  Pair s(type);
  const std::string data(size, 'x');
  EXPECT_EQ(write(s.a, data.data(), size), static_cast<ssize_t>(size));
  int used = -1;
  EXPECT_OK(ioctl(s.a, SIOCOUTQ, &used));
  return used;
}

// Linux counts its own bookkeeping too, in sizes that differ a little between configurations (768
// for one byte in most): what is asked here is how they grow.
TEST(write, TakesMoreOfABufferThanItsBytes) {
  const int least = Charge(SOCK_STREAM, 1);
  EXPECT_GE(least, 512);
  EXPECT_LE(least, 1280);
  EXPECT_EQ(Charge(SOCK_STREAM, 100), least);
  EXPECT_EQ(Charge(SOCK_DGRAM, 100), least);
  EXPECT_EQ(Charge(SOCK_STREAM, 1000), 2304);
  EXPECT_EQ(Charge(SOCK_STREAM, 3776), 4352);
  EXPECT_EQ(Charge(SOCK_STREAM, 4097), least + 4096);
  EXPECT_EQ(Charge(SOCK_STREAM, 10000), 4352 + 8192);
  EXPECT_EQ(Charge(SOCK_DGRAM, 3777), 8448);
  EXPECT_EQ(Charge(SOCK_DGRAM, 8192), 16640);
  EXPECT_EQ(Charge(SOCK_SEQPACKET, 16065), 16640 + 4096);
  EXPECT_EQ(Charge(SOCK_DGRAM, 100000), 33024 + 17 * 4096);
  EXPECT_EQ(Charge(SOCK_DGRAM, 0), least);
  EXPECT_EQ(Charge(SOCK_STREAM, 0), 0);
}

TEST(setsockopt, NegativeBuffersAreLarge) {
  COVERS(getsockopt);
  Fd s(socket(AF_UNIX, SOCK_DGRAM, 0));
  for (int option : {SO_SNDBUF, SO_RCVBUF}) {
    int most = 1 << 30, negative = -1, got = 0, got_negative = 0;
    socklen_t length = sizeof got;
    ASSERT_OK(setsockopt(s, SOL_SOCKET, option, &most, sizeof most));
    ASSERT_OK(getsockopt(s, SOL_SOCKET, option, &got, &length));
    ASSERT_OK(setsockopt(s, SOL_SOCKET, option, &negative, sizeof negative));
    ASSERT_OK(getsockopt(s, SOL_SOCKET, option, &got_negative, &length));
    EXPECT_EQ(got, got_negative);
  }
}

TEST(write, APieceThatCannotBeReadIsNotSent) {
  Pair s(SOCK_STREAM);
  Mapping m(3 * kPage);
  ASSERT_OK(munmap(m.at(2 * kPage), kPage));
  EXPECT_ERRNO(EFAULT, write(s.a, m.at(), 3 * kPage));
  char c;
  EXPECT_ERRNO(EAGAIN, read(s.b, &c, 1));
}

TEST(recvfrom, TellsTheNameThatTheSenderHasNow) {
  COVERS(bind, recvmsg);
  Scratch dir;
  for (int type : {SOCK_STREAM, SOCK_DGRAM}) {
    Pair s(type);
    ASSERT_EQ(send(s.a, "xy", 2, 0), 2);
    Name name(dir / ("name" + std::to_string(type)));
    ASSERT_OK(bind(s.a, name.get(), sizeof name.address));
    char c;
    Name from;
    ASSERT_EQ(recvfrom(s.b, &c, 1, 0, from.get(), &from.length), 1);
    EXPECT_STREQ(from.address.sun_path, name.address.sun_path);
    EXPECT_GT(from.length, sizeof(sa_family_t));
  }
  Pair s(SOCK_DGRAM);
  Name name(dir / "gone");
  ASSERT_OK(bind(s.a, name.get(), sizeof name.address));
  ASSERT_EQ(send(s.a, "x", 1, 0), 1);
  s.a.reset();
  char c;
  Name from;
  ASSERT_EQ(recvfrom(s.b, &c, 1, 0, from.get(), &from.length), 1);
  EXPECT_STREQ(from.address.sun_path, name.address.sun_path) << "even when it is closed";
}

struct ucred Credentials(int fd) {
  alignas(8) char control[64] = {};
  char c;
  struct iovec v {
    &c, 1
  };
  struct msghdr m {};
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = sizeof control;
  EXPECT_EQ(recvmsg(fd, &m, 0), 1);
  struct ucred u {};
  struct cmsghdr* h = CMSG_FIRSTHDR(&m);
  if (h == nullptr || h->cmsg_type != SCM_CREDENTIALS) {
    ADD_FAILURE() << "no credentials";
    return u;
  }
  memcpy(&u, CMSG_DATA(h), sizeof u);
  return u;
}

TEST(recvmsg, CredentialsAreOfWhoeverWasAskedForThem) {
  COVERS(setsockopt, sendto);
  for (int type : {SOCK_STREAM, SOCK_SEQPACKET}) {
    Pair s(type);
    ASSERT_EQ(send(s.a, "x", 1, 0), 1);
    int on = 1;
    ASSERT_OK(setsockopt(s.b, SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
    ASSERT_EQ(send(s.a, "x", 1, 0), 1);
    const struct ucred before = Credentials(s.b), after = Credentials(s.b);
    EXPECT_EQ(before.pid, 0);
    EXPECT_EQ(before.uid, 65534u);
    EXPECT_EQ(before.gid, 65534u);
    EXPECT_EQ(after.pid, getpid());
    EXPECT_EQ(after.uid, getuid());
  }
}

TEST(shutdown, ADatagramSocketStillHasNothing) {
  COVERS(recvfrom);
  Pair s(SOCK_DGRAM), packets(SOCK_SEQPACKET);
  char c;
  ASSERT_OK(shutdown(s.a, SHUT_RD));
  EXPECT_ERRNO(EAGAIN, recv(s.a, &c, 1, 0));
  ASSERT_OK(fcntl(s.a, F_SETFL, 0));
  EXPECT_EQ(recv(s.a, &c, 1, 0), 0) << "but does not wait for it";
  ASSERT_OK(shutdown(packets.a, SHUT_RD));
  EXPECT_EQ(recv(packets.a, &c, 1, 0), 0);
}

TEST(sendmsg, NoConnectionBeforeControlMessages) {
  alignas(8) char control[CMSG_SPACE(sizeof(int))] = {};
  struct msghdr m {};
  m.msg_control = control;
  m.msg_controllen = sizeof control;
  struct cmsghdr* h = CMSG_FIRSTHDR(&m);
  h->cmsg_level = SOL_SOCKET;
  h->cmsg_type = SCM_RIGHTS;
  h->cmsg_len = CMSG_LEN(sizeof(int));
  const int bad = -1;
  memcpy(CMSG_DATA(h), &bad, sizeof bad);
  Fd packets(socket(AF_UNIX, SOCK_SEQPACKET, 0)), stream(socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_ERRNO(ENOTCONN, sendmsg(packets, &m, 0));
  EXPECT_ERRNO(EBADF, sendmsg(stream, &m, 0));
  ASSERT_OK(shutdown(stream, SHUT_RDWR));
  EXPECT_ERRNO(ENOTCONN, write(stream, "x", 1)) << "no broken pipe: there never was one";
}

TEST(sendto, AnAddressOfTheWrongKindFirst) {
  COVERS(sendmsg);
  Pair s(SOCK_DGRAM), packets(SOCK_SEQPACKET);
  ASSERT_OK(shutdown(s.a, SHUT_RDWR));
  Name name("/nowhere");
  name.address.sun_family = AF_INET;
  EXPECT_ERRNO(EINVAL, sendto(s.a, "x", 1, MSG_NOSIGNAL, name.get(), name.length));
  EXPECT_ERRNO(EPIPE, sendto(s.a, "x", 1, MSG_NOSIGNAL, nullptr, 0));
  ASSERT_EQ(send(packets.a, "x", 1, 0), 1);
  packets.b.reset();
  alignas(8) char control[CMSG_SPACE(sizeof(int))] = {};
  struct msghdr m {};
  m.msg_control = control;
  m.msg_controllen = sizeof control;
  struct cmsghdr* h = CMSG_FIRSTHDR(&m);
  h->cmsg_level = SOL_SOCKET;
  h->cmsg_type = SCM_RIGHTS;
  h->cmsg_len = CMSG_LEN(sizeof(int));
  const int bad = -1;
  memcpy(CMSG_DATA(h), &bad, sizeof bad);
  EXPECT_ERRNO(ECONNRESET, sendmsg(packets.a, &m, MSG_NOSIGNAL)) << "before the descriptors";
}

TEST(sendto, WhoTellsItsCredentialsHasAName) {
  COVERS(setsockopt, getsockname);
  Pair s(SOCK_SEQPACKET);
  int on = 1;
  ASSERT_OK(setsockopt(s.a, SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
  ASSERT_EQ(send(s.a, "x", 1, 0), 1);
  Name name;
  ASSERT_OK(getsockname(s.a, name.get(), &name.length));
  EXPECT_EQ(name.length, sizeof(sa_family_t) + 6) << "an automatic one";
}

TEST(close, UnreadBytesAreAnErrorAndNothingIsNone) {
  COVERS(getsockopt);
  for (const std::string sent : {"", "x"}) {
    Pair s(SOCK_SEQPACKET);
    ASSERT_EQ(send(s.a, sent.data(), sent.size(), 0), static_cast<ssize_t>(sent.size()));
    s.b.reset();
    int error = -1;
    socklen_t length = sizeof error;
    ASSERT_OK(getsockopt(s.a, SOL_SOCKET, SO_ERROR, &error, &length));
    EXPECT_EQ(error, sent.empty() ? 0 : ECONNRESET);
  }
}

TEST(sendto, RoomForItBeforeWhoTakesIt) {
  COVERS(shutdown, setsockopt);
  Pair s(SOCK_DGRAM);
  ASSERT_EQ(write(s.a, std::string(4096, 'x').data(), 4096), 4096);
  int least = 1;
  ASSERT_OK(setsockopt(s.a, SOL_SOCKET, SO_SNDBUF, &least, sizeof least));
  ASSERT_OK(shutdown(s.b, SHUT_RD));
  EXPECT_ERRNO(EAGAIN, send(s.a, "x", 1, MSG_NOSIGNAL));
  ASSERT_OK(shutdown(s.a, SHUT_WR));
  EXPECT_ERRNO(EPIPE, send(s.a, "x", 1, MSG_NOSIGNAL));
}

TEST(connect, DatagramsFromALostPeerAreLost) {
  COVERS(write, recvfrom);
  Pair s(SOCK_DGRAM);
  ASSERT_EQ(write(s.a, "x", 1), 1);
  s.a.reset();
  EXPECT_ERRNO(ECONNREFUSED, write(s.b, "y", 1));
  char c;
  EXPECT_ERRNO(EAGAIN, read(s.b, &c, 1));
  Pair t(SOCK_DGRAM);
  ASSERT_EQ(write(t.a, "x", 1), 1);
  struct sockaddr none = {};
  none.sa_family = AF_UNSPEC;
  ASSERT_OK(connect(t.b, &none, sizeof none));
  EXPECT_ERRNO(EAGAIN, read(t.b, &c, 1));
  EXPECT_ERRNO(ECONNRESET, read(t.a, &c, 1)) << "and who was connected to us is told";
}

TEST(connect, TheOtherSideFirst) {
  COVERS(bind, fchmod);
  Scratch dir;
  Pair s(SOCK_STREAM);
  Name name(dir / "name");
  ASSERT_OK(fchmod(s.a, 02750));
  ASSERT_OK(bind(s.a, name.get(), sizeof name.address));
  EXPECT_ERRNO(ECONNREFUSED, connect(s.a, name.get(), sizeof name.address));
  struct stat st = {};
  ASSERT_OK(stat(name.address.sun_path, &st));
  const mode_t mask = umask(0);
  umask(mask);
  EXPECT_EQ(st.st_mode, S_IFSOCK | (02750 & ~mask)) << "the mode of the socket";
}

}  // namespace
}  // namespace uk::test
