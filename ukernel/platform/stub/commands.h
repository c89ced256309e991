// Queued changes of a stub's address space. Neighbouring changes of one kind are merged, so that a
// batch stays small.
//
// A mapping where nothing was may come "late": the guest goes on without it, and whoever touches it
// faults. While a range is late nothing of it has reached the stub, so what happens to it changes
// the queue alone. Owned by a StubSpace. Nothing suspends.
#pragma once

#include <cstddef>
#include <deque>
#include <map>

#include "ukernel/platform/platform.h"
#include "ukernel/platform/stub/layout.h"

namespace uk::stub {

class CommandQueue {
 public:
  void map(uint64_t addr, uint64_t len, Prot prot, int fd, uint64_t offset, bool populate);
  // The stub has nothing there.
  void map_late(uint64_t addr, uint64_t len, Prot prot, int fd, uint64_t offset);
  void unmap(uint64_t addr, uint64_t len);
  void protect(uint64_t addr, uint64_t len, Prot prot);
  void clear();
  bool empty() const { return queue_.empty(); }
  // There is more in it than late mappings.
  bool urgent() const { return urgent_; }
  bool late(uint64_t addr) const { return all_late(addr, addr + 1); }
  // Moves as many as fit into `page`, in order; returns how many.
  size_t fill(CommandPage& page);

 private:
  // More commands than this do not wait: changes of the queue look at all of it.
  static constexpr size_t kMaxWaiting = 48;

  bool all_late(uint64_t start, uint64_t end) const;
  // Later commands for [start, end) take their turn in the queue.
  void no_longer_late(uint64_t start, uint64_t end);
  // Of [start, end), which is late, no command maps anything.
  void cut(uint64_t start, uint64_t end);
  void push_map(const Command& c);

  std::deque<Command> queue_;
  std::map<uint64_t, uint64_t> late_;  // start to end; only mmap commands touch these ranges
  bool urgent_ = false;
};

}  // namespace uk::stub
