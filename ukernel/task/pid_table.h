// Numbers of tasks, thread groups, process groups and sessions. Allocation is as Linux's: next
// number, wrapping at pid_max to 300, skipping those in use. Reactor-owned.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <span>
#include <unordered_map>

#include "base/ref.h"
#include "base/result.h"

namespace uk {

class PidNamespace;
class Task;
class ThreadGroup;
class ProcessGroup;
class Session;

class PidTable {
 public:
  PidTable();
  ~PidTable();
  // A number, kept for the caller until add() or unreserve(), of the namespace `ns` (null: the
  // initial one): it gets one there and in each above it. `wanted`: which, innermost first
  // (clone3's set_tid); the rest as they come. kAGAIN when the limit of tasks is reached, kEXIST,
  // kINVAL (out of range), kNOMEM when the namespace takes no more.
  Result<int> alloc(PidNamespace* ns = nullptr, std::span<const int> wanted = {});
  void unreserve(int tid);
  // The namespace a number was made for; null: the initial one.
  PidNamespace* ns_of(int pid) const;
  void add(Ref<Task> task);
  void remove(int tid);
  // execve by a thread that is not the leader: it takes over the leader's number; that task goes.
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
  Result<> number(PidNamespace& ns, int pid, int wanted);
  // What a number means in namespaces ends with its last use here.
  void forget_unused(int n);
  int last_ = 0;
  std::set<int> reserved_;
  std::map<int, Ref<Task>> tasks_;
  std::map<int, Ref<ProcessGroup>> pgrps_;
  std::map<int, Ref<Session>> sessions_;
  std::unordered_map<int, Ref<PidNamespace>> nested_;  // numbers of namespaces but the initial one
};

}  // namespace uk
