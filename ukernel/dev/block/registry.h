// All block devices of an instance, by name and number: what /dev, /proc/partitions, /sys/block and
// open(2) of a block special file look into.
//
// Ownership: the Kernel owns it (Kernel::disks); it owns the disks. Reactor-owned; what takes a
// Park suspends. Names come from the command line, numbers from the guest.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ukernel/dev/block/disk.h"
#include "ukernel/vfs/vfs.h"

namespace uk {

class BlockDevices {
 public:
  static constexpr uint32_t kHostDiskMajor = 254;
  static constexpr uint32_t kMinorsPerDisk = Disk::kMaxPartitions + 1;
  static constexpr uint32_t kMaxDisks = 64;

  BlockDevices(Vfs& vfs, Reactor& reactor);
  ~BlockDevices();

  Vfs& vfs;
  Reactor& reactor;

  // A name that a disk may have: letters and digits, a letter first, at most 24.
  static bool valid_name(std::string_view name);
  // Adds a disk and reads its partition table. kEXIST: the name is taken; kNOSPC: kMaxDisks.
  Result<Ref<Disk>> add(Park& park, std::string name, std::unique_ptr<BlockBackend> backend,
                        bool read_only);
  // The same with a number that is the caller's; see register_major().
  Result<Ref<Disk>> add(Park& park, Disk::Options options, std::unique_ptr<BlockBackend> backend);
  // Takes a disk away: its node goes, requests to it are kIO.
  void remove(Park& park, Disk& disk);
  // Special files with this major number open the registry's devices.
  void register_major(uint32_t major, uint32_t minors, const char* name);

  const std::vector<Ref<Disk>>& disks() const { return disks_; }
  // All devices, a disk before its partitions.
  void each(const std::function<void(BlockDevice&)>& f) const;
  Ref<BlockDevice> find(uint64_t rdev) const;  // null: none

  // Writes back what is dirty of all devices and of the filesystems on them, and flushes all disks
  // (sync(2)). The first error.
  Result<> sync(Park& park);

  // Counts changes of the set of devices.
  uint64_t version = 1;
  // A node is to be made or taken away in /dev; set by boot.
  std::function<void(Park&, BlockDevice&, bool there)> on_change;
  BlockPayment payment;

 private:
  std::vector<Ref<Disk>> disks_;
  uint32_t host_disks_ = 0;
};

}  // namespace uk
