// The instance's random numbers (getrandom(2), AT_RANDOM, address layout): ChaCha20 (RFC 8439) with
// fast key erasure, keyed by the host's generator, or by a fixed seed for repeatable runs. Owned by
// the Kernel; nothing suspends.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace uk {

class Random {
 public:
  explicit Random(std::optional<uint64_t> seed);
  void fill(std::span<std::byte> out);

 private:
  void block(std::array<std::byte, 64>& out);
  std::array<uint32_t, 8> key_{};
  uint64_t counter_ = 0;
};

}  // namespace uk
