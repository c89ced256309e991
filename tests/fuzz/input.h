// The input of a fuzz target, taken apart: numbers, blocks, and changes of something that is good,
// for formats in which chance alone gets nowhere.
//
// Ownership: borrows the bytes, which may be anything; there are always more of them, all zero.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "base/crc32c.h"

namespace uk {

class FuzzInput {
 public:
  FuzzInput(const uint8_t* data, size_t size) : left_(data, size) {}

  bool empty() const { return left_.empty(); }
  template <class T>
  T take() {
    T v{};
    fill(std::as_writable_bytes(std::span(&v, 1)));
    return v;
  }
  void fill(std::span<std::byte> to) {
    const size_t n = std::min(to.size(), left_.size());
    if (n != 0) std::memcpy(to.data(), left_.data(), n);
    std::fill(to.begin() + static_cast<std::ptrdiff_t>(n), to.end(), std::byte{0});
    left_ = left_.subspan(n);
  }

 private:
  std::span<const uint8_t> left_;
};

// Where an image is not all zeroes, in pieces of 16 bytes: what is worth changing.
inline std::vector<uint32_t> used_pieces(std::span<const char> image) {
  std::vector<uint32_t> pieces;
  for (size_t at = 0; at + 16 <= image.size(); at += 16) {
    const auto piece = image.subspan(at, 16);
    if (std::ranges::any_of(piece, [](char c) { return c != 0; }))
      pieces.push_back(static_cast<uint32_t>(at));
  }
  return pieces;
}

// Changes bytes of the image as the input says, until it ends.
inline void change(FuzzInput& in, const std::vector<uint32_t>& pieces, std::span<char> image) {
  while (!in.empty()) {
    const uint32_t piece = pieces[in.take<uint16_t>() % pieces.size()];
    const auto how = in.take<uint8_t>();
    const size_t at = piece + how % 16, bytes = size_t{1} << (how / 16 % 4);
    for (size_t i = at; i < std::min(at + bytes, image.size()); ++i) image[i] = in.take<char>();
  }
}

// A fixture of GoogleTest as something that lives for one input. What it expects in vain is a
// finding.
template <class Fixture>
class Fuzzed : public Fixture {
 public:
  ~Fuzzed() override {
    if (testing::Test::HasFailure()) std::abort();
  }
  void TestBody() override {}
};

}  // namespace uk

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
