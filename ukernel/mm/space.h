// AddressSpace::Impl: the workings of an address space, shared by the files of this directory: VMAs
// (vma.h), software page table (page_table.h), and the mirror of both in the stub. Private to
// ukernel/mm.
//
// The rule of the mirror: a page has in the stub exactly the mapping its entry says (frame and stub
// protection), or, without an entry in a VMA with `host`, the host file with the VMA's protection
// less write; nothing else is mapped. In `hidden` ranges files are not mapped. Frames leave through
// defer(): they are given back when the stub's change is in force. Functions with Park& may
// suspend; then VMAs and entries found before may be gone.
#pragma once

#include <algorithm>
#include <array>
#include <expected>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "ukernel/mm/address_space.h"
#include "ukernel/mm/fork_profile.h"
#include "ukernel/mm/page_table.h"
#include "ukernel/mm/patched_code.h"
#include "ukernel/mm/touch_habit.h"
#include "ukernel/mm/vma.h"

namespace uk {

struct AddressSpace::Impl final : public VmaOwner, public PhysMemory::Reclaimer {
  static constexpr uint64_t kMinAddr = 0x10000;  // vm.mmap_min_addr
  static constexpr uint64_t kEagerCopy = 16;     // pages of a file copied when mapped
  static constexpr size_t kMaxVmas = AddressSpace::kMaxMapCount;
  // The host allows a process so many mappings (its vm.max_map_count, by default); the stub has
  // some.
  static constexpr uint64_t kMaxRegions = 60000;

  Impl(AddressSpace& space, PhysMemory& mem, Platform& platform);
  ~Impl();

  using By = GuestSpace::By;

  AddressSpace& space;
  PhysMemory& mem;
  Platform& platform;
  GuestSpace& guest;
  PageTable pt;
  VmaSet vmas;

  uint64_t mmap_base = 0;
  uint64_t brk_start = 0, brk = 0;
  TouchHabit habit;
  uint64_t stack_limit = 8 << 20, as_limit = UINT64_MAX;
  bool lock_future = false;  // mlockall(MCL_FUTURE)
  // Pages of VMAs, and of those with a frame, by kind.
  uint64_t total = 0, data = 0, stack = 0, exec = 0, locked = 0;
  uint64_t rss_anon = 0, rss_file = 0, rss_shmem = 0;
  uint64_t peak_rss = 0, peak_total = 0;

  // ---- VMAs (space.cc)
  void account(const Vma& v, int64_t sign);
  // Where more than there is may not be promised, everything counts.
  bool reserves_nothing(const MmapRequest& r) const { return r.noreserve && mem.commit.mode != 2; }
  Vma& add(std::unique_ptr<Vma> v);  // counts it; merges
  // Takes the pieces of VMAs in [start, end) away with their pages. `unmap`: the stub's mappings
  // too (false: the caller maps over all of the range at once). True if the stub had any. `by`: who
  // asked for it. What is sealed stays.
  bool remove_range(uint64_t start, uint64_t end, bool unmap = true, By by = By::kKernel);
  // Calls f for the piece of each VMA in [start, end), split off; f may change its properties. Then
  // merges what fits. kNOMEM at the first hole (after the pieces before it).
  template <class F>
  Result<> each_piece(uint64_t start, uint64_t end, F&& f, bool pass_holes = false);
  bool covered(uint64_t start, uint64_t end) const;
  // Something of [start, end) is sealed: pages of ours, which the guest's calls take for holes.
  bool is_sealed(uint64_t start, uint64_t end) const;
  // kPERM: mseal(2) was called for some of [start, end).
  Result<> check_frozen(uint64_t start, uint64_t end) const;
  // A mapping must go where such pages are: they are given up, and what needs them, for good.
  void give_up_sealed(Park& park, uint64_t start, uint64_t end);
  bool any_sealed = false;
  size_t max_vmas() const { return std::min<uint64_t>(mem.max_map_count, kMaxVmas); }
  bool may_split(int n) const { return vmas.size() + n <= max_vmas(); }

