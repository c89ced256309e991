// The software page table of one address space: a radix tree of 512-entry nodes over 47-bit page
// numbers. An entry names the frame that holds a page and the protection with which the stub has it
// mapped.
//
// Owned by AddressSpace. It holds no references itself: its user counts frames. Nothing here
// suspends.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>

#include "ukernel/mm/phys.h"
#include "ukernel/platform/platform.h"

namespace uk {

// 0 is "no frame". In a host-backed VMA that means: the host file shows through.
struct Pte {
  uint64_t bits = 0;

  static Pte make(Pfn pfn, Prot stub, bool anon) {
    return {kFrame | pfn | uint64_t(stub) << kProtShift | (anon ? kAnon : 0)};
  }
  explicit operator bool() const { return bits != 0; }
  Pfn pfn() const { return static_cast<Pfn>(bits); }
  // A private page of this space (perhaps shared copy-on-write after fork); else a page of the
  // object.
  bool anon() const { return (bits & kAnon) != 0; }
  // How the stub maps it now (after the next flush); kNone: not at all, or without rights.
  Prot stub() const { return static_cast<Prot>(bits >> kProtShift & 7); }
  Pte with_stub(Prot p) const {
    return {(bits & ~(uint64_t{7} << kProtShift)) | uint64_t(p) << kProtShift};
  }
  bool readable() const { return any(stub()); }  // x86: every right implies reading
  bool writable() const { return any(stub() & Prot::kWrite); }
  bool operator==(const Pte&) const = default;

 private:
  static constexpr uint64_t kFrame = 1ull << 32;
  static constexpr uint64_t kAnon = 1ull << 33;
  static constexpr int kProtShift = 34;
};

class PageTable {
 public:
  PageTable();
  ~PageTable();

  // Page numbers (address / kPageSize), below 2^36.
  Pte get(uint64_t page) const {
    if (page >> 9 != hot_key_) [[unlikely]] {
      Leaf* leaf = find_leaf(page);
      if (leaf == nullptr) return {};
      hot_key_ = page >> 9;
      hot_ = leaf;
    }
    return hot_->entries[page & 511];
  }
  void set(uint64_t page, Pte pte);

  // Calls f(page, pte) for each present entry of [first, end) in order. f may set() the entry it
  // was called for, nothing else; it returns false to stop.
  template <class F>
  void each(uint64_t first, uint64_t end, F&& f) const {
    while (first < end) {
      uint64_t skip = 0;
      Leaf* leaf = find_leaf(first, &skip);
      uint64_t stop = (first | 511) + 1;
      if (leaf == nullptr) {
        first = skip;
        continue;
      }
      for (; first < stop && first < end; ++first) {
        Pte pte = leaf->entries[first & 511];
        if (!pte) continue;
        const bool last = leaf->used == 1;
        if (!f(first, pte)) return;
        if (last && first_entry_gone(first, leaf)) break;
      }
      first = std::min(stop, end);
    }
  }
  // The first present entry in [first, end), or end.
  uint64_t next(uint64_t first, uint64_t end) const;
  uint64_t count() const { return count_; }  // present entries

 private:
  struct Leaf {
    std::array<Pte, 512> entries;
    uint32_t used = 0;
  };
  struct Mid {
    std::array<std::unique_ptr<Leaf>, 512> leaves;
    uint32_t used = 0;
  };
  struct Top {
    std::array<std::unique_ptr<Mid>, 512> mids;
    uint32_t used = 0;
  };
  // `skip`: where the next leaf may begin if there is none here.
  Leaf* find_leaf(uint64_t page, uint64_t* skip = nullptr) const;
  // True if the leaf was freed by the callback (it held only that entry).
  bool first_entry_gone(uint64_t page, const Leaf* leaf) const { return find_leaf(page) != leaf; }

  std::array<std::unique_ptr<Top>, 512> tops_;
  uint64_t count_ = 0;
  mutable uint64_t hot_key_ = ~0ull;
  mutable Leaf* hot_ = nullptr;
};

}  // namespace uk
