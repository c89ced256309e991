// Atomic commits to a block device through a write-ahead log: the journal of an ext4 image, in the
// format of Linux (jbd2), so that Linux and e2fsck replay what this kernel leaves behind, and it
// what they do.
//
// A commit is a list of blocks that are all changed or none. When commit() returns they, and
// everything written to the device before it was called, are on stable storage. In it: the blocks
// go to the log; the device is flushed; the commit block follows, on stable storage; then the
// blocks are written to their places too, unflushed, so that who reads the device always reads what
// was committed last and nothing is kept in memory. When the log is full the device is flushed and
// the log begins anew. After a crash replay() repeats what is in the log.
//
// What the file system owes, as with jbd2 under Linux:
//  - what it commits is whole: nothing half done is in the blocks when commit() is called;
//  - a block that a transaction frees gets no new contents outside the log before that transaction
//  is
//    committed (the old file may yet come back);
//  - a block that was ever committed and is freed is named in `freed` of the commit that frees it,
//    or a replay may put old contents over what is written there later.
//
// Ownership: the file system owns the journal, which holds its device; nobody else writes the log's
// blocks. Reactor-owned; what takes a Park suspends, uninterruptibly. The image is hostile.
#pragma once

#include <deque>
#include <memory>
#include <span>
#include <unordered_set>
#include <vector>

#include "ukernel/dev/jbd2/format.h"
#include "ukernel/dev/jbd2/log_place.h"
#include "ukernel/dev/jbd2/replay.h"
#include "ukernel/sched/wait_queue.h"

namespace uk::jbd2 {

struct CommitBlock {
  uint64_t offset = 0;  // bytes on the device, a multiple of the block size; outside the log
  std::span<const std::byte> bytes;  // one block
};

struct FreedBlocks {
  uint64_t first = 0, count = 0;  // in units of the block size
};

class Journal {
 public:
  // Reads the journal's superblock and changes nothing. Errors of LogPlace::check(), Super::parse()
  // and the device.
  static Result<std::unique_ptr<Journal>> open(Park& park, Ref<BlockDevice> device, LogPlace place);

  // There may be transactions in the log: replay() comes before anything else is read.
  bool needs_replay() const { return super_.start != 0; }
  // Puts them in their places and empties the log; nothing to do is no error. All is on stable
  // storage when it returns. kUCLEAN: the log is damaged, nothing was changed. kROFS: the device is
  // read-only.
  Result<Replayed> replay(Park& park);
  // Empties the log without looking at it: what it holds is older than the image (needs_recovery is
  // clear). As Linux does. kROFS: the device is read-only.
  Result<> discard(Park& park);
  // Linux aborted this journal for an error of its own (its errno, positive); 0: none.
  int error_of_linux() const;

  // Makes the log ready for commits; after replay(). The caller then sets needs_recovery
  // (recovery_flag.h).
  Result<> start(Park& park);
  // `blocks` are copied before the call first suspends; commits take effect in the order of their
  // calls. `freed` may name blocks that were never committed, too. No blocks at all: what was
  // written before is flushed. kNOSPC: more than the log holds (see max_blocks()), nothing
  // happened; kINVAL: a block is none, or is there twice. Any other error: the journal is aborted,
  // and every later commit is kROFS; what this one held may be found, whole, by the next replay.
  Result<> commit(Park& park, std::span<const CommitBlock> blocks,
                  std::span<const FreedBlocks> freed = {});
  // Empties the log: the image is whole without a replay.
  Result<> checkpoint(Park& park);

  // So many blocks fit a commit that frees nothing; each thousand freed takes one to three less.
  size_t max_blocks() const;
  uint32_t block_size() const { return place_.block_size(); }
  bool aborted() const { return aborted_; }

  struct Stats {
    uint64_t commits = 0, blocks = 0, revokes = 0, checkpoints = 0;
  };
  const Stats& stats() const { return stats_; }

 private:
  Journal(Ref<BlockDevice> device, LogPlace place, Super super)
      : device_(std::move(device)), place_(std::move(place)), super_(std::move(super)) {}

  class Turn;
  struct Transaction;
  Result<> check(std::span<const CommitBlock> blocks) const;
  std::vector<uint64_t> to_revoke(const Transaction& t) const;
  Result<> commit_in_turn(Park& park, Transaction& t);
  Result<> log(Park& park, Transaction& t, uint32_t blocks);
  Result<> checkpoint_in_turn(Park& park);
  Bio super_bio(bool fua);
  // Adds the writes of `bytes` to the log from block `at` on, which may wrap.
  void append(std::vector<Bio>& bios, uint32_t at, std::span<const std::byte> bytes) const;
  uint32_t after(uint32_t at, uint32_t n) const {
    return super_.first + (at - super_.first + n) % super_.usable();
  }

  const Ref<BlockDevice> device_;
  const LogPlace place_;
  Super super_;
  bool started_ = false;
  bool aborted_ = false;
  uint32_t sequence_ = 0;                // of the next transaction
  uint32_t head_ = 0;                    // where it begins
  uint32_t used_ = 0;                    // blocks of the log that a replay would read
  std::unordered_set<uint64_t> logged_;  // what those hold: places that may need a revoke
  uint64_t next_turn_ = 0, turn_ = 0;    // commits in the order of their calls
  WaitQueue turns_;
  Stats stats_;
};

}  // namespace uk::jbd2
