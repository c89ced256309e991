// Credentials of the calling thread (credentials(7), capabilities(7)). Handlers run on the calling
// task's fiber; arguments are guest input.
#pragma once

#include "syscalls/decode.h"

namespace uk {

Result<int64_t> sys_getuid(Task& task);
Result<int64_t> sys_geteuid(Task& task);
Result<int64_t> sys_getgid(Task& task);
Result<int64_t> sys_getegid(Task& task);
Result<int64_t> sys_getresuid(Task& task, UserOut<uint32_t> r, UserOut<uint32_t> e,
                              UserOut<uint32_t> s);
Result<int64_t> sys_getresgid(Task& task, UserOut<uint32_t> r, UserOut<uint32_t> e,
                              UserOut<uint32_t> s);
Result<int64_t> sys_setuid(Task& task, uint32_t uid);
Result<int64_t> sys_setgid(Task& task, uint32_t gid);
Result<int64_t> sys_setreuid(Task& task, uint32_t r, uint32_t e);
Result<int64_t> sys_setregid(Task& task, uint32_t r, uint32_t e);
Result<int64_t> sys_setresuid(Task& task, uint32_t r, uint32_t e, uint32_t s);
Result<int64_t> sys_setresgid(Task& task, uint32_t r, uint32_t e, uint32_t s);
Result<int64_t> sys_setfsuid(Task& task, uint32_t uid);
Result<int64_t> sys_setfsgid(Task& task, uint32_t gid);
Result<int64_t> sys_getgroups(Task& task, int size, UserOut<uint32_t> list);
Result<int64_t> sys_setgroups(Task& task, int size, UserIn<uint32_t> list);

struct UserCapHeader {
  uint32_t version;
  int32_t pid;
};
struct UserCapData {
  uint32_t effective, permitted, inheritable;
};
Result<int64_t> sys_capget(Task& task, UserInOut<UserCapHeader> header, UserOut<UserCapData> data);
Result<int64_t> sys_capset(Task& task, UserInOut<UserCapHeader> header, UserIn<UserCapData> data);

}  // namespace uk
