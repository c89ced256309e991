// Partition tables: good ones, broken ones, and a great many bent ones.
#include "ukernel/dev/block/partition_table.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

namespace uk {
namespace {

constexpr uint64_t kSectors = 4096;

class Image {
 public:
  Image() : bytes_(kSectors * 512) {}
  template <class T>
  void put(uint64_t at, T value) {
    std::memcpy(&bytes_[at], &value, sizeof value);
  }
  std::vector<std::byte>& bytes() { return bytes_; }
  std::span<const std::byte> part(uint64_t at, size_t n) const {
    return std::span(bytes_).subspan(at, n);
  }
  // Every read must lie inside the disk.
  std::vector<Partition> read() {
    return read_partitions(bytes_.size(), [&](uint64_t at, std::span<std::byte> to) -> Result<> {
      ++reads;
      EXPECT_EQ(0u, at % 512);
      EXPECT_EQ(0u, to.size() % 512);
      EXPECT_LE(to.size(), bytes_.size());
      EXPECT_LE(at, bytes_.size() - to.size());
      std::memcpy(to.data(), &bytes_[at], to.size());
      return {};
    });
  }
  void mbr(uint64_t sector, int slot, uint8_t type, uint32_t first, uint32_t count) {
    const uint64_t at = sector * 512 + 446 + static_cast<uint64_t>(slot) * 16;
    put<uint8_t>(at + 4, type);
    put<uint32_t>(at + 8, first);
    put<uint32_t>(at + 12, count);
    put<uint16_t>(sector * 512 + 510, 0xaa55);
  }
  // A GPT header in `sector` for the table in sectors from `table` on.
  void gpt_header(uint64_t sector, uint64_t table) {
    const uint64_t at = sector * 512;
    std::memcpy(&bytes_[at], "EFI PART", 8);
    put<uint32_t>(at + 8, 0x10000);
    put<uint32_t>(at + 12, 92);
    put<uint64_t>(at + 24, sector);
    put<uint64_t>(at + 72, table);
    put<uint32_t>(at + 80, 128);
    put<uint32_t>(at + 84, 128);
    put<uint32_t>(at + 88, crc32(part(table * 512, 128 * 128)));
    put<uint32_t>(at + 16, 0);
    put<uint32_t>(at + 16, crc32(part(at, 92)));
  }
  void gpt() {
    mbr(0, 0, 0xee, 1, kSectors - 1);
    for (uint64_t table : {uint64_t{2}, kSectors - 33}) {
      const uint64_t at = table * 512 + 128;  // the second entry
      put<uint64_t>(at, 1);
      put<uint64_t>(at + 16, 0x1122334455667788);
      put<uint64_t>(at + 32, 2048);
      put<uint64_t>(at + 40, 3071);
      put<uint16_t>(at + 56, 'a');
      put<uint16_t>(at + 58, 0x20ac);
    }
    gpt_header(1, 2);
    gpt_header(kSectors - 1, kSectors - 33);
  }
  int reads = 0;

