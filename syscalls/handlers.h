// The declarations of all handlers, one included header a family. See table.cc for which number is
// whose.
#pragma once

// Each family header declares `Result<int64_t> sys_NAME(Task& task, ...)` for its calls.
// IWYU pragma: begin_exports
#include "syscalls/aio.h"
#include "syscalls/cred.h"
#include "syscalls/fs_attr.h"
#include "syscalls/fs_dir.h"
#include "syscalls/fs_io.h"
#include "syscalls/fs_mount.h"
#include "syscalls/fs_names.h"
#include "syscalls/fs_open.h"
#include "syscalls/fs_splice.h"
#include "syscalls/fs_stat.h"
#include "syscalls/fs_sync.h"
#include "syscalls/fs_xattr.h"
#include "syscalls/futex.h"
#include "syscalls/ipc.h"
#include "syscalls/keys.h"
#include "syscalls/landlock.h"
#include "syscalls/limits.h"
#include "syscalls/lsm.h"
#include "syscalls/mm.h"
#include "syscalls/mqueue.h"
#include "syscalls/pipe.h"
#include "syscalls/poll.h"
#include "syscalls/prctl.h"
#include "syscalls/process.h"
#include "syscalls/ptrace.h"
#include "syscalls/sched.h"
#include "syscalls/seccomp.h"
#include "syscalls/signal.h"
#include "syscalls/socket.h"
#include "syscalls/time.h"
#include "syscalls/timerfd.h"
#include "syscalls/tty.h"
// IWYU pragma: end_exports
