// How a task appears to another: by the number that the other's pid namespace has for it, and as
// the user that the other's user namespace makes of its own. What signals, credentials of sockets
// and owners of IPC objects tell is translated by these. Nothing here suspends.
#pragma once

#include "ukernel/task/pid_ns.h"

namespace uk {

// A user or group as `viewer` knows it; the overflow id if it has no mapping there.
inline uint32_t shown_uid(const Task& viewer, uint32_t uid) {
  return shown_uid(viewer.cred().user_ns.get(), uid);
}
inline uint32_t shown_gid(const Task& viewer, uint32_t gid) {
  return shown_gid(viewer.cred().user_ns.get(), gid);
}

// Of a signal that `from` sends to `to`, or the kernel in its name (SI_USER and its like).
SigInfo siginfo_from(const Task& from, const Task& to, int signo, int code);
// SIGCHLD about `child`, for `to` (CLD_*); times in clock ticks.
SigInfo siginfo_about(const Task& child, const Task& to, int code, int status, uint64_t utime = 0,
                      uint64_t stime = 0);

}  // namespace uk
