// The task on whose fiber kernel code runs now. For files whose answer depends on who asks
// (/proc/self, signalfd, terminals); system calls are handed their task and do not need it.
#pragma once

#include "ukernel/sched/reactor.h"
#include "ukernel/task/task.h"

namespace uk {

// Null between fibers and on the kernel's own fibers. Only tasks are interruptors of fibers.
inline Task* current_task(Reactor& reactor) {
  Fiber* f = reactor.current();
  if (f == nullptr || f->interruptor() == nullptr) return nullptr;
  return const_cast<Task*>(static_cast<const Task*>(f->interruptor()));
}

}  // namespace uk
