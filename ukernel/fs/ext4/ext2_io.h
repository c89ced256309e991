// The io_manager through which libext2fs sees a volume: blocks of the MetaCache. It is called under
// the volume's lock; a read suspends the fiber whose Park was set.
//
// Ownership: the Volume owns it, and the MetaCache.
#pragma once

#include <ext2fs/ext2fs.h>

#include <string>

#include "ukernel/fs/ext4/meta_cache.h"

namespace uk::ext4 {

// libext2fs's headers are C: what it calls must be extern "C" in effect, so these are statics.
class Ext2Io {
 public:
  explicit Ext2Io(MetaCache& cache);

  struct_io_manager* manager() { return &manager_; }
  // What ext2fs_open2() calls the device: our address, which open() takes back.
  std::string name() const;
  // Who waits when something must be read; set for the time of each call into libext2fs.
  Park* park = nullptr;

 private:
  static Ext2Io& of(io_channel channel);
  static errcode_t open(const char* name, int flags, io_channel* channel);
  static errcode_t close(io_channel channel);
  static errcode_t set_blksize(io_channel channel, int size);
  static errcode_t read(io_channel channel, unsigned long block, int count, void* data);
  static errcode_t write(io_channel channel, unsigned long block, int count, const void* data);
  static errcode_t read64(io_channel channel, unsigned long long block, int count, void* data);
  static errcode_t write64(io_channel channel, unsigned long long block, int count,
                           const void* data);
  static errcode_t flush(io_channel channel);
  errcode_t transfer(uint64_t offset, size_t size, char* to, const char* from);

  MetaCache& cache_;
  struct_io_manager manager_ = {};
  struct struct_io_channel channel_ = {};
  std::string channel_name_;
};

// The error of libext2fs as ours: kUCLEAN for all that says the image is broken.
Errno from_ext2(errcode_t e);

}  // namespace uk::ext4
