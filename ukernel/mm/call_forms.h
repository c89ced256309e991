// The instruction right before a `syscall`, if it is of a kind that can be executed elsewhere just
// as well (mm/call_sites.h moves it into a thunk): one that does not depend on where it is, does
// not jump, and leaves the stack pointer alone. Only whole single instructions: a thread may stand,
// and code may jump to, in between two.
//
// Bytes say little about where instructions begin. The evidence is that the registers at the call
// are what the instruction would have made of them.
//
// Plain functions; nothing suspends. Untrusted: the bytes and the registers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "ukernel/arch/x86_64/regs.h"

namespace uk {

constexpr size_t kMovableMin = 2, kMovableMax = 7;  // bytes

// What a movable instruction leaves behind.
struct MovableCode {
  enum class Kind : uint8_t {
    kConstant,  // reg == value
    kCopy,      // reg == from
    kLoad,      // reg == memory at from + value
    kMask,      // reg has no bits outside value
    kUnknown,   // what cannot be told afterwards
  };
  Kind kind;
  bool wide;  // 64 bits; else 32, and the upper half is cleared
  int reg = 0, from = 0;
  uint64_t value = 0;

  // kLoad: whether `memory` is what the instruction found there. Else of no meaning.
  bool fits(const arch::UserRegs& regs, uint64_t memory) const;
  uint64_t address(const arch::UserRegs& regs) const;  // kLoad
};

// `code` as one instruction, all of it; nullopt if it is none, or not of a kind that may move.
std::optional<MovableCode> parse_movable(std::span<const uint8_t> code);

// A byte that changes what the instruction behind it means.
bool is_prefix(uint8_t byte);

}  // namespace uk
