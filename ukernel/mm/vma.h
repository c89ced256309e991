// Vma: one range of a guest address space with one meaning. VmaSet: the VMAs of a space in order,
// with the operations on ranges (split, merge, gaps) that know nothing of pages.
//
// Owned by AddressSpace; VMAs hold a Ref to their object and observe it. Nothing here suspends.
// Ranges are page-aligned and validated by the caller.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/container/btree_map.h"
#include "ukernel/mm/memory_object.h"
#include "ukernel/mm/policy.h"
#include "ukernel/mm/userfault.h"
#include "ukernel/platform/platform.h"

namespace uk {

struct Vma;

// What VMAs tell their space.
class VmaOwner {
 public:
  virtual void invalidate(Vma& vma, uint64_t start, uint64_t end, bool private_copies) = 0;
  virtual void write_protect(Vma& vma, uint64_t start, uint64_t end) = 0;
  virtual Ref<MappingSpace> mapping_space() = 0;

 protected:
  ~VmaOwner() = default;
};

struct Vma final : public MappingObserver {
  static constexpr uint32_t kWindow = 16;  // pages a fault in fresh memory brings at first
  static constexpr uint32_t kMaxWindow = 256;

  explicit Vma(VmaOwner& owner) : owner(owner) {}
  ~Vma() { set_object(nullptr); }

  uint64_t len() const { return end - start; }
  uint64_t pages() const { return len() / kPageSize; }
  bool anonymous() const { return !object; }
  // Index in the object of the page at addr.
  uint64_t index(uint64_t addr) const { return (offset + (addr - start)) / kPageSize; }
  bool has(Prot p) const { return any(prot & p); }
  // Counted against RLIMIT_DATA.
  bool data() const { return !shared && has(Prot::kWrite) && !grows_down; }
  // Counted as promised memory.
  bool commits() const { return !shared && has(Prot::kWrite) && !noreserve; }
  // Sets it and joins or leaves its observers. `shared` and `may_write` must be set before.
  void set_object(Ref<MemoryObject> o);
  // Same meaning and, for `next` right behind this, one continuous object.
  bool continues_with(const Vma& next) const;
  // A copy of everything but the place in a set; for another space too.
  std::unique_ptr<Vma> clone(VmaOwner& new_owner) const;

  void invalidate(uint64_t first, uint64_t count, bool private_copies) override;
  void write_protect(uint64_t first, uint64_t count) override;
  Ref<MappingSpace> space() override { return owner.mapping_space(); }

  VmaOwner& owner;
  uint64_t start = 0, end = 0;
  Prot prot = Prot::kNone;
  bool shared = false;
  bool grows_down = false;
  bool locked = false;
  bool may_write = true, may_exec = true;
  bool noreserve = false;
  bool dont_fork = false, wipe_on_fork = false, dont_dump = false;
  bool sealed = false;      // the kernel's own: a hole to the guest's calls
  bool frozen = false;      // by mseal(2)
  bool random = false;      // MADV_RANDOM: no fault-around
  bool sequential = false;  // MADV_SEQUENTIAL: only tells mappings apart
  // Pages without a frame show the object's host file, which is mapped for the whole range.
  bool host = false;
  Ref<MemoryObject> object;
  uint64_t offset = 0;  // of start, bytes into the object
  std::string name;
  Ref<const MemPolicy> policy;  // of mbind(2); null: none
  Ref<UserFault> userfault;     // registered with it; null: no
  // Tells whether a VMA found again after a suspension is the same one. New after each split or
  // change of place.
  uint64_t id = 0;
  // How many pages a fault at `page` brings at most: twice as many as the one before it as long as
  // memory is used in order, else `first` (a power of two).
  uint32_t widen(uint64_t page, uint32_t first) {
    window = page == next_fault ? std::min(window * 2, kMaxWindow) : first;
    return window;
  }
  uint64_t next_fault = 0;
  uint32_t window = kWindow;
  uint32_t host_window = 0;  // file pages that the next first write copies at most; doubles

 private:
  // The part of this VMA that shows pages [first, first+count); false if none.
  bool part(uint64_t first, uint64_t count, uint64_t* from, uint64_t* to) const;
  bool counted_writable_ = false;
};

class VmaSet {
 public:
  using Map = absl::btree_map<uint64_t, std::unique_ptr<Vma>>;  // by start

  // The VMA that contains addr, or null.
  Vma* find(uint64_t addr) const;
  // The first VMA that ends behind addr (contains it or lies above), or null.
  Vma* at_or_above(uint64_t addr) const;
  Vma* below(uint64_t addr) const;  // the last one that starts below addr
  Vma* next(const Vma& v) const { return at_or_above(v.end); }
  Vma& insert(std::unique_ptr<Vma> v);
  std::unique_ptr<Vma> remove(Vma& v);
  // Makes addr a border if it lies inside a VMA.
  void split(uint64_t addr);
  // Joins v with its neighbours where they continue each other; returns the joined one.
  Vma& merge(Vma& v);
  // Moves the start (stack growth) or the end of v.
  void set_start(Vma& v, uint64_t start);
  bool free(uint64_t start, uint64_t end) const;
  // The highest free place of len bytes in [floor, ceiling), with the guard gap kept below stacks.
  std::optional<uint64_t> gap(uint64_t len, uint64_t floor, uint64_t ceiling) const;
  // The lowest in [floor, ceiling).
  std::optional<uint64_t> gap_up(uint64_t len, uint64_t floor, uint64_t ceiling) const;
  size_t size() const { return map_.size(); }
  const Map& map() const { return map_; }
  void clear() {
    map_.clear();
    cache_from_ = offered_ = UINT64_MAX;
  }

  static constexpr uint64_t kStackGap = 256 * kPageSize;

 private:
  // Where the room of v begins: below a stack lies its guard gap.
  static uint64_t room_start(const Vma& v);
  Map map_;
  uint64_t next_id_ = 1;
  // From cache_from_ to the ceiling there is no gap larger than cache_hole_. Learnt by gap() when
  // its answer is taken.
  mutable uint64_t cache_from_ = UINT64_MAX, cache_hole_ = 0, cache_ceiling_ = 0;
  mutable uint64_t offered_ = UINT64_MAX, offered_hole_ = 0;
};

}  // namespace uk
