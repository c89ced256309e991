// A pipe holds pages, however little is in each: what fits behind the last, and what needs a page
// of its own.
#include <poll.h>
#include <sys/uio.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

constexpr int kPages = 16;  // of a pipe

// Unprivileged users with many pipes get smaller ones.
bool Usual(const Pipe& p) { return fcntl(p.w, F_GETPIPE_SZ) == kPages * static_cast<int>(kPage); }

struct NonBlocking {
  NonBlocking() {
    fcntl(p.r, F_SETFL, O_NONBLOCK);
    fcntl(p.w, F_SETFL, O_NONBLOCK);
  }
  Pipe p;
};

TEST(write, OddEndsOfAPipeFillItsPages) {
  NonBlocking n;
  if (!Usual(n.p)) GTEST_SKIP() << "pipes are smaller here";
  const std::string piece(4097,
                          'x');  // a page and a byte: two pages, the second with room for 4095
  int written = 0;
  while (write(n.p.w, piece.data(), piece.size()) == static_cast<ssize_t>(piece.size())) ++written;
  EXPECT_EQ(written, 10)
      << "two pages, then one with the odd byte behind the last's, and so on; half of the last";
  EXPECT_EQ(write(n.p.w, piece.data(), 4096), -1);
  EXPECT_EQ(errno, EAGAIN);
}

TEST(splice, EachPieceTakesAPage) {
  COVERS(tee);
  Scratch dir;
  Fd f = dir.Open("f", std::string(10000, 'f'));
  NonBlocking n;
  if (!Usual(n.p)) GTEST_SKIP() << "pipes are smaller here";
  for (int i = 0; i < kPages; ++i) {
    loff_t at = i;
    EXPECT_EQ(splice(f, &at, n.p.w, nullptr, 7, SPLICE_F_NONBLOCK), 7) << i;
  }
  loff_t at = 0;
  EXPECT_ERRNO(EAGAIN, splice(f, &at, n.p.w, nullptr, 7, SPLICE_F_NONBLOCK));
  struct pollfd wanted {
    n.p.w.get(), POLLOUT, 0
  };
  EXPECT_EQ(poll(&wanted, 1, 0), 0);
  char all[7];
  EXPECT_EQ(read(n.p.r, all, 7), 7);
  EXPECT_EQ(poll(&wanted, 1, 0), 1);
  EXPECT_EQ(write(n.p.w, "x", 1), 1);
  NonBlocking to;
  if (Usual(to.p)) {
    EXPECT_EQ(tee(n.p.r, to.p.w, 20, SPLICE_F_NONBLOCK), 20);
  }
}

TEST(vmsplice, PagesAsTheyLie) {
  NonBlocking n;
  if (!Usual(n.p)) GTEST_SKIP() << "pipes are smaller here";
  alignas(4096) static char data[(kPages + 2) * 4096];
  struct iovec v {
    data + 100, kPages * 4096
  };
  EXPECT_EQ(vmsplice(n.p.w, &v, 1, SPLICE_F_NONBLOCK), kPages * 4096 - 100)
      << "the first page is not whole";
}

TEST(vmsplice, WaitsUnlessItsOwnFlagSaysOtherwise) {
  COVERS(eventfd2);
  Fd e(static_cast<int>(syscall(SYS_eventfd2, 1, 0)));
  char sixteen[16] = {};
  EXPECT_ERRNO(EINVAL, write(e, sixteen, sizeof sixteen)) << "a count is of eight bytes";
  Pipe p;
  struct iovec none {
    nullptr, 0
  };
  EXPECT_EQ(writev(p.w, &none, 1), 0);
}

TEST(poll, AnEventCounterHasNoNormalData) {
  Pipe p;
  int e = static_cast<int>(syscall(SYS_eventfd2, 1, 0));
  struct pollfd wanted {
    e, POLLIN | POLLRDNORM, 0
  };
  EXPECT_EQ(poll(&wanted, 1, 0), 1);
  EXPECT_EQ(wanted.revents, POLLIN);
  close(e);
}

}  // namespace
}  // namespace uk::test
