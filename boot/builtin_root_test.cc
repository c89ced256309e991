// The archive is in the binary, whole, and where the header says. Its contents are
// tools/mkroot_test's.
#include "boot/builtin_root.h"

#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>

#include "gtest/gtest.h"

namespace uk {
namespace {

TEST(BuiltinRoot, IsAWholeArchiveAtAPageBoundary) {
  std::span<const std::byte> archive = builtin_root_cpio();
  std::string_view text(reinterpret_cast<const char*>(archive.data()), archive.size());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(archive.data()) % 4096, 0u);
  EXPECT_TRUE(text.starts_with("070701"));
  EXPECT_NE(text.substr(text.size() - 128).find("TRAILER!!!"), text.npos);
}

TEST(BuiltinRoot, BusyboxIsPageAligned) {
  std::span<const std::byte> archive = builtin_root_cpio();
  std::string_view text(reinterpret_cast<const char*>(archive.data()), archive.size());
  size_t elf = text.find(
      "\x7f"
      "ELF");
  ASSERT_NE(elf, text.npos);
  EXPECT_EQ(elf % 4096, 0u);
}

TEST(BuiltinRoot, LiesInOurFileWhereItSays) {
  auto offset = builtin_root_file_offset();
  ASSERT_TRUE(offset.has_value());
  EXPECT_EQ(*offset % 4096, 0u);
  std::ifstream self("/proc/self/exe", std::ios::binary);
  self.seekg(static_cast<std::streamoff>(*offset));
  std::string head(4096, '\0');
  self.read(head.data(), static_cast<std::streamsize>(head.size()));
  EXPECT_EQ(memcmp(head.data(), builtin_root_cpio().data(), head.size()), 0);
}

}  // namespace
}  // namespace uk
