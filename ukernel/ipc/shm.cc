#include "ukernel/ipc/shm.h"

#include "absl/strings/str_format.h"
#include "ukernel/ipc/namespace.h"

namespace uk {
namespace {

PageCacheObject::Options options_of(uint64_t bytes) {
  PageCacheObject::Options o;
  o.size = page_ceil(bytes);
  o.dev = 1;
  return o;
}

}  // namespace

ShmSegment::ShmSegment(IpcNamespace& ns, uint64_t bytes)
    : PageCacheObject(ns.mem, options_of(bytes)),
      bytes(bytes),
      creator_pid(ns.current_pid()),
      ns_(&ns) {}

Result<ShmSegment*> ShmSegment::create(IpcNamespace& ns, const Cred& cred, int32_t key,
                                       uint64_t bytes, uint32_t flags) {
  if (bytes == 0 || bytes > ns.shm_max_bytes || bytes > kMaxSize) return Err(Errno::kINVAL);
  const uint64_t pages = page_ceil(bytes) / kPageSize;
  if (pages > ns.shm_max_pages || ns.shm_pages > ns.shm_max_pages - pages)
    return Err(Errno::kNOSPC);
  // What can never be had is refused, as for mmap(2).
  constexpr uint32_t kNoReserve = 010000;  // SHM_NORESERVE
  if ((flags & kNoReserve) == 0 && pages > ns.mem.total_pages()) return Err(Errno::kNOMEM);
  auto segment = make_ref<ShmSegment>(ns, bytes);
  segment->own(cred, key, flags);
  segment->ctime = ns.now();
  TRY(ns.segments.add(segment, ns.shm_max_segments));
  ns.shm_pages += pages;
  return segment.get();
}

void ShmSegment::mapped() {
  ++attached;
  if (ns_ == nullptr) return;
  atime = ns_->now();
  last_pid = ns_->current_pid();
}

void ShmSegment::unmapped() {
  --attached;
  if (ns_ == nullptr) return;
  dtime = ns_->now();
  last_pid = ns_->current_pid();
  if (attached == 0 && (mode & kDest) != 0) destroy();
}

void ShmSegment::mark() {
  if (attached == 0) return destroy();
  mode |= kDest;
  if (ns_ != nullptr) ns_->segments.forget_key(*this);
}

void ShmSegment::destroy() {
  IpcNamespace& ns = *ns_;
  Ref<ShmSegment> self(this);
  ns_ = nullptr;
  ns.shm_pages -= page_ceil(bytes) / kPageSize;
  ns.segments.remove(*this);
}

std::string ShmSegment::map_name() const {
  return absl::StrFormat("/SYSV%08x (deleted)", static_cast<uint32_t>(key));
}

}  // namespace uk
