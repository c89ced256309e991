// Structures that grow: a call takes a pointer and the size its caller knows (openat2(2),
// clone3(2), file_getattr(2), "Extensibility" in openat2(2)).
#pragma once

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

#include "syscalls/decode.h"

namespace uk {

// A structure of `size` bytes: what the caller does not know is zero; what we do not know must be
// (it asks for nothing then), else k2BIG. kINVAL below `min`, the size of its first version; k2BIG
// above a page.
template <class T>
Result<T> fetch_extensible(Task& task, UserAddr from, size_t size, size_t min) {
  static_assert(std::is_trivially_copyable_v<T>);
  if (size < min) return Err(Errno::kINVAL);
  if (size > kPageSize) return Err(Errno::k2BIG);
  std::vector<std::byte> raw(std::max(size, sizeof(T)));
  if (TRY(task.mm().copy_in(task.park(), std::span(raw).first(size), from.addr)) != size) {
    return Err(Errno::kFAULT);
  }
  if (std::any_of(raw.begin() + sizeof(T), raw.end(),
                  [](std::byte b) { return b != std::byte{0}; })) {
    return Err(Errno::k2BIG);
  }
  T value;
  std::memcpy(&value, raw.data(), sizeof value);
  return value;
}

// The way back: the caller's `size` bytes get what they know of `value`, zeros behind it.
template <class T>
Result<> put_extensible(Task& task, UserAddr to, size_t size, const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::vector<std::byte> raw(std::max(size, sizeof(T)));
  std::memcpy(raw.data(), &value, sizeof value);
  if (TRY(task.mm().copy_out(task.park(), to.addr, std::span(raw).first(size))) != size) {
    return Err(Errno::kFAULT);
  }
  return {};
}

}  // namespace uk
