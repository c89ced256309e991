#include "syscalls/mm.h"

#include <sys/mman.h>

#include <algorithm>
#include <vector>

#include "syscalls/fs_common.h"
#include "syscalls/process.h"
#include "ukernel/net/socket.h"
#include "ukernel/task/gate_calls.h"

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
Result<> use_file(Task& task, const Ref<File>& file, uint64_t prot, uint64_t offset,
                  MmapRequest& request) {
  if (request.shared) {
    if ((prot & PROT_WRITE) != 0 && !file->can_write()) return Err(Errno::kACCES);
    request.may_write = file->can_write();
  }
  if (!file->can_read()) return Err(Errno::kACCES);
  const Path& path = file->path();
  if (path.mount && (path.mount->flags & kMntNoexec) != 0) {
    if ((prot & PROT_EXEC) != 0) return Err(Errno::kPERM);
    request.may_exec = false;
  }
  TRY(file->check_mapping(offset, request.len, request.shared));
  request.object = file->memory_object();
  if (!request.object) {
    // Sockets refuse only when the place has been made (vms_abort_munmap_vmas).
    if (socket_of(*file) != nullptr && request.fixed && !request.fixed_noreplace) {
      TRY(task.mm().munmap(task.park(), request.addr, request.len));
    }
    return Err(Errno::kNODEV);
  }
  if (request.shared && !request.object->writable()) {
    if ((prot & PROT_WRITE) != 0) return Err(Errno::kPERM);
    request.may_write = false;
  }
  constexpr uint32_t kSealFutureWrite = 0x10;
  if (auto seals = file->inode() != nullptr ? file->inode()->seals() : Err(Errno::kINVAL);
      request.shared && seals && (*seals & kSealFutureWrite) != 0) {
    if ((prot & PROT_WRITE) != 0) return Err(Errno::kPERM);
    request.may_write = false;
  }
  request.name = path.mount ? task.kernel.vfs.path_name(path, task.fs().root) : path.dentry->name();
  return {};
}

Result<int64_t> lock_range(Task& task, UserAddr addr, size_t len, bool lock,
                           bool on_fault = false) {
  return zero(task.mm().mlock(task.park(), addr.addr, len, lock, task.mm_limits(), on_fault));
}

// Where a mapping is to lie; Linux asks that before it looks at the kind of mapping and at the
// file.
Result<> check_place(const AddressSpace& mm, const MmapRequest& r) {
  if (r.len == 0) return Err(Errno::kINVAL);
  const uint64_t len = page_ceil(r.len);
  if (len == 0 || len > mm.user_limit()) return Err(Errno::kNOMEM);
  if (!r.fixed) return {};
  if (r.addr > mm.user_limit() - len) return Err(Errno::kNOMEM);
  if ((r.addr & kPageMask) != 0) return Err(Errno::kINVAL);
  if (r.fixed_noreplace && mm.any_mapped(r.addr, len)) return Err(Errno::kEXIST);
  return {};
}

// The end of the mapping must be an offset that its file could have (file_mmap_ok).
Result<> check_file_end(const File& file, const MmapRequest& r, uint64_t offset) {
  const uint32_t type = file.inode() != nullptr ? file.inode()->type() : 0;
  const bool bounded = is_type(type, S_IFREG) || is_type(type, S_IFBLK) || is_type(type, S_IFSOCK);
  const uint64_t most = bounded ? INT64_MAX : UINT64_MAX, len = page_ceil(r.len);
  if (len > most || offset / kPageSize > (most - len) / kPageSize) return Err(Errno::kOVERFLOW);
  return {};
}
}  // namespace

