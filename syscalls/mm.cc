#include "syscalls/mm.h"

#include <sys/mman.h>

#include "syscalls/fs_common.h"

namespace uk {
namespace {

constexpr uint64_t kProtSem = 0x8, kProtGrowsDown = 0x01000000, kProtGrowsUp = 0x02000000;
constexpr uint64_t kMapSharedValidate = 3;
// Flags MAP_SHARED_VALIDATE knows; MAP_SHARED and MAP_PRIVATE ignore what they do not know.
constexpr uint64_t kLegacyFlags =
    MAP_SHARED | MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_DENYWRITE | MAP_EXECUTABLE |
    MAP_GROWSDOWN | MAP_LOCKED | MAP_NORESERVE | MAP_POPULATE | MAP_NONBLOCK | MAP_STACK |
    MAP_HUGETLB | MAP_32BIT | MAP_FIXED_NOREPLACE | (0x3full << 26) /* MAP_HUGE_* */;

Prot prot_of(uint64_t prot) {
  return static_cast<Prot>(prot & (PROT_READ | PROT_WRITE | PROT_EXEC));
}

// The file behind a mapping: its object, and what the way it was opened allows (mmap(2) EACCES,
// ENODEV, EPERM).
Result<> use_file(Task& task, Fd fd, uint64_t prot, MmapRequest& request) {
  Ref<File> file = TRY(task.fds().get_io(fd));
  if (!file->can_read()) return Err(Errno::kACCES);
  if (request.shared) {
    if ((prot & PROT_WRITE) != 0 && !file->can_write()) return Err(Errno::kACCES);
    request.may_write = file->can_write();
  }
  const Path& path = file->path();
  if (path.mount && (path.mount->flags & kMntNoexec) != 0) {
    if ((prot & PROT_EXEC) != 0) return Err(Errno::kPERM);
    request.may_exec = false;
  }
  request.object = file->memory_object();
  if (!request.object) return Err(Errno::kNODEV);
  if (request.shared && !request.object->writable()) {
    if ((prot & PROT_WRITE) != 0) return Err(Errno::kPERM);
    request.may_write = false;
  }
  request.name = path.mount ? task.kernel.vfs.path_name(path, task.fs().root) : path.dentry->name();
  return {};
}

Result<int64_t> lock_range(Task& task, UserAddr addr, size_t len, bool lock) {
  return zero(task.mm().mlock(task.park(), addr.addr, len, lock, task.mm_limits()));
}

}  // namespace

Result<int64_t> sys_mmap(Task& task, UserAddr addr, size_t len, Hex prot, Hex flags, Fd fd,
                         uint64_t offset) {
  if ((offset & kPageMask) != 0) return Err(Errno::kINVAL);
  const uint64_t type = flags & MAP_TYPE;
  if (type != MAP_SHARED && type != MAP_PRIVATE && type != kMapSharedValidate)
    return Err(Errno::kINVAL);
  MmapRequest request;
  request.shared = type != MAP_PRIVATE;
  if ((flags & MAP_ANONYMOUS) == 0) {
    TRY(use_file(task, fd, prot, request));
    if (type == kMapSharedValidate && (flags & ~kLegacyFlags) != 0) return Err(Errno::kOPNOTSUPP);
    request.offset = offset;
  }
  if ((flags & MAP_HUGETLB) != 0)
    return Err((flags & MAP_ANONYMOUS) != 0 ? Errno::kNOMEM
                                            : Errno::kINVAL);  // no huge pages set aside
  if (len == 0) return Err(Errno::kINVAL);
  request.addr = addr.addr;
  request.len = len;
  request.prot = prot_of(prot);
  request.fixed = (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) != 0;
  request.fixed_noreplace = (flags & MAP_FIXED_NOREPLACE) != 0;
  request.grows_down = (flags & MAP_GROWSDOWN) != 0;
  request.populate = (flags & MAP_POPULATE) != 0 && (flags & MAP_NONBLOCK) == 0;
  request.noreserve = (flags & MAP_NORESERVE) != 0;
  request.locked = (flags & MAP_LOCKED) != 0;
  if ((flags & MAP_32BIT) != 0 && !request.fixed) return Err(Errno::kNOMEM);
  return static_cast<int64_t>(TRY(task.mm().mmap(task.park(), request, task.mm_limits())));
}

Result<int64_t> sys_munmap(Task& task, UserAddr addr, size_t len) {
  return zero(task.mm().munmap(task.park(), addr.addr, len));
}

Result<int64_t> sys_mprotect(Task& task, UserAddr addr, size_t len, Hex prot) {
  constexpr uint64_t kKnown =
      PROT_READ | PROT_WRITE | PROT_EXEC | kProtSem | kProtGrowsDown | kProtGrowsUp;
  if ((prot & ~kKnown) != 0) return Err(Errno::kINVAL);
  if ((prot & kProtGrowsDown) != 0 && (prot & kProtGrowsUp) != 0) return Err(Errno::kINVAL);
  if ((prot & kProtGrowsUp) != 0) return Err(Errno::kINVAL);
  return zero(
      task.mm().mprotect(task.park(), addr.addr, len, prot_of(prot), (prot & kProtGrowsDown) != 0));
}

Result<int64_t> sys_mremap(Task& task, UserAddr addr, size_t old_len, size_t new_len, Hex flags,
                           UserAddr new_addr) {
  return static_cast<int64_t>(
      TRY(task.mm().mremap(task.park(), addr.addr, old_len, new_len, static_cast<int>(flags),
                           new_addr.addr, task.mm_limits())));
}

Result<int64_t> sys_madvise(Task& task, UserAddr addr, size_t len, int advice) {
  return zero(task.mm().madvise(task.park(), addr.addr, len, advice));
}

Result<int64_t> sys_msync(Task& task, UserAddr addr, size_t len, int flags) {
  return zero(task.mm().msync(task.park(), addr.addr, len, flags));
}

Result<int64_t> sys_mincore(Task& task, UserAddr addr, size_t len, UserOut<uint8_t> vec) {
  auto resident = TRY(task.mm().mincore(task.park(), addr.addr, len));
  return zero(vec.put_array(task.park(), task.mm(), resident));
}

Result<int64_t> sys_mlock(Task& task, UserAddr addr, size_t len) {
  return lock_range(task, addr, len, true);
}
Result<int64_t> sys_mlock2(Task& task, UserAddr addr, size_t len, int flags) {
  constexpr int kOnFault = 1;  // MLOCK_ONFAULT
  if ((flags & ~kOnFault) != 0) return Err(Errno::kINVAL);
  return lock_range(task, addr, len, true);
}
Result<int64_t> sys_munlock(Task& task, UserAddr addr, size_t len) {
  return lock_range(task, addr, len, false);
}

Result<int64_t> sys_mlockall(Task& task, int flags) {
  if (flags == 0 || (flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)) != 0 ||
      flags == MCL_ONFAULT)
    return Err(Errno::kINVAL);
  const MmLimits limits = task.mm_limits();
  if (limits.memlock == 0) return Err(Errno::kPERM);
  return zero(task.mm().mlockall(task.park(), flags, limits));
}
Result<int64_t> sys_munlockall(Task& task) {
  return zero(task.mm().mlockall(task.park(), 0, task.mm_limits()));
}

Result<int64_t> sys_brk(Task& task, UserAddr addr) {
  return static_cast<int64_t>(task.mm().brk(task.park(), addr.addr, task.mm_limits()));
}

}  // namespace uk
