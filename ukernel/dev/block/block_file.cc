#include "ukernel/dev/block/block_file.h"

#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "ukernel/dev/block/registry.h"
#include "ukernel/mm/limited_source.h"

namespace uk {
namespace {

constexpr size_t kDirectChunk = 1 << 20;
// A writer is made to wait for what it has dirtied at least once in so many bytes.
constexpr size_t kBalanceChunk = 1 << 20;

struct FreeAligned {
  void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t{kPageSize}); }
};
// Memory that the host's O_DIRECT takes.
using DirectBuffer = std::unique_ptr<std::byte[], FreeAligned>;
DirectBuffer direct_buffer(size_t n) {
  return DirectBuffer(new (std::align_val_t{kPageSize}) std::byte[n]);
}

}  // namespace

Result<Ref<File>> open_block_device(Park& park, BlockDevices& devices, const Path& path, int flags,
                                    uint64_t rdev) {
  Ref<BlockDevice> device = devices.find(rdev);
  if (device == nullptr) return Err(Errno::kNXIO);
  if ((flags & O_ACCMODE) != O_RDONLY && device->read_only()) return Err(Errno::kACCES);
  if ((flags & O_EXCL) != 0 && device->holder != nullptr) return Err(Errno::kBUSY);
  if (device->opens == 0 && device->number == 0) device->disk().revalidate(park);
  return Ref<File>(make_ref<BlockFile>(path, flags, std::move(device)));
}

BlockFile::BlockFile(Path path, int flags, Ref<BlockDevice> device)
    : File(std::move(path), flags),
      device_(std::move(device)),
      cache_(device_->cache()),
      exclusive_((flags & O_EXCL) != 0) {
  device_->begin_use();
  if (exclusive_) device_->holder = this;
}

BlockFile::~BlockFile() = default;

// The last close writes everything back and forgets it, as Linux does: what changes the disk from
// another side is seen by the next who opens it.
void BlockFile::release(Park& park) {
  if (exclusive_) device_->holder = nullptr;
  if (device_->opens == 1) {
    const bool written = cache_->write_out(park).has_value();
    if (device_->opens == 1 && (written || device_->gone()) && cache_->observers().empty())
      cache_->forget(park, 0, UINT64_MAX);
  }
  device_->end_use(park);
}

Result<uint64_t> BlockFile::seek(Park& park, int64_t offset, int whence) {
  const auto size = static_cast<int64_t>(device_->size());
  int64_t to = offset;
  switch (whence) {
    case SEEK_CUR:
      if (__builtin_add_overflow(static_cast<int64_t>(pos), offset, &to)) return Err(Errno::kINVAL);
      break;
    case SEEK_END:
      if (__builtin_add_overflow(size, offset, &to)) return Err(Errno::kINVAL);
      break;
    case SEEK_SET:
      break;
    default:
      return (void)park, Err(Errno::kINVAL);
  }
  if (to < 0 || to > size) return Err(Errno::kINVAL);
  return pos = static_cast<uint64_t>(to);
}

Result<size_t> BlockFile::read(Park& park, IoSink& to, uint64_t offset) {
  if ((flags & O_DIRECT) != 0) return read_direct(park, to, offset);
  if (offset >= device_->size()) return 0;
  return cache_->read(park, offset, to);
}

Result<size_t> BlockFile::write(Park& park, IoSource& from, uint64_t& offset) {
  if (from.remaining() == 0) return 0;
  if (device_->read_only()) return Err(Errno::kPERM);
  const uint64_t size = device_->size();
  if (offset >= size) return Err(Errno::kNOSPC);
  const size_t room = std::min<uint64_t>(from.remaining(), size - offset);
  Result<size_t> result = 0;
  if ((flags & O_DIRECT) != 0) {
    LimitedSource piece(from, room);
    result = write_direct(park, piece, offset);
  } else {
    size_t done = 0;
    while (done < room) {
      LimitedSource piece(from, std::min(room - done, kBalanceChunk));
      const size_t want = piece.remaining();
      result = cache_->write(park, offset + done, piece);
      if (result) done += *result;
      if (!result || *result < want || !cache_->balance(park)) break;
      if (park.interrupted(WaitMode::kKillable)) break;
    }
    if (done != 0) result = done;
  }
  if (!result) return result;
  if ((flags & O_DSYNC) != 0) TRY(cache_->sync(park, offset / kPageSize, *result / kPageSize + 2));
  offset += *result;
  return result;
}

