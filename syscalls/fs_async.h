// Signals to a file's owner (fcntl(2) F_SETOWN, F_SETSIG, signal(7) SIGIO): when it becomes ready
// (O_ASYNC), and when something happens in a directory (F_NOTIFY). Nothing suspends.
#pragma once

#include "ukernel/task/task.h"

namespace uk {

// Sets or clears O_ASYNC. `fd` is what si_fd will say.
// Does the kind of file have signals to send at all (fasync)?
bool has_async(const File& file);
void set_async(Task& task, File& file, int fd, bool on);

// An urgent byte came (MSG_OOB): SIGURG, with O_ASYNC or without.
void signal_urgent(Kernel& kernel, const File& file);

// F_NOTIFY with DN_* bits; 0 ends it. kNOTDIR.
Result<> set_dnotify(Task& task, File& file, int fd, uint32_t events);

// F_SETLEASE: F_RDLCK, F_WRLCK or F_UNLCK. kINVAL, kACCES, kAGAIN.
Result<> set_lease(Task& task, File& file, int fd, int type);

}  // namespace uk
