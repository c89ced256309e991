// sendfile, copy_file_range, splice, tee, vmsplice.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

TEST(sendfile, FromFileToFileAndPipe) {
  Scratch dir;
  Fd in = dir.Open("in", "0123456789");
  Fd out = dir.Open("out");
  EXPECT_EQ(syscall(SYS_sendfile, out.get(), in.get(), nullptr, 4l), 4);
  EXPECT_EQ(lseek(in, 0, SEEK_CUR), 4) << "without an offset the position moves";
  off_t offset = 8;
  Pipe p;
  EXPECT_EQ(syscall(SYS_sendfile, p.w.get(), in.get(), &offset, 100l), 2);
  EXPECT_EQ(offset, 10);
  EXPECT_EQ(lseek(in, 0, SEEK_CUR), 4);
  EXPECT_EQ(ReadFile(dir / "out"), "0123");
  p.w.reset();
  EXPECT_EQ(ReadFd(p.r), "89");
  EXPECT_EQ(syscall(SYS_sendfile, out.get(), in.get(), &offset, 5l), 0) << "end of file";
}

TEST(sendfile, ToASocket) {
  Scratch dir;
  std::string data(100000, 'd');
  Fd in = dir.Open("in", data);
  int sv[2];
  ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
  Fd a(sv[0]), b(sv[1]);
  pid_t child = Spawn([&] {
    b.reset();
    size_t done = 0;
    while (done < data.size()) {
      ssize_t n = sendfile(a, in, nullptr, data.size() - done);
      if (n <= 0) return 1;
      done += n;
    }
    return 0;
  });
  a.reset();
  EXPECT_EQ(ReadFd(b), data);
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(sendfile, Errors) {
  Scratch dir;
  Fd f = dir.Open("f", "abc");
  Fd g = dir.Open("g");
  Pipe p;
  EXPECT_ERRNO(EBADF, syscall(SYS_sendfile, kBadFd, f.get(), nullptr, 1l));
  EXPECT_ERRNO(EBADF, syscall(SYS_sendfile, f.get(), kBadFd, nullptr, 1l));
  Fd ro(open((dir / "g").c_str(), O_RDONLY));
  EXPECT_ERRNO(EBADF, syscall(SYS_sendfile, ro.get(), f.get(), nullptr, 1l));
  EXPECT_ERRNO(EFAULT, syscall(SYS_sendfile, g.get(), f.get(), BadPointer(), 1l));
  off_t negative = -1;
  EXPECT_ERRNO(EINVAL, syscall(SYS_sendfile, g.get(), f.get(), &negative, 1l));
}

TEST(sendfile, OfNothing) {
  Scratch dir;
  Fd in = dir.Open("in", "abc"), out = dir.Open("out");
  Fd append(open((dir / "out").c_str(), O_WRONLY | O_APPEND)), folder = dir.Dir();
  Fd event(eventfd(0, EFD_NONBLOCK)), pid(syscall(SYS_pidfd_open, getpid(), 0));
  Pipe from, to, full(O_NONBLOCK), broken;
  while (write(full.w, "x", 1) == 1) {
  }
  for (int f : {in.get(), folder.get(), event.get()}) {
    EXPECT_EQ(sendfile(out, f, nullptr, 0), 0);
    EXPECT_ERRNO(EINVAL, sendfile(append, f, nullptr, 0));
  }
  EXPECT_ERRNO(EINVAL, sendfile(out, from.r, nullptr, 0)) << "it has no position";
  EXPECT_ERRNO(EINVAL, sendfile(out, pid, nullptr, 0));
  EXPECT_ERRNO(EINVAL, sendfile(out, folder, nullptr, 1)) << "nor this any bytes";
  broken.r.reset();
  signal(SIGPIPE, SIG_IGN);
  for (int f : {in.get(), folder.get(), from.r.get(), pid.get()}) {
    EXPECT_EQ(sendfile(to.w, f, nullptr, 0), 0) << "a pipe is asked for room only";
    EXPECT_ERRNO(EAGAIN, sendfile(full.w, f, nullptr, 0));
    EXPECT_ERRNO(EPIPE, sendfile(broken.w, f, nullptr, 0));
  }
  signal(SIGPIPE, SIG_DFL);
}

TEST(splice, RoomBeforeWhatIsSpliced) {
  Scratch dir;
  Pipe full(O_NONBLOCK), p;
  while (write(full.w, "x", 1) == 1) {
  }
  EXPECT_ERRNO(EAGAIN, splice(dir.Dir(), nullptr, full.w, nullptr, 1, 0));
  EXPECT_ERRNO(EINVAL, splice(dir.Dir(), nullptr, p.w, nullptr, 1, 0));
}

TEST(copy_file_range, CopiesBetweenOffsets) {
  Scratch dir;
  Fd in = dir.Open("in", "0123456789");
  Fd out = dir.Open("out", "abcdefghij");
  loff_t from = 2, to = 5;
  EXPECT_EQ(syscall(SYS_copy_file_range, in.get(), &from, out.get(), &to, 3l, 0), 3);
  EXPECT_EQ(from, 5);
  EXPECT_EQ(to, 8);
  EXPECT_EQ(ReadFile(dir / "out"), "abcde234ij");
  EXPECT_EQ(syscall(SYS_copy_file_range, in.get(), nullptr, out.get(), nullptr, 2l, 0), 2);
  EXPECT_EQ(lseek(in, 0, SEEK_CUR), 2);
  EXPECT_EQ(ReadFile(dir / "out"), "01cde234ij");
  from = 10;
  EXPECT_EQ(syscall(SYS_copy_file_range, in.get(), &from, out.get(), nullptr, 2l, 0), 0);
}

TEST(copy_file_range, Errors) {
  Scratch dir;
  Fd in = dir.Open("in", "0123456789");
  Fd out = dir.Open("out");
  EXPECT_ERRNO(EINVAL, syscall(SYS_copy_file_range, in.get(), nullptr, out.get(), nullptr, 1l, 1));
  EXPECT_ERRNO(EBADF, syscall(SYS_copy_file_range, kBadFd, nullptr, out.get(), nullptr, 1l, 0));
  Fd append(open((dir / "out").c_str(), O_WRONLY | O_APPEND));
  EXPECT_ERRNO(EBADF,
               syscall(SYS_copy_file_range, in.get(), nullptr, append.get(), nullptr, 1l, 0));
  EXPECT_ERRNO(EISDIR,
               syscall(SYS_copy_file_range, dir.Dir().get(), nullptr, out.get(), nullptr, 1l, 0));
  Pipe p;
  EXPECT_ERRNO(EINVAL, syscall(SYS_copy_file_range, p.r.get(), nullptr, out.get(), nullptr, 1l, 0));
  loff_t a = 0, b = 4;
  EXPECT_ERRNO(EINVAL, syscall(SYS_copy_file_range, in.get(), &a, in.get(), &b, 8l, 0))
      << "overlap within one file";
}

TEST(splice, FileToPipeToFile) {
  Scratch dir;
  Fd in = dir.Open("in", "0123456789");
  Fd out = dir.Open("out");
  Pipe p;
  loff_t offset = 3;
  EXPECT_EQ(syscall(SYS_splice, in.get(), &offset, p.w.get(), nullptr, 5l, 0), 5);
  EXPECT_EQ(offset, 8);
  EXPECT_EQ(syscall(SYS_splice, p.r.get(), nullptr, out.get(), nullptr, 100l, 0), 5);
  EXPECT_EQ(ReadFile(dir / "out"), "34567");
  EXPECT_EQ(syscall(SYS_splice, in.get(), &offset, p.w.get(), nullptr, 5l, 0), 2);
}

TEST(splice, PipeToPipeAndNonblocking) {
  Pipe a, b;
  EXPECT_EQ(write(a.w, "hello", 5), 5);
  EXPECT_EQ(syscall(SYS_splice, a.r.get(), nullptr, b.w.get(), nullptr, 3l, 0), 3);
  char text[8] = {};
  EXPECT_EQ(read(b.r, text, 8), 3);
  EXPECT_STREQ(text, "hel");
  EXPECT_EQ(read(a.r, text, 8), 2);
  EXPECT_ERRNO(EAGAIN,
               syscall(SYS_splice, a.r.get(), nullptr, b.w.get(), nullptr, 3l, SPLICE_F_NONBLOCK));
  a.w.reset();
  EXPECT_EQ(syscall(SYS_splice, a.r.get(), nullptr, b.w.get(), nullptr, 3l, 0), 0);
}

TEST(splice, Errors) {
  Scratch dir;
  Fd f = dir.Open("f", "abc");
  Fd g = dir.Open("g");
  Pipe p;
  loff_t offset = 0;
  EXPECT_ERRNO(EINVAL, syscall(SYS_splice, f.get(), nullptr, g.get(), nullptr, 1l, 0))
      << "one side must be a pipe";
  EXPECT_ERRNO(ESPIPE, syscall(SYS_splice, f.get(), nullptr, p.w.get(), &offset, 1l, 0));
  EXPECT_ERRNO(EBADF, syscall(SYS_splice, kBadFd, nullptr, p.w.get(), nullptr, 1l, 0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_splice, f.get(), nullptr, p.w.get(), nullptr, 1l, 0x100));
  EXPECT_ERRNO(EBADF, syscall(SYS_splice, p.w.get(), nullptr, f.get(), nullptr, 1l, 0));
}

TEST(tee, DuplicatesWithoutConsuming) {
  Pipe a, b;
  EXPECT_EQ(write(a.w, "hello", 5), 5);
  EXPECT_EQ(syscall(SYS_tee, a.r.get(), b.w.get(), 100l, 0), 5);
  char text[8] = {};
  EXPECT_EQ(read(b.r, text, 8), 5);
  EXPECT_EQ(read(a.r, text, 8), 5);
  EXPECT_STREQ(text, "hello");
  EXPECT_ERRNO(EINVAL, syscall(SYS_tee, a.r.get(), a.w.get(), 1l, 0));
  Fd null(open("/dev/null", O_RDWR));
  EXPECT_ERRNO(EINVAL, syscall(SYS_tee, a.r.get(), null.get(), 1l, 0));
  EXPECT_ERRNO(EAGAIN, syscall(SYS_tee, a.r.get(), b.w.get(), 1l, SPLICE_F_NONBLOCK));
}

TEST(vmsplice, MemoryIntoAndOutOfAPipe) {
  Pipe p;
  char data[] = "from memory";
  iovec iov = {data, 11};
  EXPECT_EQ(syscall(SYS_vmsplice, p.w.get(), &iov, 1l, 0), 11);
  char text[32] = {};
  iovec to = {text, 32};
  EXPECT_EQ(syscall(SYS_vmsplice, p.r.get(), &to, 1l, 0), 11);
  EXPECT_STREQ(text, "from memory");
  Fd null(open("/dev/null", O_RDWR));
  EXPECT_ERRNO(EBADF, syscall(SYS_vmsplice, null.get(), &iov, 1l, 0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_vmsplice, p.w.get(), &iov, 2000l, 0));
}

}  // namespace
}  // namespace uk::test
