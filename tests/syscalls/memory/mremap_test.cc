// mremap: growing, shrinking, moving, and what cannot be remapped.
#include "tests/syscalls/memory/fault.h"
#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

char* Remap(void* old, size_t old_size, size_t new_size, int flags, void* to = nullptr) {
  return reinterpret_cast<char*>(syscall(SYS_mremap, old, old_size, new_size, flags, to));
}

char* Anon(size_t pages) {
  return static_cast<char*>(
      mmap(nullptr, pages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

TEST(mremap, ShrinksInPlace) {
  char* p = Anon(4);
  memset(p, 'a', 4 * kPage);
  EXPECT_EQ(Remap(p, 4 * kPage, 2 * kPage, 0), p);
  EXPECT_EQ(p[2 * kPage - 1], 'a');
  EXPECT_EQ(TryRead(p + 2 * kPage).signal, SIGSEGV);
  munmap(p, 2 * kPage);
}

TEST(mremap, GrowsInPlaceOrMoves) {
  Mapping window(8 * kPage, PROT_NONE);
  char* p = static_cast<char*>(mmap(window.at(), kPage, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
  ASSERT_EQ(p, window.at());
  p[0] = 'k';
  EXPECT_ERRNO(ENOMEM, Remap(p, kPage, 2 * kPage, 0)) << "the neighbour is in the way";
  char* q = Remap(p, kPage, 3 * kPage, MREMAP_MAYMOVE);
  ASSERT_NE(q, MAP_FAILED);
  EXPECT_NE(q, p);
  EXPECT_EQ(q[0], 'k');
  EXPECT_EQ(q[2 * kPage], 0);
  EXPECT_EQ(TryRead(p).signal, SIGSEGV) << "the old place is unmapped";
  munmap(q, 3 * kPage);
  char* r = Anon(8);
  ASSERT_OK(munmap(r + kPage, 7 * kPage));
  EXPECT_EQ(Remap(r, kPage, 8 * kPage, 0), r) << "there is room";
  r[8 * kPage - 1] = 1;
  munmap(r, 8 * kPage);
}

TEST(mremap, FixedMovesAndReplaces) {
  char* p = Anon(2);
  strcpy(p, "moved");
  Mapping target(4 * kPage);
  memset(target.at(), 'x', 4 * kPage);
  EXPECT_EQ(Remap(p, 2 * kPage, 2 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, target.at(kPage)),
            target.at(kPage));
  EXPECT_STREQ(target.at(kPage), "moved");
  EXPECT_EQ(target.at(0)[0], 'x');
  EXPECT_EQ(target.at(3 * kPage)[0], 'x');
  EXPECT_EQ(TryRead(p).signal, SIGSEGV);
}

TEST(mremap, DontunmapLeavesAnEmptyMapping) {
  char* p = Anon(2);
  strcpy(p, "data");
  char* q = Remap(p, 2 * kPage, 2 * kPage, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
  ASSERT_NE(q, MAP_FAILED);
  EXPECT_STREQ(q, "data");
  EXPECT_EQ(p[0], 0) << "still mapped, now empty";
  munmap(p, 2 * kPage);
  munmap(q, 2 * kPage);
}

TEST(mremap, SharedMappingKeepsItsObject) {
  Scratch dir;
  Fd fd = dir.Open("f", std::string(4 * kPage, 'f'));
  auto* p = static_cast<char*>(mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  char* q = Remap(p, kPage, 4 * kPage, MREMAP_MAYMOVE);
  ASSERT_NE(q, MAP_FAILED);
  q[3 * kPage] = 'Z';
  EXPECT_EQ(ReadFile(dir / "f")[3 * kPage], 'Z');
  munmap(q, 4 * kPage);
}

TEST(mremap, OldSizeZeroDuplicatesASharedMapping) {
  Mapping m(2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  char* q = Remap(m.at(), 0, 2 * kPage, MREMAP_MAYMOVE);
  ASSERT_NE(q, MAP_FAILED);
  m.at()[5] = 'd';
  EXPECT_EQ(q[5], 'd');
  munmap(q, 2 * kPage);
  Mapping priv(kPage);
  EXPECT_ERRNO(EINVAL, Remap(priv.at(), 0, kPage, MREMAP_MAYMOVE));
}

TEST(mremap, Errors) {
  char* p = Anon(4);
  EXPECT_ERRNO(EINVAL, Remap(p + 1, kPage, kPage, 0));
  EXPECT_ERRNO(EINVAL, Remap(p, kPage, 0, 0));
  EXPECT_ERRNO(EINVAL, Remap(p, kPage, kPage, 0x80));
  EXPECT_ERRNO(EINVAL, Remap(p, kPage, kPage, MREMAP_FIXED, p + 2 * kPage)) << "without MAYMOVE";
  EXPECT_ERRNO(EINVAL, Remap(p, 2 * kPage, 2 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, p + kPage))
      << "overlap";
  EXPECT_ERRNO(EINVAL, Remap(p, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, p + 2 * kPage + 1));
  ASSERT_OK(munmap(p + kPage, kPage));
  EXPECT_ERRNO(EFAULT, Remap(p + kPage, kPage, 2 * kPage, MREMAP_MAYMOVE));
  munmap(p, 4 * kPage);
}

}  // namespace
}  // namespace uk::test
