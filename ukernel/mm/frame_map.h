// FrameMap: which frames of guest memory are free: a bitmap with two summary levels, allocating the
// lowest free frames first, alone or as runs. Low frames are used again before untouched ones, so
// host memory is taken only when needed.
//
// Owned by PhysMemory. Nothing suspends; no guest data passes here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace uk {

class FrameMap {
 public:
  static constexpr uint32_t kWordFrames = 64;

  explicit FrameMap(uint32_t frames);
  // Takes up to n >= 1 contiguous frames: a full run if one is found among the first candidates,
  // else the longest seen. Returns how many, 0 if nothing is free.
  uint32_t take(uint32_t n, uint32_t* first);
  void give(uint32_t frame);
  bool is_free(uint32_t frame) const { return words_[frame / 64] >> (frame % 64) & 1; }
  // All 64 frames of this word exist and are free.
  bool word_free(uint32_t word) const { return words_[word] == ~0ull; }
  uint32_t words() const { return static_cast<uint32_t>(words_.size()); }
  uint64_t free_frames() const { return free_; }

 private:
  // The first word >= from with a free frame, or words().
  uint32_t next_word(uint32_t from) const;
  void take_bits(uint32_t word, uint64_t bits);

  std::vector<uint64_t> words_;  // bit set: free
  std::vector<uint64_t> sum1_;   // bit set: the word has a free frame
  std::vector<uint64_t> sum2_;   // bit set: the sum1_ word is not zero
  uint64_t free_ = 0;
};

}  // namespace uk