Result<int64_t> sys_mmap(Task& task, UserAddr addr, size_t len, Hex prot, Hex flags, Fd fd,
                         uint64_t offset) {
  if ((offset & kPageMask) != 0) return Err(Errno::kINVAL);
  const uint64_t type = flags & MAP_TYPE;
  const bool anonymous = (flags & MAP_ANONYMOUS) != 0;
  Ref<File> file;
  if (!anonymous) file = TRY(task.fds().get_io(fd));
  MmapRequest request;
  request.shared = type != MAP_PRIVATE;
  request.len = len;
  request.addr = addr.addr;
  request.fixed = (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) != 0;
  request.fixed_noreplace = (flags & MAP_FIXED_NOREPLACE) != 0;
  if ((flags & MAP_HUGETLB) != 0) {
    return Err(anonymous ? Errno::kNOMEM : Errno::kINVAL);  // no huge pages set aside
  }
  TRY(check_place(task.mm(), request));
  if (file) TRY(check_file_end(*file, request, offset));
  if (type != MAP_SHARED && type != MAP_PRIVATE && (anonymous || type != kMapSharedValidate)) {
    return Err(Errno::kINVAL);
  }
  if (file) {
    if (type == kMapSharedValidate && (flags & ~kLegacyFlags) != 0) return Err(Errno::kOPNOTSUPP);
    TRY(use_file(task, file, prot, offset, request));
    request.offset = offset;
  }
  request.prot = prot_of(prot);
  request.grows_down = (flags & MAP_GROWSDOWN) != 0;
  request.populate = (flags & MAP_POPULATE) != 0 && (flags & MAP_NONBLOCK) == 0;
  // Without a meaning since Linux 2.4, but the dynamic linker still says so of a library's
  // segments: it maps them all before it looks at them.
  request.later = (flags & MAP_DENYWRITE) != 0;
  request.noreserve = (flags & MAP_NORESERVE) != 0;
  request.locked = (flags & MAP_LOCKED) != 0;
  request.below_4g = (flags & MAP_32BIT) != 0;
  // Who puts code into empty space at a place of its own choice lays the space out itself, and may
  // translate what it maps (valgrind): it knows nothing of thunks.
  if (request.fixed && request.object && any(request.prot & Prot::kExec) &&
      !task.mm().call_sites.off() && !task.mm().any_mapped(request.addr, len))
    restore_call_sites(task.park(), task);
  return static_cast<int64_t>(TRY(task.mm().mmap(task.park(), request, task.mm_limits())));
}

Result<int64_t> sys_munmap(Task& task, UserAddr addr, size_t len) {
  return zero(task.mm().munmap(task.park(), addr.addr, len));
}

Result<int64_t> sys_mprotect(Task& task, UserAddr addr, size_t len, Hex prot) {
  constexpr uint64_t kKnown =
      PROT_READ | PROT_WRITE | PROT_EXEC | kProtSem | kProtGrowsDown | kProtGrowsUp;
  if ((prot & kProtGrowsDown) != 0 && (prot & kProtGrowsUp) != 0) return Err(Errno::kINVAL);
  if ((addr.addr & kPageMask) != 0) return Err(Errno::kINVAL);
  if (len == 0) return 0;
  if (addr.addr + page_ceil(len) <= addr.addr) return Err(Errno::kNOMEM);
  if ((prot & ~kKnown) != 0) return Err(Errno::kINVAL);
  if ((prot & kProtGrowsUp) != 0) return Err(Errno::kINVAL);
  return zero(
      task.mm().mprotect(task.park(), addr.addr, len, prot_of(prot), (prot & kProtGrowsDown) != 0));
}

Result<int64_t> sys_pkey_mprotect(Task& task, UserAddr addr, size_t len, Hex prot, int pkey) {
  if (pkey != -1) return Err(Errno::kINVAL);  // no key was ever allocated
  return sys_mprotect(task, addr, len, prot);
}

Result<int64_t> sys_pkey_alloc(Task&, Hex flags, Hex rights) {
  constexpr uint64_t kRights = 3;  // PKEY_DISABLE_ACCESS | PKEY_DISABLE_WRITE
  if (flags != 0 || (rights & ~kRights) != 0) return Err(Errno::kINVAL);
  return Err(Errno::kNOSPC);  // as on a processor without protection keys
}

Result<int64_t> sys_pkey_free(Task&, int) { return Err(Errno::kINVAL); }

