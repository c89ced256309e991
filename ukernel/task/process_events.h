// What happens to processes, for those who watch them: netlink's process connector and task
// statistics. Nobody watches most of the time, and then an event costs a test of a pointer.
//
// Ownership: watchers belong to whoever made them, who takes them out of the list of Accounting
// before they go. Reactor-owned; tell() may neither suspend nor change the list of watchers.
#pragma once

#include "ukernel/kernel.h"
#include "ukernel/task/acct.h"

namespace uk {

struct ProcessEvent {
  enum class Kind : uint8_t {
    kFork,      // `task` was made and has not run yet; `other` made it
    kExec,      // a new program
    kUid,       // ids changed
    kGid,       //
    kSid,       // a new session
    kPtrace,    // `other` traces it; null: nobody does any more
    kComm,      // a new name
    kCoredump,  // a signal ends it whose default is to dump core
    kEnding,    // still has its memory; `last` of its process
    kExit,      // has ended
  };
  Kind kind;
  Task& task;
  const Task* other = nullptr;
  bool last = false;
};

class ProcessWatcher {
 public:
  virtual ~ProcessWatcher() = default;
  virtual void tell(const ProcessEvent& event) = 0;
};

inline bool processes_watched(const Kernel& kernel) {
  return kernel.accounting && !kernel.accounting->watchers.empty();
}
inline void tell_watchers(const ProcessEvent& event) {
  if (!processes_watched(event.task.kernel)) return;
  for (ProcessWatcher* w : event.task.kernel.accounting->watchers) w->tell(event);
}

}  // namespace uk
