// lsm_list_modules and its kin: hosts have more modules than guests; capabilities are everywhere.
#include <algorithm>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

// Newer than Debian 12's headers.
constexpr long kGetSelfAttr = 459, kSetSelfAttr = 460, kListModules = 461;
constexpr uint64_t kCapability = 100;  // LSM_ID_CAPABILITY
struct Context {
  uint64_t id, flags, len, ctx_len;
};

TEST(lsm_list_modules, TellsIdsAndTheirSize) {
  uint64_t ids[32] = {};
  uint32_t size = sizeof ids;
  long n = syscall(kListModules, ids, &size, 0);
  ASSERT_GT(n, 0);
  EXPECT_EQ(size, n * sizeof ids[0]);
  EXPECT_EQ(std::count(ids, ids + n, kCapability), 1);
  uint32_t small = size - 1;
  EXPECT_ERRNO(E2BIG, syscall(kListModules, ids, &small, 0));
  EXPECT_EQ(small, size) << "what is needed";
  EXPECT_ERRNO(EINVAL, syscall(kListModules, ids, &size, 1));
  EXPECT_ERRNO(EFAULT, syscall(kListModules, ids, nullptr, 0));
  EXPECT_ERRNO(EFAULT, syscall(kListModules, BadPointer(), &size, 0));
}

TEST(lsm_get_self_attr, Errors) {
  COVERS(lsm_set_self_attr);
  Context context = {};
  uint32_t size = sizeof context;
  EXPECT_ERRNO(EINVAL, syscall(kGetSelfAttr, 0, &context, &size, 0));
  EXPECT_ERRNO(EINVAL, syscall(kGetSelfAttr, 100, &context, nullptr, 0));
  EXPECT_ERRNO(EINVAL, syscall(kGetSelfAttr, 100, &context, &size, 2));
  EXPECT_ERRNO(EINVAL, syscall(kGetSelfAttr, 100, &context, &size, 1)) << "of module 0";
  constexpr int kExec = 101;
  EXPECT_ERRNO(EINVAL, syscall(kSetSelfAttr, kExec, &context, sizeof context, 1));
  EXPECT_ERRNO(EINVAL, syscall(kSetSelfAttr, kExec, &context, sizeof context - 1, 0));
  EXPECT_ERRNO(E2BIG, syscall(kSetSelfAttr, kExec, &context, kPage + 1, 0));
  EXPECT_ERRNO(EFAULT, syscall(kSetSelfAttr, kExec, BadPointer(), sizeof context, 0));
  context = {kCapability, 0, sizeof context, 1};
  EXPECT_ERRNO(EINVAL, syscall(kSetSelfAttr, kExec, &context, sizeof context, 0));
  context = {kCapability, 0, sizeof context, 0};
  EXPECT_ERRNO(EOPNOTSUPP, syscall(kSetSelfAttr, kExec, &context, sizeof context, 0));
}

}  // namespace
}  // namespace uk::test
