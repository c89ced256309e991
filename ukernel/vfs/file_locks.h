// Advisory locks on an inode: POSIX (fcntl F_SETLK), open file description (F_OFD_SETLK) and
// flock(2). An owner is an address: the descriptor table for POSIX, the File for the other two; it
// drops its locks before it goes.
//
// Ownership: the Inode owns its FileLocks; the Vfs owns the LockGraph of waiting POSIX owners.
// Waiting may suspend and is interruptible. Ranges come from guests, validated by the caller.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "ukernel/sched/wait_queue.h"
#include "ukernel/vfs/leases.h"

namespace uk {

enum class LockKind : uint8_t { kPosix, kOfd, kFlock };

struct FileLock {
  LockKind kind = LockKind::kPosix;
  bool exclusive = false;
  const void* owner = nullptr;
  int pid = 0;                // whom F_GETLK names; -1 for OFD locks
  uint64_t start = 0;         // first byte
  uint64_t end = UINT64_MAX;  // last byte; UINT64_MAX: to the end of the file
};

class FileLocks;

// Who of the POSIX owners waits for which lock: fcntl(2) EDEADLK.
class LockGraph {
 public:
  struct Wait {
    FileLocks* locks;
    FileLock want;
  };
  // True if `owner` waiting for `blocker` closes a cycle.
  bool would_deadlock(const void* owner, const void* blocker) const;
  void add(const void* owner, Wait wait) { waits_.emplace(owner, wait); }
  void remove(const void* owner, const FileLocks* locks);

 private:
  std::unordered_multimap<const void*, Wait> waits_;  // threads share a table, hence multi
};

class FileLocks {
 public:
  static constexpr size_t kMaxLocks = 65536;  // an inode; kNOLCK beyond

  // The first lock in the way of `want`.
  std::optional<FileLock> conflict(const FileLock& want) const;
  // The first lock of the owner of `range` that overlaps it.
  std::optional<FileLock> owned(const FileLock& range) const;
  // Sets the lock, replacing and splitting the owner's own. kAGAIN if in the way and !wait;
  // kDEADLK, kNOLCK, kRestartSys.
  Result<> set(Park& park, const FileLock& want, bool wait, LockGraph& graph);
  void unlock(LockKind kind, const void* owner, uint64_t start, uint64_t end);
  void drop_owner(LockKind kind, const void* owner) { unlock(kind, owner, 0, UINT64_MAX); }
  FileLeases leases;
  const std::vector<FileLock>& all() const { return locks_; }  // /proc/locks

 private:
  bool carve(LockKind kind, const void* owner, uint64_t start, uint64_t end);
  void put(FileLock lock);
  void insert(const FileLock& lock);
  std::vector<FileLock> locks_;
  WaitQueue changed_;
};

}  // namespace uk
