// Result<T> and TRY: how functions of this project fail. A Result is a value or an Errno; TRY takes
// the value out or returns the error to the caller. No exceptions are thrown by our own code.
#pragma once

#include <expected>
#include <type_traits>
#include <utility>

#include "base/errno.h"

namespace uk {

template <class T = void>
using Result = std::expected<T, Errno>;

// `return Err(Errno::kINVAL);`
constexpr std::unexpected<Errno> Err(Errno e) { return std::unexpected<Errno>(e); }

namespace internal {
template <class T>
T take(std::expected<T, Errno>&& r) {
  return *std::move(r);
}
inline void take(std::expected<void, Errno>&&) {}
}  // namespace internal

}  // namespace uk

// The value of a Result, or return its error from the enclosing function. At most one in a braced
// initialiser list, and first there: GCC 12 does not destroy the members built before the return.
#define TRY(...)                                  \
  ({                                              \
    auto try_result_ = (__VA_ARGS__);             \
    if (!try_result_) [[unlikely]]                \
      return ::uk::Err(try_result_.error());      \
    ::uk::internal::take(std::move(try_result_)); \
  })
