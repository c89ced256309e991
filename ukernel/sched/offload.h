// A few worker threads for host calls that block and have no ring form. Private to sched; used
// through Reactor::offload(). Workers run the given function only: they touch no kernel state.
// Threads start when first needed.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "hostio/ring.h"
#include "hostio/sys/fd.h"
#include "ukernel/sched/fiber.h"

namespace uk {

class Offload final : private hostio::Completion {
 public:
  explicit Offload(hostio::Ring& ring) : ring_(ring) {}
  ~Offload();  // waits for work that runs

  void run(Park& park, const std::function<void()>& work);

 private:
  struct Job {
    const std::function<void()>* work;
    Fiber* fiber;
    bool done = false;  // reactor-owned
  };
  static constexpr size_t kMaxWorkers = 4;

  void complete(int32_t res, bool more) override;
  void start_worker();
  void worker();

  hostio::Ring& ring_;
  sys::Fd event_;  // written by workers, polled by the ring
  std::vector<std::thread> workers_;
  std::mutex mutex_;  // guards all below
  std::condition_variable work_ready_;
  std::deque<Job*> queue_;
  std::vector<Job*> finished_;
  size_t idle_ = 0;
  bool stopping_ = false;
};

}  // namespace uk
