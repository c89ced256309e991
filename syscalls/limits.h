// Resource limits and usage (getrlimit(2), getrusage(2), times(2)), and facts of the system
// (sysinfo(2), uname(2)). Handlers run on the calling task's fiber; arguments are guest input.
#pragma once

#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/times.h>
#include <sys/utsname.h>

#include "syscalls/decode.h"

namespace uk {

Result<int64_t> sys_getrlimit(Task& task, uint32_t resource, UserOut<RLimit> limit);
Result<int64_t> sys_setrlimit(Task& task, uint32_t resource, UserIn<RLimit> limit);
Result<int64_t> sys_prlimit64(Task& task, int pid, uint32_t resource, UserIn<RLimit> limit,
                              UserOut<RLimit> old);
Result<int64_t> sys_getrusage(Task& task, int who, UserOut<rusage> usage);
Result<int64_t> sys_times(Task& task, UserOut<tms> buf);
Result<int64_t> sys_sysinfo(Task& task, UserOut<struct sysinfo> info);
Result<int64_t> sys_uname(Task& task, UserOut<utsname> name);
Result<int64_t> sys_sethostname(Task& task, UserAddr name, int len);
Result<int64_t> sys_setdomainname(Task& task, UserAddr name, int len);
Result<int64_t> sys_getrandom(Task& task, UserAddr buf, size_t len, Hex flags);

Result<int64_t> sys_syslog(Task& task, int action, UserAddr buf, int len);

}  // namespace uk
