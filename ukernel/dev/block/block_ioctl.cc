// The ioctls of block devices (linux/fs.h, linux/hdreg.h, linux/blkpg.h).
#include <linux/fs.h>
#include <linux/hdreg.h>

#include "ukernel/dev/block/block_file.h"
#include "ukernel/dev/block/registry.h"

namespace uk {
namespace {

template <class T>
Result<int64_t> give(Park& park, IoctlUser& user, uint64_t arg, T value) {
  TRY(user.copy_out(park, arg, std::as_bytes(std::span(&value, 1))));
  return 0;
}

Result<> admin(IoctlUser& user) {
  return user.cred().has(Cap::kSysAdmin) ? Result<>() : Err(Errno::kACCES);
}

// A geometry that fits, for those who still ask: there are no heads.
struct hd_geometry geometry(const BlockDevice& device) {
  constexpr uint64_t kHeads = 16, kSectors = 63;
  struct hd_geometry g = {};
  g.heads = kHeads;
  g.sectors = kSectors;
  const Ref<BlockDevice> whole = device.disk().device(0);  // null: removed
  const uint64_t sectors = whole == nullptr ? 0 : whole->size() / kSectorSize;
  g.cylinders =
      static_cast<unsigned short>(std::min<uint64_t>(sectors / (kHeads * kSectors), 65535));
  g.start = device.start / kSectorSize;
  return g;
}

}  // namespace

Result<int64_t> BlockFile::clear_ioctl(Park& park, IoctlUser& user, BlockOp op, uint64_t arg) {
  if (!can_write()) return Err(Errno::kBADF);
  uint64_t range[2] = {};
  TRY(user.copy_in(park, std::as_writable_bytes(std::span(range)), arg));
  const auto [offset, len] = range;
  if (((offset | len) & (Disk::kLogicalBlock - 1)) != 0 || len == 0) return Err(Errno::kINVAL);
  if (offset > device_->size() || len > device_->size() - offset) return Err(Errno::kINVAL);
  TRY(clear(park, op, offset, len));
  return 0;
}

Result<int64_t> BlockFile::ioctl(Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg) {
  switch (cmd) {
    case BLKGETSIZE:
      return give<uint64_t>(park, user, arg, device_->size() / kSectorSize);
    case BLKGETSIZE64:
      return give<uint64_t>(park, user, arg, device_->size());
    case BLKSSZGET:
      return give<int>(park, user, arg, Disk::kLogicalBlock);
    case BLKPBSZGET:
    case BLKIOMIN:
      return give<unsigned>(park, user, arg, Disk::kPhysicalBlock);
    case BLKBSZGET:
      return give<int>(park, user, arg, static_cast<int>(kPageSize));
    case BLKBSZSET: {
      TRY(admin(user));
      int bytes = 0;
      TRY(user.copy_in(park, std::as_writable_bytes(std::span(&bytes, 1)), arg));
      // Advice for the cache, which works in pages whatever the block.
      const bool power = bytes > 0 && (bytes & (bytes - 1)) == 0;
      return power && bytes >= 512 && bytes <= 4096 ? Result<int64_t>(0) : Err(Errno::kINVAL);
    }
    case BLKIOOPT:
      return give<unsigned>(park, user, arg, 0);
    case BLKALIGNOFF:
      return give<int>(park, user, arg, 0);
    case BLKDISCARDZEROES:
      return give<unsigned>(park, user, arg, 0);
    case BLKROTATIONAL:
      return give<unsigned short>(park, user, arg, 0);
    case BLKSECTGET:
      return give<unsigned short>(
          park, user, arg, static_cast<unsigned short>(RequestQueue::kMaxRequestBytes / 512));
    case BLKROGET:
      return give<int>(park, user, arg, device_->read_only() ? 1 : 0);
    case BLKROSET: {
      TRY(admin(user));
      int on = 0;
      TRY(user.copy_in(park, std::as_writable_bytes(std::span(&on, 1)), arg));
      if (on != 0) TRY(cache_->sync(park, 0, UINT64_MAX));
      device_->set_read_only = on != 0;
      return 0;
    }
    case BLKRAGET:
    case BLKFRAGET:
      return give<long>(park, user, arg, static_cast<long>(device_->read_ahead_sectors));
    case BLKRASET:
    case BLKFRASET:
      TRY(admin(user));
      device_->read_ahead_sectors = arg;  // bounded where it is used
      return 0;
    case BLKFLSBUF:
      TRY(admin(user));
      TRY(cache_->sync(park, 0, UINT64_MAX));
      if (cache_->observers().empty()) cache_->forget(park, 0, UINT64_MAX);
      return 0;
    case BLKDISCARD:
      return clear_ioctl(park, user, BlockOp::kDiscard, arg);
    case BLKZEROOUT:
      return clear_ioctl(park, user, BlockOp::kWriteZeroes, arg);
    case BLKRRPART:
      if (device_->number != 0) return Err(Errno::kINVAL);
      TRY(admin(user));
      TRY(cache_->write_out(park));
      TRY(device_->disk().rescan(park));
      return 0;
    case HDIO_GETGEO:
      return give(park, user, arg, geometry(*device_));
    default:
      if (device_->number != 0) return Err(Errno::kNOTTY);
      return device_->disk().backend().ioctl(park, *this, user, cmd, arg);
  }
}

}  // namespace uk
