// Memory policies and where pages are. Written for machines with node 0, whatever else they have.
#include <linux/mempolicy.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

constexpr unsigned long kNode0 = 1, kBits = 1024;

struct Mask {
  unsigned long words[kBits / 64] = {};
};

long Set(int mode, const Mask* mask, unsigned long max = kBits + 1) {
  return syscall(SYS_set_mempolicy, mode, mask, max);
}
long Get(int* mode, Mask* mask, void* addr = nullptr, unsigned long flags = 0) {
  return syscall(SYS_get_mempolicy, mode, mask, kBits + 1, addr, flags);
}

TEST(set_mempolicy, IsKeptAndInherited) {
  COVERS(get_mempolicy);
  IN_CHILD([] {
    Mask node0, got;
    node0.words[0] = kNode0;
    int mode = -1;
    CHILD_CHECK(Get(&mode, &got) == 0 && mode == MPOL_DEFAULT && got.words[0] == 0);
    for (int m : {MPOL_BIND, MPOL_INTERLEAVE, MPOL_PREFERRED}) {
      CHILD_CHECK(Set(m, &node0) == 0);
      got.words[1] = 99;
      CHILD_CHECK(Get(&mode, &got) == 0 && mode == m && got.words[0] == kNode0);
      CHILD_CHECK(got.words[1] == 0);  // what lies behind the nodes is cleared
    }
    CHILD_CHECK(RunChild([&] { CHILD_CHECK(Get(&mode, &got) == 0 && mode == MPOL_PREFERRED); }) ==
                0);
    CHILD_CHECK(Set(MPOL_BIND | MPOL_F_STATIC_NODES, &node0) == 0);
    CHILD_CHECK(Get(&mode, nullptr) == 0 && mode == (MPOL_BIND | MPOL_F_STATIC_NODES));
    CHILD_CHECK(Set(MPOL_PREFERRED, nullptr, 0) == 0);  // the local node
    CHILD_CHECK(Get(&mode, &got) == 0 && mode == MPOL_LOCAL && got.words[0] == 0);
    CHILD_CHECK(Set(MPOL_LOCAL, nullptr, 0) == 0);
    CHILD_CHECK(Set(MPOL_DEFAULT, nullptr, 0) == 0);
    CHILD_CHECK(Get(&mode, nullptr) == 0 && mode == MPOL_DEFAULT);
    CHILD_CHECK(Get(nullptr, &got, nullptr, MPOL_F_MEMS_ALLOWED) == 0);
    CHILD_CHECK((got.words[0] & kNode0) != 0);
  });
}

TEST(set_mempolicy, Errors) {
  COVERS(get_mempolicy);
  Mask node0, none, far, got;
  node0.words[0] = kNode0;
  far.words[kBits / 64 - 1] = 1ul << 63;
  EXPECT_ERRNO(EINVAL, Set(100, &node0));
  EXPECT_ERRNO(EINVAL, Set(MPOL_DEFAULT, &node0));
  EXPECT_ERRNO(EINVAL, Set(MPOL_LOCAL, &node0));
  EXPECT_ERRNO(EINVAL, Set(MPOL_BIND, &none));
  EXPECT_ERRNO(EINVAL, Set(MPOL_INTERLEAVE, nullptr, 0));
  EXPECT_ERRNO(EINVAL, Set(MPOL_BIND, &far)) << "no such node";
  EXPECT_ERRNO(EINVAL, Set(MPOL_BIND | MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES, &node0));
  EXPECT_ERRNO(EINVAL, Set(MPOL_BIND, &node0, 1ul << 40));
  EXPECT_ERRNO(EFAULT, Set(MPOL_BIND, reinterpret_cast<Mask*>(8)));
  int mode;
  EXPECT_ERRNO(EINVAL, Get(&mode, &got, nullptr, 0x100));
  EXPECT_ERRNO(EINVAL, Get(&mode, &got, nullptr, MPOL_F_MEMS_ALLOWED | MPOL_F_ADDR));
  EXPECT_ERRNO(EINVAL, Get(&mode, &got, &mode, 0)) << "an address without the flag";
  EXPECT_ERRNO(EFAULT, Get(&mode, &got, nullptr, MPOL_F_ADDR));
  EXPECT_ERRNO(EINVAL, Get(&mode, &got, nullptr, MPOL_F_NODE)) << "nothing is interleaved";
  EXPECT_ERRNO(EINVAL, syscall(SYS_get_mempolicy, &mode, &got, 0, nullptr, 0));
  EXPECT_ERRNO(EFAULT, Get(reinterpret_cast<int*>(8), nullptr));
}

