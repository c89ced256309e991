// execve(2), execveat(2): fetching the arguments within their limits.
#include "ukernel/task/exec.h"

#include <fcntl.h>
#include <sys/resource.h>

#include "syscalls/fs_common.h"
#include "syscalls/process.h"

namespace uk {
namespace {

// A NULL-terminated array of strings. `budget` is what argv and envp may still take together.
Result<std::vector<std::string>> fetch_strings(Task& task, UserAddr array, size_t& budget) {
  std::vector<std::string> out;
  if (!array) return out;  // Linux takes a null array for an empty one
  for (size_t i = 0;; ++i) {
    uint64_t at = TRY(UserIn<uint64_t>{{array.addr}}.get(task.park(), task.mm(), i));
    if (at == 0) return out;
    Result<std::string> s = task.mm().copy_in_string(task.park(), at, kMaxArgBytes - 1);
    if (!s) return Err(s.error() == Errno::kNAMETOOLONG ? Errno::k2BIG : s.error());
    size_t cost = s->size() + 1 + sizeof(uint64_t);
    if (cost > budget) return Err(Errno::k2BIG);
    budget -= cost;
    out.push_back(std::move(*s));
  }
}

Result<int64_t> exec(Task& task, Fd dirfd, UserStr path, UserAddr argv, UserAddr envp, int flags) {
  ExecRequest r;
  r.flags = flags;
  r.path = TRY(fetch_path(task, path, (flags & AT_EMPTY_PATH) != 0));
  DirFd dir = TRY(DirFd::get(task, dirfd, r.path));
  r.from = dir.from();
  if (dirfd != AT_FDCWD && !r.path.starts_with('/')) {
    r.from_fd = dirfd;
    r.fd_cloexec = TRY(task.fds().cloexec(dirfd));
  }
  size_t budget = argument_limit(task.rlimit(RLIMIT_STACK).cur);
  r.argv = TRY(fetch_strings(task, argv, budget));
  r.envp = TRY(fetch_strings(task, envp, budget));
  TRY(do_execve(task, r));
  return 0;
}

}  // namespace

Result<int64_t> sys_execve(Task& task, UserStr path, UserAddr argv, UserAddr envp) {
  return exec(task, Fd{AT_FDCWD}, path, argv, envp, 0);
}

Result<int64_t> sys_execveat(Task& task, Fd dirfd, UserStr path, UserAddr argv, UserAddr envp,
                             Hex flags) {
  int f = static_cast<int>(flags.value);
  if ((f & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW)) != 0) return Err(Errno::kINVAL);
  return exec(task, dirfd, path, argv, envp, f);
}

}  // namespace uk
