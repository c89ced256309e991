#include "ukernel/mm/call_sites.h"

#include <array>
#include <cstring>
#include <span>

#include "ukernel/mm/address_space.h"

namespace uk {

namespace {

constexpr uint64_t kMovBytes = 5, kCallBytes = 2;
constexpr uint8_t kMovEax = 0xb8, kJmp = 0xe9;
// A page of thunks begins with the gate's address.
constexpr uint64_t kThunkBytes = 32;
constexpr uint32_t kThunksOfPage = kPageSize / kThunkBytes - 1;
constexpr uint64_t kReach = 0x7fff0000;  // of a 32-bit displacement, less a page

using Bytes = std::array<std::byte, kMovBytes>;

int32_t displacement(uint64_t from, uint64_t to) { return static_cast<int32_t>(to - from); }

Bytes instruction(uint8_t opcode, uint32_t operand) {
  Bytes b;
  b[0] = std::byte{opcode};
  std::memcpy(&b[1], &operand, sizeof operand);
  return b;
}

Bytes jump(uint64_t from, uint64_t to) {
  return instruction(kJmp, static_cast<uint32_t>(displacement(from + kMovBytes, to)));
}

bool near(uint64_t a, uint64_t b) { return (a > b ? a - b : b - a) < kReach; }

// A prefix makes it another instruction.
bool is_prefix(std::byte b) {
  const auto v = std::to_integer<uint8_t>(b);
  return (v & 0xf0) == 0x40 || v == 0x66 || v == 0x67 || v == 0xf2 || v == 0xf3;
}

}  // namespace

Result<uint64_t> CallSites::new_thunk(Park& park, AddressSpace& mm, uint64_t at, uint64_t gate) {
  for (Page& p : pages_) {
    if (p.used < kThunksOfPage && near(p.addr, at)) return p.addr + ++p.used * kThunkBytes;
  }
  const uint64_t page = TRY(mm.map_code(park, at, kReach, "[ukernel-calls]"));
  TRY(mm.force_copy_out(park, page, std::as_bytes(std::span(&gate, 1))));
  pages_.push_back({page, 1});
  return page + kThunkBytes;
}

Result<> CallSites::patch(Park& park, AddressSpace& mm, uint64_t ip, uint32_t nr, uint64_t gate) {
  const uint64_t mov = ip - kCallBytes - kMovBytes;
  if (sites_.size() >= kMaxSites || ip < kPageSize || (mov & kPageMask) + kMovBytes > kPageSize) {
    return Err(Errno::kNOSPC);
  }
  std::array<std::byte, kMovBytes + 1> old;
  if (TRY(mm.force_copy_in(park, old, mov - 1)) < old.size()) return Err(Errno::kFAULT);
  const Bytes expected = instruction(kMovEax, nr);
  if (is_prefix(old[0]) || std::memcmp(&old[1], expected.data(), expected.size()) != 0) {
    return Err(Errno::kNOEXEC);
  }
  const uint64_t thunk = TRY(new_thunk(park, mm, mov, gate));
  // mov $nr, %eax; lea ip(%rip), %rcx; jmp *gate(%rip)
  std::array<std::byte, kThunkBytes> code;
  code.fill(std::byte{0xcc});
  auto put = [&, at = size_t{0}](std::initializer_list<uint8_t> opcode, uint64_t operand,
                                 bool relative) mutable {
    for (uint8_t b : opcode) code[at++] = std::byte{b};
    const auto value = relative ? static_cast<uint32_t>(displacement(thunk + at + 4, operand))
                                : static_cast<uint32_t>(operand);
    std::memcpy(&code[at], &value, sizeof value);
    at += sizeof value;
  };
  put({kMovEax}, nr, false);
  put({0x48, 0x8d, 0x0d}, ip, true);
  put({0xff, 0x25}, page_floor(thunk), true);
  if (TRY(mm.force_copy_out(park, thunk, code)) < code.size()) return Err(Errno::kFAULT);
  // The thunk must be there before anybody is sent to it.
  TRY(mm.flush(park));
  sites_.push_back({mov, thunk, nr});  // first: a fork may copy this with the page
  return mm.replace_code(park, mov, jump(mov, thunk));
}

void CallSites::turn_off(Park& park, AddressSpace& mm) {
  off_ = true;
  const std::vector<Site> sites = std::move(sites_);
  sites_.clear();
  for (const Site& s : sites) {
    Bytes now;
    auto got = mm.force_copy_in(park, now, s.mov);
    // Something else may be mapped there by now.
    if (!got || *got < now.size() || now != jump(s.mov, s.thunk)) continue;
    (void)mm.replace_code(park, s.mov, instruction(kMovEax, s.nr));
  }
  (void)mm.flush(park);
}

}  // namespace uk
