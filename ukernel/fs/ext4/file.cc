// ext4: regular files, open.
#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>

#include "ukernel/fs/ext4/ext4_inode.h"
#include "ukernel/mm/limited_source.h"

namespace uk::ext4 {
namespace {

// A writer is made to wait for what it has dirtied at least once in so many bytes.
constexpr size_t kBalanceChunk = 1 << 20;

class Ext4File final : public File {
 public:
  using File::File;
  bool seekable() const override { return true; }
  Result<size_t> read(Park& park, IoSink& to, uint64_t offset) override;
  Result<size_t> write(Park& park, IoSource& from, uint64_t& offset) override;
  Result<uint64_t> seek(Park& park, int64_t offset, int whence) override;
  Result<> fsync(Park& park, bool data_only) override;
  Result<> fallocate(Park& park, int mode, uint64_t offset, uint64_t len) override;
  void release(Park&) override { file().read_ahead_done(); }

 private:
  Ext4Regular& file() const { return static_cast<Ext4Regular&>(*inode()); }
  Result<size_t> write_locked(Park& park, IoSource& from, uint64_t& offset);
};

Result<size_t> Ext4File::read(Park& park, IoSink& to, uint64_t offset) {
  Ext4Regular& f = file();
  Ref<Inode> keep(&f);
  if (!f.super().read_only && f.super().vfs.wants_atime(path(), flags, f.attr()))
    f.set_atime(f.super().vfs.now());
  if (offset >= f.size()) return size_t{0};
  return f.pages().read(park, offset, to);
}

Result<size_t> Ext4File::write(Park& park, IoSource& from, uint64_t& offset) {
  Ext4Regular& f = file();
  Ref<Inode> keep(&f);
  size_t n = 0;
  {
    MutexLock lock(park, f.write_lock);
    n = TRY(write_locked(park, from, offset));
  }
  if ((flags & O_DSYNC) != 0 && n != 0)
    TRY(f.sync_data(park, (offset - n) / kPageSize, n / kPageSize + 2));
  return n;
}

Result<size_t> Ext4File::write_locked(Park& park, IoSource& from, uint64_t& offset) {
  Ext4Regular& f = file();
  if (from.remaining() == 0) return size_t{0};
  if (f.super().read_only) return Err(Errno::kROFS);
  if ((flags & O_APPEND) != 0) offset = f.size();
  if (offset >= f.max_size()) return Err(Errno::kFBIG);
  const size_t want = std::min<uint64_t>(from.remaining(), f.max_size() - offset);
  TRY(f.modified(park));
  if (offset > f.size()) TRY(f.clear_tail(park, offset));
  Result<size_t> result = 0;
  size_t done = 0;
  while (done < want) {
    LimitedSource piece(from, std::min(want - done, kBalanceChunk));
    const size_t n = piece.remaining();
    TRY(f.super().make_room(park, n / f.volume().block_size() + 1));
    result = f.pages().write(park, offset + done, piece);
    if (result) done += *result;
    if (!result || *result < n) break;
    if (!f.super().balance(park, f) || park.interrupted(WaitMode::kKillable)) break;
  }
  if (done == 0) return result;
  offset += done;
  return done;
}

Result<uint64_t> Ext4File::seek(Park& park, int64_t offset, int whence) {
  Ext4Regular& f = file();
  Ref<Inode> keep(&f);
  if (whence == SEEK_DATA || whence == SEEK_HOLE) {
    if (offset < 0) return Err(Errno::kNXIO);
    return pos = TRY(f.seek_data(park, static_cast<uint64_t>(offset), whence == SEEK_DATA));
  }
  const uint64_t before = pos;
  const uint64_t to = TRY(File::seek(park, offset, whence));
  if (to <= f.max_size()) return to;
  pos = before;
  return Err(Errno::kINVAL);
}

Result<> Ext4File::fsync(Park& park, bool) {
  Ref<Inode> keep(inode());
  return file().sync_data(park);
}

Result<> Ext4File::fallocate(Park& park, int mode, uint64_t offset, uint64_t len) {
  Ext4Regular& f = file();
  Ref<Inode> keep(&f);
  const bool keep_size = (mode & FALLOC_FL_KEEP_SIZE) != 0;
  const int what = mode & ~FALLOC_FL_KEEP_SIZE;
  if (what != 0 && what != FALLOC_FL_PUNCH_HOLE && what != FALLOC_FL_ZERO_RANGE)
    return Err(Errno::kOPNOTSUPP);
  if (what == FALLOC_FL_PUNCH_HOLE && !keep_size) return Err(Errno::kOPNOTSUPP);
  if (f.super().read_only) return Err(Errno::kROFS);
  if (len > f.max_size() || offset > f.max_size() - len) return Err(Errno::kFBIG);
  MutexLock lock(park, f.write_lock);
  TRY(f.modified(park));
  if (what == FALLOC_FL_PUNCH_HOLE) return f.punch_hole(park, offset, len);
  if (what == FALLOC_FL_ZERO_RANGE) return f.zero_range(park, offset, len, keep_size);
  return f.allocate(park, offset, len, keep_size);
}

}  // namespace

Ext4Regular::Ext4Regular(Ref<Ext4Super> sb, uint32_t number, std::unique_ptr<std::byte[]> bytes)
    : Ext4Inode(std::move(sb), number, std::move(bytes)) {}

Ext4Regular::~Ext4Regular() {
  if (pages_ != nullptr) pages_->file_ = nullptr;
  unpromise(0, UINT64_MAX);
}

Ref<Ext4Pages> Ext4Regular::pages_ref() {
  if (pages_ == nullptr)
    pages_ = make_ref<Ext4Pages>(super().vfs.mem(), *this, EXT2_I_SIZE(&raw()));
  return pages_;
}

uint64_t Ext4Regular::size() const {
  return pages_ != nullptr ? pages_->size() : EXT2_I_SIZE(&raw());
}

uint64_t Ext4Regular::max_size() const {
  return uint64_t{ExtentTree::kMaxBlock} * volume().block_size();
}

Result<FileAttr> Ext4Regular::getattr(Park&) {
  FileAttr a = attr();
  a.size = size();
  a.blocks += promised_blocks_ * (volume().block_size() / 512);
  return a;
}

Result<> Ext4Regular::setattr(Park& park, const AttrChange& change) {
  Ref<Inode> keep(this);
  if (change.size) {
    if (super().read_only) return Err(Errno::kROFS);
    MutexLock lock(park, write_lock);
    const bool changes = *change.size != size();
    TRY(resize(park, *change.size));
    if (change.by_descriptor) {
      TRY(modified(park));
    } else if (changes) {
      touch(true, true);
    }
  }
  return Ext4Inode::setattr(park, change);
}

Result<> Ext4Regular::modified(Park&) {
  touch(true, true);
  if ((raw().i_mode & (S_ISUID | S_ISGID)) == 0) return {};
  const Cred* caller = super().vfs.caller ? super().vfs.caller() : nullptr;
  raw().i_mode = static_cast<uint16_t>((raw().i_mode & S_IFMT) | mode_after_change(attr(), caller));
  return {};
}

Result<> Ext4Regular::write_out(Park& park, uint64_t first, uint64_t count) {
  if (pages_ == nullptr) return {};
  Ref<Inode> keep(this);
  TRY(pages_->write_out(park, first, count));
  if (write_error_ != Errno::kOk) return Err(std::exchange(write_error_, Errno::kOk));
  if (pages_->dirty_pages() != 0) {
    super().pages_changed(*this);
  } else if (EXT2_I_SIZE(&raw()) != pages_->size()) {  // it ends in a hole
    set_size(pages_->size());
  }
  return {};
}

Result<> Ext4Regular::sync_data(Park& park, uint64_t first, uint64_t count) {
  Ref<Inode> keep(this);
  if (super().volume->failed()) return Err(Errno::kIO);
  TRY(write_out(park, first, count));
  return super().commit_or_flush(park);
}

Result<Ref<File>> Ext4Regular::open(Park&, const Path& path, int flags, const Cred&) {
  return Ref<File>(make_ref<Ext4File>(path, flags));
}

}  // namespace uk::ext4
