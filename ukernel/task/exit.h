// The end of threads and processes (exit(2), exit_group(2), wait(2)): what a task gives back, who
// inherits its children, who is told. exit_task() runs on the task's own fiber and may suspend; the
// rest does not.
#pragma once

#include "ukernel/task/task.h"

namespace uk {

// Everything a thread does at its end; the last act of its fiber.
void exit_task(Task& task);
// What user space sees when a thread leaves its address space (exit, execve): robust futexes
// and clear_child_tid.
void leave_user_space(Task& task);
// Before the task's address space goes. If nothing but the program that forked it has run there,
// with the same rights, the next one that this forks may have the stub as it is.
void leave_stub(Task& task);
// Lets the parent that waits in vfork(2) go on.
void finish_vfork(Task& task);
// execve(2): ends all other threads of the group and makes the caller its leader. kRestartNoIntr:
// the group ends, or another thread does the same.
Result<> become_only_thread(Task& task);
// Takes a zombie out of every table (wait(2), or nobody will wait). Its last references may go.
void release_group(ThreadGroup& group);
void drop_files(Park& park, Ref<FdTable> files);

}  // namespace uk
