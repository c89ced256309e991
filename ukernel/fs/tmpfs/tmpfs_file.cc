// tmpfs: regular files.
#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "ukernel/fs/tmpfs/tmpfs_inode.h"
#include "ukernel/mm/limited_source.h"

namespace uk {

constexpr uint32_t kSealSeal = 1, kSealShrink = 2, kSealGrow = 4, kSealWrite = 8,
                   kSealFutureWrite = 16, kSealExec = 32;

class TmpfsFile final : public File {
 public:
  TmpfsFile(const Path& path, int flags) : File(path, flags) {}

  bool seekable() const override { return true; }

  Result<size_t> read(Park& park, IoSink& to, uint64_t offset) override {
    TmpfsRegular& f = file();
    Ref<Inode> keep(&f);
    if (f.super().vfs.wants_atime(path(), flags, f.attr())) f.attr().atime = f.super().vfs.now();
    if (f.borrowed() != nullptr) return read_borrowed(park, to, offset);
    if (offset >= f.pages().size()) return size_t{0};
    return f.pages().read(park, offset, to);
  }

  Result<size_t> write(Park& park, IoSource& from, uint64_t& offset) override {
    TmpfsRegular& f = file();
    Ref<Inode> keep(&f);
    MutexLock lock(park, f.write_lock);
    TRY(f.own_contents(park));
    size_t want = from.remaining();
    if (want == 0) return size_t{0};
    f.modified();
    if ((f.seals_ & (kSealWrite | kSealFutureWrite)) != 0) return Err(Errno::kPERM);
    if ((flags & O_APPEND) != 0) offset = f.pages().size();
    if (offset > PageCacheObject::kMaxSize - want) return Err(Errno::kFBIG);
    if ((f.seals_ & kSealGrow) != 0) want = TRY(within_size(offset, want));
    LimitedSource limited(from, want);
    Result<size_t> written = f.pages().write(park, offset, limited);
    if (written ? *written < want : written.error() == Errno::kFAULT) {
      keep_place(park, offset + written.value_or(0));
    }
    const size_t n = TRY(std::move(written));
    offset += n;
    return n;
  }

  Result<uint64_t> seek(Park& park, int64_t offset, int whence) override {
    TmpfsRegular& f = file();
    if ((whence != SEEK_DATA && whence != SEEK_HOLE) || f.borrowed() != nullptr) {
      return File::seek(park, offset, whence);
    }
    if (offset < 0 || static_cast<uint64_t>(offset) >= f.pages().size()) return Err(Errno::kNXIO);
    auto at = whence == SEEK_DATA ? f.pages().seek_data(static_cast<uint64_t>(offset))
                                  : f.pages().seek_hole(static_cast<uint64_t>(offset));
    if (!at) {
      if (whence == SEEK_DATA) return Err(Errno::kNXIO);
      at = f.pages().size();
    }
    return pos = *at;
  }

  Result<> fsync(Park&, bool) override { return {}; }

  Result<> fallocate(Park& park, int mode, uint64_t offset, uint64_t len) override {
    TmpfsRegular& f = file();
    Ref<Inode> keep(&f);
    if ((mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE)) != 0) return Err(Errno::kOPNOTSUPP);
    if (len > PageCacheObject::kMaxSize || offset > PageCacheObject::kMaxSize - len) {
      return Err(Errno::kFBIG);
    }
    MutexLock lock(park, f.write_lock);
    TRY(f.own_contents(park));
    if ((mode & FALLOC_FL_PUNCH_HOLE) != 0) {
      if ((f.seals_ & (kSealWrite | kSealFutureWrite)) != 0) return Err(Errno::kPERM);
      f.modified();
      TRY(f.pages().punch_hole(park, offset, len));
    } else {
      const bool beyond = offset + len > f.pages().size();
      const bool grows = (mode & FALLOC_FL_KEEP_SIZE) == 0 && beyond;
      if ((f.seals_ & kSealGrow) != 0 && beyond) return Err(Errno::kPERM);
      f.modified();
      TRY(f.pages().allocate(park, offset, len));
      if (grows) f.pages().resize(park, offset + len);
    }
    f.touch_ctime();
    return {};
  }

 private:
  // Of a write that may not make the file longer: the pages of it that stay within, as far as each
  // is written. kPERM: the first does not.
  Result<size_t> within_size(uint64_t offset, size_t want) {
    const uint64_t size = file().pages().size();
    if (offset + want <= size) return want;
    const uint64_t whole = size - size % kPageSize;
    if (offset >= whole) return Err(Errno::kPERM);
    return whole - offset;
  }

  // A write that met bad memory of the caller's has made the page it was for, if there was one to
  // be had, and the file as long as to its place: so on Linux (shmem_write_end).
  void keep_place(Park& park, uint64_t offset) {
    if (!file().pages().allocate(park, offset, 1, /*as_data=*/true)) return;
    if (offset > file().pages().size()) file().pages().resize(park, offset);
  }

