// The log on a disk that behaves: what is committed, where it goes, and what is refused.
#include "ukernel/dev/jbd2/journal.h"

#include "ukernel/dev/jbd2/test_kit.h"

namespace uk::jbd2 {
namespace {

constexpr uint32_t kSize = 1024;
constexpr uint32_t kDeviceBlocks = 256;

std::vector<std::byte> filled(uint8_t with) {
  return std::vector<std::byte>(kSize, static_cast<std::byte>(with));
}

class SmallJournalTest : public JournalTest {
 protected:
  SmallJournalTest() : storage(std::vector<std::byte>(kDeviceBlocks * kSize)) { reset(); }
  void reset(uint32_t sequence = 1) {
    std::vector<std::byte> image(kDeviceBlocks * kSize);
    put_blocks(image, place.extents()[0].block * kSize, empty_super(kSize, 40, sequence));
    storage = PowerCutStorage(std::move(image));
  }
  std::span<const std::byte> block(uint64_t b) {
    return std::span(storage.seen).subspan(b * kSize, kSize);
  }
  bool holds(uint64_t b, uint8_t value) {
    const auto want = filled(value);
    return std::ranges::equal(block(b), want);
  }
  Result<> commit(Journal& j, std::vector<std::pair<uint64_t, uint8_t>> blocks,
                  std::vector<FreedBlocks> freed = {}) {
    std::vector<std::vector<std::byte>> bytes;
    std::vector<CommitBlock> list;
    for (auto [b, value] : blocks) bytes.push_back(filled(value));
    for (size_t i = 0; i < blocks.size(); ++i) list.push_back({blocks[i].first * kSize, bytes[i]});
    return j.commit(*park, list, freed);
  }
  // The disk as a crash leaves it that loses nothing, but for the blocks' places.
  void lose_places(uint64_t first, uint64_t count) {
    storage.stable = storage.seen;
    std::memset(&storage.stable[first * kSize], 0, count * kSize);
    storage = PowerCutStorage(storage.stable);
  }

