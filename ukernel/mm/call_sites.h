// Call sites of a space that make their system calls through the platform's gate (Platform::gate).
// The instruction before `syscall` (call_forms.h) becomes `jmp thunk`, and the thunk, in a page of
// ours, executes that instruction and enters the gate. The call instruction stays, so code that
// jumps to it, or that the gate sends back, makes the call as ever.
//
// A jump has five bytes. Where the instruction has n < 5, only these are changed, and the `syscall`
// and what follows it are the upper bytes of the jump's displacement: the thunk must lie where they
// happen to lead to. For `xor %eax, %eax; syscall; cmp ...` (read(2) in glibc) these are 256 bytes
// about 1.1 GiB above the site. If they are taken the site stays as it is.
//
// A site of one process is patched when calls have come from it often; that the registers are as
// the instruction leaves them is the evidence that these bytes are that instruction.
//
// Sites that many processes share come patched with the code they map (mm/patched_code.h).
//
// Ownership: a value in AddressSpace; fork(2) copies it with the pages it describes, exec(2) begins
// anew. patch() and turn_off() may suspend. Untrusted: what the bytes around a site are; a guest
// that confuses us about them confuses itself alone.
#pragma once

#include <algorithm>
#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/ref.h"
#include "base/result.h"
#include "ukernel/arch/x86_64/regs.h"
#include "ukernel/mm/call_forms.h"
#include "ukernel/mm/phys.h"
#include "ukernel/sched/fiber.h"

namespace uk {

class AddressSpace;
class PatchedCode;

constexpr uint64_t kCallBytes = 2;  // of `syscall`
// The bytes before a `syscall` that movable_length() wants to see.
constexpr size_t kBytesBeforeCall = 1 + kMovableMax;

using CallThunk = std::array<uint8_t, 32>;
// `moved`, the instruction; lea return_to(%rip), %rcx; jmp *gate_word(%rip): as it is at `at`.
CallThunk make_thunk(std::span<const uint8_t> moved, uint64_t at, uint64_t return_to,
                     uint64_t gate_word);
// `jmp to`, as it is at `at`.
std::array<uint8_t, 5> jump_to(uint64_t at, uint64_t to);
// Length of the movable instruction at the end of `before`, of which the registers at the call
// behind it are the evidence; 0: there is none.
size_t movable_length(Park& park, AddressSpace& mm, std::span<const uint8_t> before,
                      const arch::UserRegs& regs);

class CallSites {
 public:
  static constexpr uint32_t kHot = 24;       // costly calls of a site before it is patched
  static constexpr size_t kMaxSites = 2048;  // of a space
  static constexpr uint64_t kThunkBytes = sizeof(CallThunk);

  // A call came by the costly way; `ip` is behind its instruction. True: its site is worth
  // patching. Once for each site, or again when others have taken its place in the table.
  bool note(uint64_t ip) {
    Counter& c = counters_[ip * 0x9e3779b97f4a7c15 >> (64 - kCounterBits)];
    if (c.ip != ip) c = {ip, 0};
    return !off_ && ++c.count == kHot;
  }
  // Error: the site is not of a kind that can be patched, or memory is out; it stays as it is.
  // `at_call`: the registers at the call, rip behind its instruction and rax the number.
  Result<> patch(Park& park, AddressSpace& mm, const arch::UserRegs& at_call, uint64_t gate);
  // For good, and all that are patched are as they were.
  void turn_off(Park& park, AddressSpace& mm);
  bool any() const { return !sites_.empty() || !shared_.empty(); }
  bool off() const { return off_; }
  // Patched code (mm/patched_code.h) is mapped for a file whose first byte is at `base`; it no
  // longer is.
  void add_shared(uint64_t base, Ref<PatchedCode> code);
  void remove_shared(uint64_t base);
  // Thunks in [start, end) will be something else. Sites are turned off.
  void forget(uint64_t start, uint64_t end);
  // Where a thread at `ip` stands to its program: in a thunk it is at the site.
  uint64_t visible_ip(uint64_t ip) const;
  static bool is_thunk(uint64_t ip) { return ip % kThunkBytes == 0; }  // the beginning of one

 private:
  static constexpr int kCounterBits = 6;
  struct Counter {
    uint64_t ip = 0;
    uint32_t count = 0;
  };
  static constexpr size_t kJumpBytes = 5;
  struct Shared {
    uint64_t base;
    Ref<PatchedCode> code;
  };
  // The first has the gate's address.
  static constexpr uint32_t kThunksOfPage = kPageSize / kThunkBytes;
  struct Site {
    uint64_t addr;  // of the instruction that moved
    uint64_t call;  // of its `syscall`
    uint64_t thunk;
    std::array<uint8_t, kJumpBytes> old;

    size_t changed() const { return std::min<size_t>(call - addr, kJumpBytes); }
    std::array<uint8_t, kJumpBytes> jump() const;
  };
  struct Page {
    uint64_t addr;
    std::bitset<kThunksOfPage> used;
  };
  Result<uint64_t> new_thunk(Park& park, AddressSpace& mm, uint64_t first, uint64_t last,
                             uint64_t gate);
  Result<uint64_t> thunk_for(Park& park, AddressSpace& mm, uint64_t addr, size_t changed,
                             std::span<const uint8_t> kept, uint64_t gate);
  static void restore(Park& park, AddressSpace& mm, const Site& s);

  std::array<Counter, 1 << kCounterBits> counters_;
  std::vector<Site> sites_;
  std::vector<Page> pages_;
  std::vector<Shared> shared_;
  bool off_ = false;
};

}  // namespace uk
