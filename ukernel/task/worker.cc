#include "ukernel/task/worker.h"

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "ukernel/ipc/namespace.h"
#include "ukernel/kernel.h"
#include "ukernel/task/exit.h"
#include "ukernel/task/namespaces.h"

namespace uk {

Workers::Workers(Kernel& kernel) : kernel_(kernel) {}

Workers::~Workers() {
  while (Job* job = waiting_.pop_front()) {
    job->worker_.reset();
    job->unref();
  }
}

Ref<Task> Workers::make(Task& task, bool uses_files) {
  auto w = make_ref<Task>(kernel_, task.group, task.tid, /*worker=*/true);
  w->set_comm(absl::StrCat("iou-wrk-", task.tid));
  w->mm_ = task.mm_;
  if (uses_files) w->fds_ = task.fds_;
  w->fs_ = task.fs_;
  w->cred_ = task.cred_;
  w->uts_ = task.uts_;
  w->mounts_ = task.mounts_;
  w->ipc_ = task.ipc_;
  w->more_ns = task.more_ns;
  w->exe = task.exe;
  w->personality = task.personality;
  w->io_priority = task.io_priority;
  w->blocked = SigSet(~0ull);
  return w;
}

void Workers::start(Ref<Task> worker, Ref<Job> job) {
  CHECK(!job->active());
  job->worker_ = std::move(worker);
  job->worker_->no_wait = job->no_wait;
  job->worker_->exit_requested = job->cancelled_;
  if (waiting_.empty() && fibers_ < kMaxFibers && job->worker_->group->workers < kMaxPerProcess) {
    launch(std::move(job));
  } else {
    waiting_.push_back(*job.release());
  }
}

void Workers::cancel(Job& job) {
  if (!job.active()) return;
  job.cancelled_ = true;
  if (job.linked()) {
    Ref<Job> keep(&job);
    job.unlink();
    job.unref();
    job.worker_.reset();
    job.finished(Err(Errno::kCANCELED));
    return;
  }
  job.worker_->exit_requested = true;
  if (job.worker_->fiber != nullptr) job.worker_->fiber->wake();
}

void Workers::launch(Ref<Job> job) {
  Task& worker = *job->worker_;
  ++worker.group->workers;
  ++fibers_;
  if (worker.fds_) ++worker.fds_->users;
  Ref<Fiber> fiber = kernel_.reactor.spawn(worker.comm, [this, job](Park& park) mutable {
    run_job(*std::exchange(job, nullptr), park);
  });
  fiber->set_interruptor(&worker);
  worker.fiber = fiber.get();
}

void Workers::run_job(Job& job_ref, Park& park) {
  Ref<Job> job(&job_ref);
  Ref<Task> worker = job->worker_;
  worker->park_ = &park;
  running_[worker.get()] = job.get();
  Result<int64_t> result = job->run(*worker);
  running_.erase(worker.get());
  // Its files may be the last of a process that ended meanwhile; closing may suspend.
  if (worker->fds_) drop_files(park, std::exchange(worker->fds_, nullptr));
  Ref<ThreadGroup> group = worker->group;
  group->dead_threads.add(worker->usage);
  park.fiber().set_interruptor(nullptr);
  worker->park_ = nullptr;
  worker->fiber = nullptr;
  job->worker_.reset();
  worker.reset();
  job->finished(result);
  job.reset();
  --group->workers;
  --fibers_;
  launch_waiting();
}

void Workers::launch_waiting() {
  List<Job, JobTag> rest;
  while (fibers_ < kMaxFibers) {
    Job* job = waiting_.pop_front();
    if (job == nullptr) break;
    if (job->worker_->group->workers < kMaxPerProcess) {
      Ref<Job> held(job);
      job->unref();
      launch(std::move(held));
    } else {
      rest.push_back(*job);
    }
  }
  rest.splice_back(waiting_);
  waiting_.splice_back(rest);
}

const std::string* Workers::path(const Task& worker, uint64_t address) const {
  auto it = running_.find(&worker);
  if (it == running_.end() || address < Job::kPathBase) return nullptr;
  return it->second->path(address - Job::kPathBase);
}

bool Workers::charge(uint64_t bytes) {
  const uint64_t limit = kernel_.mem->total_pages() * kPageSize / 8;
  if (bytes > limit || charged_ > limit - bytes) return false;
  charged_ += bytes;
  return true;
}

}  // namespace uk