  LogPlace place{kSize, {{8, 16}, {64, 24}}};
  PowerCutStorage storage;
};

TEST_F(SmallJournalTest, CommitsAreInPlaceAndInTheLog) {
  run_disks([&](Park& p) {
    auto j = *open_journal(storage, place);
    EXPECT_FALSE(j->needs_replay());
    EXPECT_OK(j->start(p));
    EXPECT_OK(commit(*j, {{100, 1}, {101, 2}}));
    EXPECT_OK(commit(*j, {{101, 3}, {200, 4}}));
    EXPECT_TRUE(holds(100, 1));
    EXPECT_TRUE(holds(101, 3));
    lose_places(100, 120);
    auto again = *open_journal(storage, place);
    EXPECT_TRUE(again->needs_replay());
    auto done = again->replay(p);
    ASSERT_TRUE(done.has_value());
    EXPECT_EQ(2u, done->transactions);
    EXPECT_EQ(3u, done->blocks);
    EXPECT_TRUE(holds(100, 1));
    EXPECT_TRUE(holds(101, 3));
    EXPECT_TRUE(holds(200, 4));
    EXPECT_FALSE((*open_journal(storage, place))->needs_replay());
  });
}

TEST_F(SmallJournalTest, AnEmptiedLogReplaysNothing) {
  run_disks([&](Park& p) {
    auto j = *open_journal(storage, place);
    EXPECT_OK(j->start(p));
    EXPECT_OK(commit(*j, {{100, 1}}));
    EXPECT_OK(j->checkpoint(p));
    EXPECT_TRUE(storage.unflushed.empty());
    EXPECT_FALSE((*open_journal(storage, place))->needs_replay());
  });
}

TEST_F(SmallJournalTest, ALogThatIsDiscarded) {
  run_disks([&](Park& p) {
    auto j = *open_journal(storage, place);
    EXPECT_OK(j->start(p));
    for (uint8_t n = 1; n < 5; ++n) EXPECT_OK(commit(*j, {{100, n}}));
    lose_places(100, 1);
    auto k = *open_journal(storage, place);
    EXPECT_OK(k->discard(p));
    EXPECT_FALSE(k->needs_replay());
    EXPECT_TRUE(holds(100, 0));
    // What is committed next is not followed by what was there before.
    EXPECT_OK(k->start(p));
    EXPECT_OK(commit(*k, {{101, 9}}));
    lose_places(100, 2);
    auto done = (*open_journal(storage, place))->replay(p);
    ASSERT_TRUE(done.has_value());
    EXPECT_EQ(1u, done->transactions);
    EXPECT_TRUE(holds(100, 0));
    EXPECT_TRUE(holds(101, 9));
  });
}

TEST_F(SmallJournalTest, TheLogGoesRoundForEver) {
  reset(0xfffffff0);  // numbers of transactions wrap
  run_disks([&](Park& p) {
    auto j = *open_journal(storage, place);
    EXPECT_OK(j->start(p));
    for (int i = 0; i < 300; ++i) {
      const auto value = static_cast<uint8_t>(i);
      EXPECT_OK(commit(*j, {{100 + static_cast<uint64_t>(i % 50), value}, {160, value}}));
      lose_places(160, 1);
      const std::vector<std::byte> now = storage.stable;
      auto k = *open_journal(storage, place);
      EXPECT_OK(k->replay(p));
      ASSERT_TRUE(holds(160, value)) << i;
      storage = PowerCutStorage(now);
      disk = make_test_disk(*devices, storage);
    }
    EXPECT_GT(j->stats().checkpoints, 20u);
  });
}

TEST_F(SmallJournalTest, TheLargestCommit) {
  run_disks([&](Park& p) {
    auto j = *open_journal(storage, place);
    EXPECT_OK(j->start(p));
    EXPECT_EQ(36u, j->max_blocks());  // 39, less a descriptor, a commit block and a free one
    std::vector<std::pair<uint64_t, uint8_t>> blocks;
    for (uint64_t b = 0; b < j->max_blocks(); ++b) blocks.push_back({100 + b, 7});
    EXPECT_OK(commit(*j, {{99, 1}}));
    EXPECT_OK(commit(*j, blocks));
    EXPECT_EQ(1u, j->stats().checkpoints);
    blocks.push_back({150, 7});
    EXPECT_ERR(kNOSPC, commit(*j, blocks));
    EXPECT_FALSE(j->aborted());
    EXPECT_OK(commit(*j, {{99, 2}}));
    lose_places(99, 60);
    EXPECT_OK((*open_journal(storage, place))->replay(p));
    EXPECT_TRUE(holds(99, 2));
  });
}

TEST_F(SmallJournalTest, WhatIsFreedDoesNotComeBack) {
  run_disks([&](Park& p) {
    auto j = *open_journal(storage, place);
    EXPECT_OK(j->start(p));
    EXPECT_OK(commit(*j, {{100, 1}, {101, 1}, {102, 1}}));
    // In ranges that overlap: 100 is freed; 101 too, but taken again at once; 55 was never in the
    // log.
    EXPECT_OK(commit(*j, {{101, 2}}, {{100, 1}, {99, 3}, {55, 3}, {UINT64_MAX, UINT64_MAX}}));
    EXPECT_EQ(1u, j->stats().revokes);
    const auto data = filled(9);
    EXPECT_OK(disk->whole().submit(p, write_bio(100 * kSize, data)));
    EXPECT_OK(commit(*j, {{103, 1}}));
    auto k = *open_journal(storage, place);
    auto done = k->replay(p);
    ASSERT_TRUE(done.has_value());
    EXPECT_EQ(1u, done->revoked);
    EXPECT_TRUE(holds(100, 9));
    EXPECT_TRUE(holds(101, 2));
    EXPECT_TRUE(holds(102, 1));
  });
}

TEST_F(SmallJournalTest, BlocksThatLookLikeTheLogs) {
  run_disks([&](Park& p) {
    auto j = *open_journal(storage, place);
    EXPECT_OK(j->start(p));
    auto bytes = filled(5);
    put_be<uint32_t>(bytes, 0, kMagic);
    CommitBlock b{100 * kSize, bytes};
    EXPECT_OK(j->commit(p, {&b, 1}));
    EXPECT_TRUE(std::ranges::equal(block(100), bytes));
    lose_places(100, 1);
    EXPECT_OK((*open_journal(storage, place))->replay(p));
    EXPECT_TRUE(std::ranges::equal(block(100), bytes));
  });
}

TEST_F(SmallJournalTest, ACommitOfNothingFlushes) {
  run_disks([&](Park& p) {
    auto j = *open_journal(storage, place);
    EXPECT_OK(j->start(p));
    const auto data = filled(9);
    EXPECT_OK(disk->whole().submit(p, write_bio(100 * kSize, data)));
    EXPECT_FALSE(storage.unflushed.empty());
    EXPECT_OK(commit(*j, {}));
    EXPECT_TRUE(storage.unflushed.empty());
    EXPECT_EQ(0u, j->stats().commits);
  });
}

TEST_F(SmallJournalTest, WhatCannotBeCommitted) {
  run_disks([&](Park& p) {
    auto j = *open_journal(storage, place);
    EXPECT_OK(j->start(p));
    EXPECT_ERR(kINVAL, commit(*j, {{8, 1}}));  // the log itself
    EXPECT_ERR(kINVAL, commit(*j, {{87, 1}}));
    EXPECT_ERR(kINVAL, commit(*j, {{kDeviceBlocks, 1}}));
    EXPECT_ERR(kINVAL, commit(*j, {{UINT64_MAX / kSize, 1}}));
    EXPECT_ERR(kINVAL, commit(*j, {{100, 1}, {100, 2}}));
    const auto bytes = filled(1);
    const CommitBlock odd{100 * kSize + 512, bytes};
    const CommitBlock small{100 * kSize, std::span(bytes).first(512)};
    EXPECT_ERR(kINVAL, j->commit(p, {&odd, 1}));
    EXPECT_ERR(kINVAL, j->commit(p, {&small, 1}));
    EXPECT_OK(commit(*j, {{100, 1}}));
  });
}

// Two who commit at once: the contents are those of the calls, their order too.
TEST_F(SmallJournalTest, CommitsInTheOrderOfTheirCalls) {
  run_disks([&](Park& p) {
    auto j = *open_journal(storage, place, /*yields=*/true);
    EXPECT_OK(j->start(p));
    int left = 3;
    WaitQueue ended;
    std::vector<std::byte> bytes = filled(1);
    for (int n = 1; n <= 3; ++n) {
      spawn([&](Park& q) {
        const CommitBlock b{100 * kSize, bytes};
        std::ranges::fill(bytes, static_cast<std::byte>(4 - left));
        EXPECT_OK(j->commit(q, {&b, 1}));
        --left;
        ended.wake_all();
      });
    }
    EXPECT_OK(ended.wait(p, [&] { return left == 0; }));
    EXPECT_TRUE(std::ranges::equal(block(100), bytes));
    EXPECT_EQ(3u, j->stats().commits);
  });
}

TEST_F(SmallJournalTest, AnErrorEndsTheJournal) {
  for (int at = 0; at < 4; ++at) {  // the log, the flush, the commit block, the places
    reset();
    run_disks([&](Park& p) {
      auto j = *open_journal(storage, place);
      EXPECT_OK(j->start(p));
      storage.until_cut = at;
      EXPECT_ERR(kIO, commit(*j, {{200, 1}}));
      EXPECT_TRUE(j->aborted());
      storage.off = false;
      storage.until_cut = -1;
      EXPECT_ERR(kROFS, commit(*j, {{201, 1}}));
      EXPECT_ERR(kROFS, j->checkpoint(p));
      EXPECT_FALSE(holds(201, 1));
    });
  }
}

TEST_F(SmallJournalTest, SuperblocksThatAreRefused) {
  run_disks([&](Park&) {
    const uint64_t at = place.extents()[0].block * kSize;
    struct {
      size_t field;
      uint32_t value;
      Errno error;
    } bad[] = {
        {0, 0, Errno::kUCLEAN},       {4, 3, Errno::kOPNOTSUPP},    {4, 1, Errno::kUCLEAN},
        {0xc, 4096, Errno::kUCLEAN},  {0x10, 41, Errno::kUCLEAN},   {0x10, 5, Errno::kUCLEAN},
        {0x14, 0, Errno::kUCLEAN},    {0x14, 40, Errno::kUCLEAN},   {0x1c, 40, Errno::kUCLEAN},
        {0x28, 8, Errno::kOPNOTSUPP}, {0x28, 4, Errno::kOPNOTSUPP}, {0x28, 32, Errno::kOPNOTSUPP},
        {0x2c, 1, Errno::kOPNOTSUPP}, {0x28, 16, Errno::kOPNOTSUPP}};
    for (const auto& b : bad) {
      reset();
      put_be<uint32_t>(std::span(storage.seen).subspan(at), b.field, b.value);
      auto j = open_journal(storage, place);
      ASSERT_FALSE(j.has_value()) << b.field;
      EXPECT_EQ(b.error, j.error()) << b.field << " " << b.value;
    }
    const LogPlace places[] = {LogPlace(kSize, {}),
                               LogPlace(512, {{8, 40}}),
                               LogPlace(kSize, {{8, 40}, {20, 1}}),
                               LogPlace(kSize, {{8, 0}}),
                               LogPlace(kSize, {{UINT64_MAX, 40}}),
                               LogPlace(kSize, {{250, 40}})};
    for (const LogPlace& where : places) EXPECT_FALSE(open_journal(storage, where).has_value());
  });
}

// Journals in thousands of pieces, in whatever order.
TEST(LogPlaceTest, ManyExtents) {
  std::vector<LogPlace::Extent> extents;
  for (uint32_t i = 0; i < 5000; ++i) extents.push_back({uint64_t{i} * 7919 % 5000 * 3, 1 + i % 2});
  const LogPlace place(kSize, extents);
  EXPECT_EQ(7500u, place.blocks());
  uint32_t index = 0;
  for (const LogPlace::Extent& e : extents) {
    for (uint32_t n = 0; n < e.count; ++n) {
      const LogPlace::Run run = place.run_at(index++);
      EXPECT_EQ((e.block + n) * kSize, run.offset);
      EXPECT_EQ(e.count - n, run.count);
      EXPECT_TRUE(place.contains(e.block + n));
    }
    EXPECT_FALSE(place.contains(e.block + e.count));
  }
}

// A log without checksums, with tags of eight bytes, as a journal without features has it.
TEST_F(SmallJournalTest, LogsWithoutChecksums) {
  run_disks([&](Park& p) {
    auto at = [&](uint32_t index) {
      return std::span(storage.seen).subspan(place.run_at(index).offset, kSize);
    };
    auto transaction = [&](uint32_t first, uint32_t sequence, uint64_t block, uint8_t value) {
      write_header(at(first), kDescriptor, sequence);
      put_be<uint32_t>(at(first), 12, static_cast<uint32_t>(block));
      put_be<uint16_t>(at(first), 18, kTagLast);
      std::ranges::copy(filled(value), at(first + 1).begin());
      write_header(at(first + 2), kCommit, sequence);
    };
    auto dirty = [&] {
      reset();
      put_be<uint32_t>(at(0), 0x1c, 5);
      put_be<uint32_t>(at(0), 0x18, 77);
    };
    dirty();
    transaction(5, 77, 100, 1);
    transaction(8, 78, 101, 2);
    auto done = (*open_journal(storage, place))->replay(p);
    ASSERT_TRUE(done.has_value());
    EXPECT_EQ(2u, done->transactions);
    EXPECT_TRUE(holds(100, 1));
    EXPECT_TRUE(holds(101, 2));
    // Places beyond the device and in the log: nothing at all is written.
    for (uint64_t evil :
         {uint64_t{kDeviceBlocks}, uint64_t{0xffffffff}, uint64_t{8}, uint64_t{70}}) {
      dirty();
      transaction(5, 77, 100, 1);
      transaction(8, 78, evil, 2);
      const auto before = storage.seen;
      EXPECT_ERR(kUCLEAN, (*open_journal(storage, place))->replay(p));
      EXPECT_TRUE(before == storage.seen);
    }
  });
}

TEST_F(SmallJournalTest, DamageInTheMiddleChangesNothing) {
  run_disks([&](Park& p) {
    auto j = *open_journal(storage, place);
    EXPECT_OK(j->start(p));
    EXPECT_OK(commit(*j, {{100, 1}}));
    EXPECT_OK(commit(*j, {{101, 1}}));
    lose_places(100, 2);
    storage.seen[place.run_at(2).offset + 17] = std::byte{0x55};  // the first one's data
    const auto before = storage.seen;
    EXPECT_ERR(kUCLEAN, (*open_journal(storage, place))->replay(p));
    EXPECT_TRUE(before == storage.seen);
  });
}

}  // namespace
}  // namespace uk::jbd2
