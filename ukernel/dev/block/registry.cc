#include "ukernel/dev/block/registry.h"

#include <algorithm>

#include "ukernel/dev/block/block_file.h"
#include "ukernel/dev/block/disk_cache.h"

namespace uk {

BlockDevices::BlockDevices(Vfs& vfs, Reactor& reactor) : vfs(vfs), reactor(reactor) {
  register_major(kHostDiskMajor, kMaxDisks * kMinorsPerDisk, "hostdisk");
}

void BlockDevices::register_major(uint32_t major, uint32_t minors, const char* name) {
  vfs.register_device(true, major, 0, minors, name,
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
  uint32_t slot = 0;
  auto taken = [&](const Ref<Disk>& d) {
    return d->options.major == kHostDiskMajor && d->options.first_minor == slot * kMinorsPerDisk;
  };
  while (std::ranges::any_of(disks_, taken)) ++slot;
  if (slot >= kMaxDisks) return Err(Errno::kNOSPC);
  Disk::Options options;
  options.name = std::move(name);
  options.major = kHostDiskMajor;
  options.first_minor = slot * kMinorsPerDisk;
  options.minors = kMinorsPerDisk;
  options.read_only = read_only;
  return add(park, std::move(options), std::move(backend));
}

Result<Ref<Disk>> BlockDevices::add(Park& park, Disk::Options options,
                                    std::unique_ptr<BlockBackend> backend) {
  for (const Ref<Disk>& d : disks_) {
    if (d->options.name == options.name) return Err(Errno::kEXIST);
  }
  auto disk = make_ref<Disk>(*this, std::move(backend), std::move(options));
  disks_.push_back(disk);
  ++version;
  if (on_change) on_change(park, disk->whole(), true);
  if (disk->options.partitions) (void)disk->rescan(park);
  return disk;
}

void BlockDevices::remove(Park& park, Disk& disk) {
  Ref<Disk> self(&disk);
  std::erase_if(disks_, [&](const Ref<Disk>& d) { return d.get() == &disk; });
  ++version;
  std::vector<Ref<BlockDevice>> devices;
  for (const auto& [number, part] : disk.partitions()) devices.push_back(part);
  devices.emplace_back(&disk.whole());
  disk.remove();
  for (const Ref<BlockDevice>& device : devices) {
    if (on_change) on_change(park, *device, false);
  }
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
    if (disk->options.major != dev_major(rdev) || minor < first ||
        minor - first >= disk->options.minors)
      continue;
    return disk->device(minor - first);
  }
  return nullptr;
}

// Storage is flushed even if nothing is cached any more: the last close has written it out. The
// latest first: it may lie on those before (loop devices).
Result<> BlockDevices::sync(Park& park) {
  Result<> result;
  const std::vector<Ref<Disk>> latest_first(disks_.rbegin(), disks_.rend());
  for (const Ref<Disk>& disk : latest_first) {
    std::vector<Ref<BlockDevice>> cached;
    std::vector<Ref<SuperBlock>> filesystems;
    each([&](BlockDevice& device) {
      if (&device.disk() != disk.get()) return;
      if (device.filesystem != nullptr) filesystems.emplace_back(device.filesystem);
      if (device.cache_if_any() != nullptr) cached.emplace_back(&device);
    });
    for (const Ref<SuperBlock>& sb : filesystems) {
      Result<> r = sb->sync(park);
      if (!r && result) result = r;
    }
    for (const Ref<BlockDevice>& device : cached) {
      Result<> r = device->cache()->write_out(park);
      if (!r && result) result = r;
    }
    Ref<BlockDevice> whole = disk->device(0);
    if (whole == nullptr || whole->gone() || whole->read_only() || whole->size() == 0) continue;
    Result<> r = whole->flush(park);
    if (!r && result) result = r;
  }
  return result;
}

}  // namespace uk
