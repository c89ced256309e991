// setns(2), reboot(2), and what the namespace calls share.
#pragma once

#include "syscalls/decode.h"

namespace uk {

Result<int64_t> sys_setns(Task& task, Fd fd, int kinds);
Result<int64_t> sys_reboot(Task& task, int magic1, int magic2, Hex command, UserAddr argument);

// What semop(2) did under SEM_UNDO is undone as the task leaves its list (process.cc).
void leave_sem_undo(Task& task);

}  // namespace uk
