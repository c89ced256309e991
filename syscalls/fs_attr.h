// Flags of files as chattr(1) sets them: file_getattr(2), file_setattr(2), and the ioctls
// FS_IOC_GETFLAGS, FS_IOC_SETFLAGS (ioctl_iflags(2)), FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR.
// Only regular files and directories have them, and of the flags those of tmpfs: immutable, append,
// nodump, noatime.
#pragma once

#include "syscalls/decode.h"
#include "ukernel/vfs/file.h"

namespace uk {

// struct file_attr of <linux/fs.h>, version 0.
struct UserFileAttr {
  uint64_t xflags;
  uint32_t extsize, nextents, projid, cowextsize;
};
static_assert(sizeof(UserFileAttr) == 24);

// One of the four ioctls; kNOTTY where a file has no such flags.
Result<int64_t> file_attr_ioctl(Task& task, File& file, uint32_t cmd, UserAddr arg);

Result<int64_t> sys_file_getattr(Task& task, Fd dirfd, UserStr path, UserOut<UserFileAttr> attr,
                                 size_t size, Hex at_flags);
Result<int64_t> sys_file_setattr(Task& task, Fd dirfd, UserStr path, UserIn<UserFileAttr> attr,
                                 size_t size, Hex at_flags);

}  // namespace uk
