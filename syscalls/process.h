// Processes and threads: fork(2) and its kin, execve(2), exit(2), wait(2), ids, process groups and
// sessions, process descriptors. Handlers run on the calling task's fiber; arguments are guest
// input.
#pragma once

#include <sys/resource.h>

#include "syscalls/decode.h"
#include "ukernel/task/ptrace.h"

namespace uk {

Result<int64_t> sys_fork(Task& task);
Result<int64_t> sys_vfork(Task& task);
Result<int64_t> sys_clone(Task& task, Hex flags, UserAddr stack, UserAddr parent_tid,
                          UserAddr child_tid, UserAddr tls);
Result<int64_t> sys_clone3(Task& task, UserAddr args, size_t size);
Result<int64_t> sys_unshare(Task& task, Hex flags);
Result<int64_t> sys_exit(Task& task, int status);
Result<int64_t> sys_exit_group(Task& task, int status);
Result<int64_t> sys_execve(Task& task, UserStr path, UserAddr argv, UserAddr envp);
Result<int64_t> sys_execveat(Task& task, Fd dirfd, UserStr path, UserAddr argv, UserAddr envp,
                             Hex flags);
Result<int64_t> sys_wait4(Task& task, int pid, UserOut<int32_t> status, Hex options,
                          UserOut<rusage> usage);
Result<int64_t> sys_waitid(Task& task, int type, int id, UserOut<SigInfo> info, Hex options,
                           UserOut<rusage> usage);

Result<int64_t> sys_getpid(Task& task);
Result<int64_t> sys_gettid(Task& task);
Result<int64_t> sys_getppid(Task& task);
Result<int64_t> sys_getpgrp(Task& task);
Result<int64_t> sys_getpgid(Task& task, int pid);
Result<int64_t> sys_setpgid(Task& task, int pid, int pgid);
Result<int64_t> sys_getsid(Task& task, int pid);
Result<int64_t> sys_setsid(Task& task);
Result<int64_t> sys_set_tid_address(Task& task, UserAddr addr);
Result<int64_t> sys_pidfd_open(Task& task, int pid, Hex flags);
Result<int64_t> sys_pidfd_getfd(Task& task, Fd pidfd, Fd target, Hex flags);
Result<int64_t> sys_pidfd_send_signal(Task& task, Fd pidfd, Signo sig, UserIn<SigInfo> info,
                                      Hex flags);
Result<int64_t> sys_acct(Task& task, UserStr path);
Result<int64_t> sys_kcmp(Task& task, int pid1, int pid2, int type, uint64_t index1,
                         uint64_t index2);

// The guest's struct rusage of `usage` (getrusage(2)).
rusage to_rusage(const Usage& usage);
// The task that a pid argument names, 0 being the caller. kSRCH.
Result<Task*> find_task(Task& task, int tid);

}  // namespace uk
