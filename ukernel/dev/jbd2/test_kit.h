// Images with an empty journal as mke2fs makes it, for the tests of this directory.
#pragma once

#include <vector>

#include "ukernel/dev/block/testing/power_cut_disk.h"
#include "ukernel/dev/jbd2/journal.h"
#include "ukernel/vfs/testing/test_kit.h"

namespace uk::jbd2 {

inline std::vector<std::byte> empty_super(uint32_t block_size, uint32_t max_len,
                                          uint32_t sequence = 1) {
  std::vector<std::byte> block(block_size);
  write_header(block, kSuperV2, 0);
  put_be<uint32_t>(block, 0xc, block_size);
  put_be<uint32_t>(block, 0x10, max_len);
  put_be<uint32_t>(block, 0x14, 1);
  put_be<uint32_t>(block, 0x18, sequence);
  put_be<uint32_t>(block, 0x40, 1);
  return block;
}

inline void put_blocks(std::vector<std::byte>& image, uint64_t at,
                       std::span<const std::byte> bytes) {
  std::memcpy(&image[at], bytes.data(), bytes.size());
}

class JournalTest : public VfsTest {
 protected:
  // run() with a registry that test disks can belong to.
  void run_disks(std::function<void(Park&)> body) {
    run([&](Park& p) {
      if (devices == nullptr) devices = std::make_unique<BlockDevices>(vfs, sim.reactor);
      body(p);
    });
  }
  Result<std::unique_ptr<Journal>> open_journal(PowerCutStorage& storage, const LogPlace& place,
                                                bool yields = false) {
    disk = make_test_disk(*devices, storage, yields);
    return Journal::open(*park, Ref<BlockDevice>(&disk->whole()), place);
  }
  ~JournalTest() override {
    if (disk != nullptr) disk->remove();
  }
  std::unique_ptr<BlockDevices> devices;
  Ref<Disk> disk;
};

}  // namespace uk::jbd2
