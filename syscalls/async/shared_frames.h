// Memory that kernel and guest share for good: the rings of io_setup(2) and io_uring(7). Frames of
// guest memory, mapped by the guest where it likes, read and written here. Whatever is in them may
// change at any time: a value is loaded once, then checked. Nothing suspends.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "ukernel/mm/memory_object.h"

namespace uk {

class SharedFrames final : public MemoryObject {
 public:
  // At least `bytes` zeros. kNOMEM.
  static Result<Ref<SharedFrames>> create(PhysMemory& mem, uint64_t bytes);
  ~SharedFrames() override;

  // A value that does not straddle pages; `at` is in range: it is not the guest's word.
  template <class T>
  T load(uint64_t at) const {
    static_assert(std::is_trivially_copyable_v<T>);
    T value;
    std::memcpy(&value, place(at, sizeof value), sizeof value);
    return value;
  }
  template <class T>
  void store(uint64_t at, const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    std::memcpy(place(at, sizeof value), &value, sizeof value);
  }
  // A word by which the two sides tell each other that other words are written.
  uint32_t acquire(uint64_t at) const { return __atomic_load_n(word(at), __ATOMIC_ACQUIRE); }
  void release(uint64_t at, uint32_t v) { __atomic_store_n(word(at), v, __ATOMIC_RELEASE); }
  void set_bits(uint64_t at, uint32_t v) { __atomic_fetch_or(word(at), v, __ATOMIC_ACQ_REL); }
  void clear_bits(uint64_t at, uint32_t v) { __atomic_fetch_and(word(at), ~v, __ATOMIC_ACQ_REL); }

  Result<PageRef> get_page(Park& park, uint64_t index, bool for_write) override;
  Pfn cached_page(uint64_t index) override;
  Result<size_t> read(Park& park, uint64_t offset, std::span<std::byte> out) override;
  uint64_t size() override { return pages_.size() * kPageSize; }
  bool tracks_writes() const override { return false; }
  bool shmem() const override { return true; }

 private:
  explicit SharedFrames(PhysMemory& mem) : mem_(mem) {}
  std::byte* place(uint64_t at, size_t n) const;
  uint32_t* word(uint64_t at) const {
    return reinterpret_cast<uint32_t*>(place(at, sizeof(uint32_t)));
  }
  PhysMemory& mem_;
  std::vector<PageRef> pages_;
};

}  // namespace uk
