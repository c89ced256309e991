// Disks and what can be opened of them: the whole device and its partitions. A BlockDevice is the
// view that a file, a cache or a filesystem uses: it bounds every request to its own extent.
//
// Ownership: BlockDevices (registry.h) owns the disks, a Disk its devices; open files hold Refs to
// a device. A partition that is taken away lives on, gone, until its files are closed.
// Reactor-owned; what takes a Park suspends. Partition tables come from the image: untrusted
// (partition_table.h).
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/ref.h"
#include "ukernel/dev/block/queue.h"
#include "ukernel/dev/block/request.h"
#include "ukernel/vfs/types.h"

namespace uk {

class BlockDevices;
class Disk;
class DiskCache;
class Mirror;
class SuperBlock;

class BlockDevice final : public RefCounted {
 public:
  BlockDevice(Disk& disk, uint32_t number, uint64_t start, uint64_t bytes);
  ~BlockDevice() override;

  const uint32_t number;     // 0: the whole disk, else the partition's
  const uint64_t start;      // bytes from the disk's begin
  std::string uuid, label;   // of a GPT partition; may be empty
  std::string name() const;  // "vdb", "vdb1"; "nvme0n1p1" after a digit
  uint64_t rdev() const;
  uint64_t size() const { return bytes_; }
  Disk& disk() const { return *disk_; }
  bool gone() const { return gone_; }
  bool read_only() const;
  BlockStats stats;

  // Offsets count from the device's begin. Each bio has its error afterwards; the first is
  // returned. kIO beyond the end or when the device is gone, kPERM when it is read-only, kINVAL for
  // what is not a multiple of the logical block, kOPNOTSUPP.
  // Who pays: see BlockPayment; it lives until submit() returns.
  Result<> submit(Park& park, std::span<Bio> bios, RefCounted* payer = nullptr);
  Result<> submit(Park& park, Bio bio) { return submit(park, {&bio, 1}); }
  // What is written is on stable storage when it returns; the cache is not asked.
  Result<> flush(Park& park);

  // The page cache, made when first asked for and kept while anybody uses it.
  Ref<DiskCache> cache();
  DiskCache* cache_if_any() const { return cache_; }

  // Who uses it, as files and mounts do; the last who ends is told to the storage.
  void begin_use() { ++opens; }
  void end_use(Park& park);
  int opens = 0;                      // those who use it
  const void* holder = nullptr;       // who has it exclusively (O_EXCL, a mount), if anybody
  SuperBlock* filesystem = nullptr;   // that is mounted from it; not owned
  bool set_read_only = false;         // BLKROSET
  uint64_t read_ahead_sectors = 256;  // BLKRASET

 private:
  friend class Disk;
  friend class DiskCache;
  Result<> check(const Bio& bio) const;
  Ref<Disk> disk_;
  uint64_t bytes_;
  bool gone_ = false;
  DiskCache* cache_ = nullptr;  // not owned: leaves by itself
};

class Disk final : public RefCounted {
 public:
  static constexpr uint32_t kMaxPartitions = 15;  // minors of a disk, less itself
  struct Options {
    std::string name;
    uint32_t major = 0, first_minor = 0;
    uint32_t minors = kMaxPartitions + 1;
    bool read_only = false;
    bool partitions = true;  // may have some
  };
  Disk(BlockDevices& owner, std::unique_ptr<BlockBackend> backend, Options options);
  ~Disk() override;

  const Options options;
  BlockDevices& owner() const { return owner_; }
  // Not of a disk that is removed: see device().
  BlockDevice& whole() const { return *whole_; }
  RequestQueue& queue() { return queue_; }
  BlockBackend& backend() const { return *backend_; }
  // By their numbers.
  const std::map<uint32_t, Ref<BlockDevice>>& partitions() const { return partitions_; }
  Ref<BlockDevice> device(uint32_t number) const;  // null: there is none

  static constexpr uint32_t kLogicalBlock = 512;
  static constexpr uint32_t kPhysicalBlock = 4096;

  // Takes the size that the storage has now.
  void revalidate(Park& park);
  // Reads the partition table again (BLKRRPART). kBUSY while a partition is open. An unreadable or
  // broken table means none.
  Result<> rescan(Park& park);
  // Lets go of the devices: the disk is removed. Requests are kIO from here on.
  void remove();
  // Of a disk that is removed: ends its mirror, waits for what is at the storage, and gives that up
  // (a host file and its lock), although files of the disk may still be open.
  void let_go(Park& park);
  // Puts other storage in the place of the disk's, which must be frozen (queue()). Returns what was
  // there.
  std::unique_ptr<BlockBackend> exchange_backend(std::unique_ptr<BlockBackend> fresh);
  bool removed() const { return whole_ == nullptr; }
  // What moves the disk to other storage (mirror.h), while it runs; not owned.
  Mirror* mirror = nullptr;
  WaitQueue mirror_ended;
  // Another number whenever contents may have changed.
  uint64_t generation = 0;

 private:
  friend class BlockDevice;
  // Says in the kernel log what failed, and in which host file; not more than a few times a second.
  void report(const Bio& bio);
  BlockDevices& owner_;
  std::unique_ptr<BlockBackend> backend_;
  RequestQueue queue_;
  Ref<BlockDevice> whole_;
  std::map<uint32_t, Ref<BlockDevice>> partitions_;
  uint64_t reports_since_ns_ = 0;
  uint32_t reports_ = 0;
};

}  // namespace uk
