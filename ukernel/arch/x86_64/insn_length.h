// How long instructions are (64-bit mode), and with that: where they begin, which bytes alone do
// not tell.
//
// Source: Intel 64 Software Developer's Manual, volume 2, chapter 2 and appendix A (opcode maps).
// Plain functions. Untrusted: the bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace uk::arch {

struct InsnLength {
  enum class Kind : uint8_t {
    kKnown,
    kNone,     // no processor takes these bytes for an instruction
    kUnknown,  // not known here, or the bytes end within it
  };
  Kind kind = Kind::kUnknown;
  size_t bytes = 0;  // kKnown
};

// Of the instruction at the beginning of `code`.
InsnLength insn_length(std::span<const uint8_t> code);

// Whether an instruction begins at `at`, for certain if the bytes before it are code: wherever one
// begins to read a little earlier, and one of these places is the begin of an instruction, one
// comes past `at`.
bool begins_insn(std::span<const uint8_t> code, size_t at);

}  // namespace uk::arch