 private:
  std::vector<std::byte> bytes_;
};

TEST(PartitionTable, EmptyDiskHasNone) { EXPECT_TRUE(Image().read().empty()); }

TEST(PartitionTable, Checksum) {
  EXPECT_EQ(0xcbf43926u, crc32(std::as_bytes(std::span("123456789", 9))));
}

TEST(PartitionTable, MasterBootRecord) {
  Image image;
  image.put<uint32_t>(440, 0xdeadbeef);
  image.mbr(0, 0, 0x83, 64, 100);
  image.mbr(0, 2, 0x82, 200, 1000);
  auto found = image.read();
  ASSERT_EQ(2u, found.size());
  EXPECT_EQ(1u, found[0].number);
  EXPECT_EQ(64u * 512, found[0].start);
  EXPECT_EQ(100u * 512, found[0].bytes);
  EXPECT_EQ("deadbeef-01", found[0].uuid);
  EXPECT_EQ(3u, found[1].number);
}

TEST(PartitionTable, WhatDoesNotFitIsLeftOut) {
  Image image;
  image.mbr(0, 0, 0x83, kSectors, 1);
  image.mbr(0, 1, 0x83, kSectors - 1, 2);
  image.mbr(0, 2, 0x83, 0xffffffff, 0xffffffff);
  image.mbr(0, 3, 0x83, kSectors - 1, 1);
  auto found = image.read();
  ASSERT_EQ(1u, found.size());
  EXPECT_EQ(4u, found[0].number);
}

TEST(PartitionTable, LogicalPartitionsCountFromFive) {
  Image image;
  image.mbr(0, 0, 0x05, 1000, 2000);
  image.mbr(1000, 0, 0x83, 10, 50);
  image.mbr(1000, 1, 0x05, 100, 200);
  image.mbr(1100, 0, 0x83, 20, 60);
  auto found = image.read();
  ASSERT_EQ(3u, found.size());
  EXPECT_EQ(1u, found[0].number);
  EXPECT_EQ(5u, found[1].number);
  EXPECT_EQ(1010u * 512, found[1].start);
  EXPECT_EQ(6u, found[2].number);
  EXPECT_EQ(1120u * 512, found[2].start);
}

TEST(PartitionTable, AChainThatBitesItsTailEnds) {
  Image image;
  image.mbr(0, 0, 0x05, 1000, 2000);
  image.mbr(1000, 0, 0x83, 10, 50);
  image.mbr(1000, 1, 0x05, 100, 200);
  image.mbr(1100, 0, 0x83, 10, 50);
  image.mbr(1100, 1, 0x05, 100, 200);
  EXPECT_LE(image.read().size(), kMaxTableEntries);
  EXPECT_LE(image.reads, 200);
}

TEST(PartitionTable, Gpt) {
  Image image;
  image.gpt();
  auto found = image.read();
  ASSERT_EQ(1u, found.size());
  EXPECT_EQ(2u, found[0].number);
  EXPECT_EQ(2048u * 512, found[0].start);
  EXPECT_EQ(1024u * 512, found[0].bytes);
  EXPECT_EQ("a?", found[0].label);
  EXPECT_EQ("55667788-3344-1122-0000-000000000000", found[0].uuid);
}

TEST(PartitionTable, GptFromItsCopy) {
  Image image;
  image.gpt();
  image.put<uint8_t>(512 + 40, 0x55);  // the primary header's checksum is wrong now
  EXPECT_EQ(1u, image.read().size());
  image.put<uint8_t>((kSectors - 1) * 512 + 40, 0x55);
  EXPECT_TRUE(image.read().empty());
}

TEST(PartitionTable, GptWithAGoodChecksumAndBadNumbers) {
  struct {
    size_t at;
    uint64_t value;
    size_t bytes;
  } bad[] = {{72, kSectors, 8},   {72, UINT64_MAX, 8}, {72, 0, 8}, {80, 0xffffffff, 4},
             {84, 0xffffffff, 4}, {84, 0, 4},          {80, 0, 4}, {24, 7, 8}};
  for (const auto& b : bad) {
    Image image;
    image.gpt();
    std::memset(&image.bytes()[(kSectors - 1) * 512], 0, 512);
    std::memcpy(&image.bytes()[512 + b.at], &b.value, b.bytes);
    image.put<uint32_t>(512 + 16, 0);
    image.put<uint32_t>(512 + 16, crc32(image.part(512, 92)));
    EXPECT_TRUE(image.read().empty()) << b.at;
  }
}

// What is found of a bent table lies on the disk all the same, and the search ends.
TEST(PartitionTable, BentTables) {
  for (uint32_t seed = 0; seed < 3000; ++seed) {
    std::mt19937 random(seed);
    Image image;
    if (seed % 2 == 0) {
      image.gpt();
    } else {
      image.put<uint32_t>(440, 1);
      image.mbr(0, 0, 0x05, 1000, 2000);
      image.mbr(0, 1, 0x83, 64, 100);
      image.mbr(1000, 0, 0x83, 10, 50);
      image.mbr(1000, 1, 0x05, 100, 200);
    }
    const uint64_t places[] = {446, 512, 1024, 1000 * 512 + 446, (kSectors - 33) * 512};
    for (int i = 0; i < 6; ++i) {
      image.put(places[random() % 5] + random() % 64, static_cast<uint8_t>(random()));
    }
    image.put<uint16_t>(510, 0xaa55);
    image.put<uint32_t>(512 + 88, crc32(image.part(1024, 128 * 128)));
    image.put<uint32_t>(512 + 16, 0);
    image.put<uint32_t>(512 + 16, crc32(image.part(512, 92)));
    for (const Partition& p : image.read()) {
      EXPECT_GT(p.bytes, 0u) << "seed " << seed;
      EXPECT_LE(p.start, kSectors * 512) << "seed " << seed;
      EXPECT_LE(p.bytes, kSectors * 512 - p.start) << "seed " << seed;
    }
    EXPECT_LT(image.reads, 500) << "seed " << seed;
  }
}

}  // namespace
}  // namespace uk
