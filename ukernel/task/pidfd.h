// Process descriptors (pidfd_open(2)): a file that stands for a process and is readable when that
// has ended. Holds a Ref to the thread group, which outlives its being waited for.
#pragma once

#include "ukernel/task/pid_ns.h"

namespace uk {

// An inode that stands for a process: the directory /proc/PID, which pidfd_send_signal(2) takes
// too.
class ProcessInode {
 public:
  virtual Ref<ThreadGroup> process() const = 0;

 protected:
  ~ProcessInode() = default;
};

// Makes one for `group` in the task's table; flags: O_NONBLOCK.
Result<int> install_pidfd(Task& task, Ref<ThreadGroup> group, int flags);
// The process behind a descriptor: kBADF if it is not one of these.
Result<Ref<ThreadGroup>> pidfd_group(const File& file);
// What /proc/PID/fdinfo tells of one, in a proc of that pid namespace.
std::string pidfd_info(const ThreadGroup& group, const PidNamespace* ns);
// As above, and from /proc/PID.
Result<Ref<ThreadGroup>> process_of(const File& file);

}  // namespace uk
