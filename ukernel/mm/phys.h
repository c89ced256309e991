// Guest physical memory: one memfd, mapped whole in the kernel, allocated in pages and contiguous
// extents. Page tables, the page cache, shared memory and tmpfs all hold references to its frames.
// The size is the hard limit of --mem.
//
// Ownership: the Kernel owns PhysMemory. A frame lives while its reference count is not zero;
// PageRef is one reference. Nothing here suspends. Contents are guest data: untrusted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/list.h"
#include "base/ref.h"
#include "base/result.h"

namespace uk {

constexpr uint64_t kPageSize = 4096;
constexpr uint64_t kPageMask = kPageSize - 1;
constexpr uint64_t page_floor(uint64_t v) { return v & ~kPageMask; }
constexpr uint64_t page_ceil(uint64_t v) { return (v + kPageMask) & ~kPageMask; }

using Pfn = uint32_t;  // frame number: byte offset in the memfd / 4096
constexpr Pfn kNoPfn = ~Pfn{0};

class FrameOwners;

class PhysMemory {
 public:
  uint64_t max_map_count = 65530;  // /proc/sys/vm; a space has a bound of its own too
  // `bytes` is rounded down to pages. Errors: the host's (kNOMEM, kMFILE).
  static Result<std::unique_ptr<PhysMemory>> create(uint64_t bytes);
  ~PhysMemory();

  int fd() const;
  std::byte* ptr(Pfn pfn) const;  // kPageSize bytes; extents are contiguous here and in the memfd
  uint64_t host_offset(Pfn pfn) const { return uint64_t{pfn} * kPageSize; }

  // One zeroed frame (or n contiguous ones), each with one reference. kNOMEM when the limit is
  // reached and reclaim found nothing. alloc_extent may return fewer: `got` frames, at least 1.
  Result<Pfn> alloc(bool zero = true);
  struct Extent {
    Pfn first;
    uint32_t got;
  };
  Result<Extent> alloc_extent(uint32_t n, bool zero = true);
  void ref(Pfn pfn);
  void unref(Pfn pfn);
  uint32_t ref_count(Pfn pfn) const;

  uint64_t total_pages() const;
  uint64_t free_pages() const;
  // Asked for at least n pages when memory runs out; returns how many it freed. Must not suspend.
  // Leaves the list when it is destroyed.
  class Reclaimer : public ListNode<Reclaimer> {
   public:
    virtual uint64_t reclaim(uint64_t n) = 0;

   protected:
    ~Reclaimer() = default;
  };
  void add_reclaimer(Reclaimer& r);
  uint64_t reclaim(uint64_t n);  // asks them all; returns how many pages that freed
  // Set by the kernel: picks a guest task and kills it; true if memory is to be expected from a
  // dying task. Called (by faults and user copies) when alloc failed after reclaim. Must not
  // suspend.
  std::function<bool()> oom_kill;
  // Who pays for frames, while somebody keeps account of that (mm/frame_owners.h); else null. Not
  // owned; `owners` is asked for each frame that is given out, and told when it is free again.
  void set_owners(FrameOwners* owners);
  // Free frames keep their host memory, as the next user then need not wait for the host; more than
  // a fixed amount only while it is really used again. `on_surplus`, set by the kernel, is called
  // when there is more; then trim(), once in kTrimNs, gives back what nobody needed since the time
  // before, in bounded steps. False: no surplus is left.
  static constexpr uint64_t kTrimNs = 250'000'000;
  std::function<void()> on_surplus;
  bool trim();
  uint64_t kept_pages() const;  // free, with host memory
  // Frames [first, first+n) will be touched by the kernel soon: makes them present in its mapping
  // in one step where that is cheaper than faults.
  void prepare(Pfn first, uint32_t n);
  // Statistics kept by users of frames (for /proc/meminfo).
  uint64_t cached_pages = 0;
  uint64_t anon_pages = 0;
  uint64_t shmem_pages = 0;
  uint64_t code_pages = 0;  // of copies of code (mm/patched_code.h), which are not frames
  // What guests were promised (vm.overcommit_memory, proc_sys_vm(5)): private writable mappings
  // without MAP_NORESERVE, beside shmem_pages.
  struct Commit {
    int mode = 0;  // 0: what could never be had is refused; 1: nothing is; 2: what is over a limit
    int ratio = 50;  // per cent of all memory, the limit
    uint64_t pages = 0;
  } commit;
  uint64_t commit_limit() const {
    return total_pages() * static_cast<uint64_t>(commit.ratio) / 100;
  }
  uint64_t committed() const { return commit.pages + shmem_pages; }
  bool may_commit(uint64_t pages) const {
    if (commit.mode == 1) return true;
    if (commit.mode == 0) return pages <= total_pages();
    return committed() < commit_limit() && pages <= commit_limit() - committed();
  }
  // Of CodeShelf. It holds files: given up by the kernel before its filesystems go.
  Ref<RefCounted> code_shelf;

 private:
  PhysMemory() = default;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// One reference to a frame.
class PageRef {
 public:
  PageRef() = default;
  static PageRef adopt(PhysMemory& mem, Pfn pfn) { return PageRef(&mem, pfn); }
  static PageRef share(PhysMemory& mem, Pfn pfn) {
    mem.ref(pfn);
    return PageRef(&mem, pfn);
  }
  PageRef(const PageRef& o) : mem_(o.mem_), pfn_(o.pfn_) {
    if (*this) mem_->ref(pfn_);
  }
  PageRef(PageRef&& o) noexcept : mem_(o.mem_), pfn_(std::exchange(o.pfn_, kNoPfn)) {}
  PageRef& operator=(PageRef o) noexcept {
    std::swap(mem_, o.mem_);
    std::swap(pfn_, o.pfn_);
    return *this;
  }
  ~PageRef() {
    if (*this) mem_->unref(pfn_);
  }
  explicit operator bool() const { return pfn_ != kNoPfn; }
  Pfn pfn() const { return pfn_; }
  std::byte* data() const { return mem_->ptr(pfn_); }
  Pfn release() { return std::exchange(pfn_, kNoPfn); }

 private:
  PageRef(PhysMemory* mem, Pfn pfn) : mem_(mem), pfn_(pfn) {}
  PhysMemory* mem_ = nullptr;
  Pfn pfn_ = kNoPfn;
};

}  // namespace uk
