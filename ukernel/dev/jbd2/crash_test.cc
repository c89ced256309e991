// Power cuts: thousands of random workloads, each cut at a random write, with a random part of what
// was not flushed on the disk. After the replay the disk is as the last commit, or the one that was
// under way, left it. And logs that chance has bent.
#include <map>
#include <optional>

#include "base/crc32c.h"
#include "ukernel/dev/jbd2/journal.h"
#include "ukernel/dev/jbd2/test_kit.h"

namespace uk::jbd2 {
namespace {

constexpr uint32_t kDeviceBlocks = 160;
#ifdef __SANITIZE_ADDRESS__
constexpr uint32_t kScale = 10;  // they take that much longer
#else
constexpr uint32_t kScale = 1;
#endif

// What a block with a version holds; every fifth looks like a block of the log.
std::vector<std::byte> contents(uint32_t size, uint64_t block, uint32_t version) {
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; i += 8) {
    const uint64_t word = (block << 40) | (uint64_t{version} << 16) | i / 512;
    std::memcpy(&bytes[i], &word, 8);
  }
  if (version % 5 == 4) {
    put_be<uint32_t>(bytes, 0, kMagic);
    put_be<uint32_t>(bytes, 4, kCommit);
  }
  return bytes;
}

// What a disk may hold after a replay.
struct State {
  std::map<uint64_t, uint32_t> metadata;  // block -> version
  // Block -> versions of which each sector has one; the first is the last that was flushed.
  std::map<uint64_t, std::vector<uint32_t>> data;
};

class CrashTest : public JournalTest {
 protected:
  void one(uint32_t seed) {
    std::mt19937 random(seed);
    const uint32_t size = random() % 2 == 0 ? 1024 : 4096;
    const uint32_t log = 24 + random() % 30;
    const uint32_t part = 4 + random() % 16;
    LogPlace place(size, {{3, part}, {70, log - part}});
    std::vector<std::byte> image(kDeviceBlocks * size);
    for (uint64_t b = 0; b < kDeviceBlocks; ++b) put_blocks(image, b * size, contents(size, b, 0));
    put_blocks(image, 3 * size, empty_super(size, log, random()));
    PowerCutStorage storage(std::move(image));
    State last;
    std::optional<State> attempt;
    work(random, storage, place, last, attempt);

    PowerCutStorage cut(storage.after_cut(random));
    // The replay may be cut, too.
    for (int again = static_cast<int>(random() % 3); again > 0; --again) {
      cut.until_cut = random() % 6;
      auto j = open_journal(cut, place);
      ASSERT_TRUE(j.has_value()) << "seed " << seed << " " << j.error();
      (void)(*j)->replay(*park);
      cut = PowerCutStorage(cut.after_cut(random));
    }
    auto j = open_journal(cut, place);
    ASSERT_TRUE(j.has_value()) << "seed " << seed << " " << j.error();
    auto done = (*j)->replay(*park);
    ASSERT_TRUE(done.has_value()) << "seed " << seed << " " << done.error();
    const std::string why = differs(cut.seen, size, last);
    const std::string also = attempt ? differs(cut.seen, size, *attempt) : "there is none";
    ASSERT_TRUE(why.empty() || also.empty())
        << "seed " << seed << "; the last: " << why << "; the attempted: " << also;
    ++(why.empty() ? kept_ : won_);
    replayed_ += done->transactions;
    revoked_ += done->revoked;
  }

  // Commits, frees, takes and writes until the power fails or enough is done.
  void work(std::mt19937& random, PowerCutStorage& storage, const LogPlace& place, State& last,
            std::optional<State>& attempt) {
    auto opened = open_journal(storage, place);
    ASSERT_TRUE(opened.has_value()) << opened.error();
    Journal& j = **opened;
    const uint32_t size = place.block_size();
    ASSERT_TRUE(j.start(*park).has_value());
    storage.until_cut = random() % 120;
    uint32_t version = 0;
    auto some_block = [&] {
      for (;;) {
        const uint64_t b = random() % kDeviceBlocks;
        if (!place.contains(b)) return b;
      }
    };
    for (int step = 0; step < 60 && !storage.off; ++step) {
      State next = last;
      std::map<uint64_t, std::vector<std::byte>> bytes;
      std::vector<uint64_t> freed;
      for (auto& [b, v] : last.metadata) {
        if (random() % 6 == 0) {
          freed.push_back(b);
          next.metadata.erase(b);
        }
      }
      for (size_t n = random() % 8; n > 0; --n) {
        uint64_t b = some_block();
        if (random() % 2 == 0 && !last.metadata.empty())
          b = std::next(last.metadata.begin(),
                        static_cast<ptrdiff_t>(random() % last.metadata.size()))
                  ->first;
        next.metadata[b] = ++version;
        next.data.erase(b);
        bytes[b] = contents(size, b, version);
      }
      // The order of a commit: everything written before it is flushed by it.
      for (auto& [b, versions] : next.data) versions = {versions.back()};
      std::vector<CommitBlock> blocks;
      for (auto& [b, v] : bytes) blocks.push_back({b * size, v});
      attempt = next;
      std::vector<FreedBlocks> ranges;
      for (uint64_t b : freed) ranges.push_back({b, 1});
      if (!j.commit(*park, blocks, ranges)) return;
      last = next;
      attempt.reset();
      if (random() % 12 == 0 && !j.checkpoint(*park)) return;
      // What was freed gets data, past the log; so do other free blocks.
      for (size_t n = random() % 4; n > 0; --n) {
        const uint64_t b =
            !freed.empty() && random() % 4 != 0 ? freed[random() % freed.size()] : some_block();
        if (last.metadata.contains(b)) continue;
        const auto data = contents(size, b, ++version);
        std::vector<uint32_t>& versions = last.data[b];
        if (versions.empty()) versions.push_back(UINT32_MAX);  // anything
        versions.push_back(version);
        if (!disk->whole().submit(*park, write_bio(b * size, data))) return;
      }
    }
  }