Result<int64_t> sys_remap_file_pages(Task& task, UserAddr addr, size_t len, Hex prot, size_t page,
                                     Hex) {
  if (prot != 0) return Err(Errno::kINVAL);
  return zero(task.mm().remap_file_pages(task.park(), addr.addr, len, page, task.mm_limits()));
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
  // In pieces, as the range may be terabytes of address space.
  constexpr uint64_t kPiecePages = 1 << 14;
  if ((addr.addr & kPageMask) != 0) return Err(Errno::kINVAL);
  const uint64_t pages = len / kPageSize + ((len & kPageMask) != 0);
  for (uint64_t done = 0; done < pages;) {
    const uint64_t n = std::min(pages - done, kPiecePages);
    auto resident =
        TRY(task.mm().mincore(task.park(), addr.addr + done * kPageSize, n * kPageSize));
    UserOut<uint8_t> to{{vec.addr + done}};
    TRY(to.put_array(task.park(), task.mm(), resident));
    done += n;
    if (task.should_interrupt(WaitMode::kKillable)) return Err(Errno::kINTR);
    if (done < pages) task.park().yield();
  }
  return 0;
}

Result<int64_t> sys_mlock(Task& task, UserAddr addr, size_t len) {
  return lock_range(task, addr, len, true);
}
Result<int64_t> sys_mlock2(Task& task, UserAddr addr, size_t len, int flags) {
  constexpr int kOnFault = 1;  // MLOCK_ONFAULT
  if ((flags & ~kOnFault) != 0) return Err(Errno::kINVAL);
  return lock_range(task, addr, len, true, (flags & kOnFault) != 0);
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

namespace {

// process_vm_readv(2), process_vm_writev(2): through a buffer, as either side may fault.
Result<int64_t> copy_between(Task& task, int pid, UserAddr local, uint64_t local_count,
                             UserAddr remote, uint64_t remote_count, uint64_t flags, bool write) {
  constexpr size_t kBuffer = 64 << 10;
  if (flags != 0) return Err(Errno::kINVAL);
  Park& park = task.park();
  auto here = TRY(fetch_iovec(park, task.mm(), local, local_count));
  auto there = TRY(fetch_iovec(park, task.mm(), remote, remote_count));
  Task* other = TRY(find_task(task, pid));
  if (!may_access(task, *other)) return Err(Errno::kPERM);
  Ref<AddressSpace> mm = other->mm_ref();
  if (!mm) return Err(Errno::kSRCH);
  AddressSpace& from_mm = write ? task.mm() : *mm;
  AddressSpace& to_mm = write ? *mm : task.mm();
  UserSource source(from_mm, write ? std::move(here) : std::move(there));
  UserSink sink(to_mm, write ? std::move(there) : std::move(here));
  std::vector<std::byte> buffer(std::min({kBuffer, source.remaining(), sink.remaining()}));
  int64_t done = 0;
  while (source.remaining() != 0 && sink.remaining() != 0) {
    const size_t n = std::min({buffer.size(), source.remaining(), sink.remaining()});
    Result<size_t> got = source.get(park, std::span(buffer).first(n));
    if (!got) return done != 0 ? Result<int64_t>(done) : Err(got.error());
    Result<size_t> put = sink.put(park, std::span(buffer).first(*got));
    if (!put) return done != 0 ? Result<int64_t>(done) : Err(put.error());
    done += static_cast<int64_t>(*put);
    if (*put < n) break;
  }
  return done;
}

}  // namespace

Result<int64_t> sys_process_vm_readv(Task& task, int pid, UserAddr local, size_t local_count,
                                     UserAddr remote, size_t remote_count, Hex flags) {
  return copy_between(task, pid, local, local_count, remote, remote_count, flags, false);
}
Result<int64_t> sys_process_vm_writev(Task& task, int pid, UserAddr local, size_t local_count,
                                      UserAddr remote, size_t remote_count, Hex flags) {
  return copy_between(task, pid, local, local_count, remote, remote_count, flags, true);
}

Result<int64_t> sys_brk(Task& task, UserAddr addr) {
  return static_cast<int64_t>(task.mm().brk(task.park(), addr.addr, task.mm_limits()));
}

}  // namespace uk
