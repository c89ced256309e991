// Instructions that may move, and what they leave behind.
#include "ukernel/mm/call_forms.h"

#include <gtest/gtest.h>

#include <vector>

namespace uk {
namespace {

using Bytes = std::vector<uint8_t>;

bool fits(const Bytes& code, const arch::UserRegs& regs, uint64_t memory = 0) {
  auto m = parse_movable(code);
  return m && m->fits(regs, memory);
}

TEST(CallForms, TheRegistersMustBeAsTheInstructionLeavesThem) {
  arch::UserRegs r;
  r.rax = 0x27;
  r.rdx = 0x7fffffff;
  r.r8 = 0xabc00000027;
  r.r9 = r.r8;
  r.rsp = 0x1000;
  r.rsi = 0x80;
  EXPECT_TRUE(fits({0xb8, 0x27, 0, 0, 0}, r));  // mov $0x27, %eax
  EXPECT_FALSE(fits({0xb8, 0x28, 0, 0, 0}, r));
  EXPECT_TRUE(fits({0xba, 0xff, 0xff, 0xff, 0x7f}, r));     // mov $0x7fffffff, %edx
  EXPECT_FALSE(fits({0x41, 0xb8, 0x27, 0, 0, 0}, r));       // mov $0x27, %r8d
  EXPECT_TRUE(fits({0x48, 0xc7, 0xc0, 0x27, 0, 0, 0}, r));  // mov $0x27, %rax
  EXPECT_TRUE(fits({0x44, 0x89, 0xc0}, r));                 // mov %r8d, %eax
  EXPECT_FALSE(fits({0x4c, 0x89, 0xc0}, r));                // mov %r8, %rax
  EXPECT_TRUE(fits({0x4d, 0x89, 0xc8}, r));                 // mov %r9, %r8
  EXPECT_TRUE(fits({0x31, 0xff}, r));                       // xor %edi, %edi
  EXPECT_FALSE(fits({0x31, 0xc0}, r));                      // xor %eax, %eax
  EXPECT_TRUE(fits({0x45, 0x31, 0xd2}, r));                 // xor %r10d, %r10d
  EXPECT_TRUE(fits({0x81, 0xe6, 0x80, 0, 0, 0}, r));        // and $0x80, %esi
  EXPECT_FALSE(fits({0x83, 0xe6, 0x70}, r));                // and $0x70, %esi
  EXPECT_TRUE(fits({0x40, 0x80, 0xf6, 0x81}, r));           // xor $0x81, %sil
  EXPECT_TRUE(fits({0x4c, 0x8b, 0x4c, 0x24, 8}, r, r.r9));  // mov 8(%rsp), %r9
  EXPECT_FALSE(fits({0x4c, 0x8b, 0x4c, 0x24, 8}, r, 0x27));
  EXPECT_TRUE(fits({0x8b, 0x44, 0x24, 0xf8}, r, 0x500000027));  // mov -8(%rsp), %eax
  EXPECT_EQ(parse_movable(Bytes{0x8b, 0x44, 0x24, 0xf8})->address(r), 0xff8u);
  EXPECT_EQ(parse_movable(Bytes{0x41, 0x8b, 0x70, 0x10})->address(r), r.r8 + 0x10);
}

TEST(CallForms, OthersStayWhereTheyAre) {
  const Bytes others[] = {
      {0x90, 0x90},                                // two
      {0xe8, 0, 0, 0, 0},                          // call
      {0xeb, 0x31},                                // jmp
      {0x48, 0x8d, 0x35, 0, 0, 0, 0},              // lea 0(%rip), %rsi
      {0x8b, 0x05, 0, 0, 0, 0},                    // mov 0(%rip), %eax
      {0x48, 0x89, 0xc4},                          // mov %rax, %rsp
      {0x48, 0x83, 0xe4, 0xf0},                    // and $-16, %rsp
      {0x31, 0xc8},                                // xor %ecx, %eax
      {0x8b, 0x00},                                // mov (%rax), %eax
      {0x8b, 0x40, 0x08},                          // mov 8(%rax), %eax
      {0x8b, 0x44, 0x8c, 0x08},                    // mov 8(%rsp,%rcx,4), %eax
      {0x41, 0x8b, 0x44, 0x24, 0x08, 0x00},        // one byte too many
      {0x48, 0xb8, 0x27, 0, 0, 0},                 // a part of movabs
      {0xb8},                                      // of mov
      {0x40, 0x80, 0xf4, 0x81},                    // xor $0x81, %spl
      {0xc7, 0x44, 0x24, 0x3c, 0x02, 0x00, 0x00},  // of movl $2, 0x3c(%rsp)
  };
  for (const Bytes& b : others) EXPECT_FALSE(parse_movable(b)) << testing::PrintToString(b);
}

}  // namespace
}  // namespace uk
