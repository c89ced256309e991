#include "ukernel/mm/frame_map.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace uk {

namespace {
uint64_t low_bits(uint32_t n) { return n >= 64 ? ~0ull : (1ull << n) - 1; }

// Bits at which a run of n ones starts in x (1 <= n <= 64).
uint64_t run_starts(uint64_t x, uint32_t n) {
  for (uint32_t have = 1; have < n && x != 0;) {
    uint32_t step = std::min(have, n - have);
    x &= x >> step;
    have += step;
  }
  return x;
}

// The longest run of ones in x, at most `max` long.
uint32_t longest_run(uint64_t x, uint32_t max, uint32_t* start) {
  uint32_t best = 0;
  while (x != 0) {
    uint32_t from = std::countr_zero(x);
    uint32_t len = std::countr_one(x >> from);
    if (len > best) {
      best = len;
      *start = from;
    }
    x = from + len >= 64 ? 0 : x & ~low_bits(from + len);
  }
  return std::min(best, max);
}
}  // namespace

FrameMap::FrameMap(uint32_t frames)
    : words_((frames + 63) / 64),
      sum1_((words_.size() + 63) / 64),
      sum2_((sum1_.size() + 63) / 64) {
  for (uint32_t w = 0; w < words_.size(); ++w) {
    words_[w] = low_bits(std::min(frames - w * 64, 64u));
    sum1_[w / 64] |= 1ull << (w % 64);
  }
  for (size_t s = 0; s < sum1_.size(); ++s) sum2_[s / 64] |= 1ull << (s % 64);
  free_ = frames;
}

uint32_t FrameMap::next_word(uint32_t from) const {
  const uint32_t none = words();
  if (from >= none) return none;
  uint32_t s = from / 64;
  uint64_t bits = sum1_[s] & ~low_bits(from % 64);
  if (bits == 0) {
    uint32_t next = s + 1;
    if (next >= sum1_.size()) return none;
    uint32_t t = next / 64;
    uint64_t top = sum2_[t] & ~low_bits(next % 64);
    while (top == 0) {
      if (++t >= sum2_.size()) return none;
      top = sum2_[t];
    }
    s = t * 64 + std::countr_zero(top);
    bits = sum1_[s];
  }
  return s * 64 + std::countr_zero(bits);
}

void FrameMap::take_bits(uint32_t word, uint64_t bits) {
  DCHECK((words_[word] & bits) == bits);
  words_[word] &= ~bits;
  free_ -= std::popcount(bits);
  if (words_[word] != 0) return;
  sum1_[word / 64] &= ~(1ull << (word % 64));
  if (sum1_[word / 64] == 0) sum2_[word / 4096] &= ~(1ull << (word / 64 % 64));
}

uint32_t FrameMap::take(uint32_t n, uint32_t* first) {
  if (free_ == 0 || n == 0) return 0;
  constexpr int kCandidates = 64;  // words looked at for a full run
  uint32_t best_word = 0, best_start = 0, best = 0;
  uint32_t word = next_word(0);
  for (int tries = 0; tries < kCandidates && word < words(); ++tries) {
    if (n > 64 && word_free(word)) {
      uint32_t end = word + 1;
      while ((end - word) * 64 < n && end < words() && word_free(end)) ++end;
      uint32_t got = std::min(n, (end - word) * 64);
      if (got > best) best = got, best_word = word, best_start = 0;
      if (got == n) break;
      word = next_word(end);
      continue;
    }
    if (n <= 64) {
      if (uint64_t starts = run_starts(words_[word], n)) {
        best = n, best_word = word, best_start = std::countr_zero(starts);
        break;
      }
    }
    uint32_t start = 0;
    uint32_t got = longest_run(words_[word], n, &start);
    if (got > best) best = got, best_word = word, best_start = start;
    word = next_word(word + 1);
  }
  *first = best_word * 64 + best_start;
  for (uint32_t left = best, w = best_word, s = best_start; left != 0; ++w, s = 0) {
    uint32_t k = std::min(left, 64 - s);
    take_bits(w, low_bits(k) << s);
    left -= k;
  }
  return best;
}

void FrameMap::give(uint32_t frame) {
  uint32_t word = frame / 64;
  uint64_t bit = 1ull << (frame % 64);
  CHECK((words_[word] & bit) == 0);
  words_[word] |= bit;
  sum1_[word / 64] |= 1ull << (word % 64);
  sum2_[word / 4096] |= 1ull << (word / 64 % 64);
  ++free_;
}

}  // namespace uk
