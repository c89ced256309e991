// The new mount calls: open_tree(2), move_mount(2), mount_setattr(2); a configuration of a
// filesystem by fsopen(2), fspick(2), fsconfig(2), fsmount(2); statmount(2) and listmount(2).
#pragma once

#include "syscalls/decode.h"

namespace uk {

// fs_mount_new.cc
Result<int64_t> sys_open_tree(Task& task, Fd dirfd, UserStr path, Hex flags);
Result<int64_t> sys_move_mount(Task& task, Fd from_dirfd, UserStr from, Fd to_dirfd, UserStr to,
                               Hex flags);
Result<int64_t> sys_mount_setattr(Task& task, Fd dirfd, UserStr path, Hex flags, UserAddr attr,
                                  size_t size);
// A descriptor (O_PATH) for a tree without a place; the tree ends with it unless it is moved.
Result<int64_t> install_tree(Task& task, Ref<MountNamespace> tree, bool cloexec);

// fs_context.cc
Result<int64_t> sys_fsopen(Task& task, UserStr type, Hex flags);
Result<int64_t> sys_fspick(Task& task, Fd dirfd, UserStr path, Hex flags);
Result<int64_t> sys_fsconfig(Task& task, Fd fd, unsigned command, UserStr key, UserAddr value,
                             int aux);
Result<int64_t> sys_fsmount(Task& task, Fd fd, Hex flags, Hex attributes);

// fs_statmount.cc
Result<int64_t> sys_statmount(Task& task, UserAddr request, UserAddr out, size_t size, Hex flags);
Result<int64_t> sys_listmount(Task& task, UserAddr request, UserAddr ids, size_t count, Hex flags);

}  // namespace uk
