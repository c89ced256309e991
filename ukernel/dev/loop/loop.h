// Loop devices (/dev/loopN) on files of the guest, and /dev/loop-control, which makes them:
// losetup(8), mount -o loop. (loop(4); linux/loop.h.)
//
// Ownership: boot makes the LoopDevices, which lives as long as the instance; the registry owns the
// disks. Reactor-owned. Descriptors, sizes and names come from the guest.
#pragma once

#include <functional>
#include <map>
#include <memory>

#include "ukernel/dev/block/registry.h"

namespace uk {

class LoopDevices {
 public:
  static constexpr uint32_t kMajor = 7;
  static constexpr uint32_t kMax = 256;

  // The file of a descriptor of the task that makes an ioctl; kBADF.
  using FileOf = std::function<Result<Ref<File>>(IoctlUser&, int fd)>;
  LoopDevices(BlockDevices& devices, FileOf file_of);

  BlockDevices& devices;
  const FileOf file_of;

  // LOOP_CTL_ADD (-1: any number), LOOP_CTL_REMOVE, LOOP_CTL_GET_FREE; all return the number.
  // kEXIST, kNOSPC; kNODEV, kBUSY.
  Result<int> add(Park& park, int number);
  Result<int> remove(Park& park, int number);
  Result<int> get_free(Park& park);

 private:
  Disk* find(int number) const;
};

// Registers /dev/loop-control and the devices it makes.
std::shared_ptr<LoopDevices> register_loop(BlockDevices& devices, LoopDevices::FileOf file_of);

// A disk in guest memory that costs what is written to it; empty at first.
Result<std::unique_ptr<BlockBackend>> make_ram_disk(Park& park, BlockDevices& devices,
                                                    uint64_t bytes);

}  // namespace uk
