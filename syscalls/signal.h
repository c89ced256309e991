// Signals: actions, masks, waiting, sending (signal(7)). Handlers run on the calling task's fiber;
// arguments are guest input.
#pragma once

#include "syscalls/decode.h"
#include "ukernel/abi/time.h"

namespace uk {

struct UserSigStack {  // stack_t
  uint64_t sp;
  int32_t flags;
  int32_t pad;
  uint64_t size;
};
static_assert(sizeof(UserSigStack) == 24);

Result<int64_t> sys_rt_sigaction(Task& task, Signo sig, UserIn<SigAction> act,
                                 UserOut<SigAction> old, size_t size);
Result<int64_t> sys_rt_sigprocmask(Task& task, int how, UserIn<uint64_t> set, UserOut<uint64_t> old,
                                   size_t size);
Result<int64_t> sys_rt_sigpending(Task& task, UserOut<uint64_t> set, size_t size);
Result<int64_t> sys_rt_sigsuspend(Task& task, UserIn<uint64_t> mask, size_t size);
Result<int64_t> sys_rt_sigtimedwait(Task& task, UserIn<uint64_t> set, UserOut<SigInfo> info,
                                    UserIn<UserTimespec> timeout, size_t size);
Result<int64_t> sys_rt_sigqueueinfo(Task& task, int pid, Signo sig, UserIn<SigInfo> info);
Result<int64_t> sys_rt_tgsigqueueinfo(Task& task, int tgid, int tid, Signo sig,
                                      UserIn<SigInfo> info);
Result<int64_t> sys_rt_sigreturn(Task& task);
Result<int64_t> sys_sigaltstack(Task& task, UserIn<UserSigStack> stack, UserOut<UserSigStack> old);
Result<int64_t> sys_pause(Task& task);
Result<int64_t> sys_kill(Task& task, int pid, Signo sig);
Result<int64_t> sys_tkill(Task& task, int tid, Signo sig);
Result<int64_t> sys_tgkill(Task& task, int tgid, int tid, Signo sig);
Result<int64_t> sys_restart_syscall(Task& task);

}  // namespace uk
