// wait4(2), waitid(2).
#include "ukernel/task/wait.h"

#include <sys/wait.h>

#include "syscalls/process.h"
#include "ukernel/abi/time.h"
#include "ukernel/task/pid_ns.h"
#include "ukernel/task/pidfd.h"

namespace uk {
namespace {

constexpr uint64_t kWNothread = 0x20000000, kWAll = 0x40000000, kWClone = 0x80000000;
constexpr uint64_t kLinuxBits = kWNothread | kWAll | kWClone;

// Whom the caller means by a number.
void name(const Task& task, WaitRequest& r, WaitRequest::Which which, int shown) {
  const int id = kernel_pid(task, shown);
  r.which = which;
  r.shown = shown;
  r.id = id != 0 ? id : -1;  // nobody
}

void name_own_group(const Task& task, WaitRequest& r) {
  r.which = WaitRequest::Which::kPgrp;
  r.id = task.group->group->pgid;
  r.shown = shown_pid(task, r.id);
}

}  // namespace

rusage to_rusage(const Usage& u) {
  rusage r{};
  UserTimeval user = to_timeval(u.utime_ns), system = to_timeval(u.stime_ns);
  r.ru_utime = {user.sec, user.usec};
  r.ru_stime = {system.sec, system.usec};
  r.ru_maxrss = static_cast<long>(u.max_rss_pages * (kPageSize / 1024));
  r.ru_minflt = static_cast<long>(u.min_faults);
  r.ru_majflt = static_cast<long>(u.maj_faults);
  r.ru_inblock = static_cast<long>(u.read_bytes / 512);
  r.ru_oublock = static_cast<long>(u.write_bytes / 512);
  r.ru_nvcsw = static_cast<long>(u.voluntary);
  r.ru_nivcsw = static_cast<long>(u.involuntary);
  return r;
}

Result<int64_t> sys_wait4(Task& task, int pid, UserOut<int32_t> status, Hex options,
                          UserOut<rusage> usage) {
  uint64_t o = options.value & 0xffffffff;
  if ((o & ~(WNOHANG | WUNTRACED | WCONTINUED | kLinuxBits)) != 0) return Err(Errno::kINVAL);
  if (pid == INT32_MIN) return Err(Errno::kSRCH);
  WaitRequest r;
  r.options = static_cast<int>(o | WEXITED);
  if (pid > 0) {
    name(task, r, WaitRequest::Which::kPid, pid);
  } else if (pid == 0) {
    name_own_group(task, r);
  } else if (pid != -1) {
    name(task, r, WaitRequest::Which::kPgrp, -pid);
  }
  WaitResult w = TRY(wait_for_child(task, r));
  if (w.pid == 0) return 0;
  if (status) TRY(status.put(task.park(), task.mm(), w.status));
  if (usage) TRY(usage.put(task.park(), task.mm(), to_rusage(w.usage)));
  return w.pid;
}

Result<int64_t> sys_waitid(Task& task, int type, int id, UserOut<SigInfo> info, Hex options,
                           UserOut<rusage> usage) {
  uint64_t o = options.value & 0xffffffff;
  if ((o & ~(WNOHANG | WNOWAIT | WEXITED | WSTOPPED | WCONTINUED | kLinuxBits)) != 0)
    return Err(Errno::kINVAL);
  if ((o & (WEXITED | WSTOPPED | WCONTINUED)) == 0) return Err(Errno::kINVAL);
  WaitRequest r;
  r.options = static_cast<int>(o);
  r.trace_stops = false;
  bool nonblocking_fd = false;
  switch (type) {
    case P_ALL:
      break;
    case P_PID:
      if (id <= 0) return Err(Errno::kINVAL);
      name(task, r, WaitRequest::Which::kPid, id);
      break;
    case P_PGID:
      if (id < 0) return Err(Errno::kINVAL);
      if (id == 0) {
        name_own_group(task, r);
      } else {
        name(task, r, WaitRequest::Which::kPgrp, id);
      }
      break;
    case P_PIDFD: {
      if (id < 0) return Err(Errno::kINVAL);
      Ref<File> file = TRY(task.fds().get(id));
      r.which = WaitRequest::Which::kPid;
      r.id = TRY(pidfd_group(*file))->tgid;
      r.shown = shown_pid(task, r.id);
      nonblocking_fd = file->nonblock();
      if (nonblocking_fd) r.options |= WNOHANG;
      break;
    }
    default:
      return Err(Errno::kINVAL);
  }
  WaitResult w = TRY(wait_for_child(task, r));
  if (w.pid == 0 && nonblocking_fd && (o & WNOHANG) == 0) return Err(Errno::kAGAIN);
  if (info) {
    SigInfo out;
    if (w.pid != 0) out = siginfo_child(w.code, w.pid, w.uid, w.value, 0, 0);
    TRY(info.put(task.park(), task.mm(), out));
  }
  if (usage && w.pid != 0) TRY(usage.put(task.park(), task.mm(), to_rusage(w.usage)));
  return 0;
}

}  // namespace uk
