#include "ukernel/dev/block/registry.h"

#include <algorithm>

#include "ukernel/dev/block/block_file.h"
#include "ukernel/dev/block/disk_cache.h"

namespace uk {

BlockDevices::BlockDevices(Vfs& vfs, Reactor& reactor) : vfs(vfs), reactor(reactor) {
  vfs.register_device(true, kHostDiskMajor, 0, kMaxDisks * kMinorsPerDisk, "hostdisk",
                      {[this](Park& park, const Path& path, int flags, const Cred&, uint64_t rdev) {
                        return open_block_device(park, *this, path, flags, rdev);
                      }});
}

BlockDevices::~BlockDevices() {
  for (const Ref<Disk>& disk : disks_) disk->remove();
}

bool BlockDevices::valid_name(std::string_view name) {
  auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  auto digit = [](char c) { return c >= '0' && c <= '9'; };
  return !name.empty() && name.size() <= 24 && letter(name[0]) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return letter(c) || digit(c); });
}

Result<Ref<Disk>> BlockDevices::add(Park& park, std::string name,
                                    std::unique_ptr<BlockBackend> backend, bool read_only) {
  for (const Ref<Disk>& d : disks_) {
    if (d->options.name == name) return Err(Errno::kEXIST);
  }
  if (disks_.size() >= kMaxDisks) return Err(Errno::kNOSPC);
  Disk::Options options;
  options.name = std::move(name);
  options.major = kHostDiskMajor;
  options.first_minor = static_cast<uint32_t>(disks_.size()) * kMinorsPerDisk;
  options.read_only = read_only;
  auto disk = make_ref<Disk>(*this, std::move(backend), std::move(options));
  disks_.push_back(disk);
  ++version;
  if (on_change) on_change(park, disk->whole(), true);
  (void)disk->rescan(park);
  return disk;
}

void BlockDevices::each(const std::function<void(BlockDevice&)>& f) const {
  for (const Ref<Disk>& disk : disks_) {
    f(disk->whole());
    for (const auto& [number, part] : disk->partitions()) f(*part);
  }
}

Ref<BlockDevice> BlockDevices::find(uint64_t rdev) const {
  for (const Ref<Disk>& disk : disks_) {
    const uint32_t first = disk->options.first_minor, minor = dev_minor(rdev);
    if (disk->options.major != dev_major(rdev) || minor < first || minor - first >= kMinorsPerDisk)
      continue;
    return disk->device(minor - first);
  }
  return nullptr;
}

Result<> BlockDevices::sync(Park& park) {
  std::vector<Ref<BlockDevice>> all;
  std::vector<Ref<SuperBlock>> filesystems;
  each([&](BlockDevice& device) {
    if (device.filesystem != nullptr) filesystems.emplace_back(device.filesystem);
    if (device.cache_if_any() != nullptr) all.emplace_back(&device);
  });
  Result<> result;
  for (const Ref<SuperBlock>& sb : filesystems) {
    Result<> r = sb->sync(park);
    if (!r && result) result = r;
  }
  for (const Ref<BlockDevice>& device : all) {
    Result<> r = device->cache()->sync(park, 0, UINT64_MAX);
    if (!r && result) result = r;
  }
  return result;
}

bool BlockDevices::any_dirty() const {
  bool dirty = false;
  each([&](BlockDevice& device) {
    dirty |= device.cache_if_any() != nullptr && device.cache_if_any()->dirty_pages() != 0;
    dirty |= device.filesystem != nullptr && !device.filesystem->read_only;
  });
  return dirty;
}

}  // namespace uk
