// ext4: commits through the volume's journal (dev/jbd2), and its replay at mount.
#include <algorithm>

#include "absl/strings/str_format.h"
#include "ukernel/dev/jbd2/recovery_flag.h"
#include "ukernel/fs/ext4/extent_tree.h"
#include "ukernel/fs/ext4/volume.h"

namespace uk::ext4 {
namespace {

// The journal's inode never changes.
class NoOwner final : public BlockOwner {
 public:
  Result<uint64_t> new_node(Park&, uint64_t) override { return Err(Errno::kROFS); }
  Result<> drop_blocks(Park&, BlockRange) override { return Err(Errno::kROFS); }
};

}  // namespace

Result<bool> Volume::open_log(Park& park, const VolumeOptions& options, bool torn) {
  const bool marked = (super().s_feature_incompat & EXT3_FEATURE_INCOMPAT_RECOVER) != 0;
  if (options.no_load) return false;
  if (ext2fs_has_feature_journal(&super()) == 0) {
    if (marked) return Err(refuse(Errno::kUCLEAN, "needs recovery, and has no journal"));
    return false;
  }
  if (super().s_journal_inum == 0)
    return Err(refuse(Errno::kINVAL, "its journal is on another device"));
  Result<jbd2::LogPlace> place = log_place(park);
  if (!place) return Err(refuse(place.error(), "the journal's inode is not sane"));
  auto journal = jbd2::Journal::open(park, device_, std::move(*place));
  if (!journal)
    return Err(refuse(journal.error(), journal.error() == Errno::kOPNOTSUPP
                                           ? "the journal has features that are not supported"
                                           : "the journal is not sane"));
  journal_ = std::move(*journal);
  if (marked || torn) return replay_log(park, torn);
  if (!device_->read_only()) TRY(journal_->discard(park));
  return false;
}

// Where the blocks of the journal's inode are, which must be without holes. kUCLEAN.
Result<jbd2::LogPlace> Volume::log_place(Park& park) {
  Lock lock(park, *this);
  std::vector<std::byte> bytes(std::max<size_t>(inode_size(), sizeof(ext2_inode_large)));
  TRY(read_inode(park, super().s_journal_inum, bytes));
  auto& raw = *reinterpret_cast<ext2_inode_large*>(bytes.data());
  const uint64_t size = EXT2_I_SIZE(&raw);
  if ((raw.i_mode & S_IFMT) != S_IFREG || size % block_size() != 0) return Err(Errno::kUCLEAN);
  NoOwner owner;
  ExtentTree tree(*this, owner, raw, super().s_journal_inum);
  std::vector<jbd2::LogPlace::Extent> extents;
  uint32_t next = 0;
  TRY(tree.each(park, 0, [&](const Extent& e) {
    if (e.first != next || e.unwritten) return false;
    next = e.end();
    extents.push_back({e.block, e.count});
    return true;
  }));
  if (next != size / block_size()) return Err(Errno::kUCLEAN);
  return jbd2::LogPlace(block_size(), std::move(extents));
}

Result<bool> Volume::replay_log(Park& park, bool torn) {
  if (device_->read_only())
    return Err(
        refuse(Errno::kROFS,
               "the journal needs recovery, and the device is read-only; mount with noload"));
  Result<jbd2::Replayed> done = journal_->replay(park);
  if (!done) return Err(refuse(done.error(), "the journal cannot be replayed; run e2fsck"));
  // With an empty log it was the flag itself that was being written: a new checksum mends that.
  if (torn) TRY(jbd2::set_needs_recovery(park, *device_, true));
  TRY(jbd2::set_needs_recovery(park, *device_, false));
  log_.info(absl::StrFormat("EXT4-fs (%s): recovery complete: %d transactions, %d blocks",
                            device_->name(), done->transactions, done->blocks));
  return true;
}

size_t Volume::commit_limit() const {
  constexpr size_t kMostBytes = 16 << 20;
  const size_t most = kMostBytes / block_size();
  // The other half is for what one change may take beyond the limit.
  return journal_ != nullptr ? std::min(most, journal_->max_blocks() / 2) : most;
}

Result<> Volume::log_commit(Park& park, const Commit& commit) {
  if (!log_started_) {
    TRY(journal_->start(park));
    log_started_ = true;
  }
  if (!log_marked_) {
    TRY(jbd2::set_needs_recovery(park, *device_, true));
    log_marked_ = true;
  }
  std::vector<jbd2::CommitBlock> blocks;
  for (const CommitBlock& c : commit.blocks)
    blocks.push_back({c.number * block_size(), {c.bytes.get(), block_size()}});
  std::vector<jbd2::FreedBlocks> freed;
  for (const BlockRange& range : commit.freed) freed.push_back({range.start, range.count});
  Result<> r = journal_->commit(park, blocks, freed);
  if (r || r.error() != Errno::kNOSPC) return r;
  // DEVIATION: see docs/CAVEATS.md.
  log_.warn(absl::StrFormat("EXT4-fs (%s): a change of %d blocks does not fit the journal",
                            device_->name(), blocks.size()));
  TRY(journal_->checkpoint(park));
  return write_in_place(park, commit);
}

Result<> Volume::write_in_place(Park& park, const Commit& commit) {
  // What the metadata refers to comes first.
  TRY(device_->flush(park));
  std::vector<Bio> bios;
  bios.reserve(commit.blocks.size());
  for (const CommitBlock& c : commit.blocks)
    bios.push_back(write_bio(c.number * block_size(), {c.bytes.get(), block_size()}));
  TRY(device_->submit(park, bios));
  return device_->flush(park);
}

Result<> Volume::settle(Park& park) {
  if (!log_marked_ || failed_) return {};
  TRY(journal_->checkpoint(park));
  TRY(jbd2::set_needs_recovery(park, *device_, false));
  log_marked_ = false;
  return {};
}

}  // namespace uk::ext4
