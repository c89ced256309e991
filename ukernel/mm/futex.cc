#include "ukernel/mm/futex.h"

#include <linux/futex.h>

#include <array>
#include <atomic>
#include <utility>
#include <vector>

#include "absl/hash/hash.h"
#include "ukernel/sched/reactor.h"

namespace uk {

namespace {

using Key = AddressSpace::FutexKey;
constexpr size_t kBuckets = 512;
constexpr int kMaxRobust = 2048;  // ROBUST_LIST_LIMIT

uint32_t load(uint32_t* word) { return std::atomic_ref(*word).load(std::memory_order_seq_cst); }

int32_t sign_extend_12(uint32_t v) { return static_cast<int32_t>(v << 20) >> 20; }

// The operation of FUTEX_WAKE_OP on a value (futex(2)); nullopt if there is no such one.
std::optional<uint32_t> apply_op(uint32_t op, uint32_t old) {
  uint32_t arg = static_cast<uint32_t>(sign_extend_12(op >> 12 & 0xfff));
  if (op >> 28 & FUTEX_OP_OPARG_SHIFT) arg = 1u << (arg & 31);
  switch (op >> 28 & 7) {
    case FUTEX_OP_SET:
      return arg;
    case FUTEX_OP_ADD:
      return old + arg;
    case FUTEX_OP_OR:
      return old | arg;
    case FUTEX_OP_ANDN:
      return old & ~arg;
    case FUTEX_OP_XOR:
      return old ^ arg;
    default:
      return std::nullopt;
  }
}

std::optional<bool> compare_op(uint32_t op, uint32_t old_word) {
  const int32_t arg = sign_extend_12(op & 0xfff), old = static_cast<int32_t>(old_word);
  switch (op >> 24 & 15) {
    case FUTEX_OP_CMP_EQ:
      return old == arg;
    case FUTEX_OP_CMP_NE:
      return old != arg;
    case FUTEX_OP_CMP_LT:
      return old < arg;
    case FUTEX_OP_CMP_LE:
      return old <= arg;
    case FUTEX_OP_CMP_GT:
      return old > arg;
    case FUTEX_OP_CMP_GE:
      return old >= arg;
    default:
      return std::nullopt;
  }
}

Result<Key> key_of(Park& park, AddressSpace& mm, FutexTable::Word word) {
  return mm.futex_key(park, word.addr, word.process_private);
}

}  // namespace

struct FutexTable::Waiter : public ListNode<> {
  Key key;
  uint32_t bitset = kAnyBit;
  Fiber* fiber = nullptr;
  bool woken = false;
};

struct FutexTable::Buckets {
  std::array<List<Waiter>, kBuckets> lists;
};

FutexTable::FutexTable() : buckets_(std::make_unique<Buckets>()) {}
FutexTable::~FutexTable() = default;

List<FutexTable::Waiter>& FutexTable::bucket(const Key& key) {
  return buckets_->lists[absl::HashOf(key) % kBuckets];
}

// Out of line: GCC 12 does not see that the waiter's destructor takes it off the list again.
[[gnu::noinline]] void FutexTable::enqueue(Waiter& w) { bucket(w.key).push_back(w); }

Result<> FutexTable::wait(Park& park, AddressSpace& mm, Word word, uint32_t expected,
                          uint32_t bitset, Deadline deadline) {
  if (bitset == 0) return Err(Errno::kINVAL);
  Waiter self;
  self.key = TRY(key_of(park, mm, word));
  self.bitset = bitset;
  self.fiber = &park.fiber();
  // No wake can come between this look and the queueing: nothing suspends in between.
  uint32_t* p = TRY(mm.atomic_word(park, word.addr, /*for_write=*/false));
  if (load(p) != expected) return Err(Errno::kAGAIN);
  enqueue(self);
  park.fiber().set_wait_reason("futex_wait_queue");
  Result<> result;
  while (!self.woken) {
    if (park.interrupted(WaitMode::kInterruptible)) {
      result = Err(Errno::kRestartSys);
      break;
    }
    if (!deadline.never() && park.reactor().now_ns() >= deadline.at_ns) {
      result = Err(Errno::kTIMEDOUT);
      break;
    }
    park.suspend(deadline);
  }
  park.fiber().set_wait_reason(nullptr);
  return result;
}

Result<size_t> FutexTable::wait_many(Park& park, AddressSpace& mm, std::span<const Expect> words,
                                     Deadline deadline) {
  if (words.empty() || words.size() > kMaxWaitMany) return Err(Errno::kINVAL);
  std::vector<Waiter> waiters(words.size());
  for (size_t i = 0; i < words.size(); ++i) {
    waiters[i].key = TRY(key_of(park, mm, words[i].word));
    waiters[i].fiber = &park.fiber();
  }
  auto woken = [&]() -> std::optional<size_t> {
    for (size_t i = 0; i < waiters.size(); ++i) {
      if (waiters[i].woken) return i;
    }
    return std::nullopt;
  };
  for (size_t i = 0; i < words.size(); ++i) {
    Result<uint32_t*> p = mm.atomic_word(park, words[i].word.addr, /*for_write=*/false);
    // Bringing the page in may have suspended, so one queued before may be woken already.
    if (auto index = woken()) return *index;
    if (!p) return Err(p.error());
    if (load(*p) != words[i].value) return Err(Errno::kAGAIN);
    enqueue(waiters[i]);
  }
  for (;;) {
    if (auto index = woken()) return *index;
    if (park.interrupted(WaitMode::kInterruptible)) return Err(Errno::kRestartSys);
    if (!deadline.never() && park.reactor().now_ns() >= deadline.at_ns) {
      return Err(Errno::kTIMEDOUT);
    }
    park.fiber().set_wait_reason("futex_wait_multiple");
    park.suspend(deadline);
    park.fiber().set_wait_reason(nullptr);
  }
}

bool FutexTable::waits(const Key& key) {
  for (const Waiter& w : bucket(key)) {
    if (w.key == key) return true;
  }
  return false;
}

int FutexTable::wake_key(const Key& key, int count, uint32_t bitset) {
  int n = 0;
  List<Waiter> others;
  List<Waiter>& list = bucket(key);
  while (n < count) {
    Waiter* w = list.pop_front();
    if (w == nullptr) break;
    if (!(w->key == key) || (w->bitset & bitset) == 0) {
      others.push_back(*w);
      continue;
    }
    w->woken = true;
    w->fiber->wake();
    ++n;
  }
  others.splice_back(list);  // those not looked at come behind those passed over
  list.splice_back(others);
  return n;
}

Result<int> FutexTable::wake(Park& park, AddressSpace& mm, Word word, int count, uint32_t bitset) {
  if (bitset == 0) return Err(Errno::kINVAL);
  return wake_key(TRY(key_of(park, mm, word)), count, bitset);
}

Result<int> FutexTable::requeue(Park& park, AddressSpace& mm, Word from, Word to, int n_wake,
                                int n_move, std::optional<uint32_t> expected) {
  if (n_wake < 0 || n_move < 0) return Err(Errno::kINVAL);
  const Key key = TRY(key_of(park, mm, from));
  const Key target = TRY(key_of(park, mm, to));
  if (expected) {
    uint32_t* p = TRY(mm.atomic_word(park, from.addr, /*for_write=*/false));
    if (load(p) != *expected) return Err(Errno::kAGAIN);
  }
  int n = wake_key(key, n_wake, kAnyBit);
  List<Waiter> rest, moved;
  List<Waiter>& list = bucket(key);
  for (int left = n_move; Waiter* w = list.pop_front();) {
    if (left > 0 && w->key == key) {
      w->key = target;
      moved.push_back(*w);
      --left;
      ++n;
    } else {
      rest.push_back(*w);
    }
  }
  list.splice_back(rest);
  bucket(target).splice_back(moved);
  return n;
}

Result<int> FutexTable::wake_op(Park& park, AddressSpace& mm, Word first, Word second, int n1,
                                int n2, uint32_t op) {
  if (!apply_op(op, 0) || !compare_op(op, 0)) return Err(Errno::kNOSYS);
  const Key key1 = TRY(key_of(park, mm, first));
  const Key key2 = TRY(key_of(park, mm, second));
  uint32_t* p = TRY(mm.atomic_word(park, second.addr, /*for_write=*/true));
  std::atomic_ref word(*p);
  uint32_t old = word.load();
  while (!word.compare_exchange_weak(old, *apply_op(op, old))) {
  }
  int n = wake_key(key1, n1, kAnyBit);
  if (*compare_op(op, old)) n += wake_key(key2, n2, kAnyBit);
  return n;
}

// False: leave the list (the memory is not there).
bool FutexTable::exit_robust_word(Park& park, AddressSpace& mm, uint64_t addr, int tid, bool pi,
                                  bool pending) {
  Result<uint32_t*> p = mm.atomic_word(park, addr, /*for_write=*/true);
  if (!p) return false;
  std::atomic_ref word(**p);
  uint32_t value = word.load();
  // It may have died between unlocking and waking.
  if (pending && !pi && value == 0) {
    (void)wake(park, mm, Word{addr, false}, 1);
    return true;
  }
  do {
    if ((value & FUTEX_TID_MASK) != static_cast<uint32_t>(tid)) return true;
  } while (!word.compare_exchange_weak(value, (value & FUTEX_WAITERS) | FUTEX_OWNER_DIED));
  if (!pi && (value & FUTEX_WAITERS) != 0) (void)wake(park, mm, Word{addr, false}, 1);
  return true;
}

void FutexTable::exit_robust_list(Park& park, AddressSpace& mm, uint64_t head_addr, int tid) {
  struct Head {  // struct robust_list_head
    uint64_t next;
    int64_t offset;
    uint64_t pending;
  } head;
  Result<size_t> got = mm.copy_in(park, std::as_writable_bytes(std::span(&head, 1)), head_addr);
  if (!got || *got != sizeof(head)) return;
  // The lowest bit of a link marks a priority-inheriting lock.
  const uint64_t pending = head.pending & ~1ull;
  uint64_t link = head.next;
  for (int i = 0; i < kMaxRobust && (link & ~1ull) != head_addr; ++i) {
    const uint64_t entry = link & ~1ull;
    const bool pi = link & 1;
    uint64_t next = 0;
    got = mm.copy_in(park, std::as_writable_bytes(std::span(&next, 1)), entry);
    const bool have_next = got && *got == sizeof(next);
    if (entry != pending &&
        !exit_robust_word(park, mm, entry + static_cast<uint64_t>(head.offset), tid, pi, false)) {
      return;
    }
    if (!have_next) return;
    link = next;
    if (i % 256 == 255) park.yield();
  }
  if (pending != 0) {
    (void)exit_robust_word(park, mm, pending + static_cast<uint64_t>(head.offset), tid,
                           head.pending & 1, true);
  }
}

}  // namespace uk
