// ustat and sysfs: calls of old.
#include <sys/sysmacros.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

TEST(ustat, OfAMountedDevice) {
  struct {
    int tfree;
    unsigned long tinode;
    char fname[6], fpack[6], rest[64];
  } out = {};
  memset(&out, 0xff, sizeof out);
  struct stat st;
  ASSERT_OK(stat("/proc", &st));
  EXPECT_OK(syscall(SYS_ustat, static_cast<unsigned>(st.st_dev), &out));
  EXPECT_EQ(out.fname[0], 0);
  EXPECT_EQ(out.rest[8], static_cast<char>(0xff)) << "32 bytes";
  EXPECT_ERRNO(EFAULT, syscall(SYS_ustat, static_cast<unsigned>(st.st_dev), 8));
  EXPECT_ERRNO(EINVAL, syscall(SYS_ustat, 0xfffffu, &out));
}

TEST(sysfs, TypesByNumberAndName) {
  long count = syscall(SYS_sysfs, 3);
  ASSERT_GT(count, 0);
  bool proc = false;
  for (long i = 0; i < count; i++) {
    char name[64] = {};
    ASSERT_OK(syscall(SYS_sysfs, 2, i, name));
    EXPECT_EQ(syscall(SYS_sysfs, 1, name), i) << name;
    proc = proc || strcmp(name, "proc") == 0;
  }
  EXPECT_TRUE(proc);
  char name[64];
  EXPECT_ERRNO(EINVAL, syscall(SYS_sysfs, 2, count, name));
  EXPECT_ERRNO(EFAULT, syscall(SYS_sysfs, 2, 0, 8));
  EXPECT_ERRNO(EINVAL, syscall(SYS_sysfs, 1, "no such type"));
  EXPECT_ERRNO(EFAULT, syscall(SYS_sysfs, 1, 8));
  EXPECT_ERRNO(EINVAL, syscall(SYS_sysfs, 4));
}

}  // namespace
}  // namespace uk::test
