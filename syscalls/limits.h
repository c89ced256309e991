// Limits, usage and facts of the system: getrlimit(2), getrusage(2), times(2), sysinfo(2),
// uname(2), getrandom(2), personality(2).
#pragma once

#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/times.h>
#include <sys/utsname.h>

#include "syscalls/decode.h"

namespace uk {

using UserRusage = struct ::rusage;
using UserTms = struct ::tms;
using UserSysinfo = struct ::sysinfo;
using UserUtsname = struct ::utsname;

Result<int64_t> sys_getrlimit(Task& task, uint32_t resource, UserOut<RLimit> out);
Result<int64_t> sys_setrlimit(Task& task, uint32_t resource, UserIn<RLimit> in);
Result<int64_t> sys_prlimit64(Task& task, int pid, uint32_t resource, UserIn<RLimit> in,
                              UserOut<RLimit> out);
Result<int64_t> sys_getrusage(Task& task, int who, UserOut<UserRusage> out);
Result<int64_t> sys_times(Task& task, UserOut<UserTms> out);
Result<int64_t> sys_sysinfo(Task& task, UserOut<UserSysinfo> out);
Result<int64_t> sys_uname(Task& task, UserOut<UserUtsname> out);
Result<int64_t> sys_sethostname(Task& task, UserIn<char> name, int len);
Result<int64_t> sys_setdomainname(Task& task, UserIn<char> name, int len);
Result<int64_t> sys_getrandom(Task& task, UserOut<std::byte> buf, size_t count, uint32_t flags);
Result<int64_t> sys_personality(Task& task, uint32_t persona);

}  // namespace uk
