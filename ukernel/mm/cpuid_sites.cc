#include "ukernel/mm/cpuid_sites.h"

#include <cpuid.h>

#include <algorithm>
#include <cstring>

#include "ukernel/arch/x86_64/insn_length.h"

namespace uk {
namespace {

constexpr uint8_t kMovEax = 0xb8, kBreak = 0xcc;
constexpr uint8_t kCpuid[] = {0x0f, 0xa2};

// Leaves without subleaves that say the same on every processor of a machine: what it is called,
// its extended features, caches and address widths. Not those with a processor's own number (1,
// 0xb, 0x8000001e).
bool is_constant(uint32_t leaf) {
  return leaf == 0 || leaf == 2 || (leaf >= 0x80000000 && leaf <= 0x80000008);
}

uint32_t leaf_at(std::span<const uint8_t> mov) {
  uint32_t leaf;
  std::memcpy(&leaf, &mov[1], sizeof leaf);
  return leaf;
}

}  // namespace

std::vector<CpuidSite> find_cpuid_sites(std::span<const uint8_t> code, size_t most) {
  std::vector<CpuidSite> sites;
  for (auto from = code.begin(); sites.size() < most;) {
    const auto found = std::search(from, code.end(), std::begin(kCpuid), std::end(kCpuid));
    if (found == code.end()) break;
    from = found + sizeof kCpuid;
    const size_t end = static_cast<size_t>(found - code.begin());
    if (end < CpuidSite::kMovBytes) continue;
    const size_t at = end - CpuidSite::kMovBytes;
    if (code[at] != kMovEax || !is_constant(leaf_at(code.subspan(at)))) continue;
    if (arch::begins_insn(code, at)) sites.push_back({at, leaf_at(code.subspan(at))});
  }
  return sites;
}

CallThunk make_cpuid_thunk(uint32_t leaf, uint64_t at, uint64_t return_to) {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  __cpuid_count(leaf, 0, eax, ebx, ecx, edx);
  CallThunk thunk;
  thunk.fill(kBreak);
  size_t end = 0;
  auto load = [&](uint8_t reg, uint32_t value) {
    thunk[end] = kMovEax + reg;
    std::memcpy(&thunk[end + 1], &value, sizeof value);
    end += CpuidSite::kMovBytes;
  };
  load(3, ebx);
  load(1, ecx);
  load(2, edx);
  load(0, eax);  // last: see kCpuidThunkDone
  const auto jump = jump_to(at + end, return_to);
  std::ranges::copy(jump, thunk.begin() + kCpuidThunkDone);
  return thunk;
}

}  // namespace uk
