#include "ukernel/mm/call_sites.h"

#include <cstring>
#include <optional>

#include "ukernel/mm/address_space.h"
#include "ukernel/mm/patched_code.h"

namespace uk {

namespace {

constexpr uint8_t kCall[kCallBytes] = {0x0f, 0x05};
constexpr uint8_t kJmp = 0xe9, kBreak = 0xcc;
constexpr uint64_t kReach = 0x7fff0000;  // of a 32-bit displacement, less a page

uint32_t displacement(uint64_t from, uint64_t to) { return static_cast<uint32_t>(to - from); }

// The registers fit what the instruction does.
bool is_evident(Park& park, AddressSpace& mm, const MovableCode& m, const arch::UserRegs& regs) {
  uint64_t memory = 0;
  if (m.kind == MovableCode::Kind::kLoad) {
    const auto word = std::as_writable_bytes(std::span(&memory, 1)).first(m.wide ? 8 : 4);
    auto got = mm.force_copy_in(park, word, m.address(regs));
    if (!got || *got < word.size()) return false;
  }
  return m.fits(regs, memory);
}

}  // namespace

size_t movable_length(Park& park, AddressSpace& mm, std::span<const uint8_t> before,
                      const arch::UserRegs& regs) {
  for (size_t n = kMovableMax; n >= kMovableMin; --n) {
    const auto m = parse_movable(before.last(n));
    if (!m || is_prefix(before[before.size() - n - 1])) continue;
    if (is_evident(park, mm, *m, regs)) return n;
  }
  return 0;
}

std::array<uint8_t, 5> jump_to(uint64_t at, uint64_t to) {
  std::array<uint8_t, 5> b = {kJmp};
  const uint32_t d = displacement(at + b.size(), to);
  std::memcpy(&b[1], &d, sizeof d);
  return b;
}

CallThunk make_thunk(std::span<const uint8_t> moved, uint64_t at, uint64_t return_to,
                     uint64_t gate_word) {
  CallThunk thunk;
  thunk.fill(kBreak);
  std::memcpy(thunk.data(), moved.data(), moved.size());
  size_t end = moved.size();
  auto put = [&](std::initializer_list<uint8_t> opcode, uint64_t target) {
    for (uint8_t b : opcode) thunk[end++] = b;
    const uint32_t d = displacement(at + end + sizeof d, target);
    std::memcpy(&thunk[end], &d, sizeof d);
    end += sizeof d;
  };
  put({0x48, 0x8d, 0x0d}, return_to);
  put({0xff, 0x25}, gate_word);
  return thunk;
}

std::array<uint8_t, CallSites::kJumpBytes> CallSites::Site::jump() const {
  return jump_to(addr, thunk);
}

// A place for a thunk that begins in [first, last].
Result<uint64_t> CallSites::new_thunk(Park& park, AddressSpace& mm, uint64_t first, uint64_t last,
                                      uint64_t gate) {
  const auto take = [&](Page& p) -> std::optional<uint64_t> {
    for (uint32_t i = 1; i < kThunksOfPage; ++i) {
      const uint64_t at = p.addr + i * kThunkBytes;
      if (at < first || at > last || p.used[i]) continue;
      p.used[i] = true;
      return at;
    }
    return std::nullopt;
  };
  for (Page& p : pages_) {
    if (auto at = take(p)) return *at;
  }
  // Pages with a thunk's place in the range.
  auto is_head = [](uint64_t a) { return (a & kPageMask) == 0; };
  uint64_t low = (first + kThunkBytes - 1) & ~(kThunkBytes - 1), high = last & ~(kThunkBytes - 1);
  if (is_head(low)) low += kThunkBytes;
  if (is_head(high)) high -= kThunkBytes;
  if (low > high) return Err(Errno::kNOSPC);
  // In the middle others will reach it, too.
  const uint64_t middle = page_floor(low + (high - low) / 2);
  auto page = mm.map_code(park, page_floor(low), middle, "[ukernel-calls]");
  if (!page && middle < page_floor(high)) {
    page = mm.map_code(park, middle + kPageSize, page_floor(high), "[ukernel-calls]");
  }
  if (!page) return Err(page.error());
  TRY(mm.force_copy_out(park, *page, std::as_bytes(std::span(&gate, 1))));
  pages_.push_back({.addr = *page, .used = {}});
  auto at = take(pages_.back());
  return at ? Result<uint64_t>(*at) : Err(Errno::kNOSPC);
}

// `kept`: the bytes behind the changed ones, which become part of the jump.
Result<uint64_t> CallSites::thunk_for(Park& park, AddressSpace& mm, uint64_t addr, size_t changed,
                                      std::span<const uint8_t> kept, uint64_t gate) {
  if (changed == kJumpBytes) {
    return new_thunk(park, mm, addr - std::min(addr, kReach), addr + kReach, gate);
  }
  uint8_t operand[4] = {};
  std::memcpy(operand + changed - 1, kept.data(), kJumpBytes - changed);
  int32_t d;
  std::memcpy(&d, operand, sizeof d);
  const uint64_t end = addr + kJumpBytes, below = static_cast<uint64_t>(-int64_t{d});
  if (d < 0 && below > end) return Err(Errno::kNOSPC);
  const uint64_t first = end + static_cast<uint64_t>(int64_t{d});
  return new_thunk(park, mm, first, first + (1ull << 8 * (changed - 1)) - 1, gate);
}

Result<> CallSites::patch(Park& park, AddressSpace& mm, const arch::UserRegs& at_call,
                          uint64_t gate) {
  // The byte before the instruction, the longest one, the call, and what a short jump has of the
  // bytes behind.
  constexpr size_t kBefore = kBytesBeforeCall;
  constexpr size_t kBehind = kJumpBytes - kMovableMin - kCallBytes;
  std::array<uint8_t, kBefore + kCallBytes + kBehind> code;
  const uint64_t call = at_call.rip - kCallBytes;
  if (sites_.size() >= kMaxSites || call < kPageSize) return Err(Errno::kNOSPC);
  const auto bytes = std::as_writable_bytes(std::span(code));
  if (TRY(mm.force_copy_in(park, bytes, call - kBefore)) < code.size()) {
    return Err(Errno::kFAULT);
  }
  if (std::memcmp(&code[kBefore], kCall, kCallBytes) != 0) return Err(Errno::kNOEXEC);
  const size_t length = movable_length(park, mm, std::span(code).first(kBefore), at_call);
  if (length == 0) return Err(Errno::kNOEXEC);
  Site s = {.addr = call - length, .call = call, .thunk = 0, .old = {}};
  const size_t n = s.changed();
  if ((s.addr & kPageMask) + n > kPageSize) return Err(Errno::kNOSPC);
  const std::span<const uint8_t> from = std::span(code).subspan(kBefore - length);
  std::memcpy(s.old.data(), from.data(), n);
  s.thunk = TRY(thunk_for(park, mm, s.addr, n, from.subspan(n), gate));

  const CallThunk thunk = make_thunk(from.first(length), s.thunk, at_call.rip, page_floor(s.thunk));
  if (TRY(mm.force_copy_out(park, s.thunk, std::as_bytes(std::span(thunk)))) < thunk.size()) {
    return Err(Errno::kFAULT);
  }
  // The thunk must be there before anybody is sent to it.
  TRY(mm.flush(park));
  if (off_) return Err(Errno::kPERM);
  sites_.push_back(s);  // first: a fork may copy this with the page
  const auto jump = s.jump();
  TRY(mm.replace_code(park, s.addr, std::as_bytes(std::span(s.old).first(n)),
                      std::as_bytes(std::span(jump).first(n))));
  if (off_) restore(park, mm, s);
  return {};
}

void CallSites::restore(Park& park, AddressSpace& mm, const Site& s) {
  const size_t n = s.changed();
  // Something else may be mapped there by now: then nothing happens.
  const auto jump = s.jump();
  (void)mm.replace_code(park, s.addr, std::as_bytes(std::span(jump).first(n)),
                        std::as_bytes(std::span(s.old).first(n)));
}

void CallSites::turn_off(Park& park, AddressSpace& mm) {
  if (off_) return;
  off_ = true;
  const std::vector<Site> sites = sites_;  // those in a thunk are to be found later
  for (const Site& s : sites) restore(park, mm, s);
  mm.leave_patched_code(park);
  (void)mm.flush(park);
}

void CallSites::add_shared(uint64_t base, Ref<PatchedCode> code) {
  remove_shared(base);
  shared_.push_back({base, std::move(code)});
}

void CallSites::remove_shared(uint64_t base) {
  std::erase_if(shared_, [&](const Shared& s) { return s.base == base; });
}

void CallSites::forget(uint64_t start, uint64_t end) {
  std::erase_if(pages_, [&](const Page& p) { return p.addr >= start && p.addr < end; });
  std::erase_if(shared_, [&](const Shared& s) {
    const uint64_t at = PatchedCode::thunks_at(s.base);
    return at >= start && at < end;
  });
}

uint64_t CallSites::visible_ip(uint64_t ip) const {
  for (const Shared& s : shared_) {
    const uint64_t offset = ip - PatchedCode::thunks_at(s.base);
    if (offset >= PatchedCode::kThunkPages * kPageSize) continue;
    const auto site = s.code->site_of(offset);
    if (!site) return ip;
    return s.base + s.code->sites()[*site].visible(offset % kThunkBytes);
  }
  for (const Page& p : pages_) {
    if (ip - p.addr >= kPageSize) continue;
    const uint64_t thunk = ip & ~(kThunkBytes - 1);
    for (const Site& s : sites_) {
      // Behind the moved instruction only the call is left to do.
      if (s.thunk == thunk) return ip == thunk ? s.addr : s.call;
    }
  }
  return ip;
}

}  // namespace uk
