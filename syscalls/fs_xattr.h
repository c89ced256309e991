// Extended attributes: setxattr(2), getxattr(2), listxattr(2), removexattr(2) and their l and f
// forms.
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

}  // namespace uk
