// Life of an address space, and what it tells procfs.

#include "ukernel/mm/address_space.h"

#include <algorithm>
#include <vector>

#include "base/check.h"
#include "ukernel/mm/space.h"

namespace uk {

AddressSpace::AddressSpace(PhysMemory& mem, std::unique_ptr<GuestSpace> guest, uint64_t user_limit)
    : mem_(mem), guest_(std::move(guest)), user_limit_(user_limit) {}

AddressSpace::~AddressSpace() {
  // First the stub's mappings go, then the frames behind them.
  guest_.reset();
  impl_.reset();
}

Result<Ref<AddressSpace>> AddressSpace::create(Park& park, PhysMemory& mem, Platform& platform,
                                               const SpaceLine& line) {
  std::unique_ptr<GuestSpace> guest = TRY(platform.new_space(park, line));
  Ref<AddressSpace> space(new AddressSpace(mem, std::move(guest), platform.user_limit()));
  space->impl_ = std::make_unique<Impl>(*space, mem, platform);
  return space;
}

void AddressSpace::clear(Park& park) {
  Impl& im = *impl_;
  for (auto& [start, v] : im.vmas.map()) {
    im.zap(*v, v->start, v->end);
    im.account(*v, -1);
    if (v->object) im.keep_until_flush(v->object);
  }
  im.vmas.clear();
  guest_->unmap_all();
  im.stale_.fill({});
  im.brk = im.brk_start = 0;
  im.lock_future = false;
  im.habit = {};
  im.fork_profile = make_ref<ForkProfile>();
  im.trust.reset();
  image = {};
  call_sites = {};
  code_owner.reset();
  im.any_sealed = false;
  (void)im.settle_large(park);
}

Result<> AddressSpace::flush(Park& park) {
  Result<> r = guest_->dirty() || guest_->unconfirmed() ? guest_->flush(park) : Result<>();
  impl_->settle();
  return r;
}

bool AddressSpace::any_mapped(uint64_t start, uint64_t len) const {
  const Vma* v = impl_->vmas.at_or_above(start);
  return v != nullptr && v->start < start + len;
}

void AddressSpace::each_vma(const std::function<void(const VmaInfo&)>& f) const {
  // f may look at other spaces, or at this one: give it copies.
  std::vector<VmaInfo> all;
  for (const auto& [start, v] : impl_->vmas.map()) {
    VmaInfo i{};
    i.start = v->start;
    i.end = v->end;
    i.prot = v->prot;
    i.shared = v->shared;
    i.grows_down = v->grows_down;
    i.locked = v->locked;
    i.may_read = true;
    i.may_write = v->may_write;
    i.may_exec = v->may_exec;
    i.offset = v->offset;
    i.dev = v->object ? v->object->dev() : 0;
    i.ino = v->object ? v->object->ino() : 0;
    i.name = v->name;
    impl_->pt.each(v->start / kPageSize, v->end / kPageSize, [&](uint64_t, Pte pte) {
      ++i.rss_pages;
      if (pte.anon() && mem_.ref_count(pte.pfn()) == 1) {
        ++i.private_dirty_pages;
      } else {
        ++i.shared_pages;
      }
      return true;
    });
    all.push_back(std::move(i));
  }
  for (const VmaInfo& i : all) f(i);
}

MmStats AddressSpace::stats() const {
  const Impl& im = *impl_;
  MmStats s{};
  s.total_pages = im.total;
  s.rss_pages = im.rss_anon + im.rss_file + im.rss_shmem;
  s.rss_file_pages = im.rss_file;
  s.rss_shmem_pages = im.rss_shmem;
  s.data_pages = im.data;
  s.stack_pages = im.stack;
  s.exec_pages = im.exec;
  s.locked_pages = im.locked;
  s.peak_rss_pages = im.peak_rss;
  s.peak_pages = im.peak_total;
  return s;
}

}  // namespace uk
