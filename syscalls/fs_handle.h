// name_to_handle_at(2), open_by_handle_at(2).
#pragma once

#include "syscalls/decode.h"

namespace uk {

Result<int64_t> sys_name_to_handle_at(Task& task, Fd dirfd, UserStr path, UserAddr handle,
                                      UserAddr mount_id, Hex flags);
Result<int64_t> sys_open_by_handle_at(Task& task, Fd mount_fd, UserAddr handle, OpenFlags flags);

}  // namespace uk
