// fanotify(7): fanotify_init(2), fanotify_mark(2). The marks and events are in vfs/fanotify.h.
#pragma once

#include "syscalls/decode.h"

namespace uk {

Result<int64_t> sys_fanotify_init(Task& task, Hex flags, Hex event_flags);
Result<int64_t> sys_fanotify_mark(Task& task, Fd fd, Hex flags, Hex mask, Fd dirfd, UserStr path);

}  // namespace uk
