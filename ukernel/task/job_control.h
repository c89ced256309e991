// Job control: stopping and continuing processes, telling parents about it, process groups that
// become orphans (setpgid(2), credentials(7), POSIX "Orphaned Process Group"). Reactor-owned; only
// stop_here() suspends.
#pragma once

#include "ukernel/task/task.h"

namespace uk {

// SIGCONT was sent: stopped threads run again.
void continue_group(ThreadGroup& group);
// A thread took a stop signal: the others are asked to stop too.
void begin_stop(ThreadGroup& group, int signo);
// The thread stops until the group is continued or killed.
void stop_here(Task& task);
// A thread of a group that is stopping has ended: maybe that was the last one to wait for.
void thread_left_stop(ThreadGroup& group);

// No member has a parent in the same session but another group. `leaving`: not counted (it ends).
bool is_orphaned(const ProcessGroup& pgrp, const ThreadGroup* leaving = nullptr);
bool has_stopped(const ProcessGroup& pgrp);
// `leaving` ends and its children have a new parent: process groups that this makes orphans and
// that have stopped members get SIGHUP and SIGCONT.
void hang_up_orphans(ThreadGroup& leaving, const std::vector<ThreadGroup*>& children);
void leave_pgrp(ThreadGroup& group);

}  // namespace uk