TEST(mbind, PolicyOfARange) {
  COVERS(get_mempolicy, set_mempolicy_home_node);
  auto* p = static_cast<char*>(
      mmap(nullptr, 4 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  Mask node0, got;
  node0.words[0] = kNode0;
  int mode = -1;
  EXPECT_ERRNO(ENOENT, syscall(450, p, 4 * kPage, 0, 0)) << "no policy to have a home";
  ASSERT_OK(syscall(SYS_mbind, p + kPage, kPage, MPOL_BIND, &node0, kBits + 1, MPOL_MF_STRICT));
  EXPECT_OK(Get(&mode, &got, p + kPage, MPOL_F_ADDR));
  EXPECT_EQ(mode, MPOL_BIND);
  EXPECT_EQ(got.words[0], kNode0);
  EXPECT_OK(Get(&mode, &got, p, MPOL_F_ADDR));
  EXPECT_EQ(mode, MPOL_DEFAULT);
  EXPECT_OK(Get(&mode, nullptr, p + kPage, MPOL_F_ADDR | MPOL_F_NODE));
  EXPECT_EQ(mode, 0) << "the page's node";
  EXPECT_OK(syscall(450, p, 4 * kPage, 0, 0));
  EXPECT_ERRNO(EINVAL, syscall(450, p, kPage, 0, 1));
  EXPECT_ERRNO(EINVAL, syscall(450, p, kPage, 5000, 0));
  ASSERT_OK(syscall(SYS_mbind, p, kPage, MPOL_PREFERRED, &node0, kBits + 1, 0));
  EXPECT_ERRNO(EOPNOTSUPP, syscall(450, p, kPage, 0, 0));
  ASSERT_OK(syscall(SYS_mbind, p, 4 * kPage, MPOL_DEFAULT, nullptr, 0, MPOL_MF_MOVE));
  EXPECT_OK(Get(&mode, nullptr, p + kPage, MPOL_F_ADDR));
  EXPECT_EQ(mode, MPOL_DEFAULT);
  EXPECT_ERRNO(EINVAL, syscall(SYS_mbind, p + 1, kPage, MPOL_BIND, &node0, kBits + 1, 0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_mbind, p, kPage, MPOL_BIND, nullptr, 0, 0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_mbind, p, kPage, MPOL_BIND, &node0, kBits + 1, 0x100));
  EXPECT_OK(syscall(SYS_mbind, p, 0, MPOL_BIND, &node0, kBits + 1, 0));
  if (!IsRoot()) {
    EXPECT_ERRNO(EPERM,
                 syscall(SYS_mbind, p, kPage, MPOL_BIND, &node0, kBits + 1, MPOL_MF_MOVE_ALL));
  }
  munmap(p + 2 * kPage, kPage);
  EXPECT_ERRNO(EFAULT, syscall(SYS_mbind, p, 4 * kPage, MPOL_BIND, &node0, kBits + 1, 0));
  munmap(p, 4 * kPage);
}

TEST(move_pages, SaysWherePagesAre) {
  auto* p = static_cast<char*>(
      mmap(nullptr, 4 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  p[0] = 1;
  munmap(p + kPage, kPage);
  void* pages[2] = {p, p + kPage};
  int status[2] = {-1, -1}, nodes[2] = {0, 0};
  EXPECT_OK(syscall(SYS_move_pages, 0, 2, pages, nullptr, status, 0));
  EXPECT_GE(status[0], 0);
  EXPECT_EQ(status[1], -EFAULT);
  EXPECT_OK(syscall(SYS_move_pages, 0, 1, pages, nodes, status, MPOL_MF_MOVE));
  EXPECT_EQ(status[0], 0);
  nodes[0] = 5000;
  EXPECT_ERRNO(ENODEV, syscall(SYS_move_pages, 0, 1, pages, nodes, status, MPOL_MF_MOVE));
  EXPECT_ERRNO(EINVAL, syscall(SYS_move_pages, 0, 1, pages, nullptr, status, MPOL_MF_STRICT));
  EXPECT_ERRNO(EFAULT, syscall(SYS_move_pages, 0, 1, nullptr, nullptr, status, 0));
  EXPECT_ERRNO(ESRCH, syscall(SYS_move_pages, 0x3fffffff, 1, pages, nullptr, status, 0));
  EXPECT_OK(syscall(SYS_move_pages, 0, 0, nullptr, nullptr, nullptr, 0));
  munmap(p, 4 * kPage);
}

TEST(migrate_pages, NothingToDoAndErrors) {
  Mask node0, none;
  node0.words[0] = kNode0;
  EXPECT_EQ(syscall(SYS_migrate_pages, 0, kBits + 1, &node0, &node0), 0);
  EXPECT_ERRNO(EINVAL, syscall(SYS_migrate_pages, 0, kBits + 1, &node0, &none));
  EXPECT_ERRNO(EINVAL, syscall(SYS_migrate_pages, 0, -1, &node0, &node0));
  EXPECT_ERRNO(EFAULT, syscall(SYS_migrate_pages, 0, kBits + 1, -1, -1));
  EXPECT_ERRNO(ESRCH, syscall(SYS_migrate_pages, 0x3fffffff, kBits + 1, &node0, &node0));
}

}  // namespace
}  // namespace uk::test
