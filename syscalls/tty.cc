#include "syscalls/tty.h"

#include "ukernel/dev/tty/tty.h"

namespace uk {

Result<int64_t> sys_vhangup(Task& task) {
  if (!task.cred().has(Cap::kSysTtyConfig)) return Err(Errno::kPERM);
  if (Tty* tty = task.group->group->session->tty) {
    Ref<Tty> keep(tty);
    tty->hangup(true);
  }
  return 0;
}

}  // namespace uk
