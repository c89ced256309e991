// System calls through the platform's gate (Platform::gate, mm/call_sites.h): which call sites are
// patched, when none may be, and that nobody sees it. All suspend.
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
// A thread of the task's space gets a GS base other than 0, which the gate must not meet. Before it
// does.
void gs_base_in_use(Park& park, Task& task);

}  // namespace uk
