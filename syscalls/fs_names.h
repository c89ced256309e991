// Calls on names: mkdir(2), mknod(2), link(2), symlink(2), unlink(2), rmdir(2), rename(2),
// chdir(2), getcwd(2), chroot(2), umask(2).
#pragma once

#include "syscalls/decode.h"

namespace uk {

Result<int64_t> sys_mkdir(Task& task, UserStr path, Mode mode);
Result<int64_t> sys_mkdirat(Task& task, Fd dirfd, UserStr path, Mode mode);
Result<int64_t> sys_mknod(Task& task, UserStr path, Mode mode, uint64_t dev);
Result<int64_t> sys_mknodat(Task& task, Fd dirfd, UserStr path, Mode mode, uint64_t dev);
Result<int64_t> sys_rmdir(Task& task, UserStr path);
Result<int64_t> sys_unlink(Task& task, UserStr path);
Result<int64_t> sys_unlinkat(Task& task, Fd dirfd, UserStr path, int flags);
Result<int64_t> sys_symlink(Task& task, UserStr target, UserStr path);
Result<int64_t> sys_symlinkat(Task& task, UserStr target, Fd dirfd, UserStr path);
Result<int64_t> sys_link(Task& task, UserStr from, UserStr to);
Result<int64_t> sys_linkat(Task& task, Fd from_dir, UserStr from, Fd to_dir, UserStr to, int flags);
Result<int64_t> sys_rename(Task& task, UserStr from, UserStr to);
Result<int64_t> sys_renameat(Task& task, Fd from_dir, UserStr from, Fd to_dir, UserStr to);
Result<int64_t> sys_renameat2(Task& task, Fd from_dir, UserStr from, Fd to_dir, UserStr to,
                              uint32_t flags);
Result<int64_t> sys_chdir(Task& task, UserStr path);
Result<int64_t> sys_fchdir(Task& task, Fd fd);
Result<int64_t> sys_chroot(Task& task, UserStr path);
Result<int64_t> sys_getcwd(Task& task, UserOut<char> buf, size_t size);
Result<int64_t> sys_umask(Task& task, Mode mask);

}  // namespace uk
