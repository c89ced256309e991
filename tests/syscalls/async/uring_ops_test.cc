// The operations of io_uring(7): files, sockets, polls, timeouts, cancelling, registered resources.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#include <map>

#include "tests/syscalls/async/uring.h"

namespace uk::test {
namespace {

uint64_t Addr(const void* p) { return reinterpret_cast<uint64_t>(p); }

TEST(io_uring_enter, ReadsAndWrites) {
  COVERS(io_uring_setup);
  Scratch dir;
  Fd f = dir.Open("f");
  Uring ring;
  char out[] = "0123456789", in[16] = {};
  ring.Rw(IORING_OP_WRITE, f, out, 10, 0);
  EXPECT_EQ(10, ring.Do());
  ring.Rw(IORING_OP_READ, f, in, 16, 4);
  EXPECT_EQ(6, ring.Do());
  EXPECT_STREQ("456789", in);
  char a[3] = {}, b[3] = {};
  iovec iov[] = {{a, 3}, {b, 3}};
  ring.Rw(IORING_OP_READV, f, iov, 2, 1);
  EXPECT_EQ(6, ring.Do());
  EXPECT_EQ(0, memcmp(a, "123", 3));
  EXPECT_EQ(0, memcmp(b, "456", 3));
  ring.Rw(IORING_OP_WRITEV, f, iov, 2, 20);
  EXPECT_EQ(6, ring.Do());
  // Offset -1: the position.
  ring.Rw(IORING_OP_READ, f, in, 2, ~0ull);
  EXPECT_EQ(2, ring.Do());
  EXPECT_EQ(2, lseek(f, 0, SEEK_CUR));
  ring.Rw(IORING_OP_READ, f, Bad<char>(), 2, 0);
  EXPECT_EQ(-EFAULT, ring.Do());
  ring.Rw(IORING_OP_READ, f, in, 2, 0)->rw_flags = 0x40000000;
  EXPECT_EQ(-EOPNOTSUPP, ring.Do());
  ring.Get(IORING_OP_FSYNC, f)->fsync_flags = IORING_FSYNC_DATASYNC;
  EXPECT_EQ(0, ring.Do());
  ring.Get(IORING_OP_FSYNC, f)->fsync_flags = 8;
  EXPECT_EQ(-EINVAL, ring.Do());
  ring.Rw(IORING_OP_FALLOCATE, f, reinterpret_cast<void*>(4096), 0, 0);
  EXPECT_EQ(0, ring.Do());
  struct stat st;
  ASSERT_OK(fstat(f, &st));
  EXPECT_EQ(4096, st.st_size);
  ring.Rw(IORING_OP_FADVISE, f, nullptr, 0, 0)->fadvise_advice = POSIX_FADV_WILLNEED;
  EXPECT_EQ(0, ring.Do());
  ring.Get(IORING_OP_SYNC_FILE_RANGE, f);
  EXPECT_EQ(0, ring.Do());
  Mapping m(kPage);
  *m.at() = 1;
  ring.Rw(IORING_OP_MADVISE, -1, m.at(), kPage, 0)->fadvise_advice = MADV_DONTNEED;
  EXPECT_EQ(0, ring.Do());
  EXPECT_EQ(0, *m.at());
}

TEST(io_uring_enter, ReadOfAPipeWaits) {
  for (int flags : {0, O_NONBLOCK}) {
    Pipe p(flags);
    Uring ring;
    char in[8] = {};
    ring.Rw(IORING_OP_READ, p.r, in, 8, 0, 5);
    ASSERT_EQ(1, ring.Submit());
    EXPECT_EQ(0u, ring.Ready());
    ASSERT_EQ(3, write(p.w, "abc", 3));
    const Done d = ring.Take();
    EXPECT_EQ(5u, d.data);
    EXPECT_EQ(3, d.res);
    EXPECT_STREQ("abc", in);
    ring.Rw(IORING_OP_READ, p.r, in, 8, 0)->rw_flags = RWF_NOWAIT;
    EXPECT_EQ(-EAGAIN, ring.Do());
    ring.Rw(IORING_OP_READ, p.r, in, 8, 0);
    ASSERT_EQ(1, ring.Submit());
    p.w.reset();
    EXPECT_EQ(0, ring.Take().res);
  }
}

TEST(io_uring_enter, WriteToAFullPipeWaits) {
  Pipe p;
  Uring ring;
  std::vector<char> big(fcntl(p.w, F_GETPIPE_SZ));
  ASSERT_EQ(static_cast<ssize_t>(big.size()), write(p.w, big.data(), big.size()));
  ring.Rw(IORING_OP_WRITE, p.w, "xy", 2, 0);
  ASSERT_EQ(1, ring.Submit());
  EXPECT_EQ(0u, ring.Ready());
  ASSERT_EQ(static_cast<ssize_t>(big.size()), read(p.r, big.data(), big.size()));
  EXPECT_EQ(2, ring.Take().res);
}

TEST(io_uring_enter, NamesAndDescriptors) {
  COVERS(io_uring_setup);
  Scratch dir;
  Fd d = dir.Dir();
  Uring ring;
  ring.Rw(IORING_OP_OPENAT, d, "new", 0600, 0)->open_flags = O_RDWR | O_CREAT | O_CLOEXEC;
  const int fd = ring.Do();
  ASSERT_GE(fd, 0);
  EXPECT_TRUE(Exists(dir / "new"));
  ring.Get(IORING_OP_CLOSE, fd);
  EXPECT_EQ(0, ring.Do());
  EXPECT_ERRNO(EBADF, fcntl(fd, F_GETFD));
  ring.Get(IORING_OP_CLOSE, fd);
  EXPECT_EQ(-EBADF, ring.Do());
  struct {
    uint64_t flags, mode, resolve;
  } how = {O_RDONLY, 0, 0};
  ring.Rw(IORING_OP_OPENAT2, d, "new", sizeof how, Addr(&how));
  const int fd2 = ring.Do();
  EXPECT_GE(fd2, 0);
  close(fd2);
  struct statx sx = {};
  ring.Rw(IORING_OP_STATX, d, "new", STATX_ALL, Addr(&sx));
  EXPECT_EQ(0, ring.Do());
  EXPECT_EQ(0600, sx.stx_mode & 07777);
  ring.Rw(IORING_OP_MKDIRAT, d, "sub", 0755, 0);
  EXPECT_EQ(0, ring.Do());
  ring.Rw(IORING_OP_RENAMEAT, d, "new", static_cast<unsigned>(d.get()), Addr("sub/old"));
  EXPECT_EQ(0, ring.Do());
  ring.Rw(IORING_OP_LINKAT, d, "sub/old", static_cast<unsigned>(d.get()), Addr("hard"));
  EXPECT_EQ(0, ring.Do());
  ring.Rw(IORING_OP_SYMLINKAT, d, "hard", 0, Addr("soft"));
  EXPECT_EQ(0, ring.Do());
  char target[8] = {};
  EXPECT_EQ(4, readlinkat(d, "soft", target, 8));
  for (const char* name : {"sub/old", "hard", "soft"}) {
    ring.Rw(IORING_OP_UNLINKAT, d, name, 0, 0);
    EXPECT_EQ(0, ring.Do()) << name;
  }
  ring.Rw(IORING_OP_UNLINKAT, d, "sub", 0, 0);
  EXPECT_EQ(-EISDIR, ring.Do());
  ring.Rw(IORING_OP_UNLINKAT, d, "sub", 0, 0)->unlink_flags = AT_REMOVEDIR;
  EXPECT_EQ(0, ring.Do());
  ring.Rw(IORING_OP_OPENAT, d, Bad<char>(), 0, 0);
  EXPECT_EQ(-EFAULT, ring.Do());
}

// The entry and what it points to may be reused when the call has returned.
TEST(io_uring_enter, SubmissionsAreStable) {
  Scratch dir;
  Fd d = dir.Dir();
  Pipe p;
  Uring ring;
  char c;
  char name[] = "first";
  ring.Rw(IORING_OP_READ, p.r, &c, 1, 0)->flags = IOSQE_IO_LINK;
  ring.Rw(IORING_OP_MKDIRAT, d, name, 0755, 0);
  ASSERT_EQ(2, ring.Submit());
  strcpy(name, "other");
  ASSERT_EQ(1, write(p.w, "x", 1));
  EXPECT_EQ(1, ring.Take().res);
  EXPECT_EQ(0, ring.Take().res);
  EXPECT_TRUE(Exists(dir / "first"));
  EXPECT_FALSE(Exists(dir / "other"));
}

TEST(io_uring_enter, SplicesAndTees) {
  Pipe a, b;
  Uring ring;
  ASSERT_EQ(5, write(a.w, "hello", 5));
  io_uring_sqe* s = ring.Rw(IORING_OP_TEE, b.w, nullptr, 5, 0);
  s->splice_fd_in = a.r;
  EXPECT_EQ(5, ring.Do());
  Scratch dir;
  Fd f = dir.Open("f");
  s = ring.Rw(IORING_OP_SPLICE, f, reinterpret_cast<void*>(~0ull), 5, 2);
  s->splice_fd_in = b.r;
  EXPECT_EQ(5, ring.Do());
  EXPECT_EQ(std::string("\0\0hello", 7), ReadFile(dir / "f"));
}

TEST(io_uring_enter, Sockets) {
  Uring ring;
  ring.Rw(IORING_OP_SOCKET, AF_UNIX, nullptr, 0, SOCK_STREAM);
  Fd listener(ring.Do()), client(socket(AF_UNIX, SOCK_STREAM, 0));
  ASSERT_GE(listener.get(), 0);
  sockaddr_un name = {AF_UNIX, {}};
  ASSERT_OK(bind(listener, reinterpret_cast<sockaddr*>(&name), sizeof(sa_family_t)));
  ASSERT_OK(listen(listener, 4));
  socklen_t len = sizeof name;
  ASSERT_OK(getsockname(listener, reinterpret_cast<sockaddr*>(&name), &len));
  ring.Get(IORING_OP_ACCEPT, listener, 1)->accept_flags = SOCK_CLOEXEC;
  ASSERT_EQ(1, ring.Submit());
  EXPECT_EQ(0u, ring.Ready());
  ring.Rw(IORING_OP_CONNECT, client, &name, 0, len, 2);
  ASSERT_EQ(1, ring.Submit(2));
  std::map<uint64_t, int> got;
  for (int i = 0; i < 2; ++i) {
    const Done d = ring.Take();
    got[d.data] = d.res;
  }
  EXPECT_EQ(0, got[2]);
  ASSERT_GE(got[1], 0);
  Fd server(got[1]);
  char in[16] = {};
  ring.Rw(IORING_OP_RECV, server, in, sizeof in, 0, 3);
  ASSERT_EQ(1, ring.Submit());
  ring.Rw(IORING_OP_SEND, client, "ping", 4, 0, 4);
  ASSERT_EQ(1, ring.Submit());
  for (int i = 0; i < 2; ++i) EXPECT_EQ(4, ring.Take().res);
  EXPECT_STREQ("ping", in);
  iovec out = {const_cast<char*>("message"), 7}, to = {in, sizeof in};
  msghdr send = {}, receive = {};
  send.msg_iov = &out;
  receive.msg_iov = &to;
  send.msg_iovlen = receive.msg_iovlen = 1;
  ring.Rw(IORING_OP_SENDMSG, server, &send, 1, 0);
  EXPECT_EQ(7, ring.Do());
  ring.Rw(IORING_OP_RECVMSG, client, &receive, 1, 0);
  EXPECT_EQ(7, ring.Do());
  EXPECT_STREQ("message", in);
  ring.Rw(IORING_OP_RECV, client, in, 1, 0)->msg_flags = MSG_DONTWAIT;
  EXPECT_EQ(-EAGAIN, ring.Do());
  ring.Rw(IORING_OP_SHUTDOWN, client, nullptr, SHUT_WR, 0);
  EXPECT_EQ(0, ring.Do());
  ring.Rw(IORING_OP_RECV, server, in, 1, 0);
  EXPECT_EQ(0, ring.Do());
  Pipe p;
  ring.Rw(IORING_OP_RECV, p.r, in, 1, 0);
  EXPECT_EQ(-ENOTSOCK, ring.Do());
}

TEST(io_uring_enter, AcceptsAgainAndAgain) {
  Uring ring;
  Fd listener(socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un name = {AF_UNIX, {}};
  ASSERT_OK(bind(listener, reinterpret_cast<sockaddr*>(&name), sizeof(sa_family_t)));
  ASSERT_OK(listen(listener, 4));
  socklen_t len = sizeof name;
  ASSERT_OK(getsockname(listener, reinterpret_cast<sockaddr*>(&name), &len));
  ring.Get(IORING_OP_ACCEPT, listener, 1)->ioprio = IORING_ACCEPT_MULTISHOT;
  ASSERT_EQ(1, ring.Submit());
  for (int i = 0; i < 3; ++i) {
    Fd client(socket(AF_UNIX, SOCK_STREAM, 0));
    ASSERT_OK(connect(client, reinterpret_cast<sockaddr*>(&name), len));
    const Done d = ring.Take();
    ASSERT_GE(d.res, 0);
    close(d.res);
    EXPECT_NE(0u, d.flags & IORING_CQE_F_MORE);
  }
  ring.Rw(IORING_OP_ASYNC_CANCEL, -1, reinterpret_cast<void*>(1), 0, 0, 2);
  ASSERT_EQ(1, ring.Submit(2));
  std::map<uint64_t, int> got;
  for (int i = 0; i < 2; ++i) {
    const Done d = ring.Take();
    got[d.data] = d.res;
  }
  EXPECT_EQ((std::map<uint64_t, int>{{1, -ECANCELED}, {2, 0}}), got);
}

TEST(io_uring_enter, Polls) {
  Pipe p;
  Uring ring;
  ring.Get(IORING_OP_POLL_ADD, p.r, 1)->poll32_events = POLLIN;
  ring.Get(IORING_OP_POLL_ADD, p.w, 2)->poll32_events = POLLOUT;
  ASSERT_EQ(2, ring.Submit());
  Done d = ring.Take();
  EXPECT_EQ(2u, d.data);
  EXPECT_EQ(POLLOUT, d.res);
  EXPECT_EQ(0u, ring.Ready());
  ASSERT_EQ(1, write(p.w, "x", 1));
  d = ring.Take();
  EXPECT_EQ(1u, d.data);
  EXPECT_NE(0, d.res & POLLIN);
  // Again and again.
  char c;
  ASSERT_EQ(1, read(p.r, &c, 1));
  io_uring_sqe* s = ring.Get(IORING_OP_POLL_ADD, p.r, 3);
  s->poll32_events = POLLIN;
  s->len = IORING_POLL_ADD_MULTI;
  ASSERT_EQ(1, ring.Submit());
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(1, write(p.w, "x", 1));
    d = ring.Take();
    EXPECT_EQ(3u, d.data);
    EXPECT_NE(0, d.res & POLLIN);
    EXPECT_NE(0u, d.flags & IORING_CQE_F_MORE);
    ASSERT_EQ(1, read(p.r, &c, 1));
  }
  ring.Rw(IORING_OP_POLL_REMOVE, -1, reinterpret_cast<void*>(3), 0, 0, 4);
  ASSERT_EQ(1, ring.Submit(2));
  std::map<uint64_t, int> got;
  for (int i = 0; i < 2; ++i) {
    d = ring.Take();
    got[d.data] = d.res;
  }
  EXPECT_EQ((std::map<uint64_t, int>{{3, -ECANCELED}, {4, 0}}), got);
  ring.Rw(IORING_OP_POLL_REMOVE, -1, reinterpret_cast<void*>(3), 0, 0);
  EXPECT_EQ(-ENOENT, ring.Do());
}

TEST(io_uring_enter, Timeouts) {
  Uring ring;
  __kernel_timespec ts = Millis(20), hour = Millis(3'600'000);
  const int64_t start = MonotonicNs();
  ring.Rw(IORING_OP_TIMEOUT, -1, &ts, 1, 0);
  EXPECT_EQ(-ETIME, ring.Do());
  EXPECT_GE(MonotonicNs() - start, 20'000'000);
  // It ends a wait for more.
  ring.Rw(IORING_OP_TIMEOUT, -1, &ts, 1, 0);
  ASSERT_EQ(1, ring.Submit(4));
  EXPECT_EQ(-ETIME, ring.Take().res);
  // By a number of completions.
  ring.Rw(IORING_OP_TIMEOUT, -1, &hour, 1, 2, 1);
  ring.Get(IORING_OP_NOP, -1, 2);
  ring.Get(IORING_OP_NOP, -1, 3);
  ASSERT_EQ(3, ring.Submit(3));
  for (uint64_t data : {2, 3, 1}) {
    const Done d = ring.Take();
    EXPECT_EQ(data, d.data);
    EXPECT_EQ(0, d.res);
  }
  // Removed, and moved.
  ring.Rw(IORING_OP_TIMEOUT, -1, &hour, 1, 0, 7);
  ASSERT_EQ(1, ring.Submit());
  io_uring_sqe* s =
      ring.Rw(IORING_OP_TIMEOUT_REMOVE, -1, reinterpret_cast<void*>(7), 0, Addr(&ts), 8);
  s->timeout_flags = IORING_TIMEOUT_UPDATE;
  ASSERT_EQ(1, ring.Submit(2));
  Done d = ring.Take();
  EXPECT_EQ(8u, d.data);
  EXPECT_EQ(0, d.res);
  d = ring.Take();
  EXPECT_EQ(7u, d.data);
  EXPECT_EQ(-ETIME, d.res);
  ring.Rw(IORING_OP_TIMEOUT, -1, &hour, 1, 0, 7);
  ring.Rw(IORING_OP_TIMEOUT_REMOVE, -1, reinterpret_cast<void*>(7), 0, 0, 8);
  ASSERT_EQ(2, ring.Submit(2));
  std::map<uint64_t, int> got;
  for (int i = 0; i < 2; ++i) {
    d = ring.Take();
    got[d.data] = d.res;
  }
  EXPECT_EQ((std::map<uint64_t, int>{{7, -ECANCELED}, {8, 0}}), got);
  ring.Rw(IORING_OP_TIMEOUT_REMOVE, -1, reinterpret_cast<void*>(7), 0, 0);
  EXPECT_EQ(-ENOENT, ring.Do());
  __kernel_timespec bad = {-1, 0};
  ring.Rw(IORING_OP_TIMEOUT, -1, &bad, 1, 0);
  EXPECT_EQ(-EINVAL, ring.Do());
  ring.Rw(IORING_OP_TIMEOUT, -1, Bad<char>(), 1, 0);
  EXPECT_EQ(-EFAULT, ring.Do());
}

TEST(io_uring_enter, LinkTimeouts) {
  Pipe p;
  Uring ring;
  char c;
  __kernel_timespec ts = Millis(10), hour = Millis(3'600'000);
  ring.Rw(IORING_OP_READ, p.r, &c, 1, 0, 1)->flags = IOSQE_IO_LINK;
  ring.Rw(IORING_OP_LINK_TIMEOUT, -1, &ts, 1, 0, 2);
  ASSERT_EQ(2, ring.Submit(2));
  std::map<uint64_t, int> got;
  for (int i = 0; i < 2; ++i) {
    const Done d = ring.Take();
    got[d.data] = d.res;
  }
  EXPECT_EQ((std::map<uint64_t, int>{{1, -ECANCELED}, {2, -ETIME}}), got);
  ASSERT_EQ(1, write(p.w, "x", 1));
  ring.Rw(IORING_OP_READ, p.r, &c, 1, 0, 1)->flags = IOSQE_IO_LINK;
  ring.Rw(IORING_OP_LINK_TIMEOUT, -1, &hour, 1, 0, 2);
  ASSERT_EQ(2, ring.Submit(2));
  got.clear();
  for (int i = 0; i < 2; ++i) {
    const Done d = ring.Take();
    got[d.data] = d.res;
  }
  EXPECT_EQ((std::map<uint64_t, int>{{1, 1}, {2, -ECANCELED}}), got);
  ring.Rw(IORING_OP_LINK_TIMEOUT, -1, &hour, 1, 0, 2);
  EXPECT_EQ(-EINVAL, ring.Do()) << "with nothing before it";
}

TEST(io_uring_enter, Cancels) {
  Pipe p;
  Uring ring;
  char c;
  ring.Rw(IORING_OP_ASYNC_CANCEL, -1, reinterpret_cast<void*>(99), 0, 0);
  EXPECT_EQ(-ENOENT, ring.Do());
  for (uint64_t i = 0; i < 3; ++i) ring.Rw(IORING_OP_READ, p.r, &c, 1, 0, i);
  ASSERT_EQ(3, ring.Submit());
  io_uring_sqe* s = ring.Get(IORING_OP_ASYNC_CANCEL, p.r, 9);
  s->cancel_flags = IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_FD;
  ASSERT_EQ(1, ring.Submit(4));
  std::map<uint64_t, int> got;
  for (int i = 0; i < 4; ++i) {
    const Done d = ring.Take();
    got[d.data] = d.res;
  }
  EXPECT_EQ((std::map<uint64_t, int>{{0, -ECANCELED}, {1, -ECANCELED}, {2, -ECANCELED}, {9, 3}}),
            got);
}

TEST(io_uring_register, Files) {
  COVERS(io_uring_enter);
  Scratch dir;
  Fd f = dir.Open("f", "registered"), g = dir.Open("g", "other");
  Uring ring;
  int fds[4] = {f, -1, g, -1};
  EXPECT_ERRNO(ENXIO, UringRegister(ring.fd, IORING_UNREGISTER_FILES, nullptr, 0));
  EXPECT_ERRNO(EINVAL, UringRegister(ring.fd, IORING_REGISTER_FILES, fds, 0));
  int bad[1] = {kBadFd};
  EXPECT_ERRNO(EBADF, UringRegister(ring.fd, IORING_REGISTER_FILES, bad, 1));
  int self[1] = {ring.fd};
  EXPECT_ERRNO(EBADF, UringRegister(ring.fd, IORING_REGISTER_FILES, self, 1));
  ASSERT_OK(UringRegister(ring.fd, IORING_REGISTER_FILES, fds, 4));
  EXPECT_ERRNO(EBUSY, UringRegister(ring.fd, IORING_REGISTER_FILES, fds, 4));
  f.reset();
  char in[16] = {};
  ring.Rw(IORING_OP_READ, 0, in, 16, 0)->flags = IOSQE_FIXED_FILE;
  EXPECT_EQ(10, ring.Do());
  EXPECT_STREQ("registered", in);
  for (int i : {1, 4, -1}) {
    ring.Rw(IORING_OP_READ, i, in, 16, 0)->flags = IOSQE_FIXED_FILE;
    EXPECT_EQ(-EBADF, ring.Do()) << i;
  }
  int update[2] = {-1, g};
  io_uring_files_update u = {0, 0, Addr(update)};
  EXPECT_EQ(2, UringRegister(ring.fd, IORING_REGISTER_FILES_UPDATE, &u, 2));
  ring.Rw(IORING_OP_READ, 0, in, 16, 0)->flags = IOSQE_FIXED_FILE;
  EXPECT_EQ(-EBADF, ring.Do());
  ring.Rw(IORING_OP_READ, 1, in, 16, 0)->flags = IOSQE_FIXED_FILE;
  EXPECT_EQ(5, ring.Do());
  // Opened right into the table.
  io_uring_sqe* s = ring.Rw(IORING_OP_OPENAT, AT_FDCWD, (dir / "f").c_str(), 0, 0);
  const std::string path = dir / "f";
  s->addr = Addr(path.c_str());
  s->file_index = 4;  // place 3
  EXPECT_EQ(0, ring.Do());
  ring.Rw(IORING_OP_READ, 3, in, 16, 0)->flags = IOSQE_FIXED_FILE;
  EXPECT_EQ(10, ring.Do());
  ring.Get(IORING_OP_CLOSE, 0)->file_index = 4;
  EXPECT_EQ(0, ring.Do());
  ring.Rw(IORING_OP_READ, 3, in, 16, 0)->flags = IOSQE_FIXED_FILE;
  EXPECT_EQ(-EBADF, ring.Do());
  EXPECT_OK(UringRegister(ring.fd, IORING_UNREGISTER_FILES, nullptr, 0));
}

TEST(io_uring_register, Buffers) {
  COVERS(io_uring_enter);
  Scratch dir;
  Fd f = dir.Open("f");
  Uring ring;
  Mapping m(2 * kPage);
  iovec iov[2] = {{m.at(), kPage}, {m.at(kPage), 100}};
  char c;
  ring.Rw(IORING_OP_READ_FIXED, f, m.at(), 1, 0);
  EXPECT_EQ(-EFAULT, ring.Do()) << "none registered";
  EXPECT_ERRNO(EINVAL, UringRegister(ring.fd, IORING_REGISTER_BUFFERS, iov, 0));
  iovec bad = {BadPointer(), 10};
  EXPECT_ERRNO(EFAULT, UringRegister(ring.fd, IORING_REGISTER_BUFFERS, &bad, 1));
  ASSERT_OK(UringRegister(ring.fd, IORING_REGISTER_BUFFERS, iov, 2));
  EXPECT_ERRNO(EBUSY, UringRegister(ring.fd, IORING_REGISTER_BUFFERS, iov, 2));
  strcpy(m.at(), "fixed");
  ring.Rw(IORING_OP_WRITE_FIXED, f, m.at(), 5, 0);
  EXPECT_EQ(5, ring.Do());
  ring.Rw(IORING_OP_READ_FIXED, f, m.at(kPage + 10), 5, 0)->buf_index = 1;
  EXPECT_EQ(5, ring.Do());
  EXPECT_STREQ("fixed", m.at(kPage + 10));
  ring.Rw(IORING_OP_READ_FIXED, f, m.at(kPage + 98), 5, 0)->buf_index = 1;
  EXPECT_EQ(-EFAULT, ring.Do()) << "beyond it";
  ring.Rw(IORING_OP_READ_FIXED, f, &c, 1, 0);
  EXPECT_EQ(-EFAULT, ring.Do());
  ring.Rw(IORING_OP_READ_FIXED, f, m.at(), 1, 0)->buf_index = 7;
  EXPECT_EQ(-EFAULT, ring.Do());
  EXPECT_OK(UringRegister(ring.fd, IORING_UNREGISTER_BUFFERS, nullptr, 0));
}

TEST(io_uring_enter, ProvidedBuffers) {
  Pipe p;
  Uring ring;
  char buffers[4][8] = {};
  io_uring_sqe* s = ring.Rw(IORING_OP_PROVIDE_BUFFERS, 4, buffers, 8, 10);
  s->buf_group = 3;
  EXPECT_EQ(0, ring.Do());
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(3, write(p.w, "abc", 3));
    s = ring.Rw(IORING_OP_READ, p.r, nullptr, 8, 0);
    s->flags = IOSQE_BUFFER_SELECT;
    s->buf_group = 3;
    ASSERT_EQ(1, ring.Submit());
    const Done d = ring.Take();
    EXPECT_EQ(3, d.res);
    ASSERT_NE(0u, d.flags & IORING_CQE_F_BUFFER);
    const unsigned id = d.flags >> IORING_CQE_BUFFER_SHIFT;
    ASSERT_TRUE(id >= 10 && id < 14);
    EXPECT_STREQ("abc", buffers[id - 10]);
  }
  ring.Rw(IORING_OP_REMOVE_BUFFERS, 9, nullptr, 0, 0)->buf_group = 3;
  EXPECT_EQ(2, ring.Do());
  ASSERT_EQ(1, write(p.w, "x", 1));
  s = ring.Rw(IORING_OP_READ, p.r, nullptr, 8, 0);
  s->flags = IOSQE_BUFFER_SELECT;
  s->buf_group = 3;
  EXPECT_EQ(-ENOBUFS, ring.Do());
}

TEST(io_uring_register, BufferRing) {
  COVERS(io_uring_enter);
  Uring ring;
  Mapping m(2 * kPage);
  struct {
    uint64_t addr;
    uint32_t entries;
    uint16_t group, flags;
    uint64_t resv[3];
  } reg = {Addr(m.at()), 8, 1, 0, {}};
  ASSERT_OK(UringRegister(ring.fd, IORING_REGISTER_PBUF_RING, &reg, 1));
  EXPECT_ERRNO(EEXIST, UringRegister(ring.fd, IORING_REGISTER_PBUF_RING, &reg, 1));
  auto* bufs = m.as<io_uring_buf>();
  for (uint16_t i = 0; i < 4; ++i)
    bufs[i] = {Addr(m.at(kPage + 64 * i)), 64, static_cast<uint16_t>(40 + i), 0};
  auto* tail = reinterpret_cast<uint16_t*>(m.at(14));
  __atomic_store_n(tail, 4, __ATOMIC_RELEASE);
  int sv[2];
  ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
  Fd a(sv[0]), b(sv[1]);
  io_uring_sqe* s = ring.Get(IORING_OP_RECV, b, 5);
  s->ioprio = IORING_RECV_MULTISHOT;
  s->flags = IOSQE_BUFFER_SELECT;
  s->buf_group = 1;
  ASSERT_EQ(1, ring.Submit());
  for (unsigned i = 0; i < 4; ++i) {
    ASSERT_EQ(2, send(a, "hi", 2, 0));
    const Done d = ring.Take();
    EXPECT_EQ(2, d.res);
    EXPECT_NE(0u, d.flags & IORING_CQE_F_MORE);
    EXPECT_EQ(40 + i, d.flags >> IORING_CQE_BUFFER_SHIFT);
    EXPECT_STREQ("hi", m.at(kPage + 64 * i));
  }
  ASSERT_EQ(2, send(a, "no", 2, 0));
  const Done d = ring.Take();
  EXPECT_EQ(-ENOBUFS, d.res);
  EXPECT_EQ(0u, d.flags & IORING_CQE_F_MORE);
  EXPECT_OK(UringRegister(ring.fd, IORING_UNREGISTER_PBUF_RING, &reg, 1));
}

TEST(io_uring_enter, EpollAndMessages) {
  Uring ring, other;
  Fd ep(epoll_create1(EPOLL_CLOEXEC)), event(eventfd(1, EFD_CLOEXEC));
  epoll_event e = {EPOLLIN, {.u64 = 12}};
  ring.Rw(IORING_OP_EPOLL_CTL, ep, &e, EPOLL_CTL_ADD, static_cast<uint64_t>(event.get()));
  EXPECT_EQ(0, ring.Do());
  epoll_event got = {};
  EXPECT_EQ(1, epoll_wait(ep, &got, 1, 0));
  EXPECT_EQ(12u, got.data.u64);
  ring.Rw(IORING_OP_MSG_RING, other.fd, nullptr, 33, 44);
  EXPECT_EQ(0, ring.Do());
  const Done d = other.Take();
  EXPECT_EQ(44u, d.data);
  EXPECT_EQ(33, d.res);
  ring.Rw(IORING_OP_MSG_RING, event, nullptr, 33, 44);
  EXPECT_EQ(-EBADFD, ring.Do());
}

}  // namespace
}  // namespace uk::test
