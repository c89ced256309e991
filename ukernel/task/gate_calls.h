// System calls through the platform's gate (Platform::gate, mm/call_sites.h): which call sites are
// patched, when none may be, and that nobody sees it; which calls need not come to the kernel. All
// but tell_ids() suspend.
#pragma once

#include "ukernel/platform/platform.h"

namespace uk {

class Park;
class Task;

// A call came by the costly way (Trap::patchable). May patch its site.
void note_costly_call(Task& task, const Trap& trap);
// The task was interrupted (any trap but a call): if it stands in a thunk, it goes back to the
// site.
void hide_thunk(Task& task, const Trap& trap);
// What the stub may answer for the task, in force at once: before each run, and whenever somebody
// else makes it a task whose calls are watched.
void tell_ids(Task& task);
// All sites of the task's space are as its program has them, for good. Before a thread of it gets a
// GS base other than 0, which the gate must not meet; and for a tracer, who sees and changes code
// (a breakpoint at a call instruction would be one in the jump before it).
void restore_call_sites(Park& park, Task& task);

}  // namespace uk
