// Which calls may go through the platform's gate, and when a call site is patched for it.
#include "ukernel/task/gate_calls.h"

#include <sys/syscall.h>

#include "ukernel/kernel.h"
#include "ukernel/task/ptrace.h"
#include "ukernel/task/task.h"

namespace uk {
namespace {

// Not those that need all registers anyway, or never return to their site: the gate would only be a
// detour.
bool worth_the_gate(uint64_t nr) {
  switch (nr) {
    case SYS_rt_sigreturn:
    case SYS_clone:
    case SYS_fork:
    case SYS_vfork:
    case SYS_execve:
    case SYS_exit:
    case SYS_sigaltstack:
    case SYS_arch_prctl:
    case SYS_restart_syscall:
    case SYS_exit_group:
    case SYS_execveat:
    case SYS_clone3:
      return false;
    default:
      return nr <= UINT16_MAX;
  }
}

}  // namespace

void note_costly_call(Task& task, const Trap& trap) {
  CallSites& sites = task.mm().call_sites;
  if (!sites.note(trap.ip) || !task.kernel.options.patch_calls) return;
  if (!worth_the_gate(trap.nr) || is_traced(task)) return;
  Ref<AddressSpace> mm(&task.mm());
  // What cannot be patched goes on as it is.
  (void)mm->call_sites.patch(task.park(), *mm, trap.ip, static_cast<uint32_t>(trap.nr),
                             task.kernel.platform->gate());
}

void gs_base_in_use(Park& park, Task& task) {
  if (task.kernel.platform->gate() == 0) return;
  Ref<AddressSpace> mm(&task.mm());
  mm->call_sites.turn_off(park, *mm);
}

}  // namespace uk
