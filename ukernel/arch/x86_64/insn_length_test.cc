// Lengths of instructions, against the disassembler.
#include "ukernel/arch/x86_64/insn_length.h"

#include <stdio.h>
#include <unistd.h>

#include <climits>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "gtest/gtest.h"

namespace uk::arch {
namespace {

using Kind = InsnLength::Kind;
using Code = std::vector<uint8_t>;

struct Line {
  Code bytes;
  std::string text;
};

// All code of this program, which has that of GoogleTest and of the C++ library's headers in it.
std::vector<Line> disassembly() {
  char self[PATH_MAX] = {};
  EXPECT_GT(readlink("/proc/self/exe", self, sizeof self - 1), 0);
  const std::string command = std::string("objdump -d -j .text --insn-width=16 ") + self;
  FILE* out = popen(command.c_str(), "r");
  std::vector<Line> lines;
  char line[512];
  while (out != nullptr && fgets(line, sizeof line, out) != nullptr) {
    const std::vector<std::string> parts = absl::StrSplit(line, '\t');
    if (parts.size() < 3) continue;
    Line l{{}, parts[2]};
    for (const auto& hex : absl::StrSplit(parts[1], ' ', absl::SkipWhitespace()))
      l.bytes.push_back(static_cast<uint8_t>(std::stoul(std::string(hex), nullptr, 16)));
    lines.push_back(std::move(l));
  }
  EXPECT_TRUE(out != nullptr && pclose(out) == 0);
  return lines;
}

TEST(InsnLength, AgreesWithTheDisassembler) {
  const std::vector<Line> lines = disassembly();
  ASSERT_GT(lines.size(), 10000u);
  size_t unknown = 0;
  for (const Line& l : lines) {
    Code code = l.bytes;
    code.resize(code.size() + 15, 0x90);
    const InsnLength n = insn_length(code);
    if (n.kind == Kind::kUnknown) {
      ++unknown;
      continue;
    }
    ASSERT_EQ(n.kind, Kind::kKnown) << l.text;
    ASSERT_EQ(n.bytes, l.bytes.size()) << l.text;
  }
  EXPECT_LE(unknown, lines.size() / 1000);
}

TEST(InsnLength, BeginsAreFound) {
  const std::vector<Line> lines = disassembly();
  Code code;
  std::vector<bool> begin;
  for (const Line& l : lines) {
    begin.push_back(true);
    begin.resize(begin.size() + l.bytes.size() - 1, false);
    code.insert(code.end(), l.bytes.begin(), l.bytes.end());
  }
  size_t begins = 0, found = 0;
  for (size_t i = 0; i < std::min<size_t>(code.size(), 100'000); ++i) {
    const bool says = begins_insn(code, i);
    ASSERT_LE(says, begin[i]) << "not an instruction: " << i;
    begins += begin[i];
    found += says;
  }
  EXPECT_GT(found, begins / 2);
}

TEST(InsnLength, Forms) {
  struct Case {
    Code code;
    size_t bytes;
  };
  const Case cases[] = {
      {{0x90}, 1},
      {{0x0f, 0xa2}, 2},
      {{0xb8, 1, 0, 0, 0x80}, 5},
      {{0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8}, 10},
      {{0x66, 0xb8, 1, 2}, 4},
      {{0xc7, 0x45, 0xb8, 1, 0, 0, 0}, 7},              // movl $1, -0x48(%rbp)
      {{0xc7, 0x44, 0x24, 0x60, 0, 0, 0, 0}, 8},        // movl $0, 0x60(%rsp)
      {{0x8b, 0x04, 0x25, 0, 0, 0, 0}, 7},              // mov 0, %eax
      {{0xf6, 0xc1, 1}, 3},                             // test $1, %cl
      {{0xf7, 0xd8}, 2},                                // neg %eax
      {{0x66, 0xf7, 0xc1, 1, 2}, 5},                    // test $0x201, %cx
      {{0x48, 0x66, 0xb8, 1, 2}, 5},                    // a REX that counts for nothing
      {{0xa1, 1, 2, 3, 4, 5, 6, 7, 8}, 9},              // movabs
      {{0x0f, 0x38, 0x00, 0xc1}, 4},                    // pshufb
      {{0x66, 0x0f, 0x3a, 0x0f, 0xc1, 8}, 6},           // palignr
      {{0xc5, 0xf8, 0x77}, 3},                          // vzeroupper
      {{0xc4, 0xe3, 0x7d, 0x39, 0xc1, 1}, 6},           // vextracti128
      {{0x62, 0xf1, 0x7c, 0x48, 0x10, 0x47, 1}, 7},     // vmovups 64(%rdi), %zmm0
      {{0xc8, 1, 2, 3}, 4},                             // enter
      {{0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0}, 9},  // mov %fs:0, %rax
  };
  for (const Case& c : cases) {
    EXPECT_EQ(insn_length(c.code).kind, Kind::kKnown) << int{c.code[0]};
    EXPECT_EQ(insn_length(c.code).bytes, c.bytes) << int{c.code[0]};
    Code cut = c.code;
    cut.pop_back();
    EXPECT_EQ(insn_length(cut).kind, Kind::kUnknown) << int{c.code[0]};
  }
  EXPECT_EQ(insn_length(Code{0x06}).kind, Kind::kNone);
  EXPECT_EQ(insn_length(Code{0x0f, 0x04}).kind, Kind::kNone);
  EXPECT_EQ(insn_length(Code{0x66, 0xe8, 0, 0, 0, 0}).kind, Kind::kUnknown);
  EXPECT_EQ(insn_length(Code(15, 0x66)).kind, Kind::kUnknown);
}

TEST(InsnLength, TheTailOfAnInstructionIsNoBegin) {
  Code code(100, 0x90);
  const Code store = {0xc7, 0x45, 0xb8, 1, 0, 0, 0};
  code.insert(code.end(), store.begin(), store.end());
  EXPECT_TRUE(begins_insn(code, 100));
  EXPECT_FALSE(begins_insn(code, 102)) << "it looks like mov $1, %eax";
  EXPECT_FALSE(begins_insn(code, 78)) << "too near to the beginning";
  EXPECT_TRUE(begins_insn(code, 79));
  code[50] = 0x0f;  // 0f 90 is an instruction, 0f 04 none
  code[51] = 0x04;
  EXPECT_FALSE(begins_insn(code, 60)) << "no reading comes there";
}

}  // namespace
}  // namespace uk::arch
