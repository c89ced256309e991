// Whether a program uses small fresh memory as soon as it has it, as allocators and the dynamic
// linker do: then the frames can come with the mapping, for less than a fault costs. Learnt from
// what happens between one mmap(2) and the next change; every so often a mapping is left to a
// fault, to see whether the habit is still there.
//
// Ownership: a value in an address space. Nothing suspends; nothing is untrusted.
#pragma once

#include <cstdint>

namespace uk {

class TouchHabit {
 public:
  // [start, end) was mapped afresh. True: bring its pages in now.
  bool mapped(uint64_t start, uint64_t end) {
    changed();
    if (score_ >= kSure && unseen_ < kLook) {
      ++unseen_;
      return true;
    }
    start_ = start;
    end_ = end;
    unseen_ = 0;
    return false;
  }
  // A first touch by the guest.
  void touched(uint64_t addr) {
    if (addr < start_ || addr >= end_) return;
    if (score_ < kSure) ++score_;
    start_ = end_ = 0;
  }
  // Memory is mapped or unmapped: what was not touched by now was not touched at once.
  void changed() {
    if (start_ != end_) score_ = 0;
    start_ = end_ = 0;
  }

 private:
  static constexpr int kSure = 2;
  static constexpr int kLook = 16;  // mappings without a look

  // A new image begins with a few of the dynamic linker's, which are used at once.
  int score_ = kSure, unseen_ = kLook - 3;
  uint64_t start_ = 0, end_ = 0;
};

}  // namespace uk
