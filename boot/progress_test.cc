#include "boot/progress.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace uk::boot {
namespace {

TEST(Progress, Sizes) {
  EXPECT_EQ("0 bytes", size_text(0));
  EXPECT_EQ("1023 bytes", size_text(1023));
  EXPECT_EQ("1.0 KiB", size_text(1024));
  EXPECT_EQ("2.5 GiB", size_text(5ull << 29));
  EXPECT_EQ("1024.0 TiB", size_text(1ull << 50));
}

TEST(Progress, LinesFitTheTerminal) {
  EXPECT_EQ("commit a.cow [####......]  40% of 1.0 GiB",
            Progress::line("commit a.cow", (1 << 30) / 10 * 4 + 10, 1 << 30, 42));
  EXPECT_EQ(40, std::ranges::count(Progress::line("x", 5, 5, 200), '#'));
  EXPECT_EQ(40, std::ranges::count(Progress::line("nothing", 0, 0, 200), '#'));
  for (int columns = 20; columns < 120; ++columns) {
    for (uint64_t done : {0, 1, 50, 99, 100})
      EXPECT_LT(Progress::line("rebase some/file.cow", done, 100, columns).size(),
                static_cast<size_t>(std::max(columns, 21)));
  }
  // No overflow with sizes that disks have.
  EXPECT_NE(std::string::npos, Progress::line("x", 1ull << 60, 1ull << 61, 80).find(" 50% of "));
}

}  // namespace
}  // namespace uk::boot
