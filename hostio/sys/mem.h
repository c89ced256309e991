// Host calls on the kernel process's own memory, and Mapping, which owns a mapped range. See fd.h
// for the rules.
#pragma once

#include <sys/mman.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "hostio/sys/fd.h"

namespace uk::sys {

constexpr size_t kPageSize = 4096;

Result<void*> mmap(void* addr, size_t len, int prot, int flags, int fd, uint64_t offset);
Result<> munmap(void* addr, size_t len);
Result<void*> mremap(void* old, size_t old_len, size_t new_len, int flags, void* where = nullptr);
Result<> mprotect(void* addr, size_t len, int prot);
Result<> madvise(void* addr, size_t len, int advice);
Result<> msync(void* addr, size_t len, int flags);
Result<> mlock(const void* addr, size_t len);
Result<> mincore(void* addr, size_t len, unsigned char* vec);

// Unmaps its range on destruction.
class Mapping {
 public:
  Mapping() = default;
  Mapping(void* addr, size_t len) : addr_(addr), len_(len) {}
  Mapping(Mapping&& o) noexcept
      : addr_(std::exchange(o.addr_, nullptr)), len_(std::exchange(o.len_, 0)) {}
  Mapping& operator=(Mapping&& o) noexcept {
    if (this != &o) {
      reset();
      addr_ = std::exchange(o.addr_, nullptr);
      len_ = std::exchange(o.len_, 0);
    }
    return *this;
  }
  ~Mapping() { reset(); }

  // Private anonymous memory, zeroed, touched lazily.
  static Result<Mapping> anonymous(size_t len, int prot = PROT_READ | PROT_WRITE,
                                   int extra_flags = 0);
  // A shared mapping of a file.
  static Result<Mapping> shared(int fd, uint64_t offset, size_t len,
                                int prot = PROT_READ | PROT_WRITE, int extra_flags = 0);

  std::byte* data() const { return static_cast<std::byte*>(addr_); }
  size_t size() const { return len_; }
  std::span<std::byte> bytes() const { return {data(), len_}; }
  explicit operator bool() const { return addr_ != nullptr; }
  void reset();
  void* release() {
    len_ = 0;
    return std::exchange(addr_, nullptr);
  }

 private:
  void* addr_ = nullptr;
  size_t len_ = 0;
};

}  // namespace uk::sys
