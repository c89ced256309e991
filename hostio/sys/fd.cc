#include "hostio/sys/fd.h"

#include <errno.h>
#include <unistd.h>

#include "hostio/sys/ret.h"

namespace uk::sys {

Errno last_errno() { return static_cast<Errno>(errno); }

void Fd::reset() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

Result<> Fd::close() {
  if (fd_ < 0) return Err(Errno::kBADF);
  return internal::ret_void(::close(std::exchange(fd_, -1)));
}

}  // namespace uk::sys
