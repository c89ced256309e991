// Futexes that lend priority (futex(2), "Priority-inheritance futexes"): FUTEX_LOCK_PI and its kin,
// and waits that end as owner of such a lock (FUTEX_WAIT_REQUEUE_PI). Whoever waits lends its
// real-time priority to the owner, and through it to the owner of what that one waits for.
//
// The word holds the owner's tid; the table knows a lock only while somebody waits for it.
// Ownership: the Kernel owns the table, which outlives every wait in it. Waiters live on the stacks
// of their fibers. Functions with Park& may suspend. Words are the guest's: what one says is
// compared with what the table knows, and a contradiction is an error of the caller's.
#pragma once

#include <memory>

#include "ukernel/mm/futex.h"
#include "ukernel/task/task.h"

namespace uk {

class PiFutexes {
 public:
  PiFutexes();
  ~PiFutexes();
  using Word = FutexTable::Word;

  // FUTEX_LOCK_PI. kDEADLK: the caller owns it, or whoever does waits for the caller, at whatever
  // distance; kSRCH: the owner does not exist; kINVAL: the word contradicts what is known;
  // kTIMEDOUT, kRestartNoIntr, kFAULT. `wait` false (FUTEX_TRYLOCK_PI): kAGAIN instead of waiting.
  Result<> lock(Task& task, Word word, bool wait, Deadline deadline);
  // FUTEX_UNLOCK_PI: hands the lock to who waits with the highest priority. kPERM: not the
  // caller's.
  Result<> unlock(Task& task, Word word);
  // FUTEX_WAIT_REQUEUE_PI: waits on `word` until requeue() gives the caller the lock `lock` or lets
  // it wait for it. kAGAIN: the word is not `expected`, or nobody requeued.
  Result<> wait_requeue(Task& task, Word word, uint32_t expected, Word lock, Deadline deadline);
  // FUTEX_CMP_REQUEUE_PI: the first who waits on `from` gets `lock` if it is free; it and up to
  // n_move others wait for it else. Returns how many in all.
  Result<int> requeue(Task& task, Word from, Word lock, int n_move, uint32_t expected);
  // Somebody waits on this word in a way that FUTEX_WAKE and FUTEX_REQUEUE must refuse (kINVAL).
  Result<bool> refuses(Task& task, Word word);
  bool empty() const;

  // The task leaves its address space (its robust list has been gone through): others get what it
  // owned. Does not suspend.
  void release_all(Task& task);
  // The task's own priority is another now. Does not suspend.
  void priority_changed(Task& task);
  // The task will never own one again: who waited to learn what becomes of it may go on.
  void gone();

 private:
  struct State;
  struct Waiter;
  struct Table;
  using Key = AddressSpace::FutexKey;
  enum class Attempt : uint8_t { kTaken, kMustWait, kOwnerExits };

  State* find(const Key& key) const;
  Result<Attempt> attempt(Task& by, const Key& key, uint32_t* word, bool keep_waiters);
  Result<> join(Waiter& w, const Key& key, Task* owner);
  void leave(Waiter& w);
  void grant(State& s, bool owner_died);
  Result<> finish_grant(Waiter& w, Word word);
  Result<> wait_for_grant(Waiter& w, Word word, Deadline deadline);
  Result<> wait_for_exit(Task& task);
  static void by_priority(std::vector<Waiter*>& waiters);
  void lend(Task* owner);
  void drop_if_idle(State& s);
  std::unique_ptr<Table> table_;
};

}  // namespace uk
