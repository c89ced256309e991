// System V semaphores (semop(2), semctl(2)): sets whose operations happen all or not at all, in the
// order of asking, and adjustments that are undone when a process ends.
//
// Ownership: the namespace's table, waiting operations and undo lists hold Refs to a set. A set
// knows the undo lists that name it (not owned; they leave it when they go). operate() suspends.
// Operations are guest input, bounded by the caller (number, index).
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <vector>

#include "ukernel/ipc/ids.h"
#include "ukernel/sched/wait_queue.h"

namespace uk {

class IpcNamespace;
class SemSet;

struct SemOp {  // struct sembuf
  uint16_t num;
  int16_t op;
  int16_t flags;  // IPC_NOWAIT, SEM_UNDO
};

// The adjustments of one process (of those that share them, CLONE_SYSVSEM); its end undoes them.
class SemUndo final : public RefCounted {
 public:
  ~SemUndo() override;
  int pid = 0;  // whose end it is: becomes sempid

 private:
  friend class SemSet;
  std::vector<int16_t>& of(SemSet& set);
  struct Entry {
    Ref<SemSet> set;
    std::vector<int16_t> adjust;
  };
  std::map<SemSet*, Entry> entries_;
};

class SemSet final : public IpcHeader, public RefCounted {
 public:
  static constexpr int kMaxValue = 32767;
  static constexpr int16_t kUndoFlag = 0x1000;  // SEM_UNDO

  static Result<SemSet*> create(IpcNamespace& ns, const Cred& cred, int32_t key, int count,
                                uint32_t flags);
  SemSet(IpcNamespace& ns, int count) : ns_(ns), sems_(static_cast<size_t>(count)) {}

  int count() const { return static_cast<int>(sems_.size()); }
  int value(int n) const { return sems_[static_cast<size_t>(n)].value; }
  int pid(int n) const { return sems_[static_cast<size_t>(n)].pid; }
  // Those that wait for semaphore n to grow, or (`zero`) to become 0.
  int waiting(int n, bool zero) const;
  // SETVAL, SETALL: forgets the undo values too. Values have been checked.
  void set_value(int n, int value, int pid);
  void set_all(const std::vector<uint16_t>& values, int pid);
  // semop(2): kAGAIN (IPC_NOWAIT or the deadline), kRANGE, kIDRM, kINTR. `undo` is needed if an
  // operation says SEM_UNDO.
  Result<> operate(Park& park, std::vector<SemOp> ops, int pid, Ref<SemUndo> undo,
                   Deadline deadline);
  void remove();  // IPC_RMID; waiters get kIDRM
  int64_t otime = 0;

 private:
  friend class SemUndo;
  struct Sem {
    int value = 0;
    int pid = 0;
  };
  struct Pending final : public RefCounted {
    std::vector<SemOp> ops;
    int pid = 0;
    Ref<SemUndo> undo;
    size_t blocking = 0;  // which operation cannot be done
    bool done = false;
    Errno error = Errno::kOk;
    WaitQueue queue;
  };
  enum class Outcome : uint8_t { kDone, kMustWait, kFailed };
  Outcome attempt(Pending& p);
  // Does what waiters ask for and can be done now.
  void update();
  void forget(SemUndo& undo);

  IpcNamespace& ns_;
  std::vector<Sem> sems_;
  std::list<Ref<Pending>> pending_;
  std::vector<SemUndo*> undos_;
};

}  // namespace uk
