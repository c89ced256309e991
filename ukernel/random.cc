#include "ukernel/random.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "base/result.h"
#include "hostio/sys/event.h"

namespace uk {
namespace {

void quarter(uint32_t& a, uint32_t& b, uint32_t& c, uint32_t& d) {
  a += b, d = std::rotl(d ^ a, 16);
  c += d, b = std::rotl(b ^ c, 12);
  a += b, d = std::rotl(d ^ a, 8);
  c += d, b = std::rotl(b ^ c, 7);
}

}  // namespace

Random::Random(std::optional<uint64_t> seed) {
  if (seed) {
    key_[0] = static_cast<uint32_t>(*seed);
    key_[1] = static_cast<uint32_t>(*seed >> 32);
  } else {
    CHECK_OK(sys::getrandom(std::as_writable_bytes(std::span(key_))));
  }
}

void Random::block(std::array<std::byte, 64>& out) {
  std::array<uint32_t, 16> in{0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
  std::copy(key_.begin(), key_.end(), in.begin() + 4);
  in[12] = static_cast<uint32_t>(counter_);
  in[13] = static_cast<uint32_t>(counter_ >> 32);
  ++counter_;
  std::array<uint32_t, 16> x = in;
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < 4; ++i) quarter(x[i], x[i + 4], x[i + 8], x[i + 12]);
    for (int i = 0; i < 4; ++i)
      quarter(x[i], x[4 + (i + 1) % 4], x[8 + (i + 2) % 4], x[12 + (i + 3) % 4]);
  }
  for (size_t i = 0; i < x.size(); ++i) x[i] += in[i];
  std::memcpy(out.data(), x.data(), out.size());
}

void Random::fill(std::span<std::byte> out) {
  std::array<std::byte, 64> b;
  // The first half of the first block becomes the next key: what was given out cannot be computed
  // back.
  block(b);
  std::array<uint32_t, 8> next;
  std::memcpy(next.data(), b.data(), sizeof next);
  size_t n = std::min<size_t>(out.size(), 32);
  if (n != 0) std::memcpy(out.data(), b.data() + 32, n);
  while (n < out.size()) {
    block(b);
    size_t take = std::min(out.size() - n, b.size());
    std::memcpy(out.data() + n, b.data(), take);
    n += take;
  }
  key_ = next;
}

}  // namespace uk
