// An ext4 volume on a block device, opened with libext2fs: its superblock and descriptors, the
// cache of its metadata, its free blocks and inodes, and commits. It knows no vfs.
//
// One lock guards all of it, since libext2fs is not re-entrant: whoever uses the volume holds a
// Volume::Lock, which may be held while the fiber suspends in our io_manager. File contents do not
// pass through here; nobody waits for a page or an address space while holding the lock.
//
// Ownership: the superblock object owns the volume; the volume holds its device. The image is
// untrusted: what libext2fs hands out is checked before it is used. After fail() nothing reaches
// the device any more (errors=remount-ro).
#pragma once

#include <ext2fs/ext2fs.h>

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/log.h"
#include "ukernel/dev/jbd2/journal.h"
#include "ukernel/fs/ext4/allocator.h"
#include "ukernel/fs/ext4/ext2_io.h"
#include "ukernel/fs/ext4/meta_cache.h"
#include "ukernel/sched/wait_queue.h"

namespace uk::ext4 {

struct VolumeOptions {
  bool read_only = false;
  bool no_load = false;  // a journal that needs recovery is passed over; only read-only
};

class Volume {
 public:
  // What the journal holds is put in its place first. kINVAL: no ext4, or one that we cannot mount
  // so; kUCLEAN: broken, or its journal is; kOPNOTSUPP: the journal is of a kind that is not known;
  // kROFS: only read-only. What is wrong is in the log.
  static Result<std::unique_ptr<Volume>> open(Park& park, Ref<BlockDevice> device, Log& log,
                                              const VolumeOptions& options);
  ~Volume();

  class Lock {
   public:
    Lock(Park& park, Volume& volume)
        : lock_(park, volume.mutex_), volume_(volume), before_(volume.io_->park) {
      volume.io_->park = &park;
    }
    ~Lock() { volume_.io_->park = before_; }

   private:
    MutexLock lock_;
    Volume& volume_;
    Park* before_;
  };

  ext2_filsys fs() const { return fs_; }
  ext2_super_block& super() const { return *fs_->super; }
  MetaCache& cache() const { return *cache_; }
  Allocator& allocator() { return allocator_; }
  BlockDevice& device() const { return *device_; }
  uint32_t block_size() const { return fs_->blocksize; }
  uint32_t inode_size() const { return EXT2_INODE_SIZE(fs_->super); }
  bool has_checksums() const { return checksums_; }
  // May it be written to, as its features go? Else why not. (The flag of the journal is no reason
  // when there is one that we use.)
  std::string why_read_only() const;

  // ---- inodes, raw. kUCLEAN: a number out of range, a wrong checksum.
  Result<> read_inode(Park& park, uint32_t ino, std::span<std::byte> raw);
  Result<> write_inode(Park& park, uint32_t ino, std::span<std::byte> raw);
  uint32_t inode_seed(uint32_t ino, uint32_t generation) const;

  // ---- checksums of metadata blocks; verify is true where there are none.
  bool verify(MetaBlock& block, MetaKind kind, uint32_t seed) const;
  void seal(MetaBlock& block) const;
  // A block used as `kind`, its checksum verified.
  Result<Ref<MetaBlock>> get(Park& park, uint64_t number, MetaKind kind, uint32_t seed,
                             uint32_t ahead = 0);

  // ---- commits
  struct Commit {
    std::vector<CommitBlock> blocks;
    std::vector<BlockRange> freed;
  };
  // What has changed since the last one; the caller has written the data it refers to.
  Result<Commit> begin_commit(Park& park);
  // Hands it to the device: all that a commit writes goes through here. Without the lock.
  Result<> write_commit(Park& park, Commit& commit);
  void end_commit(Commit& commit);
  // More blocks should not be changed between two commits.
  size_t commit_limit() const;
  // Empties the log, so that the image is whole without it, and says so in the superblock; not
  // while a commit is under way.
  Result<> settle(Park& park);

  // The volume is found broken, or cannot be written: changes are given up. Says so once.
  void fail(Errno why, const std::string& what);
  bool failed() const { return failed_; }

 private:
  Volume(Ref<BlockDevice> device, Log& log);
  Result<> check_super(Park& park);
  // log.cc: finds the journal and puts in place what it holds; true: something was, so that all
  // that was read before may be wrong.
  Result<bool> open_log(Park& park, const VolumeOptions& options, bool torn);
  Result<jbd2::LogPlace> log_place(Park& park);
  Result<bool> replay_log(Park& park, bool torn);
  Result<> log_commit(Park& park, const Commit& commit);
  Result<> write_in_place(Park& park, const Commit& commit);
  Result<> open_and_replay(Park& park, const VolumeOptions& options);
  errcode_t open_fs(Park& park, int more);
  Result<uint64_t> inode_place(uint32_t ino, uint32_t* offset, uint32_t* ahead) const;
  Errno refuse(Errno e, const std::string& why) const;

  const Ref<BlockDevice> device_;
  Log& log_;
  std::unique_ptr<MetaCache> cache_;
  std::unique_ptr<Ext2Io> io_;
  ext2_filsys fs_ = nullptr;
  Allocator allocator_;
  Mutex mutex_;
  bool checksums_ = false;
  bool failed_ = false;
  bool held_ = false;                       // we have the device to ourselves
  std::unique_ptr<jbd2::Journal> journal_;  // null: the volume has none
  bool log_started_ = false;
  bool log_marked_ = false;  // needs_recovery is set on the device
};

}  // namespace uk::ext4
