// Calls about other processes' memory and about caches: process_madvise(2), process_mrelease(2),
// mseal(2), cachestat(2).
#include <sys/mman.h>

#include <algorithm>

#include "syscalls/fs_common.h"
#include "syscalls/mm.h"
#include "syscalls/process.h"
#include "ukernel/kernel.h"
#include "ukernel/mm/marks.h"
#include "ukernel/task/pidfd.h"

namespace uk {
namespace {

constexpr int kCollapse = 25;  // MADV_COLLAPSE
constexpr uint64_t kYieldPages = 4096;

struct UserCachestatRange {
  uint64_t off, len;
};
struct UserCachestat {
  uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

// cachestat(2): who could write the file may know what of it is cached.
Result<bool> may_see_cache(Task& task, File& file) {
  if (file.can_write()) return true;
  if (file.inode() == nullptr) return false;
  const FileAttr attr = TRY(file.getattr(task.park()));
  if (attr.uid == task.cred().fsuid || task.cred().has(Cap::kFowner)) return true;
  return task.kernel.vfs.check_permission(task.park(), *file.inode(), task.cred(), kMayWrite)
      .has_value();
}

}  // namespace

Result<int64_t> sys_mseal(Task& task, UserAddr addr, size_t len, Hex flags) {
  if (flags != 0) return Err(Errno::kINVAL);
  return zero(seal_range(task.mm(), addr.addr, len));
}

Result<int64_t> sys_process_madvise(Task& task, Fd pidfd, UserAddr ranges, size_t count, int advice,
                                    Hex flags) {
  if (flags != 0) return Err(Errno::kINVAL);
  Park& park = task.park();
  const auto pieces = TRY(fetch_iovec(park, task.mm(), ranges, count));
  Ref<ThreadGroup> group = TRY(pidfd_group(*TRY(task.fds().get(pidfd))));
  auto alive = std::find_if(group->threads.begin(), group->threads.end(),
                            [](const Task* t) { return t->mm_.get() != nullptr; });
  if (alive == group->threads.end()) return Err(Errno::kSRCH);
  Task* target = *alive;
  Ref<AddressSpace> mm = target->mm_ref();
  if (mm != task.mm_ref()) {
    if (!may_access(task, *target)) return Err(Errno::kPERM);
    if (advice != MADV_COLD && advice != MADV_PAGEOUT && advice != MADV_WILLNEED &&
        advice != kCollapse)
      return Err(Errno::kINVAL);
    if (!task.cred().has(Cap::kSysNice)) return Err(Errno::kPERM);
  }
  int64_t done = 0;
  for (const auto& p : pieces) {
    if (Result<> r = mm->madvise(park, p.base, p.len, advice); !r)
      return done != 0 ? Result<int64_t>(done) : Err(r.error());
    done += static_cast<int64_t>(p.len);
    if (task.should_interrupt(WaitMode::kKillable)) return Err(Errno::kINTR);
    park.yield();
  }
  return done;
}

Result<int64_t> sys_process_mrelease(Task& task, Fd pidfd, Hex flags) {
  if (flags != 0) return Err(Errno::kINVAL);
  Ref<ThreadGroup> group = TRY(pidfd_group(*TRY(task.fds().get(pidfd))));
  auto has_memory = [&] {
    return std::any_of(group->threads.begin(), group->threads.end(),
                       [](const Task* t) { return t->mm_.get() != nullptr; });
  };
  if (!has_memory()) return Err(Errno::kSRCH);
  if (!group->exiting) return Err(Errno::kINVAL);
  // Its threads give the memory back as they end, which needs nothing of anybody.
  TRY(group->thread_ended.wait(
      task.park(), [&] { return !has_memory(); }, WaitMode::kKillable, kNever, "process_mrelease"));
  return 0;
}

Result<int64_t> sys_cachestat(Task& task, Fd fd, UserAddr range, UserAddr stats, Hex flags) {
  Ref<File> file = TRY(task.fds().get_io(fd));
  Park& park = task.park();
  const auto r = TRY(UserIn<UserCachestatRange>{{range.addr}}.get(park, task.mm()));
  if (!TRY(may_see_cache(task, *file))) return Err(Errno::kPERM);
  if (flags != 0) return Err(Errno::kINVAL);
  UserCachestat out{};
  if (Ref<MemoryObject> object = file->memory_object()) {
    const uint64_t last = r.len == 0 || r.off + r.len < r.off ? UINT64_MAX : r.off + r.len - 1;
    for (uint64_t page = r.off / kPageSize; page <= last / kPageSize; ++page) {
      if (page * kPageSize >= object->size()) break;
      if (object->cached_page(page) != kNoPfn) ++out.cached;
      if (page % kYieldPages == kYieldPages - 1) {
        if (task.should_interrupt(WaitMode::kKillable)) return Err(Errno::kINTR);
        park.yield();
      }
    }
  }
  TRY(UserOut<UserCachestat>{{stats.addr}}.put(park, task.mm(), out));
  return 0;
}

}  // namespace uk
