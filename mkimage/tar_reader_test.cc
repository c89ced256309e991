// The tar reader, and how its members become a tree; mostly archives that are not what they should
// be.
#include "mkimage/tar_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "hostio/sys/file.h"
#include "mkimage/tar_source.h"
#include "mkimage/text.h"

namespace uk::mkimage {
namespace {

constexpr size_t kBlock = 512;

struct Options {
  std::string link = {}, size = {}, uid = "0000000", mtime = "00000001000";
  uint32_t major = 0, minor = 0;
};

// Writes archives, right ones and wrong ones.
class Archive {
 public:
  // A header with the checksum that it should have, then the contents.
  Archive& add(char type, const std::string& name, const std::string& contents = "",
               const Options& o = {}) {
    const size_t at = bytes.size();
    bytes.resize(at + kBlock);
    put(at, name.substr(0, 100));
    put(at + 100, "0000644");
    put(at + 108, o.uid);
    put(at + 116, "0000007");
    put(at + 124, o.size.empty() ? octal(contents.size()) : o.size);
    put(at + 136, o.mtime);
    bytes[at + 156] = type;
    put(at + 157, o.link);
    put(at + 257, std::string("ustar\0"
                              "00",
                              8));
    put(at + 329, octal(o.major, 7));
    put(at + 337, octal(o.minor, 7));
    sign(at);
    bytes += contents;
    bytes.resize((bytes.size() + kBlock - 1) / kBlock * kBlock);
    return *this;
  }
  Archive& pax(const std::vector<std::pair<std::string, std::string>>& records, char type = 'x') {
    std::string text;
    for (const auto& [key, value] : records) {
      size_t length = key.size() + value.size() + 3;
      while (std::to_string(length).size() + key.size() + value.size() + 3 != length)
        length = std::to_string(length).size() + key.size() + value.size() + 3;
      text += cat(length, " ", key, "=", value, "\n");
    }
    return add(type, "pax", text);
  }
  Archive& end() {
    bytes.resize(bytes.size() + 2 * kBlock);
    return *this;
  }
  void sign(size_t at) {
    std::memset(&bytes[at + 148], ' ', 8);
    unsigned sum = 0;
    for (size_t i = at; i < at + kBlock; ++i) sum += static_cast<uint8_t>(bytes[i]);
    put(at + 148, octal(sum, 6) + std::string("\0 ", 2));
  }
  static std::string octal(uint64_t value, int digits = 11) {
    std::string text(static_cast<size_t>(digits), '0');
    for (size_t i = text.size(); i-- > 0; value /= 8) text[i] = static_cast<char>('0' + value % 8);
    return text;
  }
  void put(size_t at, const std::string& text) { bytes.replace(at, text.size(), text); }

