#include "ukernel/dev/block/disk.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "ukernel/dev/block/disk_cache.h"
#include "ukernel/dev/block/mirror.h"
#include "ukernel/dev/block/partition_table.h"
#include "ukernel/dev/block/registry.h"

namespace uk {

BlockDevice::BlockDevice(Disk& disk, uint32_t number, uint64_t start, uint64_t bytes)
    : number(number), start(start), disk_(&disk), bytes_(bytes) {}

BlockDevice::~BlockDevice() { CHECK(cache_ == nullptr); }

std::string BlockDevice::name() const {
  const std::string& disk = disk_->options.name;
  if (number == 0) return disk;
  const bool digit = disk.back() >= '0' && disk.back() <= '9';
  return disk + (digit ? "p" : "") + std::to_string(number);
}

uint64_t BlockDevice::rdev() const {
  return make_dev(disk_->options.major, disk_->options.first_minor + number);
}

bool BlockDevice::read_only() const { return disk_->options.read_only || set_read_only; }

Result<> BlockDevice::check(const Bio& bio) const {
  if (gone_) return Err(Errno::kIO);
  if (bio.op != BlockOp::kRead && bio.op != BlockOp::kFlush && read_only())
    return Err(Errno::kPERM);
  if (bio.op == BlockOp::kDiscard && !disk_->backend().can_discard()) return Err(Errno::kOPNOTSUPP);
  if (bio.op == BlockOp::kFlush) return {};
  if (((bio.offset | bio.length) & (Disk::kLogicalBlock - 1)) != 0) return Err(Errno::kINVAL);
  if (bio.offset > bytes_ || bio.length > bytes_ - bio.offset) return Err(Errno::kIO);
  return {};
}

Result<> BlockDevice::submit(Park& park, std::span<Bio> bios, RefCounted* payer) {
  Ref<BlockDevice> self(this);
  bool changes = false;
  for (const Bio& bio : bios) {
    TRY(check(bio));
    changes |= bio.op != BlockOp::kRead && bio.op != BlockOp::kFlush;
  }
  for (Bio& bio : bios) bio.offset += start;
  if (changes) ++disk_->generation;
  Ref<BlockDevice> whole(&disk_->whole());  // may be removed meanwhile
  BlockStats* const both[] = {&whole->stats, &stats};
  Result<> r = disk_->queue().run(park, bios, std::span(both).first(number == 0 ? 1 : 2), payer);
  if (changes) ++disk_->generation;
  for (Bio& bio : bios) {
    if (bio.error != Errno::kOk && bio.error != Errno::kOPNOTSUPP) disk_->report(bio);
    bio.offset -= start;
  }
  return r;
}

Result<> BlockDevice::flush(Park& park) {
  Bio bio;
  bio.op = BlockOp::kFlush;
  return submit(park, bio);
}

void BlockDevice::end_use(Park& park) {
  Ref<Disk> disk = disk_;
  if (--opens == 0 && number == 0) disk->backend().last_close(park);
}

Ref<DiskCache> BlockDevice::cache() {
  if (cache_ != nullptr) return Ref<DiskCache>(cache_);
  return make_ref<DiskCache>(Ref<BlockDevice>(this));
}

Disk::Disk(BlockDevices& owner, std::unique_ptr<BlockBackend> backend, Options o)
    : options(std::move(o)),
      owner_(owner),
      backend_(std::move(backend)),
      queue_(*backend_, owner.vfs.clock(), make_dev(options.major, options.first_minor),
             owner.payment) {
  const uint64_t bytes = backend_->size().value_or(0);
  whole_ = make_ref<BlockDevice>(*this, 0, 0, bytes / kLogicalBlock * kLogicalBlock);
}

Disk::~Disk() = default;

Ref<BlockDevice> Disk::device(uint32_t number) const {
  if (number == 0) return whole_;
  auto it = partitions_.find(number);
  return it == partitions_.end() ? nullptr : it->second;
}

void Disk::report(const Bio& bio) {
  constexpr uint64_t kIntervalNs = 5'000'000'000;
  constexpr uint32_t kMostReports = 10;
  const uint64_t now = owner_.vfs.clock().monotonic_ns();
  if (reports_ == 0 || now - reports_since_ns_ > kIntervalNs) {
    reports_since_ns_ = now;
    reports_ = 0;
  }
  if (reports_++ >= kMostReports) return;
  constexpr const char* kNames[] = {"READ", "WRITE", "FLUSH", "DISCARD", "WRITE_ZEROES"};
  const std::string where = backend_->where();
  owner_.vfs.log().warn(absl::StrFormat("I/O error, dev %s, sector %u op %s: %s%s", options.name,
                                        bio.offset / kSectorSize,
                                        kNames[static_cast<size_t>(bio.op)], errno_text(bio.error),
                                        where.empty() ? "" : " in host file " + where));
}

void Disk::revalidate(Park& park) {
  Result<uint64_t> bytes = backend_->size();
  if (!bytes || removed()) return;  // what is known stays; requests will tell
  const uint64_t now = *bytes / kLogicalBlock * kLogicalBlock;
  if (now == whole_->bytes_) return;
  whole_->bytes_ = now;
  ++generation;
  if (whole_->cache_ != nullptr) Ref<DiskCache>(whole_->cache_)->resize(park, now);
}

Result<> Disk::rescan(Park& park) {
  if (!options.partitions) return Err(Errno::kINVAL);
  if (removed()) return Err(Errno::kNXIO);
  for (const auto& [number, part] : partitions_) {
    if (part->opens != 0) return Err(Errno::kBUSY);
  }
  Ref<Disk> self(this);
  Ref<BlockDevice> whole = whole_;
  revalidate(park);
  const uint64_t bytes = whole->size();
  std::vector<Partition> found =
      read_partitions(bytes, [&](uint64_t offset, std::span<std::byte> to) {
        return whole->submit(park, read_bio(offset, to));
      });
  if (removed()) return Err(Errno::kNXIO);  // while we read
  for (const auto& [number, part] : partitions_) {
    if (part->opens != 0) return Err(Errno::kBUSY);  // opened while we read
  }
  auto old = std::exchange(partitions_, {});
  for (const Partition& p : found) {
    if (p.number > kMaxPartitions) continue;
    auto part = make_ref<BlockDevice>(*this, p.number, p.start, p.bytes);
    part->uuid = p.uuid;
    part->label = p.label;
    partitions_.emplace(p.number, part);
  }
  ++owner_.version;
  auto fresh = partitions_;
  for (auto& [number, part] : old) {
    part->gone_ = true;
    if (owner_.on_change && !fresh.contains(number)) owner_.on_change(park, *part, false);
  }
  for (auto& [number, part] : fresh) {
    if (owner_.on_change && !old.contains(number) && !part->gone_)
      owner_.on_change(park, *part, true);
  }
  return {};
}

void Disk::remove() {
  for (auto& [number, part] : partitions_) part->gone_ = true;
  partitions_.clear();
  if (whole_ != nullptr) whole_->gone_ = true;
  whole_ = nullptr;
  backend_->abandon();
}

std::unique_ptr<BlockBackend> Disk::exchange_backend(std::unique_ptr<BlockBackend> fresh) {
  queue_.set_backend(*fresh);
  return std::exchange(backend_, std::move(fresh));
}

namespace {
class NoStorage final : public BlockBackend {
  void start(Park&, BlockRequest& request) override { request.end(Errno::kIO); }
  Result<uint64_t> size() override { return 0; }
};
}  // namespace

void Disk::let_go(Park& park) {
  CHECK(removed());
  Ref<Disk> self(this);
  if (mirror != nullptr) mirror->cancel();
  (void)mirror_ended.wait(
      park, [&] { return mirror == nullptr; }, WaitMode::kUninterruptible, kNever, "mirror");
  queue_.freeze(park);
  auto old = exchange_backend(std::make_unique<NoStorage>());
  queue_.thaw();
}

}  // namespace uk
