// read(2) of files whose contents are events in a queue (inotify(7), fanotify(7)): as many whole
// events as there is room for; none at all while the first does not fit.
//
// Ownership: the queue is the caller's. Suspends.
#pragma once

#include <deque>

#include "ukernel/sched/wait_queue.h"
#include "ukernel/vfs/file.h"

namespace uk {

// `take` takes the first event off the queue and gives its bytes, Event::bytes() of them. kINVAL:
// the buffer is too small for it; kAGAIN.
template <class Event, class Take>
Result<size_t> read_events(Park& park, IoSink& to, const std::deque<Event>& queue,
                           WaitQueue& readable, bool nonblock, const char* why, Take take) {
  size_t done = 0;
  for (;;) {
    while (!queue.empty() && queue.front().bytes() <= to.remaining()) {
      auto bytes = take();
      if (!bytes) return done != 0 ? Result<size_t>(done) : Err(bytes.error());
      auto n = to.put(park, *bytes);
      if (!n) return done != 0 ? Result<size_t>(done) : Err(n.error());
      done += *n;
    }
    if (done != 0) return done;
    if (!queue.empty()) return Err(Errno::kINVAL);
    if (nonblock) return Err(Errno::kAGAIN);
    TRY(readable.wait(
        park, [&] { return !queue.empty(); }, WaitMode::kInterruptible, kNever, why));
  }
}

}  // namespace uk
