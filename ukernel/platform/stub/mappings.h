// What a stub's address space holds, as far as its commands tell. When a guest has gone, its stub
// may be left as it is for one that wants nearly the same (SpaceLine in platform.h): then only what
// differs has to be changed, and the host's page tables stay.
//
// A guest can have taken rights away from itself that its errands let it (stub/commands.h), so that
// less is there than the account says: whoever misses something faults, and mm maps it again. More
// than the account says is never there, but for the right to execute what can be read.
//
// Plain data; nothing suspends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ukernel/platform/stub/layout.h"

namespace uk::stub {

class Mappings {
 public:
  // Follows a command: mmap, munmap, mprotect.
  void apply(const Command& c);
  // Something is in [start, end), but nobody knows what.
  void forget(uint64_t start, uint64_t end);
  // No account was kept: it would have been too long, or something went wrong.
  void lose() { lost_ = true; }
  bool lost() const { return lost_; }

  // Commands, in order, by which what is here becomes what is in `wanted`. Neither is lost.
  std::vector<Command> change_into(const Mappings& wanted) const;
  // Commands that unmap all of it, each in a short time: a host call that unmaps much is not
  // interrupted, whoever waits for the CPU.
  std::vector<Command> clear_in_steps() const;

 private:
  // More pieces than this are better made anew; and what is forgotten of so much is no account.
  static constexpr size_t kMost = 512;
  static constexpr uint64_t kMostForgotten = 1ull << 40;
  // So much is unmapped in one step, or more if there would be too many.
  static constexpr uint64_t kStepBytes = 512 << 10;
  static constexpr uint64_t kMostSteps = 64;

  struct Piece {
    uint64_t start = 0, end = 0;
    // Of the mmap command that made it, but for the protection now.
    uint64_t prot = 0, flags = 0, fd = 0, offset = 0;
    bool known = true;

    // The same bytes with the same rights, where they overlap.
    bool same(const Piece& o) const {
      return known && o.known && prot == o.prot && fd == o.fd &&
             offset - start == o.offset - o.start;
    }
  };

  // Splits pieces at the borders of [start, end); the index of the first one behind `start`.
  size_t split(uint64_t start, uint64_t end);
  void split_at(uint64_t address);
  // Takes what is in [start, end) away; the index where something else belongs.
  size_t cut(uint64_t start, uint64_t end);

  std::vector<Piece> pieces_;  // by address; none overlap
  bool lost_ = false;
};

}  // namespace uk::stub
