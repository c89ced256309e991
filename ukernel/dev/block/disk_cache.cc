#include "ukernel/dev/block/disk_cache.h"

#include <algorithm>
#include <cstring>

#include "ukernel/dev/block/registry.h"
#include "ukernel/sched/reactor.h"

namespace uk {
namespace {

constexpr uint64_t kWriteBackNs = 5'000'000'000;  // vm.dirty_writeback_centisecs of Linux

PageCacheObject::Options options_of(BlockDevice& device, PageCacheObject::Backing* backing) {
  PageCacheObject::Options o;
  o.backing = backing;
  o.shmem = false;
  o.size = device.size();
  o.dev = device.rdev();
  return o;
}

}  // namespace

DiskCache::DiskCache(Ref<BlockDevice> device)
    : PageCacheObject(device->disk().owner().vfs.mem(), options_of(*device, this)),
      device_(std::move(device)) {
  device_->cache_ = this;
}

DiskCache::~DiskCache() { device_->cache_ = nullptr; }

// Of the last page, what the device has.
size_t DiskCache::bytes_of(uint64_t index) const {
  const uint64_t at = index * kPageSize, size = device_->size();
  return at < size ? std::min<uint64_t>(kPageSize, size - at) : 0;
}

Result<> DiskCache::fill(Park& park, uint64_t index, std::span<std::byte> page) {
  const bool sequential = index == std::exchange(next_, index + 1);
  auto fresh = [&](const Ahead& a) {
    return a.bytes != nullptr && index >= a.first && index - a.first < a.count &&
           a.generation == device_->disk().generation;
  };
  if (fresh(ahead_)) {
    std::memcpy(page.data(), &ahead_.bytes[(index - ahead_.first) * kPageSize], bytes_of(index));
    return {};
  }
  const uint64_t want =
      std::min(device_->read_ahead_sectors * kSectorSize / kPageSize, kMaxAheadPages);
  if (!sequential || want < 2) {
    const size_t n = bytes_of(index);
    return n == 0 ? Result<>() : device_->submit(park, read_bio(index * kPageSize, page.first(n)));
  }
  Ahead ahead = std::exchange(ahead_, {});  // nobody else's while we read
  if (ahead.bytes == nullptr)
    ahead.bytes = std::make_unique_for_overwrite<std::byte[]>(kMaxAheadPages * kPageSize);
  const uint64_t at = index * kPageSize, size = device_->size();
  if (at >= size) return {};
  const uint64_t n = std::min(want * kPageSize, size - at);
  ahead.first = index;
  ahead.count = (n + kPageSize - 1) / kPageSize;
  ahead.generation = device_->disk().generation;
  // An error far ahead is not this page's.
  if (!device_->submit(park, read_bio(at, {ahead.bytes.get(), n})))
    return device_->submit(park, read_bio(at, page.first(bytes_of(index))));
  std::memcpy(page.data(), ahead.bytes.get(), bytes_of(index));
  ahead_ = std::move(ahead);
  return {};
}

// Called with locks of the address space held, so there is no waiting for room here; see balance().
Result<> DiskCache::will_dirty(Park&, uint64_t) {
  if (device_->read_only()) return Err(Errno::kPERM);
  const BlockPayment& payment = device_->disk().owner().payment;
  if (payment.payer) {
    if (Ref<RefCounted> now = payment.payer()) payer_ = std::move(now);
  }
  write_later();
  if (over_limit()) write_now_.wake_all();
  return {};
}

bool DiskCache::over_limit() const {
  return dirty_pages() > device_->disk().owner().vfs.mem().total_pages() / 10;
}

void DiskCache::write_later() {
  if (std::exchange(write_planned_, true)) return;
  device_->disk().owner().reactor.spawn("writeback", [self = Ref<DiskCache>(this)](Park& park) {
    do {
      (void)self->write_now_.wait(
          park, [&] { return self->over_limit() || self->dirty_pages() == 0; },
          WaitMode::kUninterruptible,
          Deadline{self->device_->disk().owner().vfs.clock().monotonic_ns() + kWriteBackNs},
          "writeback");
      // What fails stays dirty, and whoever syncs is told.
      if (!self->write_out(park) || self->device_->gone()) break;
    } while (self->dirty_pages() != 0);
    self->write_planned_ = false;
  });
}

Result<> DiskCache::balance(Park& park) { return over_limit() ? write_out(park) : Result<>(); }

Result<> DiskCache::write_out(Park& park, uint64_t first, uint64_t count) {
  Ref<DiskCache> self(this);
  MutexLock lock(park, writing_);
  Result<> r = PageCacheObject::sync(park, first, count);
  if (dirty_pages() == 0) write_now_.wake_all();  // nothing is left to do later
  return r;
}

Result<> DiskCache::sync(Park& park, uint64_t first, uint64_t count) {
  Ref<DiskCache> self(this);
  TRY(write_out(park, first, count));
  return device_->flush(park);
}

Result<> DiskCache::write_back(Park& park, uint64_t index, std::span<const std::byte> page) {
  DirtyPage one{index, page};
  write_back_batch(park, {&one, 1});
  return one.error == Errno::kOk ? Result<>() : Err(one.error);
}

void DiskCache::write_back_batch(Park& park, std::span<DirtyPage> pages) {
  std::vector<Bio> bios;
  for (const DirtyPage& p : pages) {
    bios.push_back(write_bio(p.index * kPageSize, p.bytes.first(bytes_of(p.index))));
  }
  Ref<RefCounted> payer = payer_;
  Result<> r = device_->submit(park, bios, payer.get());
  const bool refused = !r && std::all_of(bios.begin(), bios.end(),
                                         [](const Bio& bio) { return bio.error == Errno::kOk; });
  for (size_t i = 0; i < pages.size(); ++i) pages[i].error = refused ? r.error() : bios[i].error;
}

}  // namespace uk
