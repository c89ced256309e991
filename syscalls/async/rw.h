// Reads and writes that a worker does for io_submit(2) and io_uring(7): like preadv2(2) and
// pwritev2(2), of a file instead of a descriptor.
#pragma once

#include <optional>
#include <vector>

#include "ukernel/mm/user_ptr.h"
#include "ukernel/task/task.h"

namespace uk {

struct AsyncRw {
  bool write = false;
  std::vector<UserIovec> iov;
  std::optional<uint64_t> offset;  // unset: the file's position
  int flags = 0;                   // RWF_*
};

// kOPNOTSUPP: flags that are not known.
Result<> check_rw_flags(int flags);
// May suspend. An offset into a stream is ignored, as both interfaces do. kRestartSys: a wait was
// cut short, before anything moved.
Result<size_t> async_rw(Task& worker, File& file, const AsyncRw& rw);

}  // namespace uk
