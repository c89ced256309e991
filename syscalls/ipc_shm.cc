// shmget(2), shmat(2), shmdt(2), shmctl(2).
#include <sys/resource.h>
#include <sys/shm.h>

#include <algorithm>

#include "syscalls/fs_common.h"
#include "syscalls/ipc.h"
#include "syscalls/ipc_common.h"
#include "ukernel/task/pid_ns.h"

namespace uk {
namespace {

constexpr int kShmLock = SHM_LOCK, kShmUnlock = SHM_UNLOCK;

shmid_ds status_of(const Task& task, const ShmSegment& s) {
  shmid_ds d = {};
  d.shm_perm = to_ipc_perm(task, s);
  d.shm_segsz = s.bytes;
  d.shm_atime = s.atime;
  d.shm_dtime = s.dtime;
  d.shm_ctime = s.ctime;
  d.shm_cpid = shown_pid(task, s.creator_pid);
  d.shm_lpid = shown_pid(task, s.last_pid);
  d.shm_nattch = s.attached;
  return d;
}

Result<int64_t> limits(Task& task, UserAddr arg) {
  const IpcNamespace& ns = task.ipc();
  shminfo i = {};
  i.shmmax = std::min<uint64_t>(ns.shm_max_bytes, UINT64_MAX - (1ull << 24));
  i.shmmin = 1;
  i.shmmni = i.shmseg = static_cast<unsigned long>(ns.shm_max_segments);
  i.shmall = ns.shm_max_pages;
  TRY(UserOut<shminfo>{{arg}}.put(task.park(), task.mm(), i));
  return ipc_max_index(ns.segments);
}

Result<int64_t> usage(Task& task, UserAddr arg) {
  const IpcNamespace& ns = task.ipc();
  shm_info i = {};
  i.used_ids = ns.segments.size();
  i.shm_tot = ns.shm_pages;
  for (auto& [index, s] : ns.segments.all()) i.shm_rss += s->resident_pages();
  TRY(UserOut<shm_info>{{arg}}.put(task.park(), task.mm(), i));
  return ipc_max_index(ns.segments);
}

Result<int64_t> stat(Task& task, int id, int command, UserAddr arg) {
  const bool by_index = command != IPC_STAT;
  ShmSegment* s =
      TRY(ipc_stat_target(task, task.ipc().segments, id, by_index, command == SHM_STAT_ANY));
  const int found = s->id;
  TRY(UserOut<shmid_ds>{{arg}}.put(task.park(), task.mm(), status_of(task, *s)));
  return by_index ? found : 0;
}

Result<int64_t> set(Task& task, int id, UserAddr arg) {
  const shmid_ds d = TRY(UserIn<shmid_ds>{{arg}}.get(task.park(), task.mm()));
  ShmSegment* s = TRY(ipc_find(task.ipc().segments, id));
  if (!s->owned_by(task.cred())) return Err(Errno::kPERM);
  return zero(ipc_set(task, *s, d.shm_perm));
}

Result<int64_t> lock(Task& task, int id, bool on) {
  ShmSegment* s = TRY(ipc_find(task.ipc().segments, id));
  const Cred& c = task.cred();
  if (!c.has(Cap::kIpcLock)) {
    if (c.euid != s->uid && c.euid != s->cuid) return Err(Errno::kPERM);
    if (on && task.rlimit(RLIMIT_MEMLOCK).cur == 0) return Err(Errno::kPERM);
    if (on && s->bytes > task.rlimit(RLIMIT_MEMLOCK).cur) return Err(Errno::kNOMEM);
  }
  // There is no swap: guest memory stays where it is, locked or not.
  s->mode = on ? s->mode | ShmSegment::kLocked : s->mode & ~ShmSegment::kLocked;
  return 0;
}

}  // namespace

Result<int64_t> sys_shmget(Task& task, int key, size_t size, Hex flags) {
  IpcNamespace& ns = task.ipc();
  auto suits = [&](ShmSegment& s) { return size > s.bytes ? Err(Errno::kINVAL) : Result<>(); };
  return ipc_get(task, ns.segments, key, flags, suits, [&]() -> Result<ShmSegment*> {
    if ((flags & SHM_HUGETLB) != 0) {
      if (size == 0 || size > ns.shm_max_bytes) return Err(Errno::kINVAL);
      return Err(Errno::kNOMEM);  // no huge pages set aside
    }
    return ShmSegment::create(ns, task.cred(), key, size, static_cast<uint32_t>(flags));
  });
}

Result<int64_t> sys_shmat(Task& task, int id, UserAddr addr, Hex flags) {
  if (id < 0) return Err(Errno::kINVAL);
  MmapRequest request;
  request.addr = addr.addr;
  if (addr) {
    if ((addr.addr & (SHMLBA - 1)) != 0) {
      if ((flags & SHM_RND) == 0) return Err(Errno::kINVAL);
      request.addr = page_floor(addr.addr);
      if (request.addr == 0 && (flags & SHM_REMAP) != 0) return Err(Errno::kINVAL);
    }
    request.fixed = request.addr != 0;
    request.fixed_noreplace = request.fixed && (flags & SHM_REMAP) == 0;
  } else if ((flags & SHM_REMAP) != 0) {
    return Err(Errno::kINVAL);
  }
  ShmSegment* s = TRY(ipc_find(task.ipc().segments, id));
  const bool read_only = (flags & SHM_RDONLY) != 0, exec = (flags & SHM_EXEC) != 0;
  const uint32_t wanted = (read_only ? 0444 : 0666) | (exec ? 0111 : 0);
  if (!s->permits(task.cred(), wanted)) return Err(Errno::kACCES);
  request.object = Ref<MemoryObject>(s);
  request.len = s->bytes;
  request.shared = true;
  request.prot = Prot::kRead;
  if (!read_only) request.prot = request.prot | Prot::kWrite;
  if (exec) request.prot = request.prot | Prot::kExec;
  request.may_write = !read_only;
  request.name = s->map_name();
  Result<uint64_t> at = task.mm().mmap(task.park(), request, task.mm_limits());
  if (!at) return Err(at.error() == Errno::kEXIST ? Errno::kINVAL : at.error());
  return static_cast<int64_t>(*at);
}

Result<int64_t> sys_shmdt(Task& task, UserAddr addr) {
  return zero(task.mm().detach_segment(task.park(), addr.addr));
}

Result<int64_t> sys_shmctl(Task& task, int id, int command, UserAddr arg) {
  if (id < 0 || command < 0) return Err(Errno::kINVAL);
  switch (command) {
    case kIpcInfo:
      return limits(task, arg);
    case SHM_INFO:
      return usage(task, arg);
    case IPC_STAT:
    case SHM_STAT:
    case SHM_STAT_ANY:
      return stat(task, id, command, arg);
    case IPC_SET:
      return set(task, id, arg);
    case IPC_RMID: {
      ShmSegment* s = TRY(ipc_find(task.ipc().segments, id));
      if (!s->owned_by(task.cred())) return Err(Errno::kPERM);
      s->mark();
      return 0;
    }
    case kShmLock:
    case kShmUnlock:
      return lock(task, id, command == kShmLock);
    default:
      return Err(Errno::kINVAL);
  }
}

}  // namespace uk
