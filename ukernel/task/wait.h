// wait4(2) and waitid(2): waiting for children. Suspends.
#pragma once

#include "ukernel/task/task.h"

namespace uk {

struct WaitRequest {
  enum class Which : uint8_t { kAny, kPid, kPgrp } which = Which::kAny;
  int id = 0;               // kPid: tgid; kPgrp: pgid; kernel numbers
  int shown = 0;            // the same as the caller knows it, which may live longer
  bool trace_stops = true;  // stops of tracees count whatever the options say (not waitid(2))
  int options = 0;          // WNOHANG, WEXITED, WSTOPPED, WCONTINUED, WNOWAIT, __WALL, __WCLONE
};
struct WaitResult {
  int pid = 0;  // as the caller knows it; 0: WNOHANG, and nothing has happened
  uint32_t uid = 0;
  int status = 0;  // as wait(2) encodes it
  int code = 0;    // CLD_*
  int value = 0;   // si_status: exit status or signal
  Usage usage;     // of a child that ended, its waited-for children included
};
// Errors: kCHILD (none of that kind), kRestartSys.
Result<WaitResult> wait_for_child(Task& task, const WaitRequest& request);

}  // namespace uk
