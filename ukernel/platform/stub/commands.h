// Queued changes of a stub's address space. Neighbouring changes of one kind are merged, so that a
// batch stays small.
//
// A mapping where nothing was may come "late": the guest goes on without it, and whoever touches it
// faults. While a range is late nothing of it has reached the stub, so what happens to it changes
// the queue alone.
//
// An unmapping, or the loss of the right to write, that the guest itself asked for can be its
// errand: it makes the change by itself before it goes on (on a platform where it can), which
// spares the host an interrupt to the CPU where it runs. By its word alone frames cannot change
// hands: unmappings stay in the queue, unconfirmed, until the mm thread has made them once more.
// The order of the queue is that of the changes.
//
// Owned by a StubSpace. Nothing suspends.
#pragma once

#include <cstddef>
#include <deque>
#include <map>
#include <vector>

#include "ukernel/platform/platform.h"
#include "ukernel/platform/stub/layout.h"

namespace uk::stub {

class CommandQueue {
 public:
  void map(uint64_t addr, uint64_t len, Prot prot, int fd, uint64_t offset, bool populate);
  // The stub has nothing there, or will have after the guest's errands.
  void map_late(uint64_t addr, uint64_t len, Prot prot, int fd, uint64_t offset, bool populate);
  // `errand`: it may be one.
  void unmap(uint64_t addr, uint64_t len, bool errand = false);
  void protect(uint64_t addr, uint64_t len, Prot prot, bool errand = false);
  void clear();
  bool empty() const { return queue_.empty(); }
  // There is more in it than late mappings.
  bool urgent() const { return urgent_ || errands_ != 0; }
  bool unconfirmed() const { return unconfirmed_ != 0; }
  // If what is urgent are errands, at most so many: all of them, in order. They are under way then;
  // nothing else may be queued by the guest's own calls until errands_over() has said what became
  // of them. Else none.
  std::vector<Errand> take_errands(size_t most);
  // `made`: so the guest says; else they are urgent again.
  void errands_over(bool made);
  bool late(uint64_t addr) const { return all_late(addr, addr + 1); }
  // Calls f(command) for all of it, in order.
  template <class F>
  void each(F f) const {
    for (const Queued& q : queue_) f(q.c);
  }
  // Calls f(start, end) for what errands that are under way change.
  template <class F>
  void each_errand(F f) const {
    for (const Queued& q : queue_) {
      if (q.state == State::kUnderWay) f(q.c.args[0], q.c.args[0] + q.c.args[1]);
    }
  }
  // Has these commands instead, which have the same effect.
  void replace(const std::vector<Command>& commands);
  // Moves as many as fit into `page`, in order; returns how many.
  size_t fill(CommandPage& page);

 private:
  // More commands than this do not wait: changes of the queue look at all of it.
  static constexpr size_t kMaxWaiting = 48;

  enum class State : uint8_t { kPlain, kErrand, kUnderWay, kUnconfirmed };
  struct Queued {
    Command c;
    State state = State::kPlain;
  };

  bool all_late(uint64_t start, uint64_t end) const;
  // Later commands for [start, end) take their turn in the queue. True: something of it was late.
  [[nodiscard]] bool no_longer_late(uint64_t start, uint64_t end);
  // Of [start, end), which is late, no command maps anything.
  void cut(uint64_t start, uint64_t end);
  void push_map(const Command& c);
  // Merges it with the last one if that is of its kind and state.
  void push_change(const Command& c, bool errand);

  std::deque<Queued> queue_;
  std::map<uint64_t, uint64_t> late_;     // start to end; only mmap commands touch these ranges
  bool urgent_ = false;                   // there are plain changes
  size_t errands_ = 0, unconfirmed_ = 0;  // in these states; under way counts as unconfirmed
};

}  // namespace uk::stub
