#include "ukernel/task/pid_table.h"

#include "base/check.h"
#include "ukernel/task/task.h"

namespace uk {
namespace {

constexpr int kReservedPids = 300;  // after the first wrap, as RESERVED_PIDS in Linux

}  // namespace

PidTable::PidTable() = default;
PidTable::~PidTable() = default;

bool PidTable::in_use(int n) const {
  return tasks_.contains(n) || pgrps_.contains(n) || sessions_.contains(n) || reserved_.contains(n);
}

Result<int> PidTable::alloc() {
  if (count() + static_cast<int>(reserved_.size()) >= max_tasks) return Err(Errno::kAGAIN);
  int n = last_;
  for (int tries = 0; tries <= pid_max; ++tries) {
    n = n + 1 >= pid_max ? kReservedPids : n + 1;
    if (in_use(n)) continue;
    last_ = n;
    reserved_.insert(n);
    return n;
  }
  return Err(Errno::kAGAIN);
}

Result<> PidTable::alloc_exact(int tid) {
  if (tid < 1 || tid >= pid_max) return Err(Errno::kINVAL);
  if (count() >= max_tasks) return Err(Errno::kAGAIN);
  if (in_use(tid)) return Err(Errno::kEXIST);
  reserved_.insert(tid);
  return {};
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
}

void PidTable::renumber(Task& task, int tid) {
  Ref<Task> keep(&task);
  tasks_.erase(task.tid);
  task.tid = tid;
  CHECK(tasks_.emplace(tid, std::move(keep)).second);
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
void PidTable::forget_pgrp(int pgid) { pgrps_.erase(pgid); }
void PidTable::forget_session(int sid) { sessions_.erase(sid); }

void PidTable::each_task(const std::function<void(Task&)>& f) const {
  for (const auto& [tid, task] : tasks_) f(*task);
}

void PidTable::each_group(const std::function<void(ThreadGroup&)>& f) const {
  for (const auto& [tid, task] : tasks_)
    if (task->is_leader()) f(*task->group);
}

int PidTable::count() const { return static_cast<int>(tasks_.size()); }

}  // namespace uk
