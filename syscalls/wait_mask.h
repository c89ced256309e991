// The signal mask of ppoll(2), epoll_pwait(2), io_pgetevents(2) and io_uring_enter(2), in force
// while they wait. Nothing suspends but the copy from the guest.
#pragma once

#include <signal.h>

#include "syscalls/decode.h"

namespace uk {

// Installs the signal mask of ppoll(2) and friends for the length of the call. On interruption the
// old mask is restored after the handler has been set up (saved_blocked), as sigsuspend(2) does.
inline Result<bool> set_wait_mask(Task& task, UserIn<uint64_t> mask, size_t mask_size) {
  if (!mask) return false;
  if (mask_size != sizeof(uint64_t)) return Err(Errno::kINVAL);
  SigSet wanted(TRY(mask.get(task.park(), task.mm())));
  wanted.remove(SIGKILL);
  wanted.remove(SIGSTOP);
  task.saved_blocked = task.blocked;
  task.blocked = wanted;
  return true;
}

inline void end_wait_mask(Task& task, bool masked, bool interrupted) {
  if (!masked || interrupted) return;
  task.blocked = *task.saved_blocked;
  task.saved_blocked.reset();
}

}  // namespace uk