  std::string bytes;
};

sys::Fd file_of(const std::string& bytes) {
  sys::Fd fd = *sys::memfd_create("archive");
  EXPECT_TRUE(sys::write_all(fd.get(), bytes));
  return fd;
}

struct Scan {
  std::vector<TarMember> members;
  std::string why;  // empty: it ended well
};
Scan scan(int fd, size_t bytes) {
  TarReader reader(fd, bytes);
  Scan s;
  for (;;) {
    Result<std::optional<TarMember>> m = reader.next(s.why);
    if (!m || !*m) {
      EXPECT_NE(m.has_value(), !s.why.empty()) << s.why;
      return s;
    }
    s.members.push_back(std::move(**m));
    // What is kept is bounded by what was read.
    uint64_t behind = 0, from = 0;
    for (const Segment& p : s.members.back().attributes.segments) {
      EXPECT_GT(p.length, 0u);
      EXPECT_GE(p.at, behind);
      EXPECT_GE(p.from, from);
      behind = p.at + p.length;
      from = p.from + p.length;
      EXPECT_LE(from, bytes);
      EXPECT_LE(behind, s.members.back().attributes.size);
    }
  }
}
Scan scan(const std::string& bytes) { return scan(file_of(bytes).get(), bytes.size()); }
std::string complaint(const Archive& a) { return scan(a.bytes).why; }

struct Planted {
  Tree tree;
  std::string why;
};
Planted plant(const Archive& a) {
  Planted p;
  std::vector<std::string> notes;
  TarSource source(file_of(a.bytes), a.bytes.size(), "a.tar");
  const Result<> r = source.scan(p.tree, notes, p.why);
  EXPECT_EQ(r.has_value(), p.why.empty()) << p.why;
  return p;
}
const Node* find(const Tree& tree, std::initializer_list<std::string_view> way) {
  NodeId at = Tree::kRoot;
  for (const std::string_view name : way) {
    const auto it = tree.node(at).children.find(name);
    if (it == tree.node(at).children.end()) return nullptr;
    at = it->second;
  }
  return &tree.node(at);
}

// One of everything.
Archive rich() {
  Archive a;
  a.add('5', "dir/").add('0', "dir/file", "contents").add('1', "hard", "", {.link = "dir/file"});
  a.add('2', "link", "", {.link = "dir"}).add('3', "null", "", {.major = 1, .minor = 3});
  a.add('6', "fifo");
  a.add('L', "././@LongLink", std::string(300, 'l') + '\0').add('0', "short", "x");
  a.add('K', "././@LongLink", std::string(200, 't') + '\0').add('2', "far", "", {.link = "short"});
  a.pax({{"path", "from-pax"},
         {"uid", "3000000000"},
         {"mtime", "-1.25"},
         {"SCHILY.xattr.user.a", std::string("1\n2\0", 4)},
         {"LIBARCHIVE.xattr.user.%62", "eHl6"}});
  a.add('0', "header", "y");
  a.pax({{"GNU.sparse.major", "1"},
         {"GNU.sparse.minor", "0"},
         {"GNU.sparse.name", "holes"},
         {"GNU.sparse.realsize", "1000000"}});
  std::string map = "2\n512\n5\n4096\n3\n";
  map.resize(kBlock);
  a.add('0', "GNUSparseFile.0/holes", map + "helloend");
  a.pax({{"GNU.sparse.size", "99"}, {"GNU.sparse.map", "1,2,50,1"}});
  a.add('0', "holes01", "abc");
  const size_t at = a.bytes.size();
  a.add('S', "oldholes", "abcd");
  a.put(at + 386, Archive::octal(512) + '\0' + Archive::octal(4) + '\0');
  a.put(at + 483, Archive::octal(8192));
  a.sign(at);
  return a.end();
}

TEST(TarReader, ReadsOneOfEverything) {
  const Scan s = scan(rich().bytes);
  ASSERT_EQ(s.why, "");
  ASSERT_EQ(s.members.size(), 12u);
  EXPECT_TRUE(s.members[0].attributes.is_directory());
  EXPECT_EQ(s.members[1].attributes.size, 8u);
  EXPECT_EQ(s.members[1].attributes.gid, 7u);
  EXPECT_EQ(s.members[2].hard_link, "dir/file");
  EXPECT_EQ(s.members[3].attributes.target, "dir");
  EXPECT_EQ(s.members[4].attributes.minor, 3u);
  EXPECT_EQ(s.members[6].name, std::string(300, 'l'));
  EXPECT_EQ(s.members[7].attributes.target, std::string(200, 't'));
  const TarMember& p = s.members[8];
  EXPECT_EQ(p.name, "from-pax");
  EXPECT_EQ(p.attributes.uid, 3000000000u);
  EXPECT_EQ(p.attributes.mtime.seconds, -2);
  EXPECT_EQ(p.attributes.mtime.nanoseconds, 750000000u);
  EXPECT_THAT(p.attributes.xattrs,
              testing::ElementsAre(testing::Pair("user.a", std::string("1\n2\0", 4)),
                                   testing::Pair("user.b", "xyz")));
  for (const size_t i : {9, 10}) EXPECT_EQ(s.members[i].attributes.segments.size(), 2u);
  EXPECT_EQ(s.members[9].name, "holes");
  EXPECT_EQ(s.members[9].attributes.size, 1000000u);
  EXPECT_EQ(s.members[9].attributes.segments[1].at, 4096u);
  EXPECT_EQ(s.members[9].attributes.segments[1].length, 3u);
  EXPECT_EQ(s.members[10].attributes.size, 99u);
  EXPECT_EQ(s.members[11].attributes.size, 8192u);
  EXPECT_EQ(s.members[11].attributes.segments[0].at, 512u);
}

// Wherever it is cut, it is an error: but for the second block of the end mark, which says nothing.
TEST(TarReader, CutShortAnywhere) {
  const std::string whole = rich().bytes;
  const sys::Fd fd = file_of(whole);
  for (size_t n = 0; n + kBlock < whole.size(); ++n) ASSERT_NE(scan(fd.get(), n).why, "") << n;
  // One that becomes shorter while it is read.
  EXPECT_NE(scan(file_of(whole.substr(0, 3000)).get(), whole.size()).why, "");
  EXPECT_EQ(scan(whole.substr(0, whole.size() - kBlock)).why, "");
}

// Changed bytes are an error or another archive; nothing is read from outside of it.
TEST(TarReader, ChangedAnywhere) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(cat("seed ", seed));
  std::mt19937 random(seed);
  const Archive good = rich();
  for (int i = 0; i < 2000; ++i) {
    Archive a = good;
    for (uint32_t n = 1 + random() % 4; n > 0; --n)
      a.bytes[random() % a.bytes.size()] = static_cast<char>(random());
    // Half of them with checksums mended, to come further.
    for (size_t at = 0; i % 2 == 0 && at < a.bytes.size(); at += kBlock) {
      if (good.bytes.compare(at + 257, 5, "ustar") == 0) a.sign(at);
    }
    i % 4 < 2 ? (void)scan(a.bytes) : (void)plant(a);
    ASSERT_FALSE(testing::Test::HasFailure());
  }
}

TEST(TarReader, WhatIsNoArchive) {
  EXPECT_THAT(scan("").why, testing::HasSubstr("cut short"));
  EXPECT_THAT(scan(std::string(4096, 'x')).why, testing::HasSubstr("no tar archive"));
  EXPECT_EQ(scan(std::string(1024, 0)).why, "");
  Archive a;
  a.add('0', "a").add('0', "b").end();
  a.bytes[kBlock] = 'c';
  EXPECT_THAT(complaint(a), testing::HasSubstr("checksum"));
  EXPECT_THAT(complaint(Archive().add('Q', "odd").end()), testing::HasSubstr("type 'Q'"));
  EXPECT_THAT(complaint(Archive().add('M', "volume").end()), testing::HasSubstr("type 'M'"));
}

TEST(TarReader, Numbers) {
  EXPECT_EQ(*tar_number("0000644 "), 0644);
  EXPECT_EQ(*tar_number("   17"), 15);
  EXPECT_EQ(*tar_number(std::string_view("\0\0\0", 3)), 0);
  EXPECT_EQ(*tar_number(std::string_view("\x80\0\0\0\0\0\0\x02\0\0\0\0", 12)), int64_t{2} << 32);
  EXPECT_EQ(*tar_number(std::string_view("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", 12)),
            -2);
  EXPECT_EQ(tar_number(std::string_view("\x80\x01\0\0\0\0\0\0\0\0\0\0", 12)).error(),
            Errno::kOVERFLOW);
  EXPECT_EQ(tar_number("12x").error(), Errno::kINVAL);
  EXPECT_EQ(tar_number("89").error(), Errno::kINVAL);
  EXPECT_EQ(tar_number("-1").error(), Errno::kINVAL);
  EXPECT_EQ(tar_number("7777777777777777777777777777").error(), Errno::kOVERFLOW);
}

TEST(TarReader, HugeSizes) {
  const std::string large = std::string("\x80\0\0\0", 4) + "\x7f\xff\xff\xff\xff\xff\xff\xff";
  EXPECT_THAT(complaint(Archive().add('0', "a", "", {.size = large}).end()),
              testing::HasSubstr("member a: it is cut short"));
  EXPECT_NE(complaint(Archive().add('x', "a", "", {.size = large}).add('0', "b").end()), "");
  EXPECT_NE(complaint(Archive().add('L', "a", "", {.size = "77777777777"}).end()), "");
  EXPECT_NE(complaint(Archive().pax({{"size", "9223372036854775807"}}).add('0', "b").end()), "");
  EXPECT_NE(complaint(Archive().pax({{"size", "99999999999999999999"}}).add('0', "b").end()), "");
  EXPECT_NE(complaint(Archive().pax({{"size", "-1"}}).add('0', "b").end()), "");
  EXPECT_NE(complaint(Archive().add('0', "a", "", {.uid = "-1"}).end()), "");
  EXPECT_NE(complaint(Archive().add('3', "a", "", {.major = 4096}).end()), "");
  // A size that says nothing: links and the like have no contents.
  EXPECT_EQ(complaint(Archive().add('5', "a", "", {.size = "00000010000"}).end()), "");
}

TEST(TarReader, PaxRecords) {
  for (const char* text : {"5", "5 a=", "99 a=b\n", "6 a=b\nx", "4 a=\n", "0 a=b\n", "-6 a=b\n",
                           "5 =b\n", "6 abc\n", "18446744073709551622 a=b\n", "2 \n", " a=b\n"}) {
    PaxRecords records;
    EXPECT_FALSE(parse_pax(text, records)) << text;
  }
  PaxRecords records;
  EXPECT_TRUE(parse_pax("6 a=b\n5 c=\n", records));
  EXPECT_EQ(records.size(), 2u);
  for (const char* time : {"", ".", "1.x", "x", "99999999999999999999", "1 "})
    EXPECT_FALSE(pax_time(time)) << time;
  for (const auto& [key, value] : PaxRecords{{"uid", "4294967295"},
                                             {"uid", "x"},
                                             {"gid", "-1"},
                                             {"mtime", "soon"},
                                             {"path", std::string("a\0b", 3)},
                                             {"path", ""},
                                             {"LIBARCHIVE.xattr.user.a", "%%%"}})
    EXPECT_NE(complaint(Archive().pax({{key, value}}).add('0', "a").end()), "") << key << value;
  // Global ones are everybody's, until said otherwise.
  const Scan s = scan(Archive()
                          .pax({{"uid", "5"}}, 'g')
                          .add('0', "a")
                          .pax({{"uid", "6"}})
                          .add('0', "b")
                          .add('0', "c")
                          .end()
                          .bytes);
  ASSERT_EQ(s.members.size(), 3u);
  EXPECT_EQ(s.members[1].attributes.uid, 6u);
  EXPECT_EQ(s.members[2].attributes.uid, 5u);
}

// A few bytes that each member would keep a copy of.
TEST(TarReader, GlobalRecordsAreFew) {
  EXPECT_NE(complaint(Archive().pax({{"SCHILY.xattr.user.a", "b"}}, 'g').add('0', "a").end()), "");
  const std::string long_value(40000, 'c');
  EXPECT_EQ(complaint(Archive().pax({{"comment", long_value}}, 'g').add('0', "a").end()), "");
  Archive twice;
  twice.pax({{"comment", long_value}}, 'g').pax({{"comment", long_value}}, 'g').add('0', "a").end();
  EXPECT_NE(complaint(twice), "");
}

TEST(TarReader, SparseMapsThatDoNotFit) {
  for (const char* map : {"0,5", "10,1,0,1", "0,2,1,1", "99,2", "18446744073709551615,2", "1",
                          "x,1", ",", "1,18446744073709551615"}) {
    EXPECT_NE(complaint(Archive()
                            .pax({{"GNU.sparse.size", "100"}, {"GNU.sparse.map", map}})
                            .add('0', "a", "1234")
                            .end()),
              "")
        << map;
  }
  for (const char* map : {"1\n0\n", "\n", "99999999999\n0\n1\n", "1\n0\n-1\n",
                          "1000000000000000000000000000000000000\n"}) {
    std::string contents = map;
    contents.resize(kBlock);
    EXPECT_NE(complaint(Archive()
                            .pax({{"GNU.sparse.major", "1"}, {"GNU.sparse.realsize", "100"}})
                            .add('0', "a", contents)
                            .end()),
              "")
        << map;
  }
}

TEST(TarTree, NamesStayInside) {
  for (const char* name : {"..", "../a", "a/../../b", "a/..", "/../a"})
    EXPECT_THAT(plant(Archive().add('0', name).end()).why, testing::HasSubstr("'..'")) << name;
  EXPECT_THAT(plant(Archive().add('0', "a").add('1', "b", "", {.link = "../a"}).end()).why,
              testing::HasSubstr("'..'"));
  const Planted p = plant(Archive().add('0', "/a//./b", "1").add('5', "./").add('0', "./c").end());
  EXPECT_EQ(p.why, "");
  EXPECT_NE(find(p.tree, {"a", "b"}), nullptr);
  EXPECT_NE(find(p.tree, {"c"}), nullptr);
  EXPECT_NE(plant(Archive().add('0', "/").end()).why, "");
  EXPECT_NE(plant(Archive().pax({{"path", std::string(256, 'n')}}).add('0', "a").end()).why, "");
}

TEST(TarTree, NothingGoesThroughALink) {
  const Archive a =
      Archive().add('2', "out", "", {.link = "/etc"}).add('0', "out/passwd", "x").end();
  EXPECT_EQ(plant(a).why,
            "a.tar: member out/passwd: its name leads through out, which is a symbolic link; make "
            "an archive without it");
  EXPECT_NE(plant(Archive()
                      .add('2', "out", "", {.link = "/etc"})
                      .add('1', "mine", "", {.link = "out/passwd"})
                      .end())
                .why,
            "");
  EXPECT_THAT(plant(Archive().add('0', "f").add('0', "f/g").end()).why,
              testing::HasSubstr("no directory"));
  EXPECT_NE(plant(Archive().add('2', "empty").end()).why, "");
}

TEST(TarTree, HardLinks) {
  Planted p = plant(Archive()
                        .add('0', "a", "1")
                        .add('1', "b", "", {.link = "./a"})
                        .add('1', "c/d", "", {.link = "b"})
                        .add('1', "a", "", {.link = "b"})
                        .end());
  EXPECT_EQ(p.why, "");
  EXPECT_EQ(find(p.tree, {"a"}), find(p.tree, {"c", "d"}));
  EXPECT_EQ(find(p.tree, {"a"})->names, 3u);
  // A loop has no beginning.
  EXPECT_THAT(
      plant(Archive().add('1', "a", "", {.link = "b"}).add('1', "b", "", {.link = "a"}).end()).why,
      testing::HasSubstr("b: is not in the archive before the link to it"));
  EXPECT_NE(plant(Archive().add('1', "a", "", {.link = "a"}).end()).why, "");
  EXPECT_NE(plant(Archive().add('5', "a").add('1', "b", "", {.link = "a"}).end()).why, "");
  EXPECT_NE(plant(Archive().add('5', "a").add('1', "a/b", "", {.link = "/"}).end()).why, "");
}

TEST(TarTree, WhatComesLaterReplaces) {
  Planted p = plant(Archive()
                        .add('0', "a", "1")
                        .add('0', "a", "22")
                        .add('5', "d")
                        .add('0', "d/x")
                        .add('5', "d", "", {.uid = "0000005"})
                        .add('0', "t")
                        .add('5', "t")
                        .end());
  EXPECT_EQ(p.why, "");
  EXPECT_EQ(find(p.tree, {"a"})->size, 2u);
  EXPECT_EQ(find(p.tree, {"d"})->uid, 5u);
  EXPECT_NE(find(p.tree, {"d", "x"}), nullptr);
  EXPECT_TRUE(find(p.tree, {"t"})->is_directory());
  EXPECT_EQ(p.tree.reachable().size(), 5u);
  EXPECT_THAT(plant(Archive().add('0', "d/x").add('2', "d", "", {.link = "e"}).end()).why,
              testing::HasSubstr("files in it"));
}

TEST(TarTree, NamesAreShownInOneLine) {
  EXPECT_EQ(shown("a\n\x1b[2J"), "a\\n\\033[2J");
  EXPECT_LT(shown(std::string(100000, 'a')).size(), 200u);
}

}  // namespace
}  // namespace uk::mkimage
