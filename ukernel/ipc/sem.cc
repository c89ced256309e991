#include "ukernel/ipc/sem.h"

#include <algorithm>

#include "ukernel/ipc/namespace.h"

namespace uk {
namespace {

constexpr int kMaxAdjust = SemSet::kMaxValue;
constexpr uint64_t kBytesPerSem = 64;

}  // namespace

Result<SemSet*> SemSet::create(IpcNamespace& ns, const Cred& cred, int32_t key, int count,
                               uint32_t flags) {
  if (count <= 0 || count > ns.sem_max_per_set) return Err(Errno::kINVAL);
  if (count > ns.sem_max - ns.sem_count) return Err(Errno::kNOSPC);
  if (!ns.charge(static_cast<uint64_t>(count) * kBytesPerSem)) return Err(Errno::kNOMEM);
  auto set = make_ref<SemSet>(ns, count);
  set->own(cred, key, flags);
  set->ctime = ns.now();
  if (Result<int> id = ns.sem_sets.add(set, ns.sem_max_sets); !id) {
    ns.uncharge(static_cast<uint64_t>(count) * kBytesPerSem);
    return Err(id.error());
  }
  ns.sem_count += count;
  return set.get();
}

void SemSet::remove() {
  Ref<SemSet> self(this);
  ns_.sem_count -= count();
  ns_.uncharge(static_cast<uint64_t>(count()) * kBytesPerSem);
  ns_.sem_sets.remove(*this);
  for (Ref<Pending>& p : pending_) {
    p->done = true;
    p->error = Errno::kIDRM;
    p->queue.wake_all();
  }
  pending_.clear();
  while (!undos_.empty()) {
    SemUndo* undo = undos_.back();
    undos_.pop_back();
    undo->entries_.erase(this);
  }
}

int SemSet::waiting(int n, bool zero) const {
  return static_cast<int>(std::count_if(pending_.begin(), pending_.end(), [&](auto& p) {
    const SemOp& op = p->ops[p->blocking];
    return op.num == n && (op.op == 0) == zero;
  }));
}

void SemSet::set_value(int n, int value, int pid) {
  sems_[static_cast<size_t>(n)] = {value, pid};
  for (SemUndo* undo : undos_) undo->entries_[this].adjust[static_cast<size_t>(n)] = 0;
  ctime = ns_.now();
  update();
}

void SemSet::set_all(const std::vector<uint16_t>& values, int pid) {
  for (size_t i = 0; i < sems_.size(); ++i) sems_[i] = {values[i], pid};
  for (SemUndo* undo : undos_) {
    auto& adjust = undo->entries_[this].adjust;
    std::fill(adjust.begin(), adjust.end(), 0);
  }
  ctime = ns_.now();
  update();
}

// All or nothing: what was done is taken back when one operation cannot be.
SemSet::Outcome SemSet::attempt(Pending& p) {
  std::vector<int16_t>* adjust = p.undo ? &p.undo->of(*this) : nullptr;
  size_t i = 0;
  Outcome outcome = Outcome::kDone;
  for (; i < p.ops.size(); ++i) {
    const SemOp& op = p.ops[i];
    Sem& s = sems_[op.num];
    const int result = s.value + op.op;
    if ((op.op == 0 && s.value != 0) || result < 0) {
      p.blocking = i;
      p.error = Errno::kAGAIN;
      outcome = (op.flags & IPC_NOWAIT) != 0 ? Outcome::kFailed : Outcome::kMustWait;
      break;
    }
    if (result > kMaxValue) {
      p.error = Errno::kRANGE;
      outcome = Outcome::kFailed;
      break;
    }
    if ((op.flags & kUndoFlag) != 0) {
      const int undone = (*adjust)[op.num] - op.op;
      if (undone < -kMaxAdjust - 1 || undone > kMaxAdjust) {
        p.error = Errno::kRANGE;
        outcome = Outcome::kFailed;
        break;
      }
      (*adjust)[op.num] = static_cast<int16_t>(undone);
    }
    s.value = result;
  }
  if (outcome == Outcome::kDone) {
    p.error = Errno::kOk;
    for (const SemOp& op : p.ops) sems_[op.num].pid = p.pid;
    otime = ns_.now();
    return outcome;
  }
  while (i-- > 0) {
    const SemOp& op = p.ops[i];
    sems_[op.num].value -= op.op;
    if ((op.flags & kUndoFlag) != 0)
      (*adjust)[op.num] = static_cast<int16_t>((*adjust)[op.num] + op.op);
  }
  return outcome;
}

void SemSet::update() {
  for (auto it = pending_.begin(); it != pending_.end();) {
    Pending& p = **it;
    if (attempt(p) == Outcome::kMustWait) {
      ++it;
      continue;
    }
    const bool changed =
        p.error == Errno::kOk &&
        std::any_of(p.ops.begin(), p.ops.end(), [](const SemOp& op) { return op.op != 0; });
    p.done = true;
    p.queue.wake_all();
    it = pending_.erase(it);
    if (changed) it = pending_.begin();  // earlier ones may go now
  }
}

Result<> SemSet::operate(Park& park, std::vector<SemOp> ops, int pid, Ref<SemUndo> undo,
                         Deadline deadline) {
  auto p = make_ref<Pending>();
  p->ops = std::move(ops);
  p->pid = pid;
  p->undo = std::move(undo);
  Ref<SemSet> self(this);
  switch (attempt(*p)) {
    case Outcome::kDone:
      update();
      return {};
    case Outcome::kFailed:
      return Err(p->error);
    case Outcome::kMustWait:
      break;
  }
  pending_.push_back(p);
  Result<> r = p->queue.wait(
      park, [&] { return p->done; }, WaitMode::kInterruptible, deadline, "do_semtimedop");
  if (p->done) return p->error == Errno::kOk ? Result<>() : Err(p->error);
  pending_.remove(p);
  // Never restarted (signal(7)).
  return Err(r.error() == Errno::kTIMEDOUT ? Errno::kAGAIN : Errno::kINTR);
}

void SemSet::forget(SemUndo& undo) { std::erase(undos_, &undo); }

std::vector<int16_t>& SemUndo::of(SemSet& set) {
  Entry& e = entries_[&set];
  if (!e.set) {
    e.set = Ref<SemSet>(&set);
    e.adjust.resize(static_cast<size_t>(set.count()));
    set.undos_.push_back(this);
  }
  return e.adjust;
}

SemUndo::~SemUndo() {
  for (auto& [key, e] : entries_) {
    SemSet& set = *e.set;
    set.forget(*this);
    for (size_t i = 0; i < e.adjust.size(); ++i) {
      if (e.adjust[i] == 0) continue;
      SemSet::Sem& s = set.sems_[i];
      s = {std::clamp(s.value + e.adjust[i], 0, SemSet::kMaxValue), pid};
    }
    set.otime = set.ns_.now();
    set.update();
  }
}

}  // namespace uk
