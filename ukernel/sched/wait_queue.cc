#include "ukernel/sched/wait_queue.h"

#include <utility>

#include "ukernel/sched/reactor.h"

namespace uk {

bool WaitQueue::expired(Park& park, Deadline deadline) {
  return !deadline.never() && park.reactor().now_ns() >= deadline.at_ns;
}

// on_wake() may unlink its waiter, destroy other waiters and add new ones. So the waiters move to a
// list of their own, from which each returns to the queue before it is called; those added
// meanwhile come after them.
void WaitQueue::wake(uint32_t events, bool only_one_exclusive) {
  if (waiters_.empty()) return;
  bool given = false;
  List<Waiter> rest, kept;
  rest.splice_back(waiters_);
  while (Waiter* w = rest.pop_front()) {
    kept.push_back(*w);
    bool exclusive = only_one_exclusive && w->exclusive();
    if (exclusive && std::exchange(given, true)) continue;
    w->on_wake(events);
  }
  kept.splice_back(waiters_);
  waiters_.splice_back(kept);
}

void Mutex::lock(Park& park) {
  CHECK_OK(queue_.wait(
      park, [this] { return try_lock(); }, WaitMode::kUninterruptible, kNever, "mutex", true));
}

}  // namespace uk
