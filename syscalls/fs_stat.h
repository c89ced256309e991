// stat(2), statx(2), access(2), statfs(2), readlink(2), chmod(2), chown(2), utime families,
// truncate(2), xattr(7).
#pragma once

#include <sys/stat.h>
#include <sys/vfs.h>

#include "syscalls/decode.h"

namespace uk {

using UserStat = struct ::stat;
using UserStatx = struct ::statx;
using UserStatfs = struct ::statfs;
static_assert(sizeof(UserStat) == 144 && sizeof(UserStatx) == 256 && sizeof(UserStatfs) == 120);

Result<int64_t> sys_stat(Task& task, UserStr path, UserOut<UserStat> out);
Result<int64_t> sys_lstat(Task& task, UserStr path, UserOut<UserStat> out);
Result<int64_t> sys_fstat(Task& task, Fd fd, UserOut<UserStat> out);
Result<int64_t> sys_newfstatat(Task& task, Fd dirfd, UserStr path, UserOut<UserStat> out,
                               int flags);
Result<int64_t> sys_statx(Task& task, Fd dirfd, UserStr path, int flags, uint32_t mask,
                          UserOut<UserStatx> out);
Result<int64_t> sys_access(Task& task, UserStr path, int mode);
Result<int64_t> sys_faccessat(Task& task, Fd dirfd, UserStr path, int mode);
Result<int64_t> sys_faccessat2(Task& task, Fd dirfd, UserStr path, int mode, int flags);
Result<int64_t> sys_statfs(Task& task, UserStr path, UserOut<UserStatfs> out);
Result<int64_t> sys_fstatfs(Task& task, Fd fd, UserOut<UserStatfs> out);
Result<int64_t> sys_readlink(Task& task, UserStr path, UserOut<char> buf, int size);
Result<int64_t> sys_readlinkat(Task& task, Fd dirfd, UserStr path, UserOut<char> buf, int size);
Result<int64_t> sys_chmod(Task& task, UserStr path, Mode mode);
Result<int64_t> sys_fchmod(Task& task, Fd fd, Mode mode);
Result<int64_t> sys_fchmodat(Task& task, Fd dirfd, UserStr path, Mode mode);
Result<int64_t> sys_fchmodat2(Task& task, Fd dirfd, UserStr path, Mode mode, int flags);
Result<int64_t> sys_chown(Task& task, UserStr path, uint32_t uid, uint32_t gid);
Result<int64_t> sys_lchown(Task& task, UserStr path, uint32_t uid, uint32_t gid);
Result<int64_t> sys_fchown(Task& task, Fd fd, uint32_t uid, uint32_t gid);
Result<int64_t> sys_fchownat(Task& task, Fd dirfd, UserStr path, uint32_t uid, uint32_t gid,
                             int flags);
Result<int64_t> sys_utimensat(Task& task, Fd dirfd, UserStr path, UserAddr times, int flags);
Result<int64_t> sys_futimesat(Task& task, Fd dirfd, UserStr path, UserAddr times);
Result<int64_t> sys_utimes(Task& task, UserStr path, UserAddr times);
Result<int64_t> sys_utime(Task& task, UserStr path, UserAddr times);
Result<int64_t> sys_truncate(Task& task, UserStr path, int64_t size);
Result<int64_t> sys_ftruncate(Task& task, Fd fd, int64_t size);

Result<int64_t> sys_ustat(Task& task, uint32_t dev, UserAddr out);
Result<int64_t> sys_sysfs(Task& task, int option, uint64_t arg1, UserAddr arg2);

}  // namespace uk
