#include "syscalls/pipe.h"

#include <fcntl.h>
#include <sys/resource.h>

#include "ukernel/fs/pipefs/pipe.h"
#include "ukernel/kernel.h"

namespace uk {

Result<int64_t> sys_pipe(Task& task, UserOut<std::array<int32_t, 2>> fds) {
  return sys_pipe2(task, fds, OpenFlags{0});
}

Result<int64_t> sys_pipe2(Task& task, UserOut<std::array<int32_t, 2>> fds, OpenFlags flags) {
  if ((flags & ~(O_CLOEXEC | O_NONBLOCK | O_DIRECT)) != 0) return Err(Errno::kINVAL);
  const bool cloexec = (flags & O_CLOEXEC) != 0;
  const uint64_t limit = task.rlimit(RLIMIT_NOFILE).cur;
  PipeEnds ends =
      TRY(make_pipe(task.park(), *task.kernel.pipefs, flags, task.cred(), task.kernel.vfs.now()));
  std::array<int32_t, 2> numbers{};
  numbers[0] = TRY(task.fds().add(ends.read_end, cloexec, limit));
  auto second = task.fds().add(ends.write_end, cloexec, limit);
  if (!second) {
    (void)task.fds().close(task.park(), numbers[0]);
    return Err(second.error());
  }
  numbers[1] = *second;
  if (auto put = fds.put(task.park(), task.mm(), numbers); !put) {
    for (int fd : numbers) (void)task.fds().close(task.park(), fd);
    return Err(put.error());
  }
  return 0;
}

}  // namespace uk
