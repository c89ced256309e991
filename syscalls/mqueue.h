// POSIX message queues (mq_overview(7)). Handlers run on the calling task's fiber; arguments are
// guest input.
#pragma once

#include "syscalls/decode.h"
#include "syscalls/time.h"
#include "ukernel/abi/time.h"
#include "ukernel/fs/mqueue/mqueue.h"

namespace uk {

Result<int64_t> sys_mq_open(Task& task, UserStr name, OpenFlags flags, Mode mode,
                            UserIn<MqAttr> attr);
Result<int64_t> sys_mq_unlink(Task& task, UserStr name);
Result<int64_t> sys_mq_timedsend(Task& task, Fd fd, UserAddr text, size_t size, uint32_t priority,
                                 UserIn<UserTimespec> deadline);
Result<int64_t> sys_mq_timedreceive(Task& task, Fd fd, UserAddr text, size_t size,
                                    UserOut<uint32_t> priority, UserIn<UserTimespec> deadline);
Result<int64_t> sys_mq_notify(Task& task, Fd fd, UserIn<UserSigevent> event);
Result<int64_t> sys_mq_getsetattr(Task& task, Fd fd, UserIn<MqAttr> to, UserOut<MqAttr> old);

}  // namespace uk
