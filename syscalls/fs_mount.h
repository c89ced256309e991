// mount(2), umount2(2), pivot_root(2), and inotify(7)'s calls.
#pragma once

#include "syscalls/decode.h"

namespace uk {

// The right to change the task's mount namespace.
bool may_mount(const Task& task);

Result<int64_t> sys_mount(Task& task, UserStr source, UserStr target, UserStr type, Hex flags,
                          UserAddr data);
Result<int64_t> sys_umount2(Task& task, UserStr target, int flags);
Result<int64_t> sys_pivot_root(Task& task, UserStr new_root, UserStr put_old);

Result<int64_t> sys_inotify_init(Task& task);
Result<int64_t> sys_inotify_init1(Task& task, OpenFlags flags);
Result<int64_t> sys_inotify_add_watch(Task& task, Fd fd, UserStr path, Hex mask);
Result<int64_t> sys_inotify_rm_watch(Task& task, Fd fd, int wd);

}  // namespace uk
