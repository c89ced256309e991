// reboot(2): the end of a pid namespace, or of the instance.
#include <linux/reboot.h>
#include <signal.h>

#include "syscalls/ns.h"
#include "ukernel/kernel.h"
#include "ukernel/task/pid_ns.h"

namespace uk {
namespace {

// What process 1 seems to have died of (pid_namespaces(7) "reboot(2)"); 0: no such command there.
int signal_of(uint32_t command) {
  switch (command) {
    case LINUX_REBOOT_CMD_RESTART:
    case LINUX_REBOOT_CMD_RESTART2:
      return SIGHUP;
    case LINUX_REBOOT_CMD_POWER_OFF:
    case LINUX_REBOOT_CMD_HALT:
      return SIGINT;
    default:
      return 0;
  }
}

bool magic(uint32_t first, uint32_t second) {
  return first == LINUX_REBOOT_MAGIC1 &&
         (second == LINUX_REBOOT_MAGIC2 || second == LINUX_REBOOT_MAGIC2A ||
          second == LINUX_REBOOT_MAGIC2B || second == LINUX_REBOOT_MAGIC2C);
}

}  // namespace

Result<int64_t> sys_reboot(Task& task, int magic1, int magic2, Hex raw_command, UserAddr) {
  const Ref<PidNamespace>& ns = pid_ns_of(task);
  const auto command = static_cast<uint32_t>(raw_command.value);
  if (!task.cred().has_in(ns ? ns->owner.get() : nullptr, Cap::kSysBoot)) return Err(Errno::kPERM);
  if (!magic(static_cast<uint32_t>(magic1), static_cast<uint32_t>(magic2)))
    return Err(Errno::kINVAL);
  const int signo = signal_of(command);
  if (signo == 0) return Err(Errno::kINVAL);
  if (ns) {
    ns->reboot_signal = signo;
    if (ns->init != nullptr) begin_exit_group(*ns->init, SIGKILL);
  } else if (Task* init = task.kernel.init()) {
    // DEVIATION: nothing starts the instance again; see docs/CAVEATS.md.
    begin_exit_group(*init->group, 0);
  }
  begin_exit_thread(task, 0);
  return 0;
}

}  // namespace uk
