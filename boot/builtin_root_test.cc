// The archive is in the binary, whole, and where the header says. Its contents are
// tools/mkroot_test's.
#include "boot/builtin_root.h"

#include <cstdint>
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

}  // namespace
}  // namespace uk
