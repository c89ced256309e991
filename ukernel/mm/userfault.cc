#include "ukernel/mm/userfault.h"

#include <poll.h>

#include <algorithm>
#include <cstring>

#include "ukernel/mm/space.h"

namespace uk {
namespace {

constexpr uint64_t kPiecePages = 512;

bool all_zero(const std::byte* page) {
  return page[0] == std::byte{0} && std::memcmp(page, page + 1, kPageSize - 1) == 0;
}

// Memory whose pages can be brought by somebody: private anonymous, or shared and without a file
// behind it.
bool can_enroll(const Vma& v) {
  if (v.sealed || v.host) return false;
  return v.anonymous() || (v.shared && v.object->shmem());
}

}  // namespace

struct UserFault::Waiter {
  Fault fault;
  Fiber* fiber;
  bool told = false, woken = false;
};

Ref<UserFault> UserFault::create(AddressSpace& space, bool user_mode_only) {
  Ref<UserFault> u(new UserFault(space, user_mode_only));
  space.inside().userfaults.push_back(u.get());
  return u;
}

UserFault::~UserFault() {
  if (space_ != nullptr) std::erase(space_->inside().userfaults, this);
}

void AddressSpace::Impl::forget_userfaults() {
  for (UserFault* u : userfaults) u->space_ = nullptr;
  userfaults.clear();
}

// The page at addr is missing, and somebody wants to hear of it.
bool AddressSpace::Impl::missing(const Vma& v, uint64_t page) const {
  if (!v.userfault || pt.get(page) || poisoned.contains(page)) return false;
  return v.anonymous() || v.object->cached_page(v.index(page * kPageSize)) == kNoPfn;
}

Result<> UserFault::wait(Park& park, uint64_t addr, bool write, uint64_t thread, Who who) {
  if (sigbus || (who == Who::kKernel && user_mode_only_)) return Err(Errno::kFAULT);
  Ref<UserFault> keep(this);
  Waiter w{{addr, write, thread}, &park.fiber()};
  waiters_.push_back(&w);
  arrived.wake_all(POLLIN);
  const WaitMode mode = who == Who::kGuest ? WaitMode::kInterruptible : WaitMode::kKillable;
  Result<> result;
  park.fiber().set_wait_reason("handle_userfault");
  while (!w.woken && !closed_) {
    if (park.interrupted(mode)) {
      result = Err(Errno::kRestartSys);
      break;
    }
    park.suspend();
  }
  park.fiber().set_wait_reason(nullptr);
  std::erase(waiters_, &w);
  return result;
}

std::optional<UserFault::Fault> UserFault::take() {
  for (Waiter* w : waiters_) {
    if (std::exchange(w->told, true)) continue;
    return w->fault;
  }
  return std::nullopt;
}

bool UserFault::pending() const {
  return std::any_of(waiters_.begin(), waiters_.end(), [](const Waiter* w) { return !w->told; });
}

void UserFault::wake(uint64_t start, uint64_t end) {
  for (Waiter* w : waiters_) {
    if (w->fault.addr < start || w->fault.addr >= end) continue;
    w->woken = true;
    w->fiber->wake();
  }
}

// Takes the pages out of the stub first, so that no thread writes to one while it is looked at.
Result<> UserFault::drop_zero_pages(Park& park, uint64_t start, uint64_t end) {
  AddressSpace::Impl& im = space_->inside();
  im.reveal(start, end);
  const uint64_t first = start / kPageSize, last = end / kPageSize;
  bool any = false;
  im.pt.each(first, last, [&](uint64_t page, Pte pte) {
    const Vma* v = im.vmas.find(page * kPageSize);
    if (v == nullptr || !v->anonymous() || v->sealed || !pte.anon()) return true;
    if (im.mem.ref_count(pte.pfn()) != 1 || !all_zero(im.mem.ptr(pte.pfn()))) return true;
    im.pt.set(page, pte.with_stub(Prot::kNone));
    im.stub_unmap(page * kPageSize, kPageSize);
    any = true;
    return true;
  });
  if (!any) return {};
  im.stale_.fill({});
  Ref<AddressSpace> keep(space_);
  TRY(keep->flush(park));
  std::vector<uint64_t> zero;
  im.pt.each(first, last, [&](uint64_t page, Pte pte) {
    const Vma* v = im.vmas.find(page * kPageSize);
    if (v != nullptr && v->anonymous() && !v->sealed && pte.anon() && pte.stub() == Prot::kNone &&
        im.mem.ref_count(pte.pfn()) == 1 && all_zero(im.mem.ptr(pte.pfn()))) {
      zero.push_back(page);
    }
    return true;
  });
  for (uint64_t page : zero) {
    Vma* v = im.vmas.find(page * kPageSize);
    im.discard(*v, page * kPageSize, (page + 1) * kPageSize, AddressSpace::Impl::Which::kAll);
  }
  return im.settle_large(park);
}

Result<> UserFault::enroll(Park& park, uint64_t start, uint64_t end) {
  Ref<AddressSpace> keep(space_);
  AddressSpace::Impl& im = keep->inside();
  auto check = [&]() -> Result<> {
    const Vma* v = im.vmas.at_or_above(start);
    if (v == nullptr || v->start >= end) return Err(Errno::kINVAL);
    for (; v != nullptr && v->start < end; v = im.vmas.next(*v)) {
      if (!can_enroll(*v)) return Err(Errno::kINVAL);
      if (v->shared && !v->may_write) return Err(Errno::kPERM);
      if (v->userfault && v->userfault.get() != this) return Err(Errno::kBUSY);
    }
    return im.may_split(2) ? Result<>() : Err(Errno::kNOMEM);
  };
  TRY(check());
  // Registered first: what is dropped then must not come back by itself.
  Ref<UserFault> self(this);
  (void)im.each_piece(
      start, end,
      [&](Vma& v) -> Result<> {
        v.userfault = self;
        return {};
      },
      /*pass_holes=*/true);
  for (uint64_t at = start; at < end && space_ != nullptr;) {
    const Vma* v = im.vmas.at_or_above(at);  // passes over holes
    if (v == nullptr || v->start >= end) break;
    at = std::max(at, v->start);
    const uint64_t stop = std::min({end, v->end, at + kPiecePages * kPageSize});
    TRY(drop_zero_pages(park, at, stop));
    if (park.interrupted(WaitMode::kKillable)) return Err(Errno::kINTR);
    at = stop;
    if (at < end) park.yield();
  }
  return {};
}

Result<> UserFault::unregister(uint64_t start, uint64_t end) {
  AddressSpace::Impl& im = space_->inside();
  const Vma* v = im.vmas.at_or_above(start);
  if (v == nullptr || v->start >= end) return Err(Errno::kINVAL);
  for (; v != nullptr && v->start < end; v = im.vmas.next(*v)) {
    if (!can_enroll(*v)) return Err(Errno::kINVAL);
  }
  if (!im.may_split(2)) return Err(Errno::kNOMEM);
  (void)im.each_piece(
      start, end,
      [](Vma& piece) -> Result<> {
        piece.userfault = nullptr;
        return {};
      },
      /*pass_holes=*/true);
  wake(start, end);
  return {};
}

Result<> UserFault::expects(uint64_t addr) const {
  const Vma* v = space_->inside().vmas.find(addr);
  return v != nullptr && v->userfault ? Result<>() : Err(Errno::kNOENT);
}

Result<> UserFault::provide(Park& park, uint64_t addr, std::span<const std::byte> bytes) {
  Ref<AddressSpace> keep(space_);
  AddressSpace::Impl& im = keep->inside();
  const uint64_t page = addr / kPageSize;
  for (;;) {
    Vma* v = im.vmas.find(addr);
    if (v == nullptr || !v->userfault) return Err(Errno::kNOENT);
    if (!im.missing(*v, page)) return Err(Errno::kEXIST);
    if (v->anonymous()) {
      Result<PhysMemory::Extent> frame = im.mem.alloc_extent(1);
      if (!frame) {
        if (!im.out_of_memory(park)) return Err(Errno::kNOMEM);
        continue;
      }
      std::memcpy(im.mem.ptr(frame->first), bytes.data(), kPageSize);
      im.give_frames(*v, page, *frame, /*late=*/false);
      return {};
    }
    const Ref<MemoryObject> object = v->object;
    PageRef got = TRY(object->get_page(park, v->index(addr), /*for_write=*/true));
    std::memcpy(im.mem.ptr(got.pfn()), bytes.data(), kPageSize);
    return {};
  }
}

Result<> UserFault::check_move(uint64_t dst, uint64_t src, uint64_t len) const {
  const AddressSpace::Impl& im = space_->inside();
  const Vma* from = im.vmas.find(src);
  const Vma* to = im.vmas.find(dst);
  for (const Vma* v : {from, to})
    if (v == nullptr || !v->anonymous() || v->shared || v->sealed) return Err(Errno::kINVAL);
  if (src + len > from->end || dst + len > to->end || to->userfault.get() != this ||
      !from->has(Prot::kWrite) || from->prot != to->prot || from->locked != to->locked)
    return Err(Errno::kINVAL);
  return {};
}

Result<> UserFault::move(Park& park, uint64_t dst, uint64_t src) {
  Ref<AddressSpace> keep(space_);
  AddressSpace::Impl& im = keep->inside();
  const uint64_t page = src / kPageSize;
  im.reveal(src, src + kPageSize);
  const Pte pte = im.pt.get(page);
  if (!pte) return Err(Errno::kNOENT);
  if (!pte.anon() || im.mem.ref_count(pte.pfn()) != 1) return Err(Errno::kBUSY);
  // Out of the stub first, so that no thread writes to it while it is copied.
  const Pte hidden = pte.with_stub(Prot::kNone);
  if (!(pte == hidden)) {
    im.pt.set(page, hidden);
    im.stub_unmap(src, kPageSize);
    im.stale_.fill({});
    TRY(keep->flush(park));
    if (space_ == nullptr) return Err(Errno::kSRCH);
  }
  if (!(im.pt.get(page) == hidden)) return Err(Errno::kAGAIN);
  const std::byte* bytes = im.mem.ptr(pte.pfn());
  const std::vector<std::byte> copy(bytes, bytes + kPageSize);
  TRY(provide(park, dst, copy));
  Vma* v = im.vmas.find(src);
  if (v == nullptr || !(im.pt.get(page) == hidden)) return {};  // it was touched while we waited
  im.discard(*v, src, src + kPageSize, AddressSpace::Impl::Which::kAll);
  return im.settle_large(park);
}

Result<> UserFault::poison(uint64_t addr) {
  AddressSpace::Impl& im = space_->inside();
  const Vma* v = im.vmas.find(addr);
  if (v == nullptr || !v->userfault) return Err(Errno::kNOENT);
  if (!im.missing(*v, addr / kPageSize)) return Err(Errno::kEXIST);
  if (im.poisoned.size() >= AddressSpace::Impl::kMaxPoisoned) return Err(Errno::kNOMEM);
  im.poisoned.insert(addr / kPageSize);
  return {};
}

void AddressSpace::Impl::forget_poison(uint64_t start, uint64_t end) {
  poisoned.erase(poisoned.lower_bound(start / kPageSize), poisoned.lower_bound(end / kPageSize));
}

void UserFault::close() {
  closed_ = true;
  if (space_ != nullptr) {
    for (auto& [start, v] : space_->inside().vmas.map()) {
      if (v->userfault.get() == this) v->userfault = nullptr;
    }
  }
  for (Waiter* w : waiters_) w->fiber->wake();
  arrived.wake_all();
}

}  // namespace uk
