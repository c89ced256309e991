#include "syscalls/futex.h"

#include <linux/futex.h>
#include <time.h>

#include <algorithm>
#include <vector>

#include "syscalls/fs_common.h"
#include "syscalls/poll.h"
#include "ukernel/kernel.h"
#include "ukernel/mm/futex.h"
#include "ukernel/task/pi_futex.h"
#include "ukernel/task/time_ns.h"

namespace uk {
namespace {

constexpr uint64_t kMaxTimeNs = uint64_t{1} << 62;
constexpr uint32_t kFutex32 = 2;  // FUTEX_32, the only size of futex_waitv(2)

Result<uint64_t> time_ns(Task& task, UserAddr timeout) {
  UserTimespec t = TRY(UserIn<UserTimespec>{timeout}.get(task.park(), task.mm()));
  if (t.sec < 0 || t.nsec < 0 || t.nsec >= static_cast<int64_t>(kNsPerSec))
    return Err(Errno::kINVAL);
  const uint64_t sec = std::min(static_cast<uint64_t>(t.sec), kMaxTimeNs / kNsPerSec);
  return sec * kNsPerSec + static_cast<uint64_t>(t.nsec);
}

// A deadline on the monotonic clock for an absolute time of either clock.
// DEVIATION: a later step of CLOCK_REALTIME does not move it; see docs/CAVEATS.md.
Deadline absolute(Task& task, uint64_t ns, bool realtime) {
  if (!realtime) return {time_outside(ns, monotonic_offset(task))};
  const uint64_t now = task.kernel.clock.realtime_ns();
  return {task.kernel.clock.monotonic_ns() + (ns > now ? ns - now : 0)};
}

Result<int64_t> wait(Task& task, FutexTable::Word word, uint32_t val, uint32_t bits,
                     Deadline deadline) {
  Result<> r = task.kernel.futexes->wait(task.park(), task.mm(), word, val, bits, deadline);
  if (r) return 0;
  if (r.error() != Errno::kRestartSys || deadline.never()) return Err(r.error());
  // Restarted, it waits until the same moment, not as long again.
  task.restart_block = [=](Task& t) { return wait(t, word, val, bits, deadline); };
  return Err(Errno::kRestartBlock);
}

// The operations of locks that lend priority.
Result<int64_t> lending(Task& task, uint32_t cmd, bool realtime, FutexTable::Word first,
                        uint32_t val, UserAddr timeout_or_val2, FutexTable::Word second,
                        uint32_t val3) {
  PiFutexes& table = *task.kernel.pi_futexes;
  const bool waits = cmd == FUTEX_LOCK_PI || cmd == FUTEX_LOCK_PI2 || cmd == FUTEX_WAIT_REQUEUE_PI;
  Deadline deadline = kNever;
  if (waits && timeout_or_val2) {
    deadline = absolute(task, TRY(time_ns(task, timeout_or_val2)),
                        realtime || cmd == FUTEX_LOCK_PI);  // the older call knows one clock
  }
  switch (cmd) {
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2:
      return zero(table.lock(task, first, true, deadline));
    case FUTEX_TRYLOCK_PI:
      return zero(table.lock(task, first, false, kNever));
    case FUTEX_UNLOCK_PI:
      return zero(table.unlock(task, first));
    case FUTEX_WAIT_REQUEUE_PI:
      if (first.addr == second.addr) return Err(Errno::kINVAL);
      return zero(table.wait_requeue(task, first, val, second, deadline));
    default: {
      const int n_move = static_cast<int>(timeout_or_val2.addr);
      if (first.addr == second.addr || val != 1 || n_move < 0) return Err(Errno::kINVAL);
      return TRY(table.requeue(task, first, second, n_move, val3));
    }
  }
}

// Flags of futex2 (linux/futex.h): words of 32 bits, of this process or of all.
Result<FutexTable::Word> word2(uint64_t addr, uint64_t flags) {
  // DEVIATION: neither FUTEX2_NUMA nor FUTEX2_MPOL; see docs/COMPAT.md.
  if ((flags & ~uint64_t{kFutex32 | FUTEX_PRIVATE_FLAG}) != 0 || (flags & kFutex32) == 0)
    return Err(Errno::kINVAL);
  return FutexTable::Word{addr, (flags & FUTEX_PRIVATE_FLAG) != 0};
}

Result<Deadline> deadline2(Task& task, UserAddr timeout, int clock_id) {
  if (!timeout) return kNever;
  if (clock_id != CLOCK_MONOTONIC && clock_id != CLOCK_REALTIME) return Err(Errno::kINVAL);
  return absolute(task, TRY(time_ns(task, timeout)), clock_id == CLOCK_REALTIME);
}

}  // namespace

Result<int64_t> sys_futex_wake(Task& task, UserAddr word, uint64_t mask, int count, Hex flags) {
  const FutexTable::Word w = TRY(word2(word.addr, flags.value & 0xffffffff));
  if (mask == 0 || mask > FutexTable::kAnyBit) return Err(Errno::kINVAL);
  if (TRY(task.kernel.pi_futexes->refuses(task, w))) return Err(Errno::kINVAL);
  if (count == 0) return 0;  // unlike FUTEX_WAKE
  return TRY(task.kernel.futexes->wake(task.park(), task.mm(), w, std::max(count, 1),
                                       static_cast<uint32_t>(mask)));
}

Result<int64_t> sys_futex_wait(Task& task, UserAddr word, uint64_t val, uint64_t mask, Hex flags,
                               UserAddr timeout, int clock_id) {
  const FutexTable::Word w = TRY(word2(word.addr, flags.value & 0xffffffff));
  if (mask == 0 || mask > FutexTable::kAnyBit || val > UINT32_MAX) return Err(Errno::kINVAL);
  const Deadline deadline = TRY(deadline2(task, timeout, clock_id));
  TRY(task.kernel.futexes->wait(task.park(), task.mm(), w, static_cast<uint32_t>(val),
                                static_cast<uint32_t>(mask), deadline));
  return 0;
}

Result<int64_t> sys_futex_requeue(Task& task, UserIn<UserFutexWaitv> waiters, Hex flags, int n_wake,
                                  int n_move) {
  if ((flags.value & 0xffffffff) != 0 || !waiters) return Err(Errno::kINVAL);
  auto pair = TRY(waiters.get_array(task.park(), task.mm(), 2));
  FutexTable::Word words[2];
  for (size_t i = 0; i < 2; ++i) {
    if (pair[i].reserved != 0) return Err(Errno::kINVAL);
    words[i] = TRY(word2(pair[i].addr, pair[i].flags));
    if (pair[i].val > UINT32_MAX) return Err(Errno::kINVAL);
  }
  if (TRY(task.kernel.pi_futexes->refuses(task, words[0]))) return Err(Errno::kINVAL);
  return TRY(task.kernel.futexes->requeue(task.park(), task.mm(), words[0], words[1], n_wake,
                                          n_move, static_cast<uint32_t>(pair[0].val)));
}

Result<int64_t> sys_futex(Task& task, UserAddr word, Hex op, uint32_t val, UserAddr timeout_or_val2,
                          UserAddr word2, uint32_t val3) {
  const uint32_t cmd = static_cast<uint32_t>(op) & FUTEX_CMD_MASK;
  const bool is_private = (op & FUTEX_PRIVATE_FLAG) != 0;
  const bool realtime = (op & FUTEX_CLOCK_REALTIME) != 0;
  if (realtime && cmd != FUTEX_WAIT_BITSET && cmd != FUTEX_WAIT_REQUEUE_PI && cmd != FUTEX_LOCK_PI2)
    return Err(Errno::kNOSYS);
  Park& park = task.park();
  FutexTable& futexes = *task.kernel.futexes;
  const FutexTable::Word first{word.addr, is_private}, second{word2.addr, is_private};
  const int count = static_cast<int>(val);
  const int count2 = static_cast<int>(timeout_or_val2.addr);
  if (cmd == FUTEX_WAKE || cmd == FUTEX_WAKE_BITSET || cmd == FUTEX_REQUEUE ||
      cmd == FUTEX_CMP_REQUEUE) {
    if (TRY(task.kernel.pi_futexes->refuses(task, first))) return Err(Errno::kINVAL);
  }
  switch (cmd) {
    case FUTEX_WAIT: {
      Deadline deadline = kNever;
      if (timeout_or_val2) {
        const uint64_t ns = TRY(time_ns(task, timeout_or_val2));
        deadline = {task.kernel.clock.monotonic_ns() + ns};
      }
      return wait(task, first, val, FutexTable::kAnyBit, deadline);
    }
    case FUTEX_WAIT_BITSET: {
      Deadline deadline = kNever;
      if (timeout_or_val2) deadline = absolute(task, TRY(time_ns(task, timeout_or_val2)), realtime);
      return wait(task, first, val, val3, deadline);
    }
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2:
    case FUTEX_TRYLOCK_PI:
    case FUTEX_UNLOCK_PI:
    case FUTEX_WAIT_REQUEUE_PI:
    case FUTEX_CMP_REQUEUE_PI:
      return lending(task, cmd, realtime, first, val, timeout_or_val2, second, val3);
    case FUTEX_WAKE:  // as Linux, a count below 1 wakes one
      return TRY(futexes.wake(park, task.mm(), first, std::max(count, 1)));
    case FUTEX_WAKE_BITSET:
      return TRY(futexes.wake(park, task.mm(), first, std::max(count, 1), val3));
    case FUTEX_REQUEUE:
      return TRY(futexes.requeue(park, task.mm(), first, second, count, count2, std::nullopt));
    case FUTEX_CMP_REQUEUE:
      return TRY(futexes.requeue(park, task.mm(), first, second, count, count2, val3));
    case FUTEX_WAKE_OP:
      return TRY(futexes.wake_op(park, task.mm(), first, second, std::max(count, 1),
                                 std::max(count2, 1), val3));
    default:  // FUTEX_FD is gone
      return Err(Errno::kNOSYS);
  }
}

Result<int64_t> sys_futex_waitv(Task& task, UserIn<UserFutexWaitv> waiters, uint32_t count,
                                uint32_t flags, UserAddr timeout, int clock_id) {
  if (flags != 0 || count == 0 || count > FutexTable::kMaxWaitMany || !waiters)
    return Err(Errno::kINVAL);
  const Deadline deadline = TRY(deadline2(task, timeout, clock_id));
  std::vector<FutexTable::Expect> words;
  for (const UserFutexWaitv& w : TRY(waiters.get_array(task.park(), task.mm(), count))) {
    if ((w.flags & ~(kFutex32 | FUTEX_PRIVATE_FLAG)) != 0 || w.reserved != 0 ||
        (w.flags & kFutex32) == 0)
      return Err(Errno::kINVAL);
    words.push_back({{w.addr, (w.flags & FUTEX_PRIVATE_FLAG) != 0}, static_cast<uint32_t>(w.val)});
  }
  return static_cast<int64_t>(
      TRY(task.kernel.futexes->wait_many(task.park(), task.mm(), words, deadline)));
}

}  // namespace uk
