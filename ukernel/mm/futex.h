// Futexes (futex(2), futex(7)): where threads wait for a word of guest memory to change.
//
// Ownership: the Kernel owns the FutexTable, which must outlive the waits in it. Waiters live on
// the stacks of their fibers; each holds a reference to what its word lies in. Functions with Park&
// may suspend, also those that only wake: the page of the word may have to be brought in. Addresses
// and values are the guest's, and other threads may change a word at any time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/result.h"
#include "ukernel/mm/address_space.h"
#include "ukernel/sched/fiber.h"

namespace uk {

class FutexTable {
 public:
  static constexpr uint32_t kAnyBit = ~0u;  // FUTEX_BITSET_MATCH_ANY
  static constexpr size_t kMaxWaitMany = 128;

  FutexTable();
  ~FutexTable();

  // A word, and whether only this address space uses it (FUTEX_PRIVATE_FLAG).
  struct Word {
    uint64_t addr;
    bool process_private;
  };
  // FUTEX_WAIT_BITSET. kAGAIN: the word is not `expected`; kTIMEDOUT, kRestartSys, kFAULT, kINVAL.
  Result<> wait(Park& park, AddressSpace& mm, Word word, uint32_t expected, uint32_t bitset,
                Deadline deadline);
  // futex_waitv(2): waits on all, returns the index of one that was woken. Errors as wait().
  struct Expect {
    Word word;
    uint32_t value;
  };
  Result<size_t> wait_many(Park& park, AddressSpace& mm, std::span<const Expect> words,
                           Deadline deadline);
  // Wakes up to `count` waiters whose bits meet `bitset`; returns how many.
  Result<int> wake(Park& park, AddressSpace& mm, Word word, int count, uint32_t bitset = kAnyBit);
  Result<int> wake(Park& park, AddressSpace& mm, uint64_t addr, bool process_private, int count,
                   uint32_t bitset) {
    return wake(park, mm, Word{addr, process_private}, count, bitset);
  }
  // FUTEX_REQUEUE, with `expected` FUTEX_CMP_REQUEUE: wakes up to n_wake and lets up to n_move wait
  // on `to` instead. Returns how many in all. kAGAIN.
  Result<int> requeue(Park& park, AddressSpace& mm, Word from, Word to, int n_wake, int n_move,
                      std::optional<uint32_t> expected);
  // FUTEX_WAKE_OP: changes `second` as `op` says, wakes n1 on `first` and, if its old value
  // compares as `op` says, n2 on `second`. kNOSYS for an unknown op.
  Result<int> wake_op(Park& park, AddressSpace& mm, Word first, Word second, int n1, int n2,
                      uint32_t op);
  // Somebody waits there.
  bool waits(const AddressSpace::FutexKey& key);
  // The robust list of an ending thread (get_robust_list(2)): marks the locks it held and wakes one
  // waiter of each. The list is the guest's: bounded, and left at the first thing wrong.
  void exit_robust_list(Park& park, AddressSpace& mm, uint64_t head, int tid);

 private:
  struct Waiter;
  struct Buckets;
  List<Waiter>& bucket(const AddressSpace::FutexKey& key);
  void enqueue(Waiter& w);
  int wake_key(const AddressSpace::FutexKey& key, int count, uint32_t bitset);
  bool exit_robust_word(Park& park, AddressSpace& mm, uint64_t addr, int tid, bool pi,
                        bool pending);

  std::unique_ptr<Buckets> buckets_;
};

}  // namespace uk
