// Extended attributes: setxattr(2), getxattr(2), listxattr(2), removexattr(2), their l and f
// forms, and the at forms (setxattrat(2) and so on) that name a file as openat(2) does.
#pragma once

#include "syscalls/decode.h"

namespace uk {

Result<int64_t> sys_setxattr(Task& task, UserStr path, UserStr name, UserIn<char> value,
                             size_t size, int flags);
Result<int64_t> sys_lsetxattr(Task& task, UserStr path, UserStr name, UserIn<char> value,
                              size_t size, int flags);
Result<int64_t> sys_fsetxattr(Task& task, Fd fd, UserStr name, UserIn<char> value, size_t size,
                              int flags);
Result<int64_t> sys_getxattr(Task& task, UserStr path, UserStr name, UserOut<char> value,
                             size_t size);
Result<int64_t> sys_lgetxattr(Task& task, UserStr path, UserStr name, UserOut<char> value,
                              size_t size);
Result<int64_t> sys_fgetxattr(Task& task, Fd fd, UserStr name, UserOut<char> value, size_t size);
Result<int64_t> sys_listxattr(Task& task, UserStr path, UserOut<char> list, size_t size);
Result<int64_t> sys_llistxattr(Task& task, UserStr path, UserOut<char> list, size_t size);
Result<int64_t> sys_flistxattr(Task& task, Fd fd, UserOut<char> list, size_t size);
Result<int64_t> sys_removexattr(Task& task, UserStr path, UserStr name);
Result<int64_t> sys_lremovexattr(Task& task, UserStr path, UserStr name);
Result<int64_t> sys_fremovexattr(Task& task, Fd fd, UserStr name);

// struct xattr_args of <linux/xattr.h>.
struct UserXattrArgs {
  uint64_t value;
  uint32_t size, flags;
};
static_assert(sizeof(UserXattrArgs) == 16);

Result<int64_t> sys_setxattrat(Task& task, Fd dirfd, UserStr path, Hex at_flags, UserStr name,
                               UserIn<UserXattrArgs> args, size_t size);
Result<int64_t> sys_getxattrat(Task& task, Fd dirfd, UserStr path, Hex at_flags, UserStr name,
                               UserIn<UserXattrArgs> args, size_t size);
Result<int64_t> sys_listxattrat(Task& task, Fd dirfd, UserStr path, Hex at_flags,
                                UserOut<char> list, size_t size);
Result<int64_t> sys_removexattrat(Task& task, Fd dirfd, UserStr path, Hex at_flags, UserStr name);

}  // namespace uk
