// semget(2), semop(2), semtimedop(2), semctl(2).
#include <sys/sem.h>

#include <algorithm>

#include "syscalls/fs_common.h"
#include "syscalls/ipc.h"
#include "syscalls/ipc_common.h"
#include "ukernel/task/pid_ns.h"

namespace uk {
namespace {

Result<int64_t> operate(Task& task, int id, UserIn<SemOp> ops, size_t count, Deadline deadline) {
  IpcNamespace& ns = task.ipc();
  if (count < 1 || id < 0) return Err(Errno::kINVAL);
  if (count > static_cast<size_t>(ns.sem_max_ops)) return Err(Errno::k2BIG);
  std::vector<SemOp> wanted = TRY(ops.get_array(task.park(), task.mm(), count));
  SemSet* set = TRY(ipc_find(ns.sem_sets, id));
  bool changes = false, undo = false;
  for (const SemOp& op : wanted) {
    if (op.num >= set->count()) return Err(Errno::kFBIG);
    changes |= op.op != 0;
    undo |= (op.flags & SEM_UNDO) != 0;
  }
  if (!set->permits(task.cred(), changes ? 0222 : 0444)) return Err(Errno::kACCES);
  if (undo && !task.sem_undo) task.sem_undo = make_ref<SemUndo>();
  Ref<IpcNamespace> keep(&ns);
  return zero(set->operate(task.park(), std::move(wanted), task.tgid(),
                           undo ? task.sem_undo : nullptr, deadline));
}

Result<int64_t> info(Task& task, int command, UserAddr arg) {
  const IpcNamespace& ns = task.ipc();
  seminfo i = {};
  i.semmap = ns.sem_max;
  i.semmni = ns.sem_max_sets;
  i.semmns = ns.sem_max;
  i.semmnu = ns.sem_max;
  i.semmsl = ns.sem_max_per_set;
  i.semopm = ns.sem_max_ops;
  i.semume = ns.sem_max_ops;
  i.semvmx = SemSet::kMaxValue;
  i.semusz = command == SEM_INFO ? ns.sem_sets.size() : 20;
  i.semaem = command == SEM_INFO ? ns.sem_count : SemSet::kMaxValue;
  TRY(UserOut<seminfo>{{arg}}.put(task.park(), task.mm(), i));
  return ipc_max_index(ns.sem_sets);
}

Result<int64_t> stat(Task& task, int id, int command, UserAddr arg) {
  const bool by_index = command != IPC_STAT;
  SemSet* s =
      TRY(ipc_stat_target(task, task.ipc().sem_sets, id, by_index, command == SEM_STAT_ANY));
  semid_ds d = {};
  d.sem_perm = to_ipc_perm(task, *s);
  d.sem_otime = s->otime;
  d.sem_ctime = s->ctime;
  d.sem_nsems = static_cast<unsigned long>(s->count());
  const int found = s->id;
  TRY(UserOut<semid_ds>{{arg}}.put(task.park(), task.mm(), d));
  return by_index ? found : 0;
}

Result<int64_t> get_all(Task& task, SemSet& set, UserAddr arg) {
  std::vector<uint16_t> values;
  for (int i = 0; i < set.count(); ++i) values.push_back(static_cast<uint16_t>(set.value(i)));
  return zero(UserOut<uint16_t>{{arg}}.put_array(task.park(), task.mm(), values));
}

Result<int64_t> set_all(Task& task, SemSet& set, UserAddr arg) {
  Ref<SemSet> keep(&set);
  auto values = TRY(
      UserIn<uint16_t>{{arg}}.get_array(task.park(), task.mm(), static_cast<size_t>(set.count())));
  if (set.removed) return Err(Errno::kIDRM);
  for (uint16_t v : values)
    if (v > SemSet::kMaxValue) return Err(Errno::kRANGE);
  set.set_all(values, task.tgid());
  return 0;
}

// Commands that tell or change values.
Result<int64_t> values(Task& task, int id, int n, int command, UserAddr arg) {
  const int wanted = static_cast<int>(arg.addr);
  if (command == SETVAL && (wanted < 0 || wanted > SemSet::kMaxValue)) return Err(Errno::kRANGE);
  SemSet* set = TRY(ipc_find(task.ipc().sem_sets, id));
  const bool changes = command == SETVAL || command == SETALL;
  const bool one = command != SETALL && command != GETALL;
  if (command == SETVAL && (n < 0 || n >= set->count())) return Err(Errno::kINVAL);
  if (!set->permits(task.cred(), changes ? 0222 : 0444)) return Err(Errno::kACCES);
  if (one && (n < 0 || n >= set->count())) return Err(Errno::kINVAL);
  switch (command) {
    case GETVAL:
      return set->value(n);
    case GETPID:
      return shown_pid(task, set->pid(n));
    case GETNCNT:
      return set->waiting(n, false);
    case GETZCNT:
      return set->waiting(n, true);
    case GETALL:
      return get_all(task, *set, arg);
    case SETALL:
      return set_all(task, *set, arg);
    default:
      set->set_value(n, wanted, task.tgid());
      return 0;
  }
}

}  // namespace

Result<int64_t> sys_semget(Task& task, int key, int count, Hex flags) {
  IpcNamespace& ns = task.ipc();
  if (count < 0 || count > ns.sem_max_per_set) return Err(Errno::kINVAL);
  auto suits = [&](SemSet& s) { return count > s.count() ? Err(Errno::kINVAL) : Result<>(); };
  return ipc_get(task, ns.sem_sets, key, flags, suits, [&] {
    return SemSet::create(ns, task.cred(), key, count, static_cast<uint32_t>(flags));
  });
}

Result<int64_t> sys_semop(Task& task, int id, UserIn<SemOp> ops, size_t count) {
  return operate(task, id, ops, count, kNever);
}

Result<int64_t> sys_semtimedop(Task& task, int id, UserIn<SemOp> ops, size_t count,
                               UserIn<UserTimespec> timeout) {
  Deadline deadline = kNever;
  if (timeout) {
    const UserTimespec t = TRY(timeout.get(task.park(), task.mm()));
    if (t.sec < 0 || t.nsec < 0 || t.nsec >= static_cast<int64_t>(kNsPerSec))
      return Err(Errno::kINVAL);
    constexpr uint64_t kMaxSec = 1ull << 33;
    deadline = {task.kernel.clock.monotonic_ns() +
                std::min(static_cast<uint64_t>(t.sec), kMaxSec) * kNsPerSec +
                static_cast<uint64_t>(t.nsec)};
  }
  return operate(task, id, ops, count, deadline);
}

Result<int64_t> sys_semctl(Task& task, int id, int number, int command, UserAddr arg) {
  if (id < 0) return Err(Errno::kINVAL);
  switch (command) {
    case kIpcInfo:
    case SEM_INFO:
      return info(task, command, arg);
    case IPC_STAT:
    case SEM_STAT:
    case SEM_STAT_ANY:
      return stat(task, id, command, arg);
    case GETALL:
    case GETVAL:
    case GETPID:
    case GETNCNT:
    case GETZCNT:
    case SETVAL:
    case SETALL:
      return values(task, id, number, command, arg);
    case IPC_SET: {
      const semid_ds d = TRY(UserIn<semid_ds>{{arg}}.get(task.park(), task.mm()));
      SemSet* s = TRY(ipc_find(task.ipc().sem_sets, id));
      if (!s->owned_by(task.cred())) return Err(Errno::kPERM);
      return zero(ipc_set(task, *s, d.sem_perm));
    }
    case IPC_RMID: {
      SemSet* s = TRY(ipc_find(task.ipc().sem_sets, id));
      if (!s->owned_by(task.cred())) return Err(Errno::kPERM);
      s->remove();
      return 0;
    }
    default:
      return Err(Errno::kINVAL);
  }
}

}  // namespace uk
