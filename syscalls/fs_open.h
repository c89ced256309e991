// open(2) and close(2), dup(2), fcntl(2), flock(2), ioctl(2): making and managing descriptors.
#pragma once

#include "syscalls/decode.h"

namespace uk {

struct UserOpenHow {
  uint64_t flags, mode, resolve;
};

Result<int64_t> sys_open(Task& task, UserStr path, OpenFlags flags, Mode mode);
Result<int64_t> sys_creat(Task& task, UserStr path, Mode mode);
Result<int64_t> sys_openat(Task& task, Fd dirfd, UserStr path, OpenFlags flags, Mode mode);
Result<int64_t> sys_openat2(Task& task, Fd dirfd, UserStr path, UserIn<UserOpenHow> how,
                            size_t size);
// openat2(2) with its argument at hand.
Result<int64_t> open_how(Task& task, Fd dirfd, UserStr path, const UserOpenHow& how);
Result<int64_t> sys_close(Task& task, Fd fd);
Result<int64_t> sys_close_range(Task& task, uint32_t first, uint32_t last, uint32_t flags);
Result<int64_t> sys_dup(Task& task, Fd fd);
Result<int64_t> sys_dup2(Task& task, Fd from, Fd to);
Result<int64_t> sys_dup3(Task& task, Fd from, Fd to, OpenFlags flags);
Result<int64_t> sys_fcntl(Task& task, Fd fd, int cmd, uint64_t arg);
Result<int64_t> sys_flock(Task& task, Fd fd, int operation);
Result<int64_t> sys_ioctl(Task& task, Fd fd, uint32_t cmd, UserAddr arg);
Result<int64_t> sys_memfd_create(Task& task, UserStr name, uint32_t flags);

}  // namespace uk
