// Process descriptors (pidfd_open(2)): a file that stands for a process and is readable when that
// has ended. Holds a Ref to the thread group, which outlives its being waited for.
#pragma once

#include "ukernel/task/task.h"

namespace uk {

// Makes one for `group` in the task's table; flags: O_NONBLOCK.
Result<int> install_pidfd(Task& task, Ref<ThreadGroup> group, int flags);
// The process behind a descriptor: kBADF if it is not one of these.
Result<Ref<ThreadGroup>> pidfd_group(const File& file);

}  // namespace uk
