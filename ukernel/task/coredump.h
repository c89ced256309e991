// Core dumps (core(5)): the memory and registers of a process that a signal ends, as an ELF file
// "core" in its working directory. Suspends; writes through the vfs with the task's credentials.
#pragma once

#include "ukernel/task/task.h"

namespace uk {

// Called by the thread that took the signal, when its group has begun to end. True if a file was
// written: the wait status then says so.
bool dump_core(Task& task, const SigInfo& info);

}  // namespace uk