  TmpfsRegular& file() const { return static_cast<TmpfsRegular&>(*inode()); }

  Result<size_t> read_borrowed(Park& park, IoSink& to, uint64_t offset) {
    constexpr size_t kChunk = 64 * 1024;
    Ref<MemoryObject> from(file().borrowed());
    std::vector<std::byte> buf(std::min(kChunk, to.remaining()));
    size_t done = 0;
    while (to.remaining() > 0) {
      auto piece = std::span(buf).first(std::min(buf.size(), to.remaining()));
      size_t n = TRY(from->read(park, offset + done, piece));
      if (n == 0) break;
      auto put = to.put(park, piece.first(n));
      if (!put) return done != 0 ? Result<size_t>(done) : put;
      done += *put;
      if (*put < n) break;
    }
    return done;
  }
};

TmpfsRegular::TmpfsRegular(Ref<TmpfsSuper> sb, const MakeNode& node) : TmpfsInode(sb, node) {
  PageCacheObject::Options o;
  o.budget = sb->budget;
  o.dev = attr_.dev;
  o.ino = attr_.ino;
  pages_ = make_ref<PageCacheObject>(sb->vfs.mem(), o);
}

Result<FileAttr> TmpfsRegular::getattr(Park& park) {
  FileAttr a = TRY(TmpfsInode::getattr(park));
  a.size = size();
  a.blocks =
      borrowed_ != nullptr ? page_ceil(a.size) / 512 : pages_->resident_pages() * (kPageSize / 512);
  return a;
}

Result<> TmpfsRegular::setattr(Park& park, const AttrChange& change) {
  if (change.mode && (seals_ & kSealExec) != 0 && ((*change.mode ^ attr_.mode) & 0111) != 0) {
    return Err(Errno::kPERM);
  }
  if (change.size && *change.size != size()) {
    Ref<Inode> keep(this);
    if (*change.size > PageCacheObject::kMaxSize) return Err(Errno::kFBIG);
    MutexLock lock(park, write_lock);
    uint64_t old = size();
    if ((*change.size < old && (seals_ & kSealShrink) != 0) ||
        (*change.size > old && (seals_ & kSealGrow) != 0)) {
      return Err(Errno::kPERM);
    }
    if (*change.size == 0) {
      borrowed_.reset();
    } else {
      TRY(own_contents(park));
    }
    pages_->resize(park, *change.size);
    attr_.mtime = super().vfs.now();
  }
  if (change.by_descriptor) modified();
  return TmpfsInode::setattr(park, change);
}

Result<Ref<File>> TmpfsRegular::open(Park& park, const Path& path, int flags, const Cred&) {
  if ((flags & O_ACCMODE) != O_RDONLY && (flags & O_TRUNC) == 0) {
    MutexLock lock(park, write_lock);
    TRY(own_contents(park));
  }
  return Ref<File>(make_ref<TmpfsFile>(path, flags));
}

Ref<MemoryObject> TmpfsRegular::memory_object() {
  return borrowed_ != nullptr ? borrowed_ : Ref<MemoryObject>(pages_);
}

Result<> TmpfsRegular::set_contents(Ref<MemoryObject> contents) {
  if (pages_->size() != 0) return Err(Errno::kINVAL);
  borrowed_ = std::move(contents);
  return {};
}

Result<> TmpfsRegular::own_contents(Park& park) {
  if (borrowed_ == nullptr) return {};
  constexpr size_t kChunk = 64 * 1024;
  Ref<MemoryObject> from = borrowed_;
  std::vector<std::byte> buf(kChunk);
  uint64_t done = 0, total = from->size();
  while (done < total) {
    size_t n = TRY(from->read(park, done, std::span(buf).first(std::min(kChunk, total - done))));
    if (n == 0) break;
    std::span<const std::byte> piece(buf.data(), n);
    BufferSource source(piece);
    size_t put = TRY(pages_->write(park, done, source));
    if (put < n) return Err(Errno::kNOSPC);
    done += n;
  }
  pages_->resize(park, total);
  borrowed_.reset();
  return {};
}

Result<> TmpfsRegular::add_seals(uint32_t seals) {
  if ((seals &
       ~(kSealSeal | kSealShrink | kSealGrow | kSealWrite | kSealFutureWrite | kSealExec)) != 0) {
    return Err(Errno::kINVAL);
  }
  if ((seals_ & kSealSeal) != 0) return Err(Errno::kPERM);
  // What can be executed for ever can never be written.
  if ((seals & kSealExec) != 0 && (attr_.mode & 0111) != 0) {
    seals |= kSealShrink | kSealGrow | kSealWrite | kSealFutureWrite;
  }
  if ((seals & kSealWrite) != 0 && (seals_ & kSealWrite) == 0) {
    if (pages_->shared_writable_mappings > 0) return Err(Errno::kBUSY);
    pages_->seal_write();
  }
  seals_ |= seals;
  return {};
}

}  // namespace uk
