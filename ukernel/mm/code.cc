// Changes of a guest's code by the kernel, while its threads run.

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/check.h"
#include "ukernel/mm/space.h"

namespace uk {

namespace {
constexpr uint64_t kStackRoom = 1ull << 30;  // of a stack without a limit
}

// The page gets a fresh frame with the new bytes, and the stub maps it in the old one's place at
// once.
Result<> AddressSpace::replace_code(Park& park, uint64_t addr, std::span<const std::byte> from,
                                    std::span<const std::byte> bytes) {
  Impl& im = *impl_;
  CHECK((addr & kPageMask) + bytes.size() <= kPageSize && from.size() == bytes.size());
  const uint64_t page = addr / kPageSize;
  auto code = [&]() -> Vma* {
    Vma* v = im.vmas.find(addr);
    const bool ok = v != nullptr && !v->shared && v->has(Prot::kExec) && !v->has(Prot::kWrite);
    return ok ? v : nullptr;
  };
  if (code() == nullptr) return Err(Errno::kACCES);
  if (!im.resolve(park, addr, Access::kWrite, 0, Impl::Who::kForce)) return Err(Errno::kFAULT);
  Vma* v = code();
  const Pte old = im.pt.get(page);
  if (v == nullptr || !old || !old.anon()) return Err(Errno::kACCES);
  const std::byte* now = im.mem.ptr(old.pfn());
  if (!std::ranges::equal(from, std::span(now + (addr & kPageMask), from.size()))) {
    return Err(Errno::kAGAIN);
  }
  const Pfn to = TRY(im.mem.alloc(false));
  im.mem.prepare(to, 1);
  std::memcpy(im.mem.ptr(to), im.mem.ptr(old.pfn()), kPageSize);
  std::memcpy(im.mem.ptr(to) + (addr & kPageMask), bytes.data(), bytes.size());
  ++im.mem.anon_pages;
  im.defer(old.pfn(), true);
  const Prot prot = v->prot | Prot::kRead;
  im.set_pte(*v, page, Pte::make(to, prot, true));
  im.stub_map(page * kPageSize, kPageSize, prot, im.mem.fd(), im.mem.host_offset(to), true);
  return {};
}

Result<uint64_t> AddressSpace::map_code(Park& park, uint64_t first, uint64_t last,
                                        std::string name) {
  Impl& im = *impl_;
  const uint64_t floor = std::max(Impl::kMinAddr, first);
  const uint64_t ceiling = std::min(user_limit_, last + kPageSize);
  if (floor >= ceiling) return Err(Errno::kNOMEM);
  const std::optional<uint64_t> at = im.vmas.gap(kPageSize, floor, ceiling);
  if (!at) return Err(Errno::kNOMEM);
  // Not where a stack may grow to.
  const Vma* above = im.vmas.at_or_above(*at);
  if (above != nullptr && above->grows_down &&
      above->start - *at < std::min(im.stack_limit, kStackRoom)) {
    return Err(Errno::kNOMEM);
  }
  MmapRequest r;
  r.addr = *at;
  r.len = kPageSize;
  r.fixed_noreplace = true;
  r.prot = Prot::kRead | Prot::kExec;
  r.name = std::move(name);
  MmLimits none;
  none.stack = im.stack_limit;
  none.as = im.as_limit;
  const uint64_t page = TRY(mmap(park, r, none));
  Vma* v = im.vmas.find(page);
  if (v == nullptr || v->start != page || v->len() != kPageSize) return Err(Errno::kAGAIN);
  v->sealed = im.any_sealed = true;
  return page;
}

}  // namespace uk
