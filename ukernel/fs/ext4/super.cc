// ext4: the superblock: inodes in memory, space, commits.
#include <sys/statvfs.h>

#include <algorithm>

#include "absl/strings/str_format.h"
#include "ukernel/dev/block/disk_cache.h"
#include "ukernel/fs/ext4/ext4_inode.h"
#include "ukernel/sched/reactor.h"

namespace uk::ext4 {
namespace {

// A file that only a list of ours still has, and nobody can ever read.
bool nobodys(const Ext4Regular& file) {
  return file.orphan() && file.ref_count() == (file.in_dirty_list ? 2u : 1u);
}

}  // namespace

Ext4Super::Ext4Super(Vfs& v, BlockDevices& d, std::unique_ptr<Volume> vol)
    : vfs(v), devices(d), volume(std::move(vol)) {
  dev = volume->device().rdev();
  volume->device().filesystem = this;
}

Ext4Super::~Ext4Super() {
  CHECK(inodes.empty());
  if (volume->device().filesystem == this) volume->device().filesystem = nullptr;
}

std::string Ext4Super::options() const {
  std::string out = "errors=remount-ro";
  if (settings.no_load) out += ",norecovery";
  if (settings.commit_s != Ext4Options::kCommitSeconds)
    out += absl::StrFormat(",commit=%d", settings.commit_s);
  return out;
}

Result<> Ext4Super::reconfigure(const std::string& text) {
  Ext4Options o = TRY(parse_ext4_options(text, settings));
  o.no_load = settings.no_load;
  settings = o;
  return {};
}

void Ext4Super::broken(Errno why) {
  read_only = true;
  volume->fail(why, "metadata");
}

Result<FsStat> Ext4Super::statfs(Park&) {
  ext2_super_block& s = volume->super();
  FsStat st;
  st.type = EXT2_SUPER_MAGIC;
  st.block_size = volume->block_size();
  uint64_t overhead = s.s_first_data_block;
  for (dgrp_t g = 0; g < volume->fs()->group_desc_count; ++g) {
    blk_t used = 0;
    ext2fs_super_and_bgd_loc2(volume->fs(), g, nullptr, nullptr, nullptr, &used);
    overhead += used + 2 + volume->fs()->inode_blocks_per_group;
  }
  // The journal's inode is kept in the superblock too.
  if (ext2fs_has_feature_journal(&s) != 0 && s.s_journal_inum != 0)
    overhead += s.s_jnl_blocks[16] / volume->block_size();
  st.blocks = volume->cache().blocks - std::min(overhead, volume->cache().blocks);
  const uint64_t free = volume->allocator().usable() + volume->allocator().pending();
  st.blocks_free = free - std::min(free, promised_);
  const uint64_t kept = ext2fs_r_blocks_count(&s) + pool();
  st.blocks_avail = st.blocks_free - std::min(st.blocks_free, kept);
  st.files = s.s_inodes_count;
  st.files_free = s.s_free_inodes_count;
  uint64_t id[2];
  static_assert(sizeof id == sizeof s.s_uuid);
  std::memcpy(id, s.s_uuid, sizeof id);
  st.fsid = id[0] ^ id[1];
  return st;
}

// ---- inodes

Result<Ref<Ext4Inode>> Ext4Super::inode(Park& park, uint32_t ino) {
  return look(park, [&] { return inode_locked(park, ino); });
}

// What of an inode may be believed from here on.
static Result<> check_inode(const Volume& volume, uint32_t ino, const ext2_inode_large& raw) {
  const uint32_t size = volume.inode_size();
  if (ino != EXT2_ROOT_INO && ino < EXT2_FIRST_INO(&volume.super())) return Err(Errno::kUCLEAN);
  if (raw.i_links_count == 0) return Err(Errno::kUCLEAN);  // an entry for what is deleted
  if (size > EXT2_GOOD_OLD_INODE_SIZE &&
      (raw.i_extra_isize > size - EXT2_GOOD_OLD_INODE_SIZE || raw.i_extra_isize % 4 != 0))
    return Err(Errno::kUCLEAN);
  if ((raw.i_flags &
       (EXT4_INLINE_DATA_FL | EXT4_ENCRYPT_FL | EXT4_EA_INODE_FL | EXT4_CASEFOLD_FL)) != 0)
    return Err(Errno::kUCLEAN);
  const uint64_t bytes = EXT2_I_SIZE(&raw);
  switch (raw.i_mode & S_IFMT) {
    case S_IFDIR:
      if (bytes == 0 || bytes % volume.block_size() != 0 ||
          bytes / volume.block_size() > std::min<uint64_t>(0x0fffffff, volume.cache().blocks))
        return Err(Errno::kUCLEAN);
      return {};
    case S_IFREG:  // no place behind kMaxBlock can be asked for
      return bytes > (uint64_t{ExtentTree::kMaxBlock} + 1) * volume.block_size()
                 ? Err(Errno::kUCLEAN)
                 : Result<>();
    case S_IFLNK:
      return bytes == 0 || bytes >= kPathMax || bytes > volume.block_size() ? Err(Errno::kUCLEAN)
                                                                            : Result<>();
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
      return {};
    default:
      return Err(Errno::kUCLEAN);
  }
}

static Ref<Ext4Inode> make_inode(Ref<Ext4Super> sb, uint32_t ino,
                                 std::unique_ptr<std::byte[]> raw) {
  const auto& r = *reinterpret_cast<const ext2_inode_large*>(raw.get());
  switch (r.i_mode & S_IFMT) {
    case S_IFREG:
      return make_ref<Ext4Regular>(std::move(sb), ino, std::move(raw));
    case S_IFDIR:
      return make_ref<Ext4Dir>(std::move(sb), ino, std::move(raw));
    default:
      return make_ref<Ext4Other>(std::move(sb), ino, std::move(raw));
  }
}

Result<Ref<Ext4Inode>> Ext4Super::inode_locked(Park& park, uint32_t ino) {
  if (auto it = inodes.find(ino); it != inodes.end()) return Ref<Ext4Inode>(it->second);
  const size_t size = std::max<size_t>(volume->inode_size(), sizeof(ext2_inode_large));
  auto raw = std::make_unique<std::byte[]>(size);
  TRY(volume->read_inode(park, ino, {raw.get(), size}));
  TRY(check_inode(*volume, ino, *reinterpret_cast<ext2_inode_large*>(raw.get())));
  return make_inode(Ref<Ext4Super>(this), ino, std::move(raw));
}

// Files that had no name when somebody else stopped using the volume (a list through i_dtime).
Result<> Ext4Super::clean_orphans(Park& park) {
  ext2_super_block& s = volume->super();
  for (uint32_t left = s.s_inodes_count; s.s_last_orphan != 0; --left) {
    if (left == 0) return Err(Errno::kUCLEAN);
    TRY(change(park, [&]() -> Result<> {
      const uint32_t ino = s.s_last_orphan;
      const size_t size = std::max<size_t>(volume->inode_size(), sizeof(ext2_inode_large));
      auto bytes = std::make_unique<std::byte[]>(size);
      TRY(volume->read_inode(park, ino, {bytes.get(), size}));
      auto& raw = *reinterpret_cast<ext2_inode_large*>(bytes.get());
      s.s_last_orphan = raw.i_dtime;
      const bool gone = raw.i_links_count == 0;
      raw.i_dtime = 0;
      raw.i_links_count = std::max<uint16_t>(raw.i_links_count, 1);
      TRY(check_inode(*volume, ino, raw));
      if (inodes.contains(ino)) return Err(Errno::kUCLEAN);
      Ref<Ext4Inode> inode = make_inode(Ref<Ext4Super>(this), ino, std::move(bytes));
      inode->changed();
      if (gone) return inode->drop_link(park, /*all=*/true);
      // It was being cut.
      const uint32_t block = volume->block_size();
      if (inode->type() != S_IFREG) return {};
      return inode->free_range(
          park, static_cast<uint32_t>((EXT2_I_SIZE(&inode->raw()) + block - 1) / block),
          ExtentTree::kMaxBlock);
    }));
  }
  return {};
}

Ref<Ext4Inode> new_ext4_inode(Ref<Ext4Super> sb, uint32_t ino, std::unique_ptr<std::byte[]> raw) {
  return make_inode(std::move(sb), ino, std::move(raw));
}

void Ext4Super::inode_changed(Ext4Inode& inode) {
  changed_ = true;
  write_later();
  if (std::exchange(inode.in_dirty_list, true)) return;
  dirty_inodes_.emplace_back(&inode);
}

void Ext4Super::pages_changed(Ext4Regular& file) {
  constexpr uint32_t kLookEvery = 256;
  if (++dirtied_ % kLookEvery == 0 && over_limit()) write_now_.wake_all();
  if (std::exchange(file.in_dirty_files, true)) return;
  dirty_files_.emplace_back(&file);
  write_later();
}

// ---- space

// Kept back for nodes of extents that a write-back turns out to need.
uint64_t Ext4Super::pool() const {
  constexpr uint64_t kMostPool = 4096;
  return std::min(kMostPool, volume->cache().blocks / 50);
}

uint64_t Ext4Super::available(bool privileged) const {
  const uint64_t kept =
      promised_ + pool() + (privileged ? 0 : ext2fs_r_blocks_count(&volume->super()));
  const uint64_t usable = volume->allocator().usable();
  return usable - std::min(usable, kept);
}

// May the one who makes the call use what is reserved (s_def_resuid)?
bool Ext4Super::privileged() const {
  const Cred* caller = vfs.caller ? vfs.caller() : nullptr;
  return caller == nullptr || caller->has(Cap::kSysResource) ||
         caller->fsuid == volume->super().s_def_resuid;
}

Result<> Ext4Super::promise(uint32_t blocks) {
  if (available(privileged()) < blocks) return Err(Errno::kNOSPC);
  promised_ += blocks;
  return {};
}

void Ext4Super::unpromise(uint32_t blocks) { promised_ -= blocks; }

Result<> Ext4Super::may_take_metadata() const {
  if (writing_back || available(privileged()) > 0) return {};
  return Err(Errno::kNOSPC);
}

Result<> Ext4Super::make_room(Park& park, uint64_t blocks) {
  constexpr uint64_t kFew = 16;  // for what a change of names needs
  if (volume->cache().dirty_blocks() + dirty_inodes_.size() > volume->commit_limit())
    return commit(park);
  if (available(privileged()) >= blocks + kFew) return {};
  // With the commit of its end goes a file's inode, and with that what it held.
  std::erase_if(dirty_files_, [](const Ref<Ext4Regular>& file) { return nobodys(*file); });
  if (changed_) TRY(commit(park));
  return volume->allocator().pending() != 0 ? commit(park) : Result<>();
}

// ---- commits

bool Ext4Super::over_limit() const {
  uint64_t pages = 0;
  for (const Ref<Ext4Regular>& file : dirty_files_) pages += file->dirty_pages();
  return pages > vfs.mem().total_pages() / 10;
}

void Ext4Super::write_later() {
  if (std::exchange(write_planned_, true)) return;
  devices.reactor.spawn("ext4-commit", [self = Ref<Ext4Super>(this)](Park& park) {
    do {
      (void)self->write_now_.wait(
          park, [&] { return self->over_limit() || !self->dirty(); }, WaitMode::kUninterruptible,
          Deadline{self->vfs.clock().monotonic_ns() + self->settings.commit_s * kNsPerSec},
          "ext4-commit");
      (void)self->write_all(park);  // what fails is told to who syncs
    } while (self->dirty() && !self->volume->failed());
    self->write_planned_ = false;
  });
}

Result<> Ext4Super::balance(Park& park, Ext4Regular& file) {
  if (!over_limit()) return {};
  return file.write_out(park);
}

Result<> Ext4Super::write_files(Park& park) {
  Result<> result;
  std::vector<Ref<Ext4Regular>> files = std::exchange(dirty_files_, {});
  for (const Ref<Ext4Regular>& file : files) file->in_dirty_files = false;
  for (const Ref<Ext4Regular>& file : files) {
    if (nobodys(*file)) continue;
    if (Result<> r = file->write_out(park); !r && result) result = r;
  }
  return result;
}

Result<> Ext4Super::commit(Park& park) {
  Ref<Ext4Super> self(this);
  const uint64_t want = generation_;
  MutexLock lock(park, commit_mutex_);
  if (committed_ >= want) return {};
  return commit_now(park);
}

Result<> Ext4Super::commit_or_flush(Park& park) {
  Ref<Ext4Super> self(this);
  MutexLock lock(park, commit_mutex_);  // what a commit has taken already is written afterwards
  return changed_ ? commit_now(park) : volume->device().flush(park);
}

Result<> Ext4Super::commit_now(Park& park) {
  Volume::Commit commit;
  std::vector<Ref<Ext4Inode>> stored;
  const uint64_t number = generation_;
  Result<> r;
  {
    Volume::Lock lock(park, *volume);
    if (volume->failed()) return Err(Errno::kIO);
    // Freed blocks wait for a commit even if nothing has changed: the journal must know of them
    // before they are used again.
    if (!changed_ && volume->allocator().pending() == 0) return {};
    stored = std::exchange(dirty_inodes_, {});
    for (const Ref<Ext4Inode>& inode : stored) {
      inode->in_dirty_list = false;
      r = volume->write_inode(park, inode->ino, inode->raw_bytes());
      if (!r) break;
    }
    if (r) {
      changed_ = false;
      Result<Volume::Commit> begun = volume->begin_commit(park);
      if (begun) {
        commit = std::move(*begun);
      } else {
        r = Err(begun.error());
      }
      ++generation_;
    }
  }
  if (r) r = volume->write_commit(park, commit);
  Volume::Lock lock(park, *volume);
  if (r) {
    volume->end_commit(commit);
    committed_ = number;
  } else {
    broken(r.error());
  }
  return r;
}

Result<> Ext4Super::write_all(Park& park) {
  Ref<Ext4Super> self(this);
  Result<> files = write_files(park);
  Result<> r = commit(park);
  if (!dirty()) write_now_.wake_all();
  return r ? files : r;
}

Result<> Ext4Super::settle(Park& park) {
  MutexLock lock(park, commit_mutex_);
  return volume->settle(park);
}

Result<> Ext4Super::sync(Park& park) {
  Ref<Ext4Super> self(this);
  if (volume->failed()) {  // read-only now: there is nothing that could be written
    dirty_inodes_.clear();
    dirty_files_.clear();
    changed_ = false;
    write_now_.wake_all();
    return {};
  }
  if (read_only && !dirty()) return {};
  Result<> r = write_all(park);
  if (r) r = settle(park);
  if (r) {  // not in the middle of another commit, whose blocks are no use yet
    MutexLock lock(park, commit_mutex_);
    r = volume->device().flush(park);
  }
  // Who looks at the device itself sees it.
  if (volume->device().cache_if_any() != nullptr)
    volume->device().cache()->forget(park, 0, UINT64_MAX);
  return r;
}

Result<> Ext4Super::remount(Park& park, bool wanted) {
  if (wanted == read_only) return {};
  if (wanted) {
    TRY(sync(park));
  } else if (never_writable()) {
    return Err(Errno::kROFS);
  }
  read_only = wanted;
  return {};
}

}  // namespace uk::ext4