  static std::string differs(const std::vector<std::byte>& image, uint32_t size, const State& s) {
    for (const auto& [b, version] : s.metadata) {
      if (std::memcmp(&image[b * size], contents(size, b, version).data(), size) != 0)
        return "block " + std::to_string(b) + " is not version " + std::to_string(version);
    }
    for (const auto& [b, versions] : s.data) {
      if (versions[0] == UINT32_MAX) continue;
      for (uint32_t at = 0; at < size; at += 512) {
        bool any = false;
        for (uint32_t v : versions) {
          any |= std::memcmp(&image[b * size + at], contents(size, b, v).data() + at, 512) == 0;
        }
        if (!any) return "data block " + std::to_string(b) + " has something else";
      }
    }
    return "";
  }

  int kept_ = 0, won_ = 0;
  uint64_t replayed_ = 0, revoked_ = 0;
};

TEST_F(CrashTest, TheLastCommitOrTheOneUnderWay) {
  run_disks([&](Park&) {
    for (uint32_t seed = 0; seed < 4000 / kScale && !HasFatalFailure(); ++seed) one(seed);
  });
  // Of both there were many, or the test tests nothing.
  EXPECT_GT(kept_, 300 / int{kScale});
  EXPECT_GT(won_, 300 / int{kScale});
  EXPECT_GT(replayed_, 4000u / kScale);
  EXPECT_GT(revoked_, 1000u / kScale);
}

// A bent log is refused, or replayed up to some transaction; and whatever it says, only what lies
// outside the log on the device is written.
TEST_F(CrashTest, BentLogs) {
  constexpr uint32_t kSize = 1024, kLog = 40;
  const LogPlace place(kSize, {{3, 10}, {70, kLog - 10}});
  run_disks([&](Park& p) {
    std::vector<std::byte> image(kDeviceBlocks * kSize);
    put_blocks(image, 3 * kSize, empty_super(kSize, kLog));
    PowerCutStorage storage(image);
    std::vector<std::vector<uint8_t>> states;  // the first byte of each block
    auto state = [&](const std::vector<std::byte>& of) {
      std::vector<uint8_t> s;
      for (uint64_t b = 100; b < kDeviceBlocks; ++b)
        s.push_back(static_cast<uint8_t>(of[b * kSize + 500]));
      return s;
    };
    states.push_back(state(image));
    std::vector<std::byte> log;
    {
      auto j = *open_journal(storage, place);
      EXPECT_OK(j->start(p));
      for (uint8_t n = 1; n <= 9; ++n) {
        const std::vector<std::byte> bytes(kSize, static_cast<std::byte>(n));
        const CommitBlock blocks[] = {{(100u + n) * kSize, bytes}, {120 * kSize, bytes}};
        const FreedBlocks freed[] = {{100u + n - 1, 1}};
        EXPECT_OK(j->commit(p, blocks, freed));
        states.push_back(state(storage.seen));
      }
      // Places as they were before; freed blocks are not restored by a replay.
      log = storage.seen;
      std::memset(&log[100 * kSize], 0, 60 * kSize);
    }
    auto fits = [](const std::vector<uint8_t>& s, const std::vector<uint8_t>& got, uint8_t upto) {
      for (size_t i = 0; i < s.size(); ++i) {
        const bool freed = i >= 1 && i < upto;  // revoked: as before
        if (got[i] != s[i] && !(freed && got[i] == 0)) return false;
      }
      return true;
    };
    int refused = 0, replayed = 0;
    for (uint32_t seed = 0; seed < 6000 / kScale && !HasFatalFailure(); ++seed) {
      std::mt19937 random(seed);
      std::vector<std::byte> bent = log;
      const bool mended = seed % 3 == 0;  // the superblock has a good checksum all the same
      for (uint32_t n = 1 + random() % 4; n > 0; --n) {
        const LogPlace::Run run = place.run_at(random() % kLog);
        const uint32_t within = random() % 2 == 0 ? random() % 64 : random() % kSize;
        bent[run.offset + within] = static_cast<std::byte>(random());
      }
      auto super = std::span(bent).subspan(3 * kSize, kSize);
      if (mended) {
        put_be<uint32_t>(super, 0xfc, 0);
        put_be<uint32_t>(super, 0xfc, crc32c_update(~0u, super.first(kSuperBytes)));
        if (random() % 2 == 0) put_be<uint32_t>(super, 0x28, random() % 4);  // other features
      }
      PowerCutStorage with(bent);
      auto j = open_journal(with, place);
      if (!j || !(*j)->replay(p)) {
        ++refused;
        EXPECT_TRUE(with.seen == bent) << "seed " << seed;
        continue;
      }
      ++replayed;
      EXPECT_LT(with.reads, 1000u) << "seed " << seed;
      for (uint32_t i = 1; i < kLog; ++i) {
        const uint64_t at = place.run_at(i).offset;
        EXPECT_EQ(0, std::memcmp(&bent[at], &with.seen[at], kSize)) << "seed " << seed;
      }
      if (mended) continue;
      const auto got = state(with.seen);
      bool any = false;
      for (uint8_t n = 0; n < states.size(); ++n) any |= fits(states[n], got, n);
      EXPECT_TRUE(any) << "seed " << seed;
    }
    EXPECT_GT(refused, 500 / int{kScale});
    EXPECT_GT(replayed, 500 / int{kScale});
  });
}

}  // namespace
}  // namespace uk::jbd2
