// Numbers of tasks, thread groups, process groups and sessions. Allocation is as Linux's: next
// number, wrapping at pid_max to 300, skipping those in use. Reactor-owned.
#pragma once

#include <functional>
#include <map>
#include <set>

#include "base/ref.h"
#include "base/result.h"

namespace uk {

class Task;
class ThreadGroup;
class ProcessGroup;
class Session;

class PidTable {
 public:
  PidTable();
  ~PidTable();
  // A number, kept for the caller until add() or unreserve(). kAGAIN when the limit of tasks is
  // reached.
  Result<int> alloc();
  Result<> alloc_exact(int tid);  // clone3 set_tid: kEXIST
  void unreserve(int tid) { reserved_.erase(tid); }
  void add(Ref<Task> task);
  void remove(int tid);
  // execve by a thread that is not the leader: it takes over the leader's number.
  void renumber(Task& task, int tid);
  Task* task(int tid) const;           // any thread
  ThreadGroup* group(int tgid) const;  // by its leader's number
  Ref<ProcessGroup> pgrp(int pgid) const;
  Ref<Session> session(int sid) const;
  void add_pgrp(Ref<ProcessGroup> g);
  void add_session(Ref<Session> s);
  void forget_pgrp(int pgid);
  void forget_session(int sid);
  void each_task(
      const std::function<void(Task&)>& f) const;  // in number order; f may not change the table
  void each_group(const std::function<void(ThreadGroup&)>& f) const;
  int count() const;
  int last() const { return last_; }
  void set_last(int pid) { last_ = pid; }  // /proc/sys/kernel/ns_last_pid
  int pid_max = 32768;
  int max_tasks = 16384;

 private:
  bool in_use(int n) const;
  int last_ = 0;
  std::set<int> reserved_;
  std::map<int, Ref<Task>> tasks_;
  std::map<int, Ref<ProcessGroup>> pgrps_;
  std::map<int, Ref<Session>> sessions_;
};

}  // namespace uk
