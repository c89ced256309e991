#include "boot/control/protocol.h"

#include <gtest/gtest.h>

#include <random>

#include "boot/control/disk_words.h"

namespace uk::boot {
namespace {

TEST(Protocol, WordsComeBack) {
  std::mt19937 random(7);
  for (int i = 0; i < 2000; ++i) {
    Words words(1 + random() % 8);
    for (std::string& w : words) {
      for (size_t n = random() % 12; n > 0; --n) w += static_cast<char>(1 + random() % 255);
    }
    const std::string line = encode_line(words);
    EXPECT_EQ(std::string::npos, line.find_first_not_of(" !\"#$%&'()*+,-./0123456789:;<=>?@"
                                                        "ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`"
                                                        "abcdefghijklmnopqrstuvwxyz{|}~"));
    EXPECT_EQ(words, decode_line(line)) << line;
  }
  EXPECT_EQ("config vdc=/a%20b,ro %-", encode_line({"config", "vdc=/a b,ro", ""}));
}

TEST(Protocol, WhatIsRefused) {
  for (const char* bad : {"", " ", "a ", " a", "a  b", "a\n", "a\tb", "%", "%2", "%4", "%zz", "%2g",
                          "%41", "%e4", "%00", "x%-", "%-x", "caf\xc3\xa9", "a %"})
    EXPECT_FALSE(decode_line(bad)) << bad;
  EXPECT_FALSE(decode_line(std::string_view("a\0b", 3)));
  EXPECT_TRUE(decode_line(std::string(kMaxLine, 'a')));
  EXPECT_FALSE(decode_line(std::string(kMaxLine + 1, 'a')));
  std::string many = "w";
  for (size_t i = 1; i < kMaxWords; ++i) many += " w";
  EXPECT_TRUE(decode_line(many));
  EXPECT_FALSE(decode_line(many + " w"));
}

// Whatever is taken is written in one way only.
TEST(Protocol, RandomLines) {
  std::mt19937 random(11);
  const std::string letters = "ab %%-0249AFaf\x01\xff";
  for (int i = 0; i < 20000; ++i) {
    std::string line;
    for (size_t n = random() % 16; n > 0; --n) line += letters[random() % letters.size()];
    if (auto words = decode_line(line)) {
      EXPECT_EQ(line, encode_line(*words));
    }
  }
}

TEST(Protocol, NamesOfInstances) {
  for (const char* good : {"lab", "vm-2.old", "7", "A_b"}) EXPECT_TRUE(valid_instance_name(good));
  for (const char* bad : {"", ".", "..", "-x", "a/b", "a b", "_a", "a\n"})
    EXPECT_FALSE(valid_instance_name(bad));
  EXPECT_FALSE(valid_instance_name(std::string(65, 'a')));
}

TEST(DiskWords, SameAfterTheWay) {
  const std::string dir = "/home/x";
  auto sent = [&](const Words& words) {
    DiskCommandResult r = parse_disk_command(words);
    EXPECT_EQ("", r.error);
    const Words there = words_of(r.command, dir);
    DiskCommandResult again = parse_disk_command(there);
    EXPECT_EQ("", again.error);
    EXPECT_EQ(there, words_of(again.command, "/other"));
    return there;
  };
  EXPECT_EQ(Words{"config"}, sent({"config"}));
  EXPECT_EQ((Words{"config", "vdc=/home/x/a.img,cow=/home/x/b,ro,sync,direct"}),
            sent({"config", "vdc=a.img,ro,direct,sync,cow=b"}));
  EXPECT_EQ((Words{"config", "vdc=ram:64M"}), sent({"config", "vdc=ram:64M"}));
  EXPECT_EQ((Words{"remove", "vdc"}), sent({"remove", "vdc"}));
  EXPECT_EQ((Words{"remove", "--force", "vdc"}), sent({"remove", "vdc", "--force"}));
  EXPECT_EQ((Words{"mirror", "vdb=/n,x.img,direct"}), sent({"mirror", "vdb=/n,x.img,direct"}));
  EXPECT_EQ((Words{"mirror", "vdb", "--cancel"}), sent({"mirror", "--cancel", "vdb"}));
}

TEST(DiskWords, ErrorsTeach) {
  const std::vector<Words> bad = {{},
                                  {"format", "vdc"},
                                  {"config", "vdc"},
                                  {"config", "=x"},
                                  {"config", "vdc="},
                                  {"config", "a=b", "c=d"},
                                  {"remove"},
                                  {"remove", ""},
                                  {"remove", "a", "b"},
                                  {"remove", "-f", "a"},
                                  {"mirror"},
                                  {"mirror", "vdb"},
                                  {"mirror", "--cancel"},
                                  {"mirror", "vdb=x,ro"},
                                  {"mirror", "vdb=x,cow=y"},
                                  {"mirror", "vdb=ram:64M"},
                                  {"mirror", "vdb=x", "y"}};
  for (const Words& words : bad) {
    const std::string error = parse_disk_command(words).error;
    EXPECT_NE(std::string::npos, error.find("; ")) << encode_line(words) << error;
  }
}

}  // namespace
}  // namespace uk::boot
