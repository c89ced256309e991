#include "hostio/sys/mem.h"

#include "hostio/sys/ret.h"

namespace uk::sys {

using internal::ret;
using internal::ret_void;

Result<void*> mmap(void* addr, size_t len, int prot, int flags, int fd, uint64_t offset) {
  void* p = ::mmap(addr, len, prot, flags, fd, static_cast<off_t>(offset));
  if (p == MAP_FAILED) return Err(last_errno());
  return p;
}

Result<> munmap(void* addr, size_t len) { return ret_void(::munmap(addr, len)); }

Result<void*> mremap(void* old, size_t old_len, size_t new_len, int flags, void* where) {
  void* p = ::mremap(old, old_len, new_len, flags, where);
  if (p == MAP_FAILED) return Err(last_errno());
  return p;
}

Result<> mprotect(void* addr, size_t len, int prot) {
  return ret_void(::mprotect(addr, len, prot));
}
Result<> madvise(void* addr, size_t len, int advice) {
  return ret_void(::madvise(addr, len, advice));
}
Result<> msync(void* addr, size_t len, int flags) { return ret_void(::msync(addr, len, flags)); }
Result<> mlock(const void* addr, size_t len) { return ret_void(::mlock(addr, len)); }
Result<> mincore(void* addr, size_t len, unsigned char* vec) {
  return ret_void(::mincore(addr, len, vec));
}

Result<Mapping> Mapping::anonymous(size_t len, int prot, int extra_flags) {
  return Mapping(TRY(mmap(nullptr, len, prot, MAP_PRIVATE | MAP_ANONYMOUS | extra_flags, -1, 0)),
                 len);
}

Result<Mapping> Mapping::shared(int fd, uint64_t offset, size_t len, int prot, int extra_flags) {
  return Mapping(TRY(mmap(nullptr, len, prot, MAP_SHARED | extra_flags, fd, offset)), len);
}

void Mapping::reset() {
  if (addr_ != nullptr) ::munmap(std::exchange(addr_, nullptr), std::exchange(len_, 0));
}

}  // namespace uk::sys
