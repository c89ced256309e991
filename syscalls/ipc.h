// System V shared memory, semaphores and message queues (sysvipc(7)). Handlers run on the calling
// task's fiber; arguments are guest input. The control calls take their last argument raw: what it
// means depends on the command.
#pragma once

#include "syscalls/decode.h"
#include "ukernel/abi/time.h"
#include "ukernel/ipc/sem.h"

namespace uk {

Result<int64_t> sys_shmget(Task& task, int key, size_t size, Hex flags);
Result<int64_t> sys_shmat(Task& task, int id, UserAddr addr, Hex flags);
Result<int64_t> sys_shmdt(Task& task, UserAddr addr);
Result<int64_t> sys_shmctl(Task& task, int id, int command, UserAddr arg);

Result<int64_t> sys_semget(Task& task, int key, int count, Hex flags);
Result<int64_t> sys_semop(Task& task, int id, UserIn<SemOp> ops, size_t count);
Result<int64_t> sys_semtimedop(Task& task, int id, UserIn<SemOp> ops, size_t count,
                               UserIn<UserTimespec> timeout);
Result<int64_t> sys_semctl(Task& task, int id, int number, int command, UserAddr arg);

Result<int64_t> sys_msgget(Task& task, int key, Hex flags);
Result<int64_t> sys_msgsnd(Task& task, int id, UserAddr message, int64_t size, Hex flags);
Result<int64_t> sys_msgrcv(Task& task, int id, UserAddr message, int64_t size, int64_t type,
                           Hex flags);
Result<int64_t> sys_msgctl(Task& task, int id, int command, UserAddr arg);

}  // namespace uk
