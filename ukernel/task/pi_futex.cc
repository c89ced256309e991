#include "ukernel/task/pi_futex.h"

#include <linux/futex.h>

#include <algorithm>
#include <atomic>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/check.h"
#include "ukernel/kernel.h"
#include "ukernel/task/pid_ns.h"

namespace uk {
namespace {

constexpr int kMaxChain = 1024;  // kernel.max_lock_depth

int rt_priority(const Task& t) { return t.sched.effective_rt(); }
uint32_t tid_of(const Task& t) { return static_cast<uint32_t>(shown_pid(t, t.tid)); }
uint32_t load(uint32_t* word) { return std::atomic_ref(*word).load(); }
bool exchange(uint32_t* word, uint32_t from, uint32_t to) {
  return std::atomic_ref(*word).compare_exchange_strong(from, to);
}

}  // namespace

// A lock somebody waits for, or has just been given and not yet written into the word.
struct PiFutexes::State {
  Key key;
  Task* owner = nullptr;         // null only while its last owner's end is being dealt with
  std::vector<Waiter*> waiters;  // by priority, then in order of arrival
  int unfinished = 0;            // grants that are not in the word yet
};

struct PiFutexes::Waiter {
  Task* task = nullptr;
  State* state = nullptr;  // what it waits for; null once it has it
  bool granted = false;
  bool word_written = false;  // the granter wrote the word
  bool owner_died = false;
  // ---- FUTEX_WAIT_REQUEUE_PI
  Key from, to;
  bool waits_for_requeue = false;
};

struct PiFutexes::Table {
  absl::flat_hash_map<Key, std::unique_ptr<State>> states;
  absl::flat_hash_map<const Task*, std::vector<State*>> owned;
  absl::flat_hash_map<const Task*, Waiter*> blocked;
  std::vector<Waiter*> requeueable;  // on their first word, in order of arrival
  WaitQueue owner_exits;
};

PiFutexes::PiFutexes() : table_(std::make_unique<Table>()) {}
PiFutexes::~PiFutexes() = default;

bool PiFutexes::empty() const { return table_->states.empty() && table_->requeueable.empty(); }

PiFutexes::State* PiFutexes::find(const Key& key) const {
  auto it = table_->states.find(key);
  return it == table_->states.end() ? nullptr : it->second.get();
}

void PiFutexes::by_priority(std::vector<Waiter*>& waiters) {
  std::stable_sort(waiters.begin(), waiters.end(), [](const Waiter* a, const Waiter* b) {
    return rt_priority(*a->task) > rt_priority(*b->task);
  });
}

// The owner's priority becomes the highest of those who wait for anything it owns, and so on along
// the chain of those that wait themselves.
void PiFutexes::lend(Task* owner) {
  for (int depth = 0; owner != nullptr && depth < kMaxChain; ++depth) {
    int highest = 0;
    if (auto it = table_->owned.find(owner); it != table_->owned.end()) {
      for (const State* s : it->second) {
        if (!s->waiters.empty())
          highest = std::max(highest, rt_priority(*s->waiters.front()->task));
      }
    }
    if (owner->sched.lent_rt == highest) return;
    owner->sched.lent_rt = highest;
    owner->kernel.vcpus.priority_changed(owner->sched);
    auto it = table_->blocked.find(owner);
    if (it == table_->blocked.end()) return;
    State& s = *it->second->state;
    by_priority(s.waiters);
    owner = s.owner;
  }
}

void PiFutexes::drop_if_idle(State& s) {
  if (!s.waiters.empty() || s.unfinished != 0) return;
  if (s.owner != nullptr) {
    auto it = table_->owned.find(s.owner);
    CHECK(it != table_->owned.end());
    std::erase(it->second, &s);
    if (it->second.empty()) table_->owned.erase(it);
  }
  const Key key = s.key;  // outlives its entry
  table_->states.erase(key);
}

// Takes the lock if the word says that it is free; else marks it as waited for and sees that its
// owner is one that can be waited for. Does not suspend.
Result<PiFutexes::Attempt> PiFutexes::attempt(Task& by, const Key& key, uint32_t* word,
                                              bool keep_waiters) {
  for (;;) {
    uint32_t value = load(word);
    const uint32_t tid = value & FUTEX_TID_MASK;
    if (tid == tid_of(by)) return Err(Errno::kDEADLK);
    if (State* s = find(key)) {
      // An owner that has just been made has not written the word yet.
      if (s->unfinished != 0 || s->owner == nullptr) return Attempt::kMustWait;
      if (tid != tid_of(*s->owner)) return Err(Errno::kINVAL);
      return Attempt::kMustWait;
    }
    if (tid == 0) {
      const uint32_t next = (value & FUTEX_OWNER_DIED) | tid_of(by) |
                            (keep_waiters ? static_cast<uint32_t>(FUTEX_WAITERS) : 0);
      if (exchange(word, value, next)) return Attempt::kTaken;
      continue;
    }
    if ((value & FUTEX_WAITERS) == 0) {
      if (!exchange(word, value, value | FUTEX_WAITERS)) continue;
      value |= FUTEX_WAITERS;
    }
    Task* owner = task_by_number(by, static_cast<int>(tid));
    if (owner == nullptr || !owner->mm_) {
      if (load(word) != value) continue;
      return Err(Errno::kSRCH);
    }
    return owner->exiting ? Attempt::kOwnerExits : Attempt::kMustWait;
  }
}

// Lets w wait for the lock of `key`, which `owner` has unless it is known whose it is.
Result<> PiFutexes::join(Waiter& w, const Key& key, Task* owner) {
  State* s = find(key);
  Task* holder = s != nullptr ? s->owner : owner;
  // Whoever it is that must go on first: does it wait for us?
  Task* t = holder;
  for (int depth = 0; t != nullptr; ++depth) {
    if (t == w.task || depth == kMaxChain) return Err(Errno::kDEADLK);
    auto it = table_->blocked.find(t);
    t = it == table_->blocked.end() ? nullptr : it->second->state->owner;
  }
  if (s == nullptr) {
    auto fresh = std::make_unique<State>();
    s = fresh.get();
    s->key = key;
    s->owner = holder;
    table_->owned[holder].push_back(s);
    table_->states.emplace(key, std::move(fresh));
  }
  auto behind = std::find_if(s->waiters.begin(), s->waiters.end(), [&](const Waiter* o) {
    return rt_priority(*o->task) < rt_priority(*w.task);
  });
  s->waiters.insert(behind, &w);
  w.state = s;
  table_->blocked[w.task] = &w;
  lend(s->owner);
  return {};
}

void PiFutexes::leave(Waiter& w) {
  State& s = *std::exchange(w.state, nullptr);
  table_->blocked.erase(w.task);
  std::erase(s.waiters, &w);
  Task* owner = s.owner;
  drop_if_idle(s);
  lend(owner);
}

// The first waiter becomes the owner; the word is for it, or the caller, to write.
void PiFutexes::grant(State& s, bool owner_died) {
  Task* before = s.owner;
  if (before != nullptr) {
    auto it = table_->owned.find(before);
    CHECK(it != table_->owned.end());
    std::erase(it->second, &s);
    if (it->second.empty()) table_->owned.erase(it);
    s.owner = nullptr;
  }
  Waiter& w = *s.waiters.front();
  s.waiters.erase(s.waiters.begin());
  table_->blocked.erase(w.task);
  w.granted = true;
  w.owner_died = owner_died;
  ++s.unfinished;
  s.owner = w.task;
  table_->owned[w.task].push_back(&s);
  lend(before);
  lend(s.owner);
  w.task->fiber->wake();
}

// The new owner writes itself into the word, where the one before it has not.
Result<> PiFutexes::finish_grant(Waiter& w, Word word) {
  Result<> result;
  if (!w.word_written) {
    Result<uint32_t*> p = w.task->mm().atomic_word(w.task->park(), word.addr, /*for_write=*/true);
    if (p) {
      std::atomic_ref at(**p);
      uint32_t value = at.load();
      const uint32_t died = w.owner_died ? static_cast<uint32_t>(FUTEX_OWNER_DIED) : 0;
      while (!at.compare_exchange_weak(
          value, tid_of(*w.task) | FUTEX_WAITERS | died | (value & FUTEX_OWNER_DIED))) {
      }
    } else {
      result = Err(p.error());
    }
  }
  State& s = *std::exchange(w.state, nullptr);
  --s.unfinished;
  if (!result && !s.waiters.empty()) {
    grant(s, w.owner_died);  // it cannot own what it cannot write
  } else {
    Task* owner = s.owner;
    drop_if_idle(s);
    lend(owner);
  }
  return result;
}

Result<> PiFutexes::wait_for_grant(Waiter& w, Word word, Deadline deadline) {
  Park& park = w.task->park();
  Result<> result;
  while (!w.granted) {
    if (park.interrupted(WaitMode::kInterruptible)) result = Err(Errno::kRestartNoIntr);
    if (!deadline.never() && park.reactor().now_ns() >= deadline.at_ns)
      result = Err(Errno::kTIMEDOUT);
    if (!result) {
      leave(w);
      return result;
    }
    park.fiber().set_wait_reason("rt_mutex_wait");
    park.suspend(deadline);
    park.fiber().set_wait_reason(nullptr);
  }
  return finish_grant(w, word);
}

// The owner is ending: what becomes of the word is seen when it has ended.
Result<> PiFutexes::wait_for_exit(Task& task) {
  bool first = true;
  Result<> r = table_->owner_exits.wait(
      task.park(), [&] { return !std::exchange(first, false); }, WaitMode::kInterruptible, kNever,
      "futex_owner_exit");
  return r ? r : Err(Errno::kRestartNoIntr);
}

Result<> PiFutexes::lock(Task& task, Word word, bool wait, Deadline deadline) {
  for (;;) {
    const Key key = TRY(task.mm().futex_key(task.park(), word.addr, word.process_private));
    uint32_t* p = TRY(task.mm().atomic_word(task.park(), word.addr, /*for_write=*/true));
    switch (TRY(attempt(task, key, p, false))) {
      case Attempt::kTaken:
        return {};
      case Attempt::kOwnerExits:
        TRY(wait_for_exit(task));
        continue;
      case Attempt::kMustWait:
        break;
    }
    if (!wait) return Err(Errno::kAGAIN);
    Task* owner = task_by_number(task, static_cast<int>(load(p) & FUTEX_TID_MASK));
    if (owner == nullptr && find(key) == nullptr) continue;  // the guest wrote it just now
    Waiter w;
    w.task = &task;
    TRY(join(w, key, owner));
    return wait_for_grant(w, word, deadline);
  }
}

Result<> PiFutexes::unlock(Task& task, Word word) {
  const Key key = TRY(task.mm().futex_key(task.park(), word.addr, word.process_private));
  uint32_t* p = TRY(task.mm().atomic_word(task.park(), word.addr, /*for_write=*/true));
  for (;;) {
    const uint32_t value = load(p);
    if ((value & FUTEX_TID_MASK) != tid_of(task)) return Err(Errno::kPERM);
    State* s = find(key);
    if (s == nullptr || s->waiters.empty()) {
      if (exchange(p, value, 0)) return {};
      continue;
    }
    if (s->owner != &task) return Err(Errno::kINVAL);
    Waiter& next = *s->waiters.front();
    if (!exchange(p, value, tid_of(*next.task) | FUTEX_WAITERS)) continue;
    next.word_written = true;
    grant(*s, false);
    return {};
  }
}

Result<> PiFutexes::wait_requeue(Task& task, Word word, uint32_t expected, Word lock,
                                 Deadline deadline) {
  Park& park = task.park();
  Waiter w;
  w.task = &task;
  w.from = TRY(task.mm().futex_key(park, word.addr, word.process_private));
  w.to = TRY(task.mm().futex_key(park, lock.addr, lock.process_private));
  uint32_t* p = TRY(task.mm().atomic_word(park, word.addr, /*for_write=*/false));
  if (load(p) != expected) return Err(Errno::kAGAIN);
  if (w.from == w.to) return Err(Errno::kINVAL);
  w.waits_for_requeue = true;
  table_->requeueable.push_back(&w);
  while (w.waits_for_requeue) {
    Result<> result;
    if (park.interrupted(WaitMode::kInterruptible)) result = Err(Errno::kRestartNoIntr);
    if (!deadline.never() && park.reactor().now_ns() >= deadline.at_ns)
      result = Err(Errno::kTIMEDOUT);
    if (!result) {
      std::erase(table_->requeueable, &w);
      return result;
    }
    park.fiber().set_wait_reason("futex_wait_requeue_pi");
    park.suspend(deadline);
    park.fiber().set_wait_reason(nullptr);
  }
  if (w.state == nullptr) return {};  // it was free
  Result<> r = wait_for_grant(w, lock, deadline);
  // It is off the first word for good: the caller must look again.
  if (!r && r.error() == Errno::kRestartNoIntr) return Err(Errno::kAGAIN);
  return r;
}

Result<int> PiFutexes::requeue(Task& task, Word from, Word lock, int n_move, uint32_t expected) {
  const Key first = TRY(task.mm().futex_key(task.park(), from.addr, from.process_private));
  const Key second = TRY(task.mm().futex_key(task.park(), lock.addr, lock.process_private));
  if (first == second) return Err(Errno::kINVAL);
  for (;;) {
    (void)TRY(task.mm().atomic_word(task.park(), lock.addr, /*for_write=*/true));
    uint32_t* value = TRY(task.mm().atomic_word(task.park(), from.addr, /*for_write=*/false));
    if (load(value) != expected) return Err(Errno::kAGAIN);
    // Looking at one page may have moved the other's.
    uint32_t* p = TRY(task.mm().atomic_word(task.park(), lock.addr, /*for_write=*/true));
    std::vector<Waiter*> mine;
    for (Waiter* w : table_->requeueable) {
      if (w->from == first) mine.push_back(w);
    }
    if (mine.empty()) {
      if (task.kernel.futexes->waits(first)) return Err(Errno::kINVAL);
      return 0;
    }
    int n = 0;
    for (Waiter* w : mine) {
      if (n > n_move) break;
      if (!(w->to == second)) return n > 0 ? Result<int>(n) : Err(Errno::kINVAL);
      Result<Attempt> a = attempt(*w->task, second, p, n < n_move && mine.size() > 1);
      if (a && *a == Attempt::kOwnerExits) {
        if (n > 0) return n;
        TRY(wait_for_exit(task));
        break;
      }
      if (a && *a == Attempt::kMustWait) {
        Task* owner = task_by_number(task, static_cast<int>(load(p) & FUTEX_TID_MASK));
        if (owner == nullptr && find(second) == nullptr) return n > 0 ? n : Result<int>(0);
        if (Result<> joined = join(*w, second, owner); !joined) a = Err(joined.error());
      }
      if (!a) return n > 0 ? Result<int>(n) : Err(a.error());
      std::erase(table_->requeueable, w);
      w->waits_for_requeue = false;
      if (*a == Attempt::kTaken) w->task->fiber->wake();
      ++n;
    }
    if (n > 0) return n;
  }
}

Result<bool> PiFutexes::refuses(Task& task, Word word) {
  if (empty()) return false;
  const Key key = TRY(task.mm().futex_key(task.park(), word.addr, word.process_private));
  if (State* s = find(key); s != nullptr && !s->waiters.empty()) return true;
  return std::any_of(table_->requeueable.begin(), table_->requeueable.end(),
                     [&](const Waiter* w) { return w->from == key; });
}

void PiFutexes::release_all(Task& task) {
  auto it = table_->owned.find(&task);
  if (it == table_->owned.end()) return;
  const std::vector<State*> owned = it->second;
  for (State* s : owned) {
    if (s->waiters.empty()) {
      s->owner = nullptr;
      continue;
    }
    grant(*s, true);
  }
  table_->owned.erase(&task);
}

void PiFutexes::priority_changed(Task& task) {
  auto it = table_->blocked.find(&task);
  if (it == table_->blocked.end()) return;
  State& s = *it->second->state;
  by_priority(s.waiters);
  lend(s.owner);
}

void PiFutexes::gone() { table_->owner_exits.wake_all(); }

}  // namespace uk
