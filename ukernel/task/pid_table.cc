#include "ukernel/task/pid_table.h"

#include "base/check.h"
#include "ukernel/task/pid_ns.h"

namespace uk {
namespace {

constexpr int kReservedPids = 300;  // after the first wrap, as RESERVED_PIDS in Linux

// The number after `last` that is free; 0: there is none below `pid_max`.
template <class InUse>
int next_free(int last, int pid_max, InUse in_use) {
  int n = last;
  for (int tries = 0; tries <= pid_max; ++tries) {
    n = n + 1 >= pid_max ? kReservedPids : n + 1;
    if (!in_use(n)) return n;
  }
  return 0;
}

}  // namespace

PidTable::PidTable() = default;
PidTable::~PidTable() = default;

bool PidTable::in_use(int n) const {
  return tasks_.contains(n) || pgrps_.contains(n) || sessions_.contains(n) || reserved_.contains(n);
}

Result<int> PidTable::alloc(PidNamespace* ns, std::span<const int> wanted) {
  if (count() + static_cast<int>(reserved_.size()) >= max_tasks) return Err(Errno::kAGAIN);
  const auto level = static_cast<size_t>(level_of(ns));
  const int exact = wanted.size() > level ? wanted[level] : 0;
  if (wanted.size() > level && (exact < 1 || exact >= pid_max)) return Err(Errno::kINVAL);
  int n = exact;
  if (n == 0) n = next_free(last_, pid_max, [this](int i) { return in_use(i); });
  if (n == 0) return Err(Errno::kAGAIN);
  if (exact != 0 && in_use(n)) return Err(Errno::kEXIST);
  if (exact == 0) last_ = n;
  reserved_.insert(n);
  if (ns == nullptr) return n;
  const Ref<PidNamespace> own(ns);
  nested_.emplace(n, own);
  const bool closed = own->closed;
  Result<> all = closed ? Err(Errno::kNOMEM) : Result<>();
  for (size_t i = 0; all && i < level; ++i, ns = ns->parent.get())
    all = number(*ns, n, i < wanted.size() ? wanted[i] : 0);
  if (all) return n;
  unreserve(n);
  // Nobody has been here: the next one may still be the first.
  own->closed = closed;
  if (own->count() == 0 && own->init == nullptr) own->last = 0;
  return Err(all.error());
}

// A number for the kernel's `pid` in one namespace; `wanted` 0: the next.
Result<> PidTable::number(PidNamespace& ns, int pid, int wanted) {
  auto used = [&ns](int i) { return ns.outside(i) != 0; };
  if (wanted != 0 && used(wanted)) return Err(Errno::kEXIST);
  const int n = wanted != 0 ? wanted : next_free(ns.last, ns.pid_max, used);
  if (n == 0) return Err(Errno::kAGAIN);
  if (wanted == 0) ns.last = n;
  ns.outside_.emplace(n, pid);
  ns.inside_.emplace(pid, n);
  return {};
}

void PidTable::unreserve(int tid) {
  reserved_.erase(tid);
  forget_unused(tid);
}

PidNamespace* PidTable::ns_of(int pid) const {
  if (nested_.empty()) return nullptr;
  auto at = nested_.find(pid);
  return at == nested_.end() ? nullptr : at->second.get();
}

void PidTable::forget_unused(int n) {
  if (nested_.empty()) return;
  auto at = nested_.find(n);
  if (at == nested_.end() || in_use(n)) return;
  Ref<PidNamespace> ns = std::move(at->second);
  nested_.erase(at);
  for (PidNamespace* p = ns.get(); p != nullptr; p = p->parent.get()) p->forget(n);
}

void PidTable::add(Ref<Task> task) {
  int tid = task->tid;
  reserved_.erase(tid);
  CHECK(tasks_.emplace(tid, std::move(task)).second);
}

void PidTable::remove(int tid) {
  auto at = tasks_.find(tid);
  CHECK(at != tasks_.end());
  Ref<Task> keep = std::move(at->second);  // its end may look at the table
  tasks_.erase(at);
  forget_unused(tid);
}

void PidTable::renumber(Task& task, int tid) {
  Ref<Task> keep(&task);
  const int own = task.tid;
  tasks_.erase(own);
  task.tid = tid;
  Ref<Task> before = std::exchange(tasks_[tid], std::move(keep));
  CHECK(before);
  forget_unused(own);
}

Task* PidTable::task(int tid) const {
  auto at = tasks_.find(tid);
  return at == tasks_.end() ? nullptr : at->second.get();
}

ThreadGroup* PidTable::group(int tgid) const {
  Task* t = task(tgid);
  return t != nullptr && t->is_leader() ? t->group.get() : nullptr;
}

Ref<ProcessGroup> PidTable::pgrp(int pgid) const {
  auto at = pgrps_.find(pgid);
  return at == pgrps_.end() ? nullptr : at->second;
}

Ref<Session> PidTable::session(int sid) const {
  auto at = sessions_.find(sid);
  return at == sessions_.end() ? nullptr : at->second;
}

void PidTable::add_pgrp(Ref<ProcessGroup> g) {
  int n = g->pgid;
  pgrps_[n] = std::move(g);
}
void PidTable::add_session(Ref<Session> s) {
  int n = s->sid;
  sessions_[n] = std::move(s);
}
void PidTable::forget_pgrp(int pgid) {
  pgrps_.erase(pgid);
  forget_unused(pgid);
}
void PidTable::forget_session(int sid) {
  sessions_.erase(sid);
  forget_unused(sid);
}

void PidTable::each_task(const std::function<void(Task&)>& f) const {
  for (const auto& [tid, task] : tasks_) f(*task);
}

void PidTable::each_group(const std::function<void(ThreadGroup&)>& f) const {
  for (const auto& [tid, task] : tasks_)
    if (task->is_leader()) f(*task->group);
}

int PidTable::count() const { return static_cast<int>(tasks_.size()); }

}  // namespace uk
