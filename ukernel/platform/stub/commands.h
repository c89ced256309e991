// Queued changes of a stub's address space. Neighbouring changes of one kind are merged, so that a
// batch stays small. Owned by a StubSpace. Nothing suspends.
#pragma once

#include <cstddef>
#include <deque>

#include "ukernel/platform/platform.h"
#include "ukernel/platform/stub/layout.h"

namespace uk::stub {

class CommandQueue {
 public:
  void map(uint64_t addr, uint64_t len, Prot prot, int fd, uint64_t offset, bool populate);
  void unmap(uint64_t addr, uint64_t len);
  void protect(uint64_t addr, uint64_t len, Prot prot);
  void clear() { queue_.clear(); }
  bool empty() const { return queue_.empty(); }
  // Moves as many as fit into `page`, in order; returns how many.
  size_t fill(CommandPage& page);

 private:
  std::deque<Command> queue_;
};

}  // namespace uk::stub