  // ---- pages and the mirror (pages.cc)
  void set_pte(const Vma& v, uint64_t page, Pte pte);
  // The protection a page of v may have in the stub.
  Prot stub_prot(const Vma& v, Pte pte) const;
  // To the stub, counting: how many host mappings there may be by now at most.
  void stub_map(uint64_t addr, uint64_t len, Prot prot, int fd, uint64_t offset, bool populate) {
    ++regions;
    guest.map(addr, len, prot, fd, offset, populate);
  }
  void stub_map_late(uint64_t addr, uint64_t len, Prot prot, int fd, uint64_t offset,
                     bool populate) {
    ++regions;
    guest.map_late(addr, len, prot, fd, offset, populate);
  }
  void stub_protect(uint64_t addr, uint64_t len, Prot prot, By by = By::kKernel) {
    regions += 2;
    guest.protect(addr, len, prot, by);
  }
  void stub_unmap(uint64_t addr, uint64_t len, By by = By::kKernel) {
    ++regions;
    guest.unmap(addr, len, by);
  }
  uint64_t regions = 0;
  // Keeps the stub below the host's limit: counts, and if need be takes all frames out of the stub,
  // to come back by faults.
  void bound_regions();
  // Removes the entries in [start, end) of v; `anon_only`/`object_only` keep the others. Queues no
  // stub change.
  enum class Which : uint8_t { kAll, kAnon, kObject };
  void zap(Vma& v, uint64_t start, uint64_t end, Which which = Which::kAll);
  void unmap_stub(uint64_t start, uint64_t end, By by = By::kKernel);
  // Maps the host file where pages of [start, end) have no entry. `late`: the stub has nothing
  // there.
  void map_host(Vma& v, uint64_t start, uint64_t end, bool late = false);
  // (Re)maps the frames in [start, end) with their rightful protection, one command for each
  // contiguous run.
  void map_frames(Vma& v, uint64_t start, uint64_t end, bool populate);
  // Brings the stub's protection in [start, end) in line after v's changed from `old`.
  void reprotect(Vma& v, uint64_t start, uint64_t end, Prot old);
  // Drops pages and shows what is below them (host file or nothing): MADV_DONTNEED, truncation.
  void discard(Vma& v, uint64_t start, uint64_t end, Which which);
  void defer(Pfn pfn, bool anon);
  void keep_until_flush(Ref<MemoryObject> o);
  // Frames that wait for a guest's word to be confirmed are few: others may be short of them.
  static constexpr size_t kMostUnconfirmed = 64;
  // Gives deferred frames back if the stub has made the changes.
  void settle();
  Result<> settle_large(Park& park);  // flushes first if a lot is waiting
  void release(Pfn pfn, bool anon);

  // ---- faults (fault.cc, cow.cc)
  using FaultResult = std::expected<void, FaultError>;
  enum class Who : uint8_t { kGuest, kKernel, kForce };
  FaultResult resolve(Park& park, uint64_t addr, Access access, uint64_t thread, Who who);
  // The steps: true when the page is as wanted, false to look at everything anew (we suspended, or
  // must).
  using Step = std::expected<bool, FaultError>;
  Step touch_anon(Park& park, Vma& v, uint64_t page);
  Step touch_object(Park& park, Vma& v, uint64_t page, bool write);
  Step break_cow(Park& park, Vma& v, uint64_t page, Pte pte);
  Step break_host(Park& park, Vma& v, uint64_t page);
  Step break_cached(Park& park, Vma& v, uint64_t page);
  Step write_shared(Park& park, Vma& v, uint64_t page);
  FaultResult stale(Park& park, Vma& v, uint64_t page, uint64_t addr, uint64_t thread,
                    bool maybe_violation);
  Vma* grow_stack(uint64_t addr);
  bool same_vma(uint64_t page, uint64_t id, Pte pte, Vma** out);
  Step out_of_memory(Park& park);
  // Faults pages of [start, end) in, writable where the VMA is; ignores failures (mlock,
  // MAP_POPULATE).
  Result<> populate(Park& park, uint64_t start, uint64_t end, Access access);
  Result<> populate_all(Park& park, uint64_t start, uint64_t end, int advice);
  // The first kEager pages of [start, end), as if they were touched now, unless frames are scarce.
  static constexpr uint64_t kEager = 64;
  void touch_ahead(Park& park, uint64_t start, uint64_t end);
  // The same in v, anonymous, where there are no pages and the stub has nothing, or the guest is
  // about to take it away: the frames are the table's now and the stub's with its next batch.
  void fill_late(Vma& v, uint64_t start, uint64_t end);
  // Frames for the pages of v from `page` on, of which there are none.
  void give_frames(Vma& v, uint64_t page, const PhysMemory::Extent& frames, bool late);

  // The kernel's view of one page, faulted in: where its bytes are, or the object to read them
  // from.
  struct View {
    std::byte* ptr = nullptr;
    Ref<MemoryObject> object;  // if ptr is null: read only; `limit` bytes from offset
    uint64_t offset = 0, limit = 0;
  };
  Result<View> view(Park& park, uint64_t addr, bool write, Who who);
  template <class F>
  Result<size_t> transfer(Park& park, uint64_t addr, size_t n, bool write, Who who, F&& f);

