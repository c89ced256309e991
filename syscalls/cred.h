// credentials(7) and capabilities(7): the set*id family, groups, capget(2) and capset(2).
#pragma once

#include "syscalls/decode.h"

namespace uk {

struct UserCapHeader {
  uint32_t version;
  int32_t pid;
};
struct UserCapData {
  uint32_t effective, permitted, inheritable;
};

Result<int64_t> sys_getuid(Task& task);
Result<int64_t> sys_geteuid(Task& task);
Result<int64_t> sys_getgid(Task& task);
Result<int64_t> sys_getegid(Task& task);
Result<int64_t> sys_setuid(Task& task, uint32_t uid);
Result<int64_t> sys_setgid(Task& task, uint32_t gid);
Result<int64_t> sys_setreuid(Task& task, uint32_t ruid, uint32_t euid);
Result<int64_t> sys_setregid(Task& task, uint32_t rgid, uint32_t egid);
Result<int64_t> sys_setresuid(Task& task, uint32_t ruid, uint32_t euid, uint32_t suid);
Result<int64_t> sys_setresgid(Task& task, uint32_t rgid, uint32_t egid, uint32_t sgid);
Result<int64_t> sys_getresuid(Task& task, UserOut<uint32_t> ruid, UserOut<uint32_t> euid,
                              UserOut<uint32_t> suid);
Result<int64_t> sys_getresgid(Task& task, UserOut<uint32_t> rgid, UserOut<uint32_t> egid,
                              UserOut<uint32_t> sgid);
Result<int64_t> sys_setfsuid(Task& task, uint32_t uid);
Result<int64_t> sys_setfsgid(Task& task, uint32_t gid);
Result<int64_t> sys_getgroups(Task& task, int count, UserOut<uint32_t> list);
Result<int64_t> sys_setgroups(Task& task, int count, UserIn<uint32_t> list);
Result<int64_t> sys_capget(Task& task, UserInOut<UserCapHeader> header, UserOut<UserCapData> data);
Result<int64_t> sys_capset(Task& task, UserInOut<UserCapHeader> header, UserIn<UserCapData> data);

}  // namespace uk
