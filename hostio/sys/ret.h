// How the calls of this directory turn a host return value into a Result. Private to hostio/sys.
#pragma once

#include <errno.h>

#include "hostio/sys/fd.h"

namespace uk::sys::internal {

template <class T>
Result<T> ret(auto r) {
  if (r == static_cast<decltype(r)>(-1)) [[unlikely]]
    return Err(static_cast<Errno>(errno));
  return static_cast<T>(r);
}
inline Result<> ret_void(long r) {
  if (r == -1) [[unlikely]]
    return Err(static_cast<Errno>(errno));
  return {};
}
inline Result<Fd> ret_fd(long r) {
  if (r == -1) [[unlikely]]
    return Err(static_cast<Errno>(errno));
  return Fd(static_cast<int>(r));
}
// For pthread-style calls that return the error.
inline Result<> ret_code(int e) {
  if (e != 0) [[unlikely]]
    return Err(static_cast<Errno>(e));
  return {};
}

}  // namespace uk::sys::internal
