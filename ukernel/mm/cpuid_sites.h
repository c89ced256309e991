// Places in a file's code that ask `cpuid` for a leaf that always has the same answer. In a virtual
// machine the instruction is emulated by the machine below (7 us and more), and a program that is
// started makes some forty, in the startup code of the C library. Where a copy of the code is
// patched anyway (mm/patched_code.h), `mov $leaf, %eax` before such a `cpuid` becomes a jump to a
// thunk, which loads the answer and goes on behind the `cpuid`.
//
// Plain functions; nothing suspends. Untrusted: the code. That the bytes are these instructions is
// known from where instructions begin (arch/x86_64/insn_length.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ukernel/mm/call_sites.h"

namespace uk {

struct CpuidSite {
  // mov $leaf, %eax; cpuid
  static constexpr size_t kMovBytes = 5, kBytes = kMovBytes + 2;

  size_t at = 0;  // of the mov
  uint32_t leaf = 0;
};

std::vector<CpuidSite> find_cpuid_sites(std::span<const uint8_t> code, size_t most);

// Loads what `cpuid` says of the leaf, and jumps to `return_to`: as it is at `at`. A thread that is
// interrupted before kCpuidThunkDone has changed nothing but what it will change again when it
// begins anew at the site; there, it is behind the `cpuid`. Flags are kept.
constexpr size_t kCpuidThunkDone = 20;
CallThunk make_cpuid_thunk(uint32_t leaf, uint64_t at, uint64_t return_to);

}  // namespace uk
