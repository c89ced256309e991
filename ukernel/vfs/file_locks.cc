// Advisory locks.
#include "ukernel/vfs/file_locks.h"

#include <algorithm>

namespace uk {
namespace {

// flock(2) locks live apart from the byte-range kinds.
bool same_space(LockKind a, LockKind b) {
  return (a == LockKind::kFlock) == (b == LockKind::kFlock);
}
bool same_owner(const FileLock& a, const FileLock& b) {
  return a.kind == b.kind && a.owner == b.owner;
}
bool overlap(const FileLock& a, uint64_t start, uint64_t end) {
  return a.start <= end && start <= a.end;
}

}  // namespace

bool LockGraph::would_deadlock(const void* owner, const void* blocker) const {
  constexpr int kMaxSteps = 64;  // Linux gives up after a few as well
  std::vector<const void*> todo{blocker};
  for (int step = 0; step < kMaxSteps && !todo.empty(); ++step) {
    const void* at = todo.back();
    todo.pop_back();
    if (at == owner) return true;
    auto [first, last] = waits_.equal_range(at);
    for (auto it = first; it != last; ++it) {
      auto next = it->second.locks->conflict(it->second.want);
      if (next && next->kind == LockKind::kPosix) todo.push_back(next->owner);
    }
  }
  return false;
}

void LockGraph::remove(const void* owner, const FileLocks* locks) {
  auto [first, last] = waits_.equal_range(owner);
  for (auto it = first; it != last; ++it) {
    if (it->second.locks != locks) continue;
    waits_.erase(it);
    return;
  }
}

std::optional<FileLock> FileLocks::conflict(const FileLock& want) const {
  for (const FileLock& l : locks_) {
    if (!same_space(l.kind, want.kind) || same_owner(l, want)) continue;
    if (!l.exclusive && !want.exclusive) continue;
    if (overlap(l, want.start, want.end)) return l;
  }
  return std::nullopt;
}

std::optional<FileLock> FileLocks::owned(const FileLock& range) const {
  for (const FileLock& l : locks_)
    if (same_owner(l, range) && overlap(l, range.start, range.end)) return l;
  return std::nullopt;
}

Result<> FileLocks::set(Park& park, const FileLock& want, bool wait, LockGraph& graph) {
  if (want.kind == LockKind::kFlock) {
    // A conversion drops the old lock first (flock(2): not atomic).
    for (const FileLock& l : locks_) {
      if (same_owner(l, want) && l.exclusive == want.exclusive) return {};
    }
    drop_owner(want.kind, want.owner);
  }
  for (;;) {
    auto blocker = conflict(want);
    if (!blocker) break;
    if (!wait) return Err(Errno::kAGAIN);
    bool in_graph = want.kind == LockKind::kPosix;
    if (in_graph && blocker->kind == LockKind::kPosix &&
        graph.would_deadlock(want.owner, blocker->owner)) {
      return Err(Errno::kDEADLK);
    }
    if (in_graph) graph.add(want.owner, {this, want});
    // Who waits for somebody else than before may close a cycle by that.
    auto changed = [&] {
      auto now = conflict(want);
      return !now || !same_owner(*now, *blocker);
    };
    Result<> waited = changed_.wait(park, changed, WaitMode::kInterruptible, kNever, "file lock");
    if (in_graph) graph.remove(want.owner, this);
    TRY(std::move(waited));
  }
  if (locks_.size() + 2 > kMaxLocks) return Err(Errno::kNOLCK);
  carve(want.kind, want.owner, want.start, want.end);
  put(want);
  changed_.wake_all();  // a downgrade lets readers in
  return {};
}

// Takes [start, end] out of the owner's locks. True if there was any.
bool FileLocks::carve(LockKind kind, const void* owner, uint64_t start, uint64_t end) {
  bool any = false;
  std::vector<FileLock> rest;
  for (size_t i = 0; i < locks_.size();) {
    FileLock l = locks_[i];
    if (l.kind != kind || l.owner != owner || !overlap(l, start, end)) {
      ++i;
      continue;
    }
    any = true;
    locks_.erase(locks_.begin() + static_cast<ptrdiff_t>(i));
    if (l.start < start) {
      FileLock left = l;
      left.end = start - 1;
      rest.push_back(left);
    }
    if (l.end > end) {
      FileLock right = l;
      right.start = end + 1;
      rest.push_back(right);
    }
  }
  for (const FileLock& l : rest) insert(l);
  return any;
}

// Adds a lock, joined with the owner's neighbours of the same type.
void FileLocks::put(FileLock lock) {
  for (size_t i = 0; i < locks_.size();) {
    const FileLock& l = locks_[i];
    bool touches = (l.end != UINT64_MAX && l.end + 1 == lock.start) ||
                   (lock.end != UINT64_MAX && lock.end + 1 == l.start);
    if (!same_owner(l, lock) || l.exclusive != lock.exclusive || !touches) {
      ++i;
      continue;
    }
    lock.start = std::min(lock.start, l.start);
    lock.end = std::max(lock.end, l.end);
    locks_.erase(locks_.begin() + static_cast<ptrdiff_t>(i));
    i = 0;
  }
  insert(lock);
}

// Locks of an owner lie together and in the order of their starts: that is the order in which
// F_GETLK finds them (as Linux's list).
void FileLocks::insert(const FileLock& lock) {
  auto at = locks_.end();
  for (auto it = locks_.begin(); it != locks_.end(); ++it) {
    if (!same_owner(*it, lock)) continue;
    at = it + 1;
    if (it->start > lock.start) {
      at = it;
      break;
    }
  }
  locks_.insert(at, lock);
}

void FileLocks::unlock(LockKind kind, const void* owner, uint64_t start, uint64_t end) {
  if (carve(kind, owner, start, end)) changed_.wake_all();
}

}  // namespace uk
