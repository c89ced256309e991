// Headers and maps: what is written is read, a torn copy does not count, and what chance has bent
// is refused or within bounds.
#include "ukernel/dev/cow/format.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "base/crc32c.h"

namespace uk::cow {
namespace {

Header laid_out(Kind kind, uint64_t bytes) {
  Result<Header> h = lay_out(kind, bytes, "/some/where.img", bytes, 1'700'000'000'123'456'789);
  EXPECT_TRUE(h.has_value());
  return *h;
}

std::vector<std::byte> front_of(const std::vector<Write>& writes) {
  std::vector<std::byte> front(kHeaderBytes);
  for (const Write& w : writes) std::memcpy(&front[w.offset], w.bytes.data(), w.bytes.size());
  return front;
}

TEST(CowFormat, HeadersAreReadAsWritten) {
  for (Kind kind : {Kind::kOwn, Kind::kUml}) {
    Header h = laid_out(kind, 10 << 20);
    const auto front = front_of({encode_header(h)});
    Result<Header> got = parse_header(front);
    ASSERT_TRUE(got.has_value());
    EXPECT_EQ(kind, got->kind);
    EXPECT_EQ(h.disk_bytes, got->disk_bytes);
    EXPECT_EQ(h.cluster, got->cluster);
    EXPECT_EQ(h.map_offset, got->map_offset);
    EXPECT_EQ(h.data_offset, got->data_offset);
    EXPECT_EQ("/some/where.img", got->backing);
    EXPECT_TRUE(same_backing(*got, 10 << 20, 1'700'000'000'123'456'789));
    EXPECT_EQ(kind == Kind::kUml, same_backing(*got, 10 << 20, 1'700'000'000'000'000'000));
    EXPECT_FALSE(same_backing(*got, 10 << 20, 1'700'000'001'123'456'789));
    EXPECT_FALSE(same_backing(*got, 11 << 20, 1'700'000'000'123'456'789));
  }
}

// Offsets of the structure that UML's kernel writes, in a file that it could have made.
TEST(CowFormat, UmlLayouts) {
  Header h = laid_out(Kind::kUml, 10 << 20);
  auto front = front_of({encode_header(h)});
  EXPECT_EQ(0, std::memcmp(front.data(), "OOOM\0\0\0\3", 8));
  EXPECT_EQ(0, std::memcmp(&front[32], "/some/where.img", 16));
  EXPECT_EQ(8192u, h.map_offset);          // 4128 bytes, rounded up to pages
  EXPECT_EQ(8192u + 4096, h.data_offset);  // 20480 bits
  // Until 2005 programs of 64 bits had a hole before the size.
  std::vector<std::byte> padded(kHeaderBytes);
  std::memcpy(&padded[0], &front[0], 12);
  std::memcpy(&padded[16], &front[12], kHeaderBytes - 16);
  Result<Header> got = parse_header(padded);
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(10u << 20, got->disk_bytes);
  EXPECT_EQ(512u, got->cluster);
  EXPECT_EQ("/some/where.img", got->backing);
}

TEST(CowFormat, TheLaterGoodHeaderCounts) {
  Header h = laid_out(Kind::kOwn, 10 << 20);
  const Write first = encode_header(h);
  h.backing = "/another";
  const Write second = encode_header(h);
  EXPECT_NE(first.offset, second.offset);
  EXPECT_EQ("/another", parse_header(front_of({first, second}))->backing);
  auto torn = front_of({first, second});
  torn[second.offset + 90] ^= std::byte{1};
  EXPECT_EQ("/some/where.img", parse_header(torn)->backing);
  torn[first.offset + 90] ^= std::byte{1};
  EXPECT_EQ(Errno::kUCLEAN, parse_header(torn).error());
}

TEST(CowFormat, WhatIsNone) {
  std::vector<std::byte> front(kHeaderBytes);
  EXPECT_EQ(Errno::kINVAL, parse_header(front).error());
  EXPECT_EQ(Errno::kINVAL, lay_out(Kind::kOwn, 0, "b", 0, 0).error());
  EXPECT_EQ(Errno::kINVAL, lay_out(Kind::kOwn, 1000, "b", 0, 0).error());
  EXPECT_EQ(Errno::kNAMETOOLONG, lay_out(Kind::kOwn, 512, std::string(5000, 'b'), 0, 0).error());
  EXPECT_EQ(Errno::kFBIG, lay_out(Kind::kOwn, 1ull << 51, "b", 0, 0).error());
  EXPECT_EQ(Errno::kFBIG, lay_out(Kind::kUml, 1ull << 38, "b", 0, 0).error());
  EXPECT_EQ(1u << 13, laid_out(Kind::kOwn, 1ull << 41).cluster);
}

TEST(CowFormat, MapsAreReadAsWritten) {
  for (Kind kind : {Kind::kOwn, Kind::kUml}) {
    const Header h = laid_out(kind, 300ull << 20);
    Map map(h);
    EXPECT_EQ(h.clusters(), map.run(0, UINT64_MAX >> 1));
    map.set(3, 2);
    map.set(h.clusters() - 1, 1);
    map.set(33000, 4000);
    EXPECT_EQ(4003u, map.count());
    EXPECT_EQ(3u, map.run(0, 100));
    EXPECT_EQ(2u, map.run(3, 100));
    EXPECT_EQ(4000u, map.run(33000, 100000));
    EXPECT_EQ(17u, map.run(33000, 17));
    EXPECT_TRUE(map.dirty(4, 1));
    Map again(h);
    bool torn = false;
    std::vector<Write> writes = map.take_dirty();
    EXPECT_FALSE(map.dirty());
    for (uint32_t block = 0; block < map.blocks(); ++block) {
      std::vector<std::byte> bytes(map.place_bytes(block));
      for (const Write& w : writes) {
        if (w.map_block == block)
          std::memcpy(&bytes[w.offset - map.place(block)], w.bytes.data(), w.bytes.size());
      }
      ASSERT_TRUE(again.load(block, bytes, &torn).has_value());
    }
    EXPECT_FALSE(torn);
    EXPECT_EQ(map.count(), again.count());
    for (uint64_t c = 0; c < h.clusters(); ++c) ASSERT_EQ(map.present(c), again.present(c)) << c;
  }
}

// A block of the map that is cut while it is written leaves the one before; so does one whose write
// failed and is tried again.
TEST(CowFormat, TornMapsFallBack) {
  const Header h = laid_out(Kind::kOwn, 10 << 20);
  Map map(h);
  std::vector<std::byte> file(map.place_bytes(0));
  auto put = [&](const Write& w, size_t n) {
    std::memcpy(&file[w.offset - map.place(0)], w.bytes.data(), n);
  };
  auto loaded = [&](bool* torn) {
    Map fresh(h);
    EXPECT_TRUE(fresh.load(0, file, torn).has_value());
    return fresh.count();
  };
  for (uint64_t n = 1; n < 50; ++n) {
    map.set(n * 7, 1);
    std::vector<Write> writes = map.take_dirty();
    ASSERT_EQ(1u, writes.size());
    bool torn = false;
    for (size_t cut : {size_t{512}, size_t{20}}) {
      put(writes[0], cut);
      EXPECT_EQ(n - 1, loaded(&torn)) << n;
      EXPECT_TRUE(torn);
    }
    map.written(writes, false);
    writes = map.take_dirty();
    put(writes[0], kMapBlock);
    map.written(writes, true);
    torn = false;
    EXPECT_EQ(n, loaded(&torn));
    EXPECT_FALSE(torn);
  }
}

TEST(CowFormat, BentFiles) {
  int refused = 0, taken = 0;
  for (uint32_t seed = 0; seed < 20000; ++seed) {
    std::mt19937 random(seed);
    Header h = laid_out(seed % 2 == 0 ? Kind::kOwn : Kind::kUml, 10 << 20);
    const Write w = encode_header(h);
    auto front = front_of({w});
    for (int n = 1 + static_cast<int>(random() % 3); n > 0; --n)
      front[w.offset + 8 + random() % 74] = static_cast<std::byte>(random());
    if (h.kind == Kind::kOwn && seed % 4 == 0) {  // with a good checksum all the same
      const uint32_t crc = crc32c(std::span(front).subspan(w.offset, kMapBlock - 4));
      std::memcpy(&front[w.offset + kMapBlock - 4], &crc, 4);
    }
    Result<Header> got = parse_header(front);
    ++(got ? taken : refused);
    if (!got) continue;
    EXPECT_LE(got->clusters(), kMaxClusters);
    EXPECT_GE(got->map_offset, 4128u);
    EXPECT_GT(got->data_offset, got->map_offset);
    EXPECT_LT(got->file_bytes(), 1ull << 52);
    if (got->clusters() > 1 << 20) continue;
    Map map(*got);
    bool torn = false;
    for (uint32_t block = 0; block < map.blocks(); ++block) {
      std::vector<std::byte> bytes(map.place_bytes(block));
      for (std::byte& b : bytes) b = static_cast<std::byte>(random());
      (void)map.load(block, bytes, &torn);
      EXPECT_LE(map.place(block) + bytes.size(), got->data_offset);
    }
    EXPECT_LE(map.count(), got->clusters());
  }
  EXPECT_GT(refused, 1000);
  EXPECT_GT(taken, 1000);
}

}  // namespace
}  // namespace uk::cow
