// Open block special files: reads and writes through the device's cache (O_DIRECT: past it,
// coherent with it), the ioctls of block devices (block_ioctl.cc), exclusive opens.
//
// Ownership: a file holds its device and cache. Everything here may suspend. Offsets, lengths and
// ioctl arguments are the guest's.
#pragma once

#include "ukernel/dev/block/disk_cache.h"
#include "ukernel/vfs/file.h"

namespace uk {

class BlockDevices;

// kNXIO: no such device; kACCES: it is read-only and `flags` write; kBUSY: O_EXCL, and somebody has
// it exclusively.
Result<Ref<File>> open_block_device(Park& park, BlockDevices& devices, const Path& path, int flags,
                                    uint64_t rdev);

class BlockFile final : public File {
 public:
  BlockFile(Path path, int flags, Ref<BlockDevice> device);
  ~BlockFile() override;

  bool seekable() const override { return true; }
  Result<size_t> read(Park& park, IoSink& to, uint64_t offset) override;
  Result<size_t> write(Park& park, IoSource& from, uint64_t& offset) override;
  Result<uint64_t> seek(Park& park, int64_t offset, int whence) override;
  Result<int64_t> ioctl(Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg) override;
  Result<> fsync(Park& park, bool data_only) override;
  Result<> fallocate(Park& park, int mode, uint64_t offset, uint64_t len) override;
  Result<> truncate(Park&, uint64_t) override { return Err(Errno::kINVAL); }
  Ref<MemoryObject> memory_object() override { return cache_; }
  void release(Park& park) override;
  BlockDevice& device() const { return *device_; }

 private:
  Result<size_t> read_direct(Park& park, IoSink& to, uint64_t offset);
  Result<size_t> write_direct(Park& park, IoSource& from, uint64_t offset);
  Result<> check_direct(uint64_t offset, size_t len) const;
  // Discards or zeroes a range, which leaves the cache first.
  Result<> clear(Park& park, BlockOp op, uint64_t offset, uint64_t len);
  Result<int64_t> clear_ioctl(Park& park, IoctlUser& user, BlockOp op, uint64_t arg);

  const Ref<BlockDevice> device_;
  const Ref<DiskCache> cache_;
  bool exclusive_;
};

}  // namespace uk
