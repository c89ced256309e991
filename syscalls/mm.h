// The mmap family: mmap(2), munmap(2), mprotect(2), mremap(2), madvise(2), msync(2), mincore(2),
// mlock(2), brk(2), pkey_mprotect(2), remap_file_pages(2), process_vm_readv(2).
#pragma once

#include "syscalls/decode.h"

namespace uk {

Result<int64_t> sys_mmap(Task& task, UserAddr addr, size_t len, Hex prot, Hex flags, Fd fd,
                         uint64_t offset);
Result<int64_t> sys_munmap(Task& task, UserAddr addr, size_t len);
Result<int64_t> sys_mprotect(Task& task, UserAddr addr, size_t len, Hex prot);
Result<int64_t> sys_mremap(Task& task, UserAddr addr, size_t old_len, size_t new_len, Hex flags,
                           UserAddr new_addr);
Result<int64_t> sys_madvise(Task& task, UserAddr addr, size_t len, int advice);
Result<int64_t> sys_msync(Task& task, UserAddr addr, size_t len, int flags);
Result<int64_t> sys_mincore(Task& task, UserAddr addr, size_t len, UserOut<uint8_t> vec);
Result<int64_t> sys_mlock(Task& task, UserAddr addr, size_t len);
Result<int64_t> sys_mlock2(Task& task, UserAddr addr, size_t len, int flags);
Result<int64_t> sys_munlock(Task& task, UserAddr addr, size_t len);
Result<int64_t> sys_mlockall(Task& task, int flags);
Result<int64_t> sys_munlockall(Task& task);
Result<int64_t> sys_pkey_mprotect(Task& task, UserAddr addr, size_t len, Hex prot, int pkey);
Result<int64_t> sys_pkey_alloc(Task& task, Hex flags, Hex rights);
Result<int64_t> sys_pkey_free(Task& task, int pkey);
Result<int64_t> sys_remap_file_pages(Task& task, UserAddr addr, size_t len, Hex prot, size_t page,
                                     Hex flags);
Result<int64_t> sys_process_vm_readv(Task& task, int pid, UserAddr local, size_t local_count,
                                     UserAddr remote, size_t remote_count, Hex flags);
Result<int64_t> sys_process_vm_writev(Task& task, int pid, UserAddr local, size_t local_count,
                                      UserAddr remote, size_t remote_count, Hex flags);
Result<int64_t> sys_brk(Task& task, UserAddr addr);

// ---- advise.cc
Result<int64_t> sys_mseal(Task& task, UserAddr addr, size_t len, Hex flags);
Result<int64_t> sys_process_madvise(Task& task, Fd pidfd, UserAddr ranges, size_t count, int advice,
                                    Hex flags);
Result<int64_t> sys_process_mrelease(Task& task, Fd pidfd, Hex flags);
Result<int64_t> sys_cachestat(Task& task, Fd fd, UserAddr range, UserAddr stats, Hex flags);

}  // namespace uk
