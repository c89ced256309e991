// mseal, process_madvise, process_mrelease and cachestat.
#include <sys/uio.h>

#include "tests/syscalls/memory/fault.h"
#include "tests/syscalls/testing.h"

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef MADV_COLD
#define MADV_COLD 20
#endif

namespace uk::test {
namespace {

constexpr long kMseal = 462, kCachestat = 451, kProcessMadvise = 440, kProcessMrelease = 448;

char* Map(size_t pages, int prot = PROT_READ | PROT_WRITE) {
  void* p = mmap(nullptr, pages * kPage, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return static_cast<char*>(p);
}

bool HaveSeals() { return syscall(kMseal, 0, 0, 0) != -1 || errno != ENOSYS; }

TEST(mseal, SealedMemoryStaysAsItIs) {
  if (!HaveSeals()) GTEST_SKIP() << "an older kernel";
  IN_CHILD([&] {  // what is sealed stays until the end of the process
    char* p = Map(8);
    p[2 * kPage] = 7;
    CHILD_CHECK(syscall(kMseal, p + 2 * kPage, 2 * kPage, 0) == 0);
    CHILD_CHECK(syscall(kMseal, p + 2 * kPage, kPage, 0) == 0);  // again does no harm
    CHILD_CHECK(munmap(p, 8 * kPage) == -1 && errno == EPERM);
    p[0] = 1;  // nothing of it was unmapped
    CHILD_CHECK(mprotect(p + 3 * kPage, kPage, PROT_READ) == -1 && errno == EPERM);
    CHILD_CHECK(mmap(p + kPage, 2 * kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                     0) == MAP_FAILED &&
                errno == EPERM);
    CHILD_CHECK(mremap(p + 2 * kPage, kPage, 2 * kPage, MREMAP_MAYMOVE) == MAP_FAILED &&
                errno == EPERM);
    CHILD_CHECK(mremap(p, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, p + 2 * kPage) ==
                    MAP_FAILED &&
                errno == EPERM);
    // It can be written, so its contents may be thrown away too.
    CHILD_CHECK(p[2 * kPage] == 7);
    CHILD_CHECK(madvise(p + 2 * kPage, kPage, MADV_DONTNEED) == 0);
    CHILD_CHECK(p[2 * kPage] == 0);
    CHILD_CHECK(munmap(p, 2 * kPage) == 0);
    // Not where it cannot be written.
    char* q = Map(2, PROT_READ);
    CHILD_CHECK(syscall(kMseal, q, kPage, 0) == 0);
    CHILD_CHECK(madvise(q, 2 * kPage, MADV_DONTNEED) == -1 && errno == EPERM);
    CHILD_CHECK(madvise(q, 2 * kPage, MADV_WILLNEED) == 0);
    // A child has the seals of its parent.
    CHILD_CHECK(RunChild([&] { CHILD_CHECK(munmap(q, kPage) == -1 && errno == EPERM); }) == 0);
  });
}

TEST(mseal, Errors) {
  if (!HaveSeals()) GTEST_SKIP() << "an older kernel";
  char* p = Map(4);
  ASSERT_OK(munmap(p + 2 * kPage, kPage));
  EXPECT_ERRNO(EINVAL, syscall(kMseal, p, kPage, 1));
  EXPECT_ERRNO(EINVAL, syscall(kMseal, p + 1, kPage, 0));
  EXPECT_ERRNO(EINVAL, syscall(kMseal, p, ~0ul - kPage + 2, 0));
  EXPECT_ERRNO(ENOMEM, syscall(kMseal, p, 4 * kPage, 0)) << "a hole";
  EXPECT_ERRNO(ENOMEM, syscall(kMseal, p + kPage, 2 * kPage, 0));
  EXPECT_ERRNO(ENOMEM, syscall(kMseal, p + 2 * kPage, kPage, 0));
  EXPECT_OK(syscall(kMseal, p, 0, 0));
  EXPECT_OK(munmap(p, 4 * kPage)) << "nothing was sealed";
}

TEST(process_madvise, OwnAndOthersMemory) {
  char* p = Map(2);
  p[0] = 5;
  Fd self(syscall(SYS_pidfd_open, getpid(), 0));
  ASSERT_NE(self.get(), -1);
  iovec ranges[2] = {{p, kPage}, {p + kPage, kPage}};
  EXPECT_EQ(syscall(kProcessMadvise, self.get(), ranges, 2, MADV_COLD, 0),
            static_cast<long>(2 * kPage));
  EXPECT_EQ(p[0], 5);
  EXPECT_ERRNO(EINVAL, syscall(kProcessMadvise, self.get(), ranges, 2, MADV_COLD, 1));
  EXPECT_ERRNO(EBADF, syscall(kProcessMadvise, -1, ranges, 2, MADV_COLD, 0));
  Fd file(open("/dev/null", O_RDONLY));
  EXPECT_ERRNO(EBADF, syscall(kProcessMadvise, file.get(), ranges, 2, MADV_COLD, 0));
  EXPECT_ERRNO(EFAULT, syscall(kProcessMadvise, self.get(), 8, 1, MADV_COLD, 0));
  iovec crooked = {p + 1, kPage};
  EXPECT_ERRNO(EINVAL, syscall(kProcessMadvise, self.get(), &crooked, 1, MADV_COLD, 0));
  int stop[2];
  ASSERT_OK(pipe(stop));
  pid_t child = Spawn([&] {
    char c;
    close(stop[1]);
    (void)!read(stop[0], &c, 1);
    CHILD_CHECK(p[0] == 5);
  });
  Fd other(syscall(SYS_pidfd_open, child, 0));
  EXPECT_ERRNO(EINVAL, syscall(kProcessMadvise, other.get(), ranges, 1, MADV_DONTNEED, 0))
      << "nobody throws away what is another's";
  if (IsRoot()) {
    EXPECT_EQ(syscall(kProcessMadvise, other.get(), ranges, 1, MADV_COLD, 0),
              static_cast<long>(kPage));
  } else {
    EXPECT_ERRNO(EPERM, syscall(kProcessMadvise, other.get(), ranges, 1, MADV_COLD, 0));
  }
  close(stop[0]);
  close(stop[1]);
  EXPECT_EQ(WaitFor(child), 0);
  EXPECT_ERRNO(ESRCH, syscall(kProcessMadvise, other.get(), ranges, 1, MADV_COLD, 0));
  munmap(p, 2 * kPage);
}

TEST(process_mrelease, OfTheDyingOnly) {
  pid_t child = Spawn([] { pause(); });
  Fd fd(syscall(SYS_pidfd_open, child, 0));
  ASSERT_NE(fd.get(), -1);
  EXPECT_ERRNO(EINVAL, syscall(kProcessMrelease, fd.get(), 1));
  EXPECT_ERRNO(EINVAL, syscall(kProcessMrelease, fd.get(), 0)) << "it lives";
  EXPECT_ERRNO(EBADF, syscall(kProcessMrelease, -1, 0));
  kill(child, SIGKILL);
  long r = syscall(kProcessMrelease, fd.get(), 0);
  EXPECT_TRUE(r == 0 || errno == ESRCH) << "it may have gone already";
  EXPECT_EQ(WaitFor(child), Killed(SIGKILL));
  EXPECT_ERRNO(ESRCH, syscall(kProcessMrelease, fd.get(), 0));
}

TEST(cachestat, CountsCachedPages) {
  struct {
    uint64_t off, len;
  } range = {0, 0};
  struct {
    uint64_t cached, dirty, writeback, evicted, recently_evicted;
  } got = {};
  Fd file(memfd_create("cached", 0));
  ASSERT_OK(ftruncate(file.get(), 16 * kPage));
  if (syscall(kCachestat, file.get(), &range, &got, 0) == -1 && errno == ENOSYS)
    GTEST_SKIP() << "an older kernel";
  EXPECT_EQ(got.cached, 0u) << "all holes";
  for (int i = 0; i < 4; i++)
    ASSERT_EQ(pwrite(file.get(), "x", 1, static_cast<off_t>(2 * i * kPage)), 1);
  EXPECT_OK(syscall(kCachestat, file.get(), &range, &got, 0));
  EXPECT_EQ(got.cached + got.evicted, 4u);
  range = {kPage, 3 * kPage};
  EXPECT_OK(syscall(kCachestat, file.get(), &range, &got, 0));
  EXPECT_EQ(got.cached + got.evicted, 1u);
  range = {100 * kPage, kPage};
  EXPECT_OK(syscall(kCachestat, file.get(), &range, &got, 0));
  EXPECT_EQ(got.cached, 0u);
  EXPECT_ERRNO(EINVAL, syscall(kCachestat, file.get(), &range, &got, 1));
  EXPECT_ERRNO(EBADF, syscall(kCachestat, -1, &range, &got, 0));
  EXPECT_ERRNO(EFAULT, syscall(kCachestat, file.get(), nullptr, &got, 0));
  EXPECT_ERRNO(EFAULT, syscall(kCachestat, file.get(), &range, nullptr, 0));
}

}  // namespace
}  // namespace uk::test
