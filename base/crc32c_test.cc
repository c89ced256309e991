#include "base/crc32c.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace uk {
namespace {

std::span<const std::byte> bytes_of(const char* text) {
  return std::as_bytes(std::span(text, std::strlen(text)));
}

// RFC 3720, appendix B.4, and the usual check value.
TEST(Crc32c, KnownValues) {
  EXPECT_EQ(0xe3069283u, crc32c(bytes_of("123456789")));
  std::vector<std::byte> zeroes(32), ones(32, std::byte{0xff});
  EXPECT_EQ(0x8a9136aau, crc32c(zeroes));
  EXPECT_EQ(0x62a8ab43u, crc32c(ones));
  EXPECT_EQ(0u, crc32c({}));
}

TEST(Crc32c, InPiecesAndByTable) {
  std::vector<std::byte> bytes(1000);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7 + i / 3);
  for (size_t n = 0; n <= 100; ++n) {
    const auto part = std::span(bytes).subspan(n, 5 * n);
    EXPECT_EQ(crc32c_by_table(~0u, part), crc32c_update(~0u, part)) << n;
    EXPECT_EQ(crc32c_update(~0u, std::span(bytes).first(6 * n)),
              crc32c_update(crc32c_update(~0u, std::span(bytes).first(n)), part));
  }
}

}  // namespace
}  // namespace uk
