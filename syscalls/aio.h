// Linux's native asynchronous I/O: io_setup(2), io_destroy(2), io_submit(2), io_getevents(2),
// io_pgetevents(2), io_cancel(2).
#pragma once

#include "syscalls/async/aio_context.h"
#include "syscalls/decode.h"
#include "ukernel/abi/time.h"

namespace uk {

struct AioSigset {  // __aio_sigset
  uint64_t mask;
  uint64_t size;
};

Result<int64_t> sys_io_setup(Task& task, uint32_t count, UserInOut<uint64_t> id);
Result<int64_t> sys_io_destroy(Task& task, Hex id);
Result<int64_t> sys_io_submit(Task& task, Hex id, int64_t count, UserIn<uint64_t> iocbs);
Result<int64_t> sys_io_getevents(Task& task, Hex id, int64_t min, int64_t count,
                                 UserOut<AioEvent> events, UserIn<UserTimespec> timeout);
Result<int64_t> sys_io_pgetevents(Task& task, Hex id, int64_t min, int64_t count,
                                  UserOut<AioEvent> events, UserIn<UserTimespec> timeout,
                                  UserIn<AioSigset> mask);
Result<int64_t> sys_io_cancel(Task& task, Hex id, UserIn<AioControl> iocb, UserAddr result);

}  // namespace uk
