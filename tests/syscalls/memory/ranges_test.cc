// Ranges that wrap around, that cover several mappings, and the order of what is checked of them.
#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

char* Map(size_t pages, int prot = PROT_READ | PROT_WRITE) {
  return static_cast<char*>(mmap(nullptr, pages * kPage, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

TEST(mremap, SeveralMappingsMoveTogether) {
  char* from = Map(4);
  char* to = Map(4);
  from[0] = 'a';
  from[2 * kPage] = 'c';
  ASSERT_OK(mprotect(from + kPage, kPage, PROT_READ));
  ASSERT_OK(munmap(to, 4 * kPage));
  if (mremap(from, 4 * kPage, 4 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED) {
    GTEST_SKIP() << "the host's Linux is older than 6.17";
  }
  EXPECT_EQ(to[0], 'a');
  EXPECT_EQ(to[2 * kPage], 'c');
  unsigned char seen;
  EXPECT_ERRNO(ENOMEM, mincore(from, kPage, &seen));
  munmap(to, 4 * kPage);
}

TEST(mremap, NothingIsTakenAwayBeforeTheRangeIsKnownToBeOne) {
  char* m = Map(4);
  char* to = Map(2);
  ASSERT_OK(mprotect(m + kPage, kPage, PROT_READ));
  EXPECT_ERRNO(EFAULT, mremap(m, 4 * kPage, 2 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, to));
  unsigned char seen[4];
  EXPECT_OK(mincore(m, 4 * kPage, seen));
  munmap(m, 4 * kPage);
  munmap(to, 2 * kPage);
}

TEST(mremap, OldLengthsBeyondAllMemory) {
  char* m = Map(1);
  EXPECT_ERRNO(EFAULT, mremap(m + 16 * kPage, static_cast<size_t>(-4096), kPage, MREMAP_MAYMOVE));
  munmap(m, kPage);
}

TEST(msync, LengthsThatWrapAreNothing) {
  COVERS(mlock);
  char* m = Map(1);
  EXPECT_OK(msync(m, static_cast<size_t>(-1), MS_SYNC));
  EXPECT_OK(syscall(SYS_munlock, m, static_cast<size_t>(-1)));
  EXPECT_ERRNO(ENOMEM, msync(m, static_cast<size_t>(-4096), MS_SYNC));
  munmap(m, kPage);
}

TEST(mmap, PlaceBeforeWhatTheFileAllows) {
  int fds[2];
  ASSERT_OK(pipe(fds));
  void* odd = reinterpret_cast<void*>(0x10001);
  EXPECT_ERRNO(EINVAL, mmap(odd, kPage, PROT_READ, MAP_PRIVATE | MAP_FIXED, fds[0], 0));
  close(fds[0]);
  close(fds[1]);
}

TEST(mmap, AnonymousMemoryIsNotValidated) {
  EXPECT_ERRNO(EINVAL, mmap(nullptr, kPage, PROT_READ, MAP_SHARED_VALIDATE | MAP_ANONYMOUS, -1, 0));
}

}  // namespace
}  // namespace uk::test
