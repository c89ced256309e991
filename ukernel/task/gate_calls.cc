// Which calls may go through the platform's gate, and when a call site is patched for it.
#include "ukernel/task/gate_calls.h"

#include <signal.h>
#include <sys/syscall.h>

#include "ukernel/kernel.h"
#include "ukernel/task/pid_ns.h"
#include "ukernel/task/ptrace.h"
#include "ukernel/task/task.h"

namespace uk {
namespace {

// Not those that need all registers, of which the gate does not bring them, nor those that leave
// the image: the gate would only be a detour. Where the number is not the site's own (syscall(3))
// they come through it all the same, and asking for the registers brings the thread out.
bool worth_the_gate(uint64_t nr) {
  switch (nr) {
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

// What others will execute may come only from those who could change their code anyhow.
bool may_teach(const Task& task) {
  const Cred& c = task.cred();
  const std::optional<uint32_t> owner = task.mm().code_owner;
  return owner && task.seccomp_mode == 0 && c.uid == owner && c.euid == owner && c.suid == owner &&
         (owner != 0u || c.has(Cap::kSysPtrace));
}

}  // namespace

void note_costly_call(Task& task, const Trap& trap) {
  if (!worth_the_gate(trap.nr) || !task.kernel.options.patch_calls || is_traced(task)) return;
  const bool hot = task.mm().call_sites.note(trap.ip);
  const bool learn = may_teach(task) && task.mm().note_file_call(trap.ip);
  if (!hot && !learn) return;
  Result<arch::UserRegs> regs = task.context->get_regs(task.park());
  if (!regs) return;
  regs->rax = regs->orig_rax;
  Ref<AddressSpace> mm(&task.mm());
  if (learn) mm->learn_file_call(task.park(), *regs);
  if (!hot || mm->adopt_patched_code(task.park(), trap.ip)) return;
  // What cannot be patched goes on as it is.
  (void)mm->call_sites.patch(task.park(), *mm, *regs, task.kernel.platform->gate());
}

void hide_thunk(Task& task, const Trap& trap) {
  const CallSites& sites = task.mm().call_sites;
  if (!sites.any()) return;
  Result<arch::UserRegs> regs = task.context->get_regs(task.park());
  if (!regs) return;  // the next run tells
  const uint64_t ip = sites.visible_ip(regs->rip);
  // A step that led to the thunk's first instruction must not begin anew for ever.
  const bool stepped = trap.kind == Trap::Kind::kException && trap.signo == SIGTRAP;
  if (ip == regs->rip || (stepped && sites.is_thunk(regs->rip))) return;
  regs->rip = ip;
  (void)task.context->set_regs(task.park(), *regs);
}

void tell_ids(Task& task) {
  if (task.context == nullptr) return;
  CallerIds ids;
  // In a user namespace they change when its mappings are written.
  ids.known = task.kernel.options.tell_ids && !is_traced(task) && task.seccomp_mode == 0 &&
              task.cred().user_ns == nullptr;
  if (ids.known) {
    const Cred& c = task.cred();
    ids.pid = static_cast<uint32_t>(shown_pid(task, task.tgid()));
    ids.tid = static_cast<uint32_t>(shown_pid(task, task.tid));
    ids.uid = c.uid;
    ids.gid = c.gid;
    ids.euid = c.euid;
    ids.egid = c.egid;
  }
  task.context->set_ids(ids);
}

void restore_call_sites(Park& park, Task& task) {
  if (task.kernel.platform->gate() == 0) return;
  Ref<AddressSpace> mm(&task.mm());
  mm->call_sites.turn_off(park, *mm);
}

}  // namespace uk