Result<> BlockFile::check_direct(uint64_t offset, size_t len) const {
  return ((offset | len) & (Disk::kLogicalBlock - 1)) != 0 ? Err(Errno::kINVAL) : Result<>();
}

Result<size_t> BlockFile::read_direct(Park& park, IoSink& to, uint64_t offset) {
  TRY(check_direct(offset, to.remaining()));
  const uint64_t size = device_->size();
  if (offset >= size || to.remaining() == 0) return 0;
  const size_t want = std::min<uint64_t>(to.remaining(), size - offset);
  if (cache_->dirty_pages() != 0)
    TRY(cache_->write_out(park, offset / kPageSize, want / kPageSize + 2));
  DirectBuffer buf = direct_buffer(std::min(want, kDirectChunk));
  size_t done = 0;
  while (done < want) {
    std::span<std::byte> piece(buf.get(), std::min(want - done, kDirectChunk));
    Result<> r = device_->submit(park, read_bio(offset + done, piece));
    if (!r) return done != 0 ? Result<size_t>(done) : Err(r.error());
    Result<size_t> n = to.put(park, piece);
    if (!n) return done != 0 ? Result<size_t>(done) : n;
    done += *n;
    if (*n < piece.size()) break;
  }
  return done;
}

// What is cached of the range is written before and forgotten after.
Result<size_t> BlockFile::write_direct(Park& park, IoSource& from, uint64_t offset) {
  TRY(check_direct(offset, from.remaining()));
  const uint64_t first = offset / kPageSize, count = from.remaining() / kPageSize + 2;
  if (cache_->dirty_pages() != 0) TRY(cache_->write_out(park, first, count));
  DirectBuffer buf = direct_buffer(std::min(from.remaining(), kDirectChunk));
  size_t done = 0;
  Errno error = Errno::kOk;
  while (from.remaining() > 0 && error == Errno::kOk) {
    std::span<std::byte> piece(buf.get(), std::min(from.remaining(), kDirectChunk));
    Result<size_t> n = from.get(park, piece);
    if (!n || *n == 0) {
      error = n ? Errno::kFAULT : n.error();
      break;
    }
    const size_t whole = *n / Disk::kLogicalBlock * Disk::kLogicalBlock;  // short after a fault
    if (whole < piece.size()) error = Errno::kFAULT;
    if (whole == 0) break;
    if (Result<> r = device_->submit(park, write_bio(offset + done, piece.first(whole))); !r)
      error = r.error();
    else
      done += whole;
  }
  cache_->forget(park, first, count);
  return done != 0 ? Result<size_t>(done) : Result<size_t>(Err(error));
}

Result<> BlockFile::fsync(Park& park, bool) { return cache_->sync(park, 0, UINT64_MAX); }

Result<> BlockFile::clear(Park& park, BlockOp op, uint64_t offset, uint64_t len) {
  const uint64_t first = offset / kPageSize, count = len / kPageSize + 2;
  TRY(cache_->write_out(park, first, count));  // the edges' neighbours
  constexpr uint64_t kStep = 1ull << 30;
  for (uint64_t done = 0; done < len; done += kStep) {
    Bio bio;
    bio.op = op;
    bio.offset = offset + done;
    bio.length = std::min(kStep, len - done);
    TRY(device_->submit(park, bio));
    if (park.interrupted(WaitMode::kKillable)) return Err(Errno::kINTR);
  }
  cache_->forget(park, first, count);
  return {};
}

// As blkdev_fallocate() in Linux: nothing of it makes the device larger.
Result<> BlockFile::fallocate(Park& park, int mode, uint64_t offset, uint64_t len) {
  constexpr int kKnown =
      FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE | FALLOC_FL_NO_HIDE_STALE;
  if ((mode & ~kKnown) != 0) return Err(Errno::kOPNOTSUPP);
  const uint64_t size = device_->size();
  if (offset >= size) return Err(Errno::kINVAL);
  if (len > size - offset) {
    if ((mode & FALLOC_FL_KEEP_SIZE) == 0) return Err(Errno::kINVAL);
    len = size - offset;
  }
  if (((offset | len) & (Disk::kLogicalBlock - 1)) != 0) return Err(Errno::kINVAL);
  switch (mode) {
    case FALLOC_FL_ZERO_RANGE:
    case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE:
    case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
      return clear(park, BlockOp::kWriteZeroes, offset, len);
    default:
      return Err(Errno::kOPNOTSUPP);
  }
}

}  // namespace uk
