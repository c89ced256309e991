// kcmp(2): whether two processes share an object of the kernel's. Addresses are compared in an
// order that says nothing about them.
#include <linux/kcmp.h>

#include "syscalls/process.h"
#include "ukernel/kernel.h"
#include "ukernel/task/pid_ns.h"
#include "ukernel/task/task.h"

namespace uk {
namespace {

// 0: the same; 1, 2: less, greater.
int64_t order(const Kernel& kernel, const void* a, const void* b) {
  auto hidden = [&](const void* p) {
    return (reinterpret_cast<uintptr_t>(p) ^ kernel.order_cookies[0]) *
           (kernel.order_cookies[1] | 1);
  };
  const uint64_t x = hidden(a), y = hidden(b);
  return x < y ? 1 : x > y ? 2 : 0;
}

Result<Ref<File>> file_of(Task& t, uint64_t fd) {
  if (!t.fds_) return Err(Errno::kBADF);  // it has ended
  return t.fds().get(static_cast<int>(fd));
}

}  // namespace

Result<int64_t> sys_kcmp(Task& task, int pid1, int pid2, int type, uint64_t index1,
                         uint64_t index2) {
  Kernel& k = task.kernel;
  Task* a = pid1 > 0 ? task_by_number(task, pid1) : nullptr;
  Task* b = pid2 > 0 ? task_by_number(task, pid2) : nullptr;
  if (a == nullptr || b == nullptr) return Err(Errno::kSRCH);
  if (!may_access(task, *a) || !may_access(task, *b)) return Err(Errno::kPERM);
  switch (type) {
    case KCMP_FILE: {
      Ref<File> x = TRY(file_of(*a, index1));
      Ref<File> y = TRY(file_of(*b, index2));
      return order(k, x.get(), y.get());
    }
    case KCMP_VM:
      return order(k, a->mm_.get(), b->mm_.get());
    case KCMP_FILES:
      return order(k, a->fds_.get(), b->fds_.get());
    case KCMP_FS:
      return order(k, a->fs_.get(), b->fs_.get());
    case KCMP_SIGHAND:
      return order(k, a->group->handlers.get(), b->group->handlers.get());
    case KCMP_SYSVSEM:
      return order(k, a->sem_undo.get(), b->sem_undo.get());
    case KCMP_IO:
      return 0;  // there are no I/O contexts to differ
    case KCMP_EPOLL_TFD:
      return Err(Errno::kOPNOTSUPP);
    default:
      return Err(Errno::kINVAL);
  }
}

}  // namespace uk
