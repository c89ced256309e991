// The queue of a disk: takes bios in batches ("plugged": all that one caller wants at once), sorts
// and merges those that follow each other, and keeps a bounded number of requests at the storage.
//
// Order: bios of one batch may be done in any order, as in Linux; who needs an order waits between
// batches, and flushes. Waits are not interruptible, but for the wait for a control group's
// bandwidth, which a fatal signal ends (kINTR).
//
// Ownership: the Disk owns the queue; a caller's bios stay put until run() returns.
#pragma once

#include <functional>
#include <span>

#include "base/ref.h"
#include "ukernel/dev/block/request.h"
#include "ukernel/sched/clock.h"
#include "ukernel/sched/wait_queue.h"

namespace uk {

// Who pays for requests (cgroup v2 "io"); set by boot, or empty. Opaque here.
struct BlockPayment {
  // Asked before each request; may suspend to keep a limit. `dev`: the disk's number; `payer` null:
  // the task that runs now.
  std::function<Result<>(Park&, uint64_t dev, BlockOp op, uint64_t bytes, RefCounted* payer)>
      charge;
  // Who pays for what the task that runs now leaves in a cache; null: no one.
  std::function<Ref<RefCounted>()> payer;
  bool off = false;  // nobody pays any more
};

class RequestQueue {
 public:
  static constexpr uint32_t kDepth = 64;                 // requests in flight
  static constexpr uint64_t kMaxRequestBytes = 1 << 20;  // of a read or write
  static constexpr size_t kMaxSegments = 256;

  RequestQueue(BlockBackend& backend, Clock& clock, uint64_t dev, const BlockPayment& payment)
      : backend_(&backend), clock_(clock), dev_(dev), payment_(payment) {}

  // Does them all; each bio has its error afterwards, the first of which is returned. `stats` are
  // those to count in (a disk's, and a partition's).
  Result<> run(Park& park, std::span<Bio> bios, std::span<BlockStats* const> stats,
               RefCounted* payer = nullptr);

  // Holds back what has not reached the storage, and waits until nothing is there; until as many
  // thaw()s. In between, and only then, the storage may become another one.
  void freeze(Park& park);
  void thaw();
  void set_backend(BlockBackend& backend);

 private:
  friend class BlockRequest;
  void ended();

  BlockBackend* backend_;  // the disk's
  Clock& clock_;
  const uint64_t dev_;
  const BlockPayment& payment_;  // the registry's
  uint32_t in_flight_ = 0;
  uint32_t frozen_ = 0;
  WaitQueue slots_, drained_;
};

}  // namespace uk
