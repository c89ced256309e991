// Call sites of a space that make their system calls through the platform's gate (Platform::gate):
// `mov $nr, %eax; syscall` becomes `jmp thunk; syscall`, and the thunk, in a page of ours nearby,
// does the mov and enters the gate. The instruction itself stays, so code that jumps to it, or that
// the gate sends back, makes the call as ever.
//
// A site is patched when calls have come from it often, with the number that its mov loads: that is
// the evidence that these bytes are that instruction.
//
// Ownership: a value in AddressSpace; fork(2) copies it with the pages it describes, exec(2) begins
// anew. patch() and restore() may suspend. Untrusted: what the bytes around a site are; a guest
// that confuses us about them confuses itself alone.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "base/result.h"
#include "ukernel/sched/fiber.h"

namespace uk {

class AddressSpace;

class CallSites {
 public:
  static constexpr uint32_t kHot = 24;       // costly calls of a site before it is patched
  static constexpr size_t kMaxSites = 2048;  // of a space

  // A call came by the costly way; `ip` is behind its instruction. True: its site is worth
  // patching. Once for each site, or again when others have taken its place in the table.
  bool note(uint64_t ip) {
    Counter& c = counters_[ip * 0x9e3779b97f4a7c15 >> (64 - kCounterBits)];
    if (c.ip != ip) c = {ip, 0};
    return !off_ && ++c.count == kHot;
  }
  // Error: the site is not of a kind that can be patched, or memory is out; it stays as it is.
  Result<> patch(Park& park, AddressSpace& mm, uint64_t ip, uint32_t nr, uint64_t gate);
  // For good, and all that are patched are as they were.
  void turn_off(Park& park, AddressSpace& mm);

 private:
  static constexpr int kCounterBits = 6;
  struct Counter {
    uint64_t ip = 0;
    uint32_t count = 0;
  };
  struct Site {
    uint64_t mov;  // its address
    uint64_t thunk;
    uint32_t nr;
  };
  struct Page {
    uint64_t addr;
    uint32_t used;  // thunks
  };
  Result<uint64_t> new_thunk(Park& park, AddressSpace& mm, uint64_t near, uint64_t gate);

  std::array<Counter, 1 << kCounterBits> counters_;
  std::vector<Site> sites_;
  std::vector<Page> pages_;
  bool off_ = false;
};

}  // namespace uk
