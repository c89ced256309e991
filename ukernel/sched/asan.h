// Tells AddressSanitizer about switches between stacks; nothing in other builds. Private to sched.
#pragma once

#include <cstddef>

#ifdef __has_feature  // Clang
#if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>

namespace uk::asan {
constexpr bool kEnabled = true;
inline void start_switch(void** save, const void* bottom, size_t size) {
  __sanitizer_start_switch_fiber(save, bottom, size);
}
inline void finish_switch(void* save, const void** old_bottom, size_t* old_size) {
  __sanitizer_finish_switch_fiber(save, old_bottom, old_size);
}
inline void unpoison(const void* p, size_t n) { __asan_unpoison_memory_region(p, n); }
}  // namespace uk::asan
#else
namespace uk::asan {
constexpr bool kEnabled = false;
inline void start_switch(void**, const void*, size_t) {}
inline void finish_switch(void*, const void**, size_t*) {}
inline void unpoison(const void*, size_t) {}
}  // namespace uk::asan
#endif
