// The format is theirs: e2fsck replays what we write, and we replay what debugfs writes.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <fstream>
#include <sstream>

#include "ukernel/dev/jbd2/journal.h"
#include "ukernel/dev/jbd2/recovery_flag.h"
#include "ukernel/dev/jbd2/test_kit.h"

namespace uk::jbd2 {
namespace {

struct Kind {
  const char* name;
  const char* options;
  uint32_t block_size;
};

class E2fsprogs : public JournalTest, public ::testing::WithParamInterface<Kind> {
 protected:
  E2fsprogs() {
    const char* tmp = getenv("TEST_TMPDIR");
    dir = std::string(tmp != nullptr ? tmp : "/tmp") + "/e2fsprogs.XXXXXX";
    EXPECT_NE(nullptr, mkdtemp(dir.data()));
    image = dir + "/image";
    EXPECT_EQ(0, shell(std::string("mke2fs -q -F -t ext4 -J size=4 -b ") +
                       std::to_string(GetParam().block_size) + " " + GetParam().options + " " +
                       image + " 16M"));
  }
  ~E2fsprogs() override { EXPECT_EQ(0, shell("rm -r " + dir)); }

  int shell(const std::string& command) {
    const std::string all =
        "PATH=$PATH:/usr/sbin:/sbin; (" + command + ") >" + dir + ".log 2>&1 </dev/null";
    const int status = system(all.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  std::string output() { return file(dir + ".log"); }
  static std::string file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  static std::vector<std::byte> bytes_of(const std::string& path) {
    const std::string s = file(path);
    const auto bytes = std::as_bytes(std::span(s));
    return {bytes.begin(), bytes.end()};
  }
  static void save(const std::string& path, const std::vector<std::byte>& bytes) {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
  }
  // Where the journal's inode says that its blocks are.
  LogPlace place() {
    std::vector<LogPlace::Extent> extents;
    EXPECT_EQ(0, shell("(debugfs -R 'blocks <8>' " + image + " 2>/dev/null)"));
    std::istringstream in(output());
    for (uint64_t b = 0; in >> b;) {
      if (!extents.empty() && extents.back().block + extents.back().count == b) {
        ++extents.back().count;
      } else {
        extents.push_back({b, 1});
      }
    }
    LogPlace p(GetParam().block_size, std::move(extents));
    EXPECT_EQ((4u << 20) / p.block_size(), p.blocks());
    return p;
  }
  std::string dir, image;
};

TEST_P(E2fsprogs, E2fsckReplaysWhatWeWrite) {
  // The change to make: what debugfs makes of a copy of the image.
  const std::string changed = dir + "/changed";
  std::ofstream(dir + "/data") << std::string(300'000, 'x') << "the end\n";
  ASSERT_EQ(0, shell("cp " + image + " " + changed + " && printf 'mkdir /some\\nwrite " + dir +
                     "/data /some-file\\nmkdir /some/more\\n' | debugfs -w -f - " + changed));
  const LogPlace where = place();
  const uint32_t size = where.block_size();
  PowerCutStorage before(bytes_of(image)), after(bytes_of(changed));
  ASSERT_EQ(before.seen.size(), after.seen.size());
  run_disks([&](Park& p) {
    // The superblock of the change has the flag too, as a file system's copy in memory has.
    Ref<Disk> other = make_test_disk(*devices, after);
    EXPECT_OK(set_needs_recovery(p, other->whole(), true));
    other->remove();
    auto j = open_journal(before, where);
    ASSERT_TRUE(j.has_value()) << j.error();
    EXPECT_FALSE((*j)->needs_replay());
    EXPECT_OK((*j)->start(p));
    EXPECT_OK(set_needs_recovery(p, disk->whole(), true));
    EXPECT_TRUE(*needs_recovery(p, disk->whole()));
    const auto places = before.seen;
    // In two commits; then the power goes before anything but the log is on the disk.
    std::vector<CommitBlock> blocks[2];
    for (uint64_t at = 0; at < before.seen.size(); at += size) {
      const auto to = std::span(after.seen).subspan(at, size);
      if (where.contains(at / size) || std::memcmp(&before.seen[at], to.data(), size) == 0)
        continue;
      blocks[blocks[0].size() < 20 ? 0 : 1].push_back({at, to});
    }
    ASSERT_FALSE(blocks[1].empty());
    EXPECT_OK((*j)->commit(p, blocks[0]));
    EXPECT_OK((*j)->commit(p, blocks[1]));
    for (uint64_t at = 0; at < before.seen.size(); at += size) {
      if (!where.contains(at / size)) std::memcpy(&before.seen[at], &places[at], size);
    }
  });
  save(image, before.seen);
  EXPECT_NE(0, shell("debugfs -R 'stat /some' " + image + " | grep -q Inode:"));
  const int status = shell("e2fsck -fy " + image);
  EXPECT_TRUE(status == 0 || status == 1) << status << "\n" << output();
  EXPECT_NE(std::string::npos, output().find("recovering journal")) << output();
  EXPECT_EQ(0, shell("e2fsck -fn " + image)) << output();
  EXPECT_EQ(0, shell("debugfs -R 'dump /some-file " + dir + "/back' " + image + " && cmp " + dir +
                     "/data " + dir + "/back"))
      << output();
  EXPECT_EQ(0, shell("debugfs -R 'stat /some/more' " + image + " | grep -q Inode:"));
}

// After the log was emptied and the flag cleared nothing is to be replayed.
TEST_P(E2fsprogs, ACleanEnd) {
  const LogPlace where = place();
  PowerCutStorage storage(bytes_of(image));
  run_disks([&](Park& p) {
    auto j = *open_journal(storage, where);
    EXPECT_OK(j->start(p));
    EXPECT_OK(set_needs_recovery(p, disk->whole(), true));
    const uint64_t at = storage.seen.size() - where.block_size();
    const std::vector<std::byte> same(storage.seen.end() - where.block_size(), storage.seen.end());
    const CommitBlock b{at, same};
    EXPECT_OK(j->commit(p, {&b, 1}));
    EXPECT_OK(j->checkpoint(p));
    EXPECT_OK(set_needs_recovery(p, disk->whole(), false));
    EXPECT_FALSE(*needs_recovery(p, disk->whole()));
  });
  save(image, storage.stable);
  EXPECT_EQ(0, shell("e2fsck -fn " + image)) << output();
  EXPECT_EQ(std::string::npos, output().find("recover")) << output();
}

TEST_P(E2fsprogs, WeReplayWhatDebugfsWrites) {
  const uint32_t size = GetParam().block_size;
  const uint64_t first = (15u << 20) / size;  // far from the log
  // The second block looks like one of the log's, and is escaped.
  std::vector<std::byte> data(3 * size, std::byte{0x5a});
  write_header(std::span(data).subspan(size), kCommit, 1);
  save(dir + "/data", data);
  for (const char* checksums : {"", "-c"}) {
    const std::string list =
        std::to_string(first) + "," + std::to_string(first + 1) + "," + std::to_string(first + 2);
    ASSERT_EQ(0, shell(std::string("printf 'jo ") + checksums + "\\njw -b " + list + " " + dir +
                       "/data\\njw -r " + std::to_string(first + 2) +
                       "\\njc\\n' | debugfs -w -f - " + image))
        << output();
    const LogPlace where = place();
    PowerCutStorage storage(bytes_of(image));
    std::memset(&storage.seen[first * size], 0, 3 * size);
    run_disks([&](Park& p) {
      auto j = open_journal(storage, where);
      ASSERT_TRUE(j.has_value()) << j.error();
      EXPECT_TRUE(*needs_recovery(p, disk->whole()));
      ASSERT_TRUE((*j)->needs_replay());
      auto done = (*j)->replay(p);
      ASSERT_TRUE(done.has_value()) << done.error();
      EXPECT_EQ(2u, done->transactions);
      EXPECT_EQ(2u, done->blocks);
      EXPECT_EQ(1u, done->revoked);
      EXPECT_EQ(0, std::memcmp(&storage.seen[first * size], data.data(), 2 * size));
      EXPECT_EQ(std::byte{0}, storage.seen[(first + 2) * size]);
      EXPECT_OK((*j)->start(p));
    });
    save(image, storage.seen);
    EXPECT_LE(shell("e2fsck -fy " + image), 1) << output();
  }
}

INSTANTIATE_TEST_SUITE_P(Images, E2fsprogs,
                         ::testing::Values(Kind{"defaults", "", 4096},
                                           Kind{"small_blocks", "", 1024},
                                           Kind{"old", "-O ^metadata_csum,^64bit", 4096}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace uk::jbd2
