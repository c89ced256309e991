#include "syscalls/seccomp.h"

#include <linux/seccomp.h>

#include "syscalls/fs_common.h"
#include "ukernel/task/gate_calls.h"
#include "ukernel/task/pid_ns.h"
#include "ukernel/task/seccomp.h"
#include "ukernel/task/seccomp_listener.h"

namespace uk {
namespace {

constexpr uint32_t kTsync = 1, kLog = 2, kSpecAllow = 4, kNewListener = 8, kTsyncEsrch = 16,
                   kWaitKillable = 32;

struct UserProgram {  // struct sock_fprog
  uint16_t count;
  uint16_t pad[3];
  uint64_t insns;
};

Result<int64_t> set_strict(Task& task) {
  if (task.seccomp_mode != SECCOMP_MODE_DISABLED && task.seccomp_mode != SECCOMP_MODE_STRICT)
    return Err(Errno::kINVAL);
  task.seccomp_mode = SECCOMP_MODE_STRICT;
  return 0;
}

// SECCOMP_FILTER_FLAG_TSYNC: a thread whose filters are not among ours.
Task* odd_thread(Task& task) {
  for (Task* t : task.group->threads) {
    if (t == &task || t->exiting) continue;
    const bool ours = t->seccomp_mode == SECCOMP_MODE_DISABLED ||
                      (t->seccomp_mode == SECCOMP_MODE_FILTER && task.seccomp &&
                       task.seccomp->descends_from(t->seccomp.get()));
    if (!ours) return t;
  }
  return nullptr;
}

void give(Task& task, const Ref<SeccompFilter>& filter, bool no_new_privs) {
  task.seccomp = filter;
  task.seccomp_mode = SECCOMP_MODE_FILTER;
  tell_ids(task);
  if (!no_new_privs || task.cred().no_new_privs) return;
  Ref<Cred> c = task.cred().copy();
  c->no_new_privs = true;
  task.set_cred(std::move(c));
}

// A fresh listener's descriptor; its filter is not in force yet.
Result<int64_t> add_listener(Task& task, SeccompFilter& filter, bool killable) {
  uint64_t first = 0;
  task.kernel.random(std::as_writable_bytes(std::span(&first, 1)));
  auto notifier = make_ref<SeccompNotifier>(killable, first);
  const int64_t fd = TRY(install_fd(task, make_seccomp_listener(notifier), true));
  filter.set_notifier(std::move(notifier));
  return fd;
}

Result<int64_t> set_filter(Task& task, uint32_t flags, UserAddr arg) {
  const bool listen = (flags & kNewListener) != 0, sync = (flags & kTsync) != 0;
  if ((flags & ~(kTsync | kLog | kSpecAllow | kNewListener | kTsyncEsrch | kWaitKillable)) != 0)
    return Err(Errno::kINVAL);
  // The result cannot be both a thread and a descriptor.
  if (sync && listen && (flags & kTsyncEsrch) == 0) return Err(Errno::kINVAL);
  if ((flags & kWaitKillable) != 0 && !listen) return Err(Errno::kINVAL);
  const UserProgram p = TRY(UserIn<UserProgram>{arg}.get(task.park(), task.mm()));
  if (p.count == 0 || p.count > SeccompFilter::kMaxInsns) return Err(Errno::kINVAL);
  if (!task.cred().no_new_privs && !task.cred().raised(Cap::kSysAdmin)) return Err(Errno::kACCES);
  auto program =
      TRY(UserIn<SeccompFilter::Insn>{{p.insns}}.get_array(task.park(), task.mm(), p.count));
  Ref<SeccompFilter> filter =
      TRY(SeccompFilter::create(std::move(program), task.seccomp, (flags & kLog) != 0));
  if (task.seccomp_mode == SECCOMP_MODE_STRICT) return Err(Errno::kINVAL);
  if (listen && task.seccomp && task.seccomp->listened()) return Err(Errno::kBUSY);
  if (sync) {
    if (Task* odd = odd_thread(task); odd != nullptr) {
      if ((flags & kTsyncEsrch) != 0) return Err(Errno::kSRCH);
      return shown_pid(task, odd->tid);
    }
  }
  const int64_t fd = listen ? TRY(add_listener(task, *filter, (flags & kWaitKillable) != 0)) : 0;
  if (sync) {
    for (Task* t : task.group->threads)
      if (t != &task && !t->exiting) give(*t, filter, task.cred().no_new_privs);
  }
  give(task, filter, false);
  return fd;
}

struct NotifSizes {  // struct seccomp_notif_sizes
  uint16_t notif, resp, data;
};

Result<int64_t> notif_sizes(Task& task, UserAddr arg) {
  const NotifSizes sizes{sizeof(seccomp_notif), sizeof(seccomp_notif_resp), sizeof(seccomp_data)};
  TRY(UserOut<NotifSizes>{arg}.put(task.park(), task.mm(), sizes));
  return 0;
}

Result<int64_t> action_available(Task& task, UserAddr arg) {
  switch (TRY(UserIn<uint32_t>{arg}.get(task.park(), task.mm()))) {
    case SECCOMP_RET_KILL_PROCESS:
    case SECCOMP_RET_KILL_THREAD:
    case SECCOMP_RET_TRAP:
    case SECCOMP_RET_ERRNO:
    case SECCOMP_RET_TRACE:
    case SECCOMP_RET_USER_NOTIF:
    case SECCOMP_RET_LOG:
    case SECCOMP_RET_ALLOW:
      return 0;
    default:
      return Err(Errno::kOPNOTSUPP);
  }
}

}  // namespace

Result<int64_t> sys_seccomp(Task& task, uint32_t operation, uint32_t flags, UserAddr arg) {
  switch (operation) {
    case SECCOMP_SET_MODE_STRICT:
      if (flags != 0 || arg) return Err(Errno::kINVAL);
      return set_strict(task);
    case SECCOMP_SET_MODE_FILTER:
      return set_filter(task, flags, arg);
    case SECCOMP_GET_ACTION_AVAIL:
      if (flags != 0) return Err(Errno::kINVAL);
      return action_available(task, arg);
    case SECCOMP_GET_NOTIF_SIZES:
      if (flags != 0) return Err(Errno::kINVAL);
      return notif_sizes(task, arg);
    default:
      return Err(Errno::kINVAL);
  }
}

Result<int64_t> set_seccomp(Task& task, uint64_t mode, UserAddr program) {
  if (mode == SECCOMP_MODE_STRICT) return set_strict(task);
  if (mode == SECCOMP_MODE_FILTER) return set_filter(task, 0, program);
  return Err(Errno::kINVAL);
}

}  // namespace uk
