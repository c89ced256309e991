// The part of a GuestSpace that every stub-based platform shares: queued changes and their batches.
// How a batch is started and its end noticed is the platform's: run_batch().
//
// Ownership: the command page slot belongs to the space. flush() and command() suspend; batches are
// serialised by a mutex.
#pragma once

#include "ukernel/platform/platform.h"
#include "ukernel/platform/stub/commands.h"
#include "ukernel/platform/stub/zygote.h"
#include "ukernel/sched/wait_queue.h"

namespace uk::stub {

struct BatchResult {
  uint32_t left = 0;   // commands not executed; the first of them failed
  uint64_t value = 0;  // of the last system call made
};

// Runs commands on a stub's mm thread.
class MmThread {
 public:
  virtual ~MmThread() = default;
  // Executes the command page. Error: kSRCH when the stub is gone.
  virtual Result<BatchResult> run_batch(Park& park) = 0;

  // One command; its result, or the host's error.
  Result<uint64_t> command(Park& park, CommandPage& page, const Command& c);
  Mutex& lock() { return lock_; }

 private:
  Mutex lock_;
};

class StubSpace : public GuestSpace {
 public:
  StubSpace(Slot slot, uint64_t user_limit) : slot_(std::move(slot)), user_limit_(user_limit) {}

  void map(uint64_t addr, uint64_t len, Prot prot, int fd, uint64_t offset, bool populate) override;
  void unmap(uint64_t addr, uint64_t len) override;
  void protect(uint64_t addr, uint64_t len, Prot prot) override;
  Result<> flush(Park& park) override;
  bool dirty() const override { return !queue_.empty(); }
  void unmap_all() override;
  // A context may only run when this is false: changes are queued or on their way.
  bool must_flush() { return dirty() || mm().lock().locked(); }
  // The host refused a change: what the guest can reach is not what mm decided, so it must not run
  // any more.
  bool broken() const { return broken_; }

 protected:
  virtual MmThread& mm() = 0;
  CommandPage& page() { return slot_.page(); }

 private:
  void check_range(uint64_t addr, uint64_t len) const;

  Slot slot_;
  uint64_t user_limit_;
  CommandQueue queue_;
  bool broken_ = false;
};

}  // namespace uk::stub
