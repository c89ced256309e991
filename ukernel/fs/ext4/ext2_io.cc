#include "ukernel/fs/ext4/ext2_io.h"

#include <algorithm>
#include <charconv>
#include <cstring>

namespace uk::ext4 {

Ext2Io::Ext2Io(MetaCache& cache) : cache_(cache) {
  manager_.magic = EXT2_ET_MAGIC_IO_MANAGER;
  manager_.name = "ukernel";
  manager_.open = open;
  manager_.close = close;
  manager_.set_blksize = set_blksize;
  manager_.read_blk = read;
  manager_.write_blk = write;
  manager_.flush = flush;
  manager_.read_blk64 = read64;
  manager_.write_blk64 = write64;
}

std::string Ext2Io::name() const { return std::to_string(reinterpret_cast<uintptr_t>(this)); }

Ext2Io& Ext2Io::of(io_channel channel) { return *static_cast<Ext2Io*>(channel->private_data); }

errcode_t Ext2Io::open(const char* name, int, io_channel* channel) {
  uintptr_t address = 0;
  std::from_chars(name, name + std::strlen(name), address);
  auto* self = reinterpret_cast<Ext2Io*>(address);
  io_channel c = &self->channel_;
  self->channel_name_ = name;
  c->magic = EXT2_ET_MAGIC_IO_CHANNEL;
  c->manager = &self->manager_;
  c->name = self->channel_name_.data();
  c->block_size = SUPERBLOCK_OFFSET;
  c->refcount = 1;
  c->private_data = self;
  *channel = c;
  return 0;
}

errcode_t Ext2Io::close(io_channel) { return 0; }

errcode_t Ext2Io::set_blksize(io_channel channel, int size) {
  channel->block_size = size;
  return 0;
}

// A negative count is one of bytes.
static size_t bytes_of(io_channel channel, int count) {
  return count < 0 ? size_t{0} - static_cast<size_t>(count)
                   : static_cast<size_t>(count) * static_cast<size_t>(channel->block_size);
}

errcode_t Ext2Io::read(io_channel channel, unsigned long block, int count, void* data) {
  return read64(channel, block, count, data);
}

errcode_t Ext2Io::write(io_channel channel, unsigned long block, int count, const void* data) {
  return write64(channel, block, count, data);
}

errcode_t Ext2Io::read64(io_channel channel, unsigned long long block, int count, void* data) {
  return of(channel).transfer(block * static_cast<uint64_t>(channel->block_size),
                              bytes_of(channel, count), static_cast<char*>(data), nullptr);
}

errcode_t Ext2Io::write64(io_channel channel, unsigned long long block, int count,
                          const void* data) {
  return of(channel).transfer(block * static_cast<uint64_t>(channel->block_size),
                              bytes_of(channel, count), nullptr, static_cast<const char*>(data));
}

errcode_t Ext2Io::flush(io_channel) { return 0; }

// Bytes that stay as they are make no block dirty.
errcode_t Ext2Io::transfer(uint64_t offset, size_t size, char* to, const char* from) {
  CHECK(park != nullptr);
  constexpr uint32_t kAhead = 16;
  while (size > 0) {
    const uint64_t number = offset / cache_.block_size;
    const size_t in_block = offset % cache_.block_size;
    const size_t n = std::min<size_t>(size, cache_.block_size - in_block);
    auto block = cache_.get(
        *park, number, static_cast<uint32_t>(std::min<size_t>(size / cache_.block_size, kAhead)));
    if (!block) return to != nullptr ? EXT2_ET_SHORT_READ : EXT2_ET_SHORT_WRITE;
    std::byte* at = (*block)->bytes().data() + in_block;
    if (to != nullptr) {
      std::memcpy(to, at, n);
      to += n;
    } else {
      if (std::memcmp(at, from, n) != 0) {
        std::memcpy(at, from, n);
        cache_.dirty(**block, MetaKind::kRaw, 0);
      }
      from += n;
    }
    offset += n;
    size -= n;
  }
  return 0;
}

Errno from_ext2(errcode_t e) {
  switch (e) {
    case EXT2_ET_SHORT_READ:
    case EXT2_ET_SHORT_WRITE:
      return Errno::kIO;
    case EXT2_ET_NO_MEMORY:
      return Errno::kNOMEM;
    case EXT2_ET_RO_FILSYS:
      return Errno::kROFS;
    case EXT2_ET_BAD_MAGIC:
    case EXT2_ET_UNSUPP_FEATURE:
    case EXT2_ET_RO_UNSUPP_FEATURE:
    case EXT2_ET_REV_TOO_HIGH:
      return Errno::kINVAL;
    default:
      return Errno::kUCLEAN;
  }
}

}  // namespace uk::ext4
