// Writing back what is cached, and advice about what will be wanted: fsync(2) and its kin,
// posix_fadvise(2), readahead(2). May suspend.
#pragma once

#include "syscalls/decode.h"

namespace uk {

// sync_file_range(2) and posix_fadvise(2) of a file that the caller holds.
Result<> sync_range(Task& task, File& file, int64_t offset, int64_t len, uint32_t flags);
Result<> advise_file(File& file, int64_t len, int advice);

Result<int64_t> sys_fsync(Task& task, Fd fd);
Result<int64_t> sys_fdatasync(Task& task, Fd fd);
Result<int64_t> sys_sync(Task& task);
Result<int64_t> sys_sync_file_range(Task& task, Fd fd, int64_t offset, int64_t len, uint32_t flags);
Result<int64_t> sys_syncfs(Task& task, Fd fd);
Result<int64_t> sys_fadvise64(Task& task, Fd fd, int64_t offset, int64_t len, int advice);
Result<int64_t> sys_readahead(Task& task, Fd fd, int64_t offset, size_t count);

}  // namespace uk
