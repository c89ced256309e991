// Workers: fibers that make system calls on behalf of a task while that goes on (io_submit(2),
// io_uring(7)), as Linux's io-wq threads do. A worker is a Task without number, user mode and
// signals: it has the memory, files, directories, credentials and limits of the task it works for,
// so that every handler of a system call runs on it unchanged. It is never found in a PidTable.
//
// A Job is one piece of work. It is given up by cancelling: every wait of it that a signal could
// interrupt ends. With `no_wait` such waits end at once, which makes of every call a non-blocking
// one: as calls can be restarted, nothing is lost by that.
//
// Ownership: the Kernel owns Workers. A job is held by whoever made it, and by Workers while it
// waits or runs. How many fibers run for one process, and for all, is limited; more jobs wait, in
// order. What runs is unaffected by the end of its task, which is why tasks cancel their jobs at
// their end (Task::async, AddressSpace::async).
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/list.h"
#include "base/ref.h"
#include "base/result.h"
#include "ukernel/task/task.h"

namespace uk {

class Job : public RefCounted, public ListNode<struct JobTag> {
 public:
  // The call, on the worker's own fiber (worker.park()); may suspend. kRestartSys and its kin: a
  // wait was cut short.
  virtual Result<int64_t> run(Task& worker) = 0;
  // What became of it; after run(), on the same fiber, or within cancel() if it had not begun
  // (kCANCELED). Must not suspend. The job may be started again from here.
  virtual void finished(Result<int64_t> result) = 0;

  // A path that was copied from the guest when the job was made; `index` counts from 0. Handlers
  // are given path_address(index) for its address, which no guest has.
  virtual const std::string* path(uint64_t index) const { return (void)index, nullptr; }
  static constexpr uint64_t path_address(uint64_t index) { return kPathBase + index; }

  bool active() const { return worker_ != nullptr; }  // it waits for a fiber, or runs
  bool waits_for_fiber() const { return active() && ListNode<JobTag>::linked(); }
  bool cancelled() const { return cancelled_; }
  // The next run ends where it would wait. Set before start().
  bool no_wait = false;

 protected:
  ~Job() override { CHECK(!active()); }

 private:
  friend class Workers;
  static constexpr uint64_t kPathBase = 0xfffff00000000000;
  Ref<Task> worker_;
  bool cancelled_ = false;
};

class Workers {
 public:
  explicit Workers(Kernel& kernel);
  ~Workers();

  // A worker for `task`, as it is now. One that `uses_files` keeps the descriptor table open while
  // a job runs.
  Ref<Task> make(Task& task, bool uses_files);
  // Runs the job on a fiber of its own: at the next turn of the loop, or when there is room.
  // Never suspends.
  void start(Ref<Task> worker, Ref<Job> job);
  // Ends the job's waits, or takes it out of the queue. Nothing if it is not active.
  void cancel(Job& job);

  // The copied path that an address given to a handler stands for, or null.
  const std::string* path(const Task& worker, uint64_t address) const;

  // Memory of the kernel that guests pin by requests: false if there is too much of it already.
  bool charge(uint64_t bytes);
  void uncharge(uint64_t bytes) { charged_ -= bytes; }

 private:
  void launch(Ref<Job> job);
  void run_job(Job& job, Park& park);
  void launch_waiting();

  static constexpr int kMaxPerProcess = 128;
  static constexpr int kMaxFibers = 1024;
  Kernel& kernel_;
  List<Job, JobTag> waiting_;  // each holds a reference
  std::map<const Task*, const Job*> running_;
  int fibers_ = 0;
  uint64_t charged_ = 0;
};

}  // namespace uk
