// Sites of `cpuid` are found where they are certain, and their thunks say what the processor says.
#include "ukernel/mm/cpuid_sites.h"

#include <cpuid.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

namespace uk {
namespace {

using Code = std::vector<uint8_t>;

// Nops, and `bytes` at 100.
Code code_with(std::initializer_list<uint8_t> bytes) {
  Code code(200, 0x90);
  std::ranges::copy(bytes, code.begin() + 100);
  return code;
}

TEST(CpuidSites, AreFoundWhereTheLeafIsConstant) {
  const auto sites = find_cpuid_sites(code_with({0xb8, 5, 0, 0, 0x80, 0x0f, 0xa2}), 9);
  ASSERT_EQ(sites.size(), 1u);
  EXPECT_EQ(sites[0].at, 100u);
  EXPECT_EQ(sites[0].leaf, 0x80000005u);
  EXPECT_TRUE(find_cpuid_sites(code_with({0xb8, 5, 0, 0, 0x80, 0x0f, 0xa2}), 0).empty());
}

TEST(CpuidSites, AreLeftAloneElsewhere) {
  const Code cases[] = {
      code_with({0xb8, 1, 0, 0, 0, 0x0f, 0xa2}),                 // the processor's own number
      code_with({0xb8, 7, 0, 0, 0, 0x0f, 0xa2}),                 // has subleaves
      code_with({0xb8, 0x1e, 0, 0, 0x80, 0x0f, 0xa2}),           // a core's number
      code_with({0xb8, 0, 0, 0, 0x40, 0x0f, 0xa2}),              // of the machine below
      code_with({0xbb, 0, 0, 0, 0x80, 0x0f, 0xa2}),              // not eax
      code_with({0x41, 0xb8, 0, 0, 0, 0x80, 0x0f, 0xa2}),        // mov to r8d
      code_with({0xc7, 0x45, 0xb8, 2, 0, 0, 0, 0x0f, 0xa2}),     // movl $2, -0x48(%rbp)
      code_with({0xb8, 0, 0, 0, 0x80, 0x31, 0xc9, 0x0f, 0xa2}),  // not right before
      code_with({0xb8, 0, 0, 0, 0x80, 0xe8, 0x0f, 0xa2, 0, 0}),  // a call's displacement
  };
  for (size_t i = 0; i < std::size(cases); ++i)
    EXPECT_TRUE(find_cpuid_sites(cases[i], 9).empty()) << i;
  Code early(20, 0x90);
  const Code site = {0xb8, 0, 0, 0, 0x80, 0x0f, 0xa2};
  std::ranges::copy(site, early.begin() + 8);
  EXPECT_TRUE(find_cpuid_sites(early, 9).empty()) << "where instructions begin is not known there";
  EXPECT_TRUE(find_cpuid_sites(Code{0x0f, 0xa2}, 9).empty());
  EXPECT_TRUE(find_cpuid_sites(Code{}, 9).empty());
}

TEST(CpuidSites, ThunksSayWhatTheProcessorSays) {
  // A function: push %rbx; jump to the thunk; behind it: store what there is in (%rdi); pop; ret.
  const uint8_t tail[] = {0x89, 0x07, 0x89, 0x5f, 4, 0x89, 0x4f, 8, 0x89, 0x57, 12, 0x5b, 0xc3};
  auto* page = static_cast<uint8_t*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(page, MAP_FAILED);
  const auto at = reinterpret_cast<uint64_t>(page);
  for (uint32_t leaf : {0u, 0x80000000u, 0x80000002u, 0x80000008u}) {
    page[0] = 0x53;
    std::ranges::copy(jump_to(at + 1, at + 64), page + 1);
    std::ranges::copy(tail, page + 128);
    std::ranges::copy(make_cpuid_thunk(leaf, at + 64, at + 128), page + 64);
    uint32_t got[4] = {}, want[4];
    std::bit_cast<void (*)(uint32_t*)>(page)(got);
    __cpuid(leaf, want[0], want[1], want[2], want[3]);
    for (int i = 0; i < 4; ++i) EXPECT_EQ(got[i], want[i]) << leaf << " " << i;
    EXPECT_EQ(page[64 + kCpuidThunkDone - 5], 0xb8) << "eax is the last";
    EXPECT_EQ(page[64 + kCpuidThunkDone], 0xe9);
  }
  munmap(page, 4096);
}

}  // namespace
}  // namespace uk
