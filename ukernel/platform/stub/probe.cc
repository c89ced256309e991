#include "ukernel/platform/stub/probe.h"

#include <signal.h>
#include <sys/prctl.h>

#include "hostio/sys/file.h"
#include "hostio/sys/process.h"

namespace uk::stub {

Result<> try_in_child(const std::function<Result<>(int pid)>& in_parent,
                      const std::function<Result<>()>& in_child) {
  auto [go_read, go_write] = TRY(sys::pipe2());
  const int pid = TRY(sys::fork());
  if (pid == 0) {
    (void)sys::prctl(PR_SET_PDEATHSIG, SIGKILL);
    go_write.reset();
    std::byte go;
    auto n = sys::read(go_read.get(), {&go, 1});
    if (!n || *n != 1) sys::exit_now(1);
    Result<> r = in_child();
    sys::exit_now(r ? 0 : static_cast<int>(r.error()));
  }
  Result<> result = in_parent(pid);
  const std::byte go{1};
  if (result) {
    (void)sys::write(go_write.get(), {&go, 1});
  } else {
    (void)sys::kill(pid, SIGKILL);
  }
  for (;;) {
    int status = 0;
    auto r = sys::waitpid(pid, &status, __WALL);
    if (!r && r.error() == Errno::kINTR) continue;
    TRY(r);
    if (WIFSTOPPED(status)) {
      (void)sys::kill(pid, SIGKILL);
      continue;
    }
    TRY(result);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
    return Err(WIFEXITED(status) ? static_cast<Errno>(WEXITSTATUS(status)) : Errno::kPERM);
  }
}

}  // namespace uk::stub
