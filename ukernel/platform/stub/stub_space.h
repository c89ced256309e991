// The part of a GuestSpace that every stub-based platform shares: queued changes and their batches.
// How a batch is started and its end noticed is the platform's: run_batch().
//
// Ownership: the platform's stub object, owned by the space and recycled after it, has the command
// page and the mm thread. flush() and command() suspend; batches are serialised by a mutex.
#pragma once

#include <optional>

#include "ukernel/platform/platform.h"
#include "ukernel/platform/stub/commands.h"
#include "ukernel/platform/stub/mappings.h"
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
  bool busy() const { return lock_.locked(); }

 private:
  Mutex lock_;
};

class StubSpace : public GuestSpace {
 public:
  StubSpace(CommandPage& page, MmThread& mm, uint64_t user_limit)
      : page_(page), mm_(mm), user_limit_(user_limit) {}

  void map(uint64_t addr, uint64_t len, Prot prot, int fd, uint64_t offset, bool populate) override;
  void map_late(uint64_t addr, uint64_t len, Prot prot, int fd, uint64_t offset,
                bool populate) override;
  bool late(uint64_t addr) const override { return queue_.late(addr); }
  void unmap(uint64_t addr, uint64_t len, By by) override;
  void protect(uint64_t addr, uint64_t len, Prot prot, By by) override;
  Result<> flush(Park& park) override;
  bool unconfirmed() const override { return queue_.unconfirmed(); }
  bool dirty() const override { return queue_.urgent() || found_ || mm_.busy(); }
  void unmap_all() override;
  // The host refused a change: what the guest can reach is not what mm decided, so it must not run
  // any more.
  bool broken() const { return broken_; }

 protected:
  // Of the guest that is about to run: changes that it shall make by itself; none: flush() if
  // dirty(). Then errands_over() when it has trapped.
  std::vector<Errand> take_errands() {
    return mm_.busy() || found_ ? std::vector<Errand>() : queue_.take_errands(UK_MAX_ERRANDS);
  }
  void errands_over(bool made);
  // Whether changes by the guest can be its errands.
  virtual bool has_errands() const { return false; }
  MmThread& mm() { return mm_; }
  CommandPage& page() { return page_; }

  // The stub of a new space, otherwise empty, holds these; they go with the first batch, unless
  // they are what is wanted there.
  void start_with(Mappings found) { found_ = std::move(found); }
  // What the stub holds, of a space that ends.
  Mappings take_account();

 private:
  // The queue, for a stub that holds what was found.
  void adopt_found();
  void check_range(uint64_t addr, uint64_t len) const;
  bool may_be_errand(uint64_t addr, uint64_t len, By by) const;

  CommandPage& page_;
  MmThread& mm_;
  uint64_t user_limit_;
  CommandQueue queue_;
  std::optional<Mappings> found_;
  Mappings account_;
  bool broken_ = false;
};

}  // namespace uk::stub
