#include "ukernel/sched/offload.h"

#include <fcntl.h>
#include <poll.h>

#include "hostio/sys/event.h"
#include "hostio/sys/process.h"

namespace uk {

Offload::~Offload() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_ready_.notify_all();
  for (std::thread& t : workers_) t.join();
  ring_.detach(*this);
}

void Offload::run(Park& park, const std::function<void()>& work) {
  Job job{&work, &park.fiber()};
  bool need_worker = false;
  {
    std::lock_guard lock(mutex_);
    queue_.push_back(&job);
    need_worker = queue_.size() > idle_ && workers_.size() < kMaxWorkers;
  }
  if (need_worker) start_worker();
  work_ready_.notify_one();
  park.fiber().set_wait_reason("offload");
  while (!job.done) park.suspend();
  park.fiber().set_wait_reason(nullptr);
}

void Offload::start_worker() {
  if (!event_) event_ = CHECK_OK(sys::eventfd(0, O_NONBLOCK));
  if (idle()) ring_.poll(*this, event_.get(), POLLIN, true);
  // Signals are for the reactor thread.
  sigset_t all;
  sigfillset(&all);
  sigset_t old = CHECK_OK(sys::sigprocmask(SIG_BLOCK, all));
  workers_.emplace_back([this] { worker(); });
  CHECK_OK(sys::sigprocmask(SIG_SETMASK, old));
}

void Offload::worker() {
  std::unique_lock lock(mutex_);
  while (true) {
    ++idle_;
    work_ready_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    --idle_;
    if (stopping_) return;
    Job* job = queue_.front();
    queue_.pop_front();
    lock.unlock();
    (*job->work)();
    lock.lock();
    finished_.push_back(job);
    if (finished_.size() == 1) CHECK_OK(sys::eventfd_signal(event_.get()));
  }
}

void Offload::complete(int32_t, bool more) {
  (void)sys::eventfd_take(event_.get());
  std::vector<Job*> finished;
  {
    std::lock_guard lock(mutex_);
    finished.swap(finished_);
  }
  for (Job* job : finished) {
    job->done = true;
    job->fiber->wake();
  }
  if (!more) ring_.poll(*this, event_.get(), POLLIN, true);
}

}  // namespace uk
