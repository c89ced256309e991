// In which order the memory calls look at what they are given, and what they do up to the first
// thing that is wrong. Found by the differential oracle (tests/oracle).
#include <sys/resource.h>
#include <sys/socket.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

constexpr size_t kHuge = -kPage;  // whole pages, more than there is of address space

bool Mapped(char* at) {
  unsigned char seen;
  return mincore(at, kPage, &seen) == 0;
}

TEST(mmap, ThePlaceBeforeTheKindAndTheFile) {
  Mapping m(kPage);
  const int fixed = MAP_FIXED | MAP_ANONYMOUS;
  EXPECT_ERRNO(ENOMEM, mmap(m.at(), kHuge, PROT_READ, fixed, -1, 0)) << "it is of no type";
  EXPECT_ERRNO(EINVAL, mmap(m.at(), kPage, PROT_READ, fixed, -1, 0));
  EXPECT_ERRNO(EEXIST, mmap(m.at(), kPage, PROT_READ, fixed | MAP_FIXED_NOREPLACE, -1, 0));
  EXPECT_ERRNO(EINVAL,
               mmap(m.at(1), kPage, PROT_READ, fixed | MAP_FIXED_NOREPLACE | MAP_PRIVATE, -1, 0));
  EXPECT_ERRNO(ENOMEM, mmap(m.at(1), kHuge, PROT_READ, fixed | MAP_PRIVATE, -1, 0));
  EXPECT_ERRNO(ENOMEM, mmap(nullptr, SIZE_MAX, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  Pipe p;
  const off_t last = -static_cast<off_t>(kPage);
  EXPECT_ERRNO(ENOMEM, mmap(nullptr, kHuge, PROT_READ, MAP_PRIVATE, p.w, last));
  EXPECT_ERRNO(EOVERFLOW, mmap(nullptr, 2 * kPage, PROT_READ, MAP_PRIVATE, p.w, last));
  EXPECT_ERRNO(EOVERFLOW, mmap(nullptr, 2 * kPage, PROT_READ, 0, p.w, last)) << "of no type";
  EXPECT_ERRNO(EACCES, mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, p.w, 0));
  EXPECT_ERRNO(ENODEV, mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, p.r, 0));
  EXPECT_ERRNO(EBADF, mmap(nullptr, 0, PROT_READ, MAP_PRIVATE, kBadFd, 0));
}

TEST(mmap, ASocketMakesThePlaceAndThenRefuses) {
  Mapping m(2 * kPage);
  Fd s(socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_ERRNO(ENODEV, mmap(m.at(), kPage, PROT_READ, MAP_PRIVATE | MAP_FIXED, s, 0));
  EXPECT_FALSE(Mapped(m.at()));
  EXPECT_TRUE(Mapped(m.at(kPage)));
}

TEST(mprotect, TheRangeBeforeTheRights) {
  Mapping m(kPage);
  constexpr int kUnknown = 0x10;
  EXPECT_OK(mprotect(m.at(), 0, kUnknown));
  EXPECT_ERRNO(ENOMEM, mprotect(m.at(), SIZE_MAX, kUnknown));
  EXPECT_ERRNO(EINVAL, mprotect(m.at(), kPage, kUnknown));
  EXPECT_ERRNO(EINVAL, mprotect(m.at(1), 0, PROT_READ));
}

TEST(mremap, OldLengthsThatWrapAround) {
  Mapping m(4 * kPage);
  EXPECT_ERRNO(EINVAL, mremap(m.at(2 * kPage), kHuge, kPage, 0)) << "the tail cannot be unmapped";
  constexpr int kFixed = MREMAP_MAYMOVE | MREMAP_FIXED;
  EXPECT_ERRNO(EINVAL, mremap(m.at(2 * kPage), kHuge, 3 * kPage, kFixed, m.at()))
      << "its end lies in the new place";
  EXPECT_TRUE(Mapped(m.at()));
  EXPECT_ERRNO(EFAULT, mremap(m.at(3 * kPage), kHuge, 2 * kPage, kFixed, m.at()));
  EXPECT_TRUE(Mapped(m.at()));
  EXPECT_ERRNO(EINVAL, mremap(m.at(2 * kPage), kHuge, kPage, kFixed, m.at()));
  EXPECT_FALSE(Mapped(m.at())) << "room was made before that was found";
  EXPECT_ERRNO(EFAULT, mremap(m.at(3 * kPage), kHuge, kPage, kFixed, m.at(3 * kPage)));
  EXPECT_FALSE(Mapped(m.at(3 * kPage))) << "even there";
  Mapping shared(4 * kPage, PROT_READ, MAP_SHARED | MAP_ANONYMOUS);
  EXPECT_ERRNO(ENOMEM, mremap(shared.at(), SIZE_MAX, kPage, 0)) << "none at all: a second view";
  EXPECT_ERRNO(EINVAL, mremap(m.at(2 * kPage), SIZE_MAX, kPage, 0));
  EXPECT_ERRNO(EFAULT, mremap(shared.at(), 0, kPage, kFixed, shared.at()))
      << "a view of what it ends";
  EXPECT_FALSE(Mapped(shared.at()));
}

TEST(madvise, PopulatesUpToWhatItCannot) {
  Mapping m(4 * kPage);
  ASSERT_OK(munmap(m.at(kPage), kPage));
  ASSERT_OK(mprotect(m.at(2 * kPage), kPage, PROT_NONE));
  constexpr int kPopulateRead = 22;
  EXPECT_ERRNO(ENOMEM, madvise(m.at(), 4 * kPage, kPopulateRead));
  EXPECT_ERRNO(EINVAL, madvise(m.at(2 * kPage), 2 * kPage, kPopulateRead));
  unsigned char resident = 0;
  ASSERT_OK(mincore(m.at(), kPage, &resident));
  EXPECT_EQ(resident & 1, 1);
}

TEST(mlock, WhatCannotBeBroughtInIsTold) {
  Mapping m(2 * kPage);
  ASSERT_OK(mprotect(m.at(kPage), kPage, PROT_NONE));
  EXPECT_ERRNO(ENOMEM, mlock(m.at(), 2 * kPage));
  EXPECT_OK(munlock(m.at(), 2 * kPage));
  EXPECT_ERRNO(IsRoot() ? EINVAL : ENOMEM, mlock(m.at(), kHuge)) << "the limit first";
}

TEST(madvise, HowMemoryIsReadTellsMappingsApart) {
  COVERS(mremap);
  for (int advice : {MADV_SEQUENTIAL, MADV_RANDOM}) {
    Mapping m(2 * kPage);
    ASSERT_OK(madvise(m.at(kPage), kPage, advice));
    EXPECT_ERRNO(EFAULT, mremap(m.at(), 2 * kPage, 3 * kPage, MREMAP_MAYMOVE)) << advice;
    ASSERT_OK(madvise(m.at(), kPage, advice));
    ASSERT_OK(madvise(m.at(), 2 * kPage, MADV_NORMAL));
    void* moved = mremap(m.at(), 2 * kPage, 3 * kPage, MREMAP_MAYMOVE);
    ASSERT_NE(moved, MAP_FAILED) << "one again";
    munmap(moved, 3 * kPage);
  }
}

}  // namespace
}  // namespace uk::test
