#include "boot/options.h"

#include <gtest/gtest.h>

namespace uk::boot {
namespace {

TEST(Size, UnitsAndLimits) {
  EXPECT_EQ(parse_size("512M"), 512ull << 20);
  EXPECT_EQ(parse_size("2g"), 2ull << 30);
  EXPECT_EQ(parse_size("4096"), 4096u);
  EXPECT_FALSE(parse_size(""));
  EXPECT_FALSE(parse_size("M"));
  EXPECT_FALSE(parse_size("-1"));
  EXPECT_FALSE(parse_size("1.5G"));
  EXPECT_FALSE(parse_size("99999999999T"));
}

TEST(Run, CommandAfterOptions) {
  auto r = parse_run_options({"--root=dir:/srv:rw", "--cpus=2", "--", "ls", "--all"});
  ASSERT_TRUE(r.options);
  EXPECT_EQ(r.options->root.path, "/srv");
  EXPECT_TRUE(r.options->root.writable);
  EXPECT_EQ(r.options->cpus, 2);
  EXPECT_EQ(r.options->command, (std::vector<std::string>{"ls", "--all"}));
}

TEST(Run, FirstWordEndsOptions) {
  auto r = parse_run_options({"sh", "-c", "exit 7"});
  ASSERT_TRUE(r.options);
  EXPECT_EQ(r.options->command.size(), 3u);
}

TEST(Run, Images) {
  auto r = parse_run_options({"--root=image:/srv/root.img:ro"});
  ASSERT_TRUE(r.options);
  EXPECT_EQ(r.options->root.kind, RootSpec::Kind::kImage);
  EXPECT_EQ(r.options->root.path, "/srv/root.img");
  EXPECT_FALSE(r.options->root.writable);
  EXPECT_TRUE(parse_run_options({"--root=image:disk"}).options->root.writable);
}

TEST(Run, ErrorsNameTheOption) {
  for (const char* bad : {"--root=image:",
                          "--mem=1K",
                          "--cpus=0",
                          "--root=floppy",
                          "--nonsense",
                          "--mem",
                          "--clear-env=1",
                          "--net=user",
                          "-x",
                          "--env=X",
                          "--mount=a",
                          "--disk=vdb",
                          "--disk==f",
                          "--disk=vdb=",
                          "--disk=vdb=,ro",
                          "--disk=vdb=f,cow=",
                          "--disk=vdb=f,cow=g,cow=h",
                          "--disk=vdb=ram:",
                          "--disk=vdb=ram:100",
                          "--disk=vdb=ram:1M,cow=f"}) {
    auto r = parse_run_options({bad});
    EXPECT_FALSE(r.options) << bad;
    EXPECT_NE(r.error.find(';'), std::string::npos) << r.error;
    EXPECT_EQ(r.error.find('\n'), std::string::npos) << r.error;
  }
}

TEST(Run, MountSpecs) {
  auto r = parse_run_options({"--mount=/a:b:/c:ro"});
  ASSERT_TRUE(r.options);
  EXPECT_EQ(r.options->mounts[0].host, "/a:b");
  EXPECT_EQ(r.options->mounts[0].guest, "/c");
  EXPECT_TRUE(r.options->mounts[0].read_only);
}

TEST(Run, DiskSpecs) {
  auto r = parse_run_options({"--disk=vdb=/a=b,c,sync,ro", "--disk=vdc=f,direct"});
  ASSERT_TRUE(r.options) << r.error;
  const DiskSpec& d = r.options->disks[0];
  EXPECT_EQ(d.name, "vdb");
  EXPECT_EQ(d.file, "/a=b,c");
  EXPECT_TRUE(d.read_only && d.sync && !d.direct);
  EXPECT_TRUE(r.options->disks[1].direct);
  EXPECT_FALSE(parse_run_options({"--disk=vdb=f", "--disk=vdb=g"}).options);
}

}  // namespace
}  // namespace uk::boot