  void move_vma(Vma& v, uint64_t to, uint64_t new_len, bool keep);

  // ---- code that comes patched (patched_maps.cc)
  // What r shall map instead of its file; null: the file. Suspends.
  Ref<PatchedCode> patched_code(Park& park, const MmapRequest& r);
  // The thunks' place is free when a file is mapped at addr from offset on.
  bool room_for_thunks(uint64_t addr, uint64_t offset) const;
  void map_thunks(Ref<PatchedCode> code, uint64_t base, bool late);
  // A mapping of the code has gone: with the last one the thunks go.
  void drop_thunks(PatchedCode& code, uint64_t base);

  // ---- fork (fork.cc)
  static constexpr uint64_t kForkPopulate = 512;
  static constexpr size_t kMostHidden = 256;
  Ref<ForkProfile> fork_profile = make_ref<ForkProfile>();
  Ref<RefCounted> trust;  // of the child of a fork
  // Of a fork's child: ranges, in order, that the stub does not show although the tables say so. A
  // mapping costs the host as much as several system calls, and most children exec or exit before
  // they have used a third of what they have. A use by the guest or a change shows the range.
  struct Range {
    uint64_t start, end;
  };
  std::vector<Range> hidden;
  // Shows the ranges that overlap [start, end). False: there were none.
  bool reveal(uint64_t start, uint64_t end);
  // [start, end) is about to be unmapped.
  void forget_hidden(uint64_t start, uint64_t end);
  bool copy_for_child(const Vma& v, Impl& child, const Vma& copy, uint64_t page, Pte pte);
  void fork_pages(Vma& v, Impl& child, Vma& copy, bool alone);

  // ---- userfaultfd(2) (userfault.cc)
  std::vector<UserFault*> userfaults;  // of this space
  void forget_userfaults();
  // Pages without a frame that may not be touched (UFFDIO_POISON).
  static constexpr size_t kMaxPoisoned = 65536;
  absl::btree_set<uint64_t> poisoned;
  void forget_poison(uint64_t start, uint64_t end);
  bool missing(const Vma& v, uint64_t page) const;

  // ---- what the space hears from objects and from PhysMemory
  void invalidate(Vma& v, uint64_t start, uint64_t end, bool private_copies) override;
  void write_protect(Vma& v, uint64_t start, uint64_t end) override;
  Ref<MappingSpace> mapping_space() override { return Ref<MappingSpace>(&space); }
  uint64_t reclaim(uint64_t n) override;

  // ---- mmap family (mmap.cc, mremap.cc)
  Result<uint64_t> place(const MmapRequest& r, uint64_t len);
  Result<> check_limits(const MmapRequest& r, uint64_t addr, uint64_t len, const MmLimits& limits);
  Result<> check_range(uint64_t addr, uint64_t* len) const;

 private:
  struct Deferred {
    Pfn pfn;
    bool anon;
  };
  std::vector<Deferred> deferred_;
  std::vector<Ref<MemoryObject>> deferred_objects_;
  // Faults that found nothing to do, lately: two threads faulted at once, or the access is
  // forbidden (stale()).
  struct Stale {
    uint64_t addr = ~0ull, thread = 0;
    uint32_t count = 0;
  };
  std::array<Stale, 16> stale_;
  size_t next_stale_ = 0;

  friend class AddressSpace;
  friend class UserFault;
  friend class AddressSpaceTestPeer;
};

template <class F>
Result<> AddressSpace::Impl::each_piece(uint64_t start, uint64_t end, F&& f, bool pass_holes) {
  reveal(start, end);
  vmas.split(start);
  vmas.split(end);
  Result<> result;
  uint64_t at = start;
  while (at < end) {
    Vma* v = vmas.at_or_above(at);
    const bool hole = v == nullptr || v->start > at || v->sealed;
    if (hole) {
      result = Err(Errno::kNOMEM);
      if (!pass_holes || v == nullptr || v->start >= end) break;
    }
    at = v->end;
    if (v->sealed) continue;
    account(*v, -1);
    Result<> r = f(*v);
    account(*v, +1);
    if (!r) {
      result = r;
      break;
    }
  }
  for (uint64_t b = start;;) {  // merge at every border passed
    Vma* v = vmas.at_or_above(b == 0 ? 0 : b - 1);
    if (v == nullptr || v->start > end) break;
    Vma& joined = vmas.merge(*v);
    if (joined.end >= end) {
      vmas.merge(joined);
      break;
    }
    b = joined.end + 1;
  }
  return result;
}

}  // namespace uk
