// What guests are promised (vm.overcommit_memory).
#include <gtest/gtest.h>

#include "ukernel/mm/test_peer.h"

namespace uk {
namespace {

constexpr Prot kRW = Prot::kRead | Prot::kWrite;

using Commit = mm_test::SpaceTest;

TEST_F(Commit, PromisedMemoryIsCountedAndLimited) {
  on([&](Park& park, AddressSpace& as) {
    PhysMemory& mem = *w->mem;
    EXPECT_EQ(mem.committed(), 0u);
    const uint64_t a = CHECK_OK(map(park, as, 0, 8 * kPageSize, kRW));
    CHECK_OK(map(park, as, 0, 8 * kPageSize, Prot::kRead));
    CHECK_OK(map(park, as, 0, 8 * kPageSize, kRW, [](auto& r) { r.noreserve = true; }));
    EXPECT_EQ(mem.committed(), 8u);
    EXPECT_TRUE(as.mprotect(park, a, 2 * kPageSize, Prot::kRead));
    EXPECT_EQ(mem.committed(), 6u);
    mem.commit.mode = 2;
    const uint64_t left = (mem.commit_limit() - 6) * kPageSize;
    EXPECT_EQ(map(park, as, 0, left + kPageSize, kRW).error(), Errno::kNOMEM);
    EXPECT_EQ(map(park, as, 0, left + kPageSize, kRW, [](auto& r) { r.noreserve = true; }).error(),
              Errno::kNOMEM);
    const uint64_t all = CHECK_OK(map(park, as, 0, left, kRW));
    EXPECT_EQ(as.mprotect(park, a, kPageSize, kRW).error(), Errno::kNOMEM);
    EXPECT_EQ(as.fork(park, {}).error(), Errno::kNOMEM);
    EXPECT_TRUE(as.munmap(park, all, left));
    EXPECT_TRUE(as.mprotect(park, a, kPageSize, kRW));
    {
      Ref<AddressSpace> child = CHECK_OK(as.fork(park, {}));
      EXPECT_EQ(mem.committed(), 14u);
    }
    EXPECT_EQ(mem.committed(), 7u);
    mem.commit.mode = 1;
    CHECK_OK(map(park, as, 0, 1ull << 40, kRW));
  });
}

}  // namespace
}  // namespace uk
