// userfaultfd: pages are moved to where they are missing (UFFDIO_MOVE), or made untouchable
// (UFFDIO_POISON).
#include <linux/userfaultfd.h>
#include <setjmp.h>
#include <sys/ioctl.h>

#include <atomic>
#include <thread>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

constexpr int kUserModeOnly = 1;
// Newer than some systems' headers.
struct Move {
  uint64_t dst, src, len, mode;
  int64_t move;
};
struct Poison {
  uffdio_range range;
  uint64_t mode;
  int64_t updated;
};
constexpr unsigned long kMoveIoctl = _IOWR(UFFDIO, 0x05, Move);
constexpr unsigned long kPoisonIoctl = _IOWR(UFFDIO, 0x08, Poison);
constexpr uint64_t kAllowHoles = 2;

uint64_t At(const char* p) { return reinterpret_cast<uint64_t>(p); }

char* Map(size_t pages, int flags = MAP_PRIVATE) {
  return static_cast<char*>(
      mmap(nullptr, pages * kPage, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0));
}

struct Faults {
  Fd fd{syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | kUserModeOnly)};
  Faults() {
    uffdio_api api = {.api = UFFD_API, .features = 0, .ioctls = 0};
    EXPECT_OK(ioctl(fd, UFFDIO_API, &api));
    constexpr uint64_t kPoisonAndMove = 1ull << 14 | 1ull << 16;
    EXPECT_EQ(api.features & kPoisonAndMove, kPoisonAndMove);
  }
  void Register(char* p, size_t pages) const {
    uffdio_register r = {
        .range = {At(p), pages * kPage}, .mode = UFFDIO_REGISTER_MODE_MISSING, .ioctls = 0};
    EXPECT_OK(ioctl(fd, UFFDIO_REGISTER, &r));
    EXPECT_EQ(r.ioctls & (1 << 5 | 1 << 8), 1u << 5 | 1u << 8);
  }
  int MoveTo(char* to, const char* from, size_t pages = 1, uint64_t mode = 0,
             int64_t* moved = nullptr) const {
    Move m = {At(to), At(from), pages * kPage, mode, 0};
    const int r = ioctl(fd, kMoveIoctl, &m);
    if (moved != nullptr) *moved = m.move;
    return r;
  }
  int PoisonAt(char* p, size_t pages = 1) const {
    Poison m = {{At(p), pages * kPage}, 0, 0};
    return ioctl(fd, kPoisonIoctl, &m);
  }
};

bool Resident(char* p) {
  unsigned char there = 0;
  EXPECT_OK(mincore(p, kPage, &there));
  return there & 1;
}

TEST(userfaultfd, PagesMoveToWhereTheyAreMissing) {
  COVERS(mincore);
  Faults faults;
  char *to = Map(4), *from = Map(4);
  faults.Register(to, 4);
  memset(from, 'a', 3 * kPage);
  std::atomic<bool> seen{false};
  std::thread user([&] {
    EXPECT_EQ(to[7], 'a');
    seen = true;
  });
  uffd_msg msg = {};
  while (read(faults.fd, &msg, sizeof msg) != sizeof msg) Breathe();
  EXPECT_FALSE(seen);
  int64_t moved = 0;
  EXPECT_OK(faults.MoveTo(to, from, 2, 0, &moved));
  EXPECT_EQ(moved, static_cast<int64_t>(2 * kPage));
  user.join();
  EXPECT_EQ(to[kPage], 'a');
  EXPECT_FALSE(Resident(from)) << "it went";
  EXPECT_EQ(from[0], 0) << "and a new one comes";
  EXPECT_EQ(from[2 * kPage], 'a');
  EXPECT_ERRNO(EEXIST, faults.MoveTo(to, from + 2 * kPage, 1, 0, &moved));
  EXPECT_EQ(moved, -EEXIST);
  EXPECT_OK(madvise(from + 3 * kPage, kPage, MADV_DONTNEED));
  EXPECT_ERRNO(ENOENT, faults.MoveTo(to + 2 * kPage, from + 3 * kPage));
  EXPECT_ERRNO(EAGAIN, faults.MoveTo(to + 2 * kPage, from + 2 * kPage, 2, 0, &moved));
  EXPECT_EQ(moved, static_cast<int64_t>(kPage)) << "as far as it came";
  EXPECT_OK(faults.MoveTo(to + 3 * kPage, from + 3 * kPage, 1, kAllowHoles));
  EXPECT_FALSE(Resident(to + 3 * kPage));
}

TEST(userfaultfd, WhatCannotMove) {
  Faults faults;
  char *to = Map(2), *from = Map(2), *shared = Map(1, MAP_SHARED);
  faults.Register(to, 2);
  memset(from, 'a', 2 * kPage);
  shared[0] = 's';
  EXPECT_ERRNO(EINVAL, faults.MoveTo(to + 1, from));
  EXPECT_ERRNO(EINVAL, faults.MoveTo(to, from + 1));
  EXPECT_ERRNO(EINVAL, faults.MoveTo(to, from, 1, 4));
  EXPECT_ERRNO(EINVAL, faults.MoveTo(to, from, 0));
  EXPECT_ERRNO(EINVAL, faults.MoveTo(to, shared));
  EXPECT_ERRNO(EINVAL, faults.MoveTo(from, to)) << "not registered";
  EXPECT_ERRNO(EINVAL, faults.MoveTo(to, from, 3)) << "beyond both";
  EXPECT_OK(mprotect(from, kPage, PROT_READ));
  EXPECT_ERRNO(EINVAL, faults.MoveTo(to, from));
}

volatile sig_atomic_t bus_code;
sigjmp_buf out;

TEST(userfaultfd, PoisonedPagesAreNotTouched) {
  Faults faults;
  char* p = Map(3);
  faults.Register(p, 3);
  EXPECT_ERRNO(EINVAL, faults.PoisonAt(p + 1));
  EXPECT_OK(faults.PoisonAt(p, 2));
  EXPECT_ERRNO(EEXIST, faults.PoisonAt(p));
  char* other = Map(1);
  EXPECT_ERRNO(ENOENT, faults.PoisonAt(other));
  faults.fd.reset();  // they stay
  struct sigaction sa = {}, old;
  sa.sa_flags = SA_SIGINFO;
  sa.sa_sigaction = [](int, siginfo_t* info, void*) {
    bus_code = info->si_code;
    // Linux without CONFIG_MEMORY_FAILURE says BUS_ADRERR.
    if (bus_code == BUS_ADRERR || info->si_addr_lsb == 12) siglongjmp(out, 1);
  };
  EXPECT_OK(sigaction(SIGBUS, &sa, &old));
  if (sigsetjmp(out, 1) == 0) {
    *static_cast<volatile char*>(p + 5);
    ADD_FAILURE() << "nothing happened";
  }
  EXPECT_TRUE(bus_code == BUS_MCEERR_AR || bus_code == BUS_ADRERR) << bus_code;
  EXPECT_OK(sigaction(SIGBUS, &old, nullptr));
  Pipe pipe;
  EXPECT_ERRNO(EFAULT, write(pipe.w, p, 1));
  EXPECT_EQ(RunChild([&] {
              signal(SIGBUS, SIG_DFL);
              p[0] = 1;
            }),
            Killed(SIGBUS))
      << "of copies too";
  p[2 * kPage] = 'x';
  EXPECT_OK(madvise(p, kPage, MADV_DONTNEED));
  p[0] = 'y';
  EXPECT_OK(munmap(p, 3 * kPage));
}

}  // namespace
}  // namespace uk::test
