// ext4 on block devices: `mount -t ext4 /dev/vda /mnt`, and roots from images. Metadata goes
// through libext2fs and a cache of ours, and reaches the device in commits (fsync(2), sync(2),
// umount(2), every five seconds); contents are in the page cache, and get their place on the device
// when they are written back.
//
// Ownership: the superblock is held by its mounts and inodes; it owns the volume, which has the
// device to itself. Everything may suspend. The image is untrusted: what is found broken ends in
// kUCLEAN and a read-only filesystem (errors=remount-ro).
#pragma once

#include <string>

#include "ukernel/dev/block/registry.h"
#include "ukernel/vfs/vfs.h"

namespace uk {

struct Ext4Options {
  bool read_only = false;
  bool no_load = false;  // noload, norecovery
  uint32_t commit_s = kCommitSeconds;
  static constexpr uint32_t kCommitSeconds = 5;
};
// mount(2) data, on top of what there was; kINVAL for what is not known.
Result<Ext4Options> parse_ext4_options(const std::string& text, Ext4Options before = {});

// A device that is mounted already gives the superblock it has. kBUSY: it is read-only there and
// not here, or the other way round, or somebody has the device to himself; kACCES: the device
// cannot be written to; else Volume::open().
Result<Ref<SuperBlock>> mount_ext4(Park& park, BlockDevices& devices, Ref<BlockDevice> device,
                                   const Ext4Options& options, Ref<Inode>* root);
void register_ext4(Vfs& vfs, BlockDevices& devices);

}  // namespace uk
