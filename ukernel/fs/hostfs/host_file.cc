// hostfs: open files and directories, and host files as memory objects.
#include <dirent.h>
#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "absl/hash/hash.h"
#include "ukernel/fs/hostfs/host_inode.h"
#include "ukernel/sched/host_io.h"
#include "ukernel/sched/reactor.h"
#include "ukernel/vfs/dir_file.h"

namespace uk {

// A host file behind mappings. The descriptor stays open as long as the object lives.
class HostObject final : public MemoryObject {
 public:
  HostObject(Ref<HostInode> inode, Ref<HostHandle> h)
      : inode_(std::move(inode)), handle_(std::move(h)) {}
  ~HostObject() override {
    if (inode_->object_ == this) inode_->object_ = nullptr;
  }

  Result<PageRef> get_page(Park& park, uint64_t index, bool for_write) override {
    if (for_write) return Err(Errno::kACCES);
    if (index >= page_ceil(size()) / kPageSize) return Err(Errno::kFAULT);
    PageRef page =
        PageRef::adopt(inode_->super().vfs.mem(), TRY(inode_->super().vfs.mem().alloc()));
    TRY(read(park, index * kPageSize, std::span(page.data(), kPageSize)));
    return page;
  }
  std::optional<HostRange> host_range(uint64_t index) override {
    return HostRange{handle_->fd(), index * kPageSize};
  }
  Result<size_t> read(Park& park, uint64_t offset, std::span<std::byte> out) override {
    uint64_t end = size();
    if (offset >= end) return size_t{0};
    out = out.first(std::min<uint64_t>(out.size(), end - offset));
    // System calls pass strings that lie in programs' constants: small reads of the same page.
    uint64_t index = offset / kPageSize, in_page = offset % kPageSize;
    if (in_page + out.size() > kPageSize || !stable()) return read_host(park, offset, out);
    if (page_ == nullptr || page_index_ != index) TRY(load_page(park, index));
    size_t n = in_page < page_bytes_ ? std::min<size_t>(out.size(), page_bytes_ - in_page) : 0;
    std::memcpy(out.data(), page_->data() + in_page, n);
    return n;
  }
  // DEVIATION: a change within the same tick of the host's clock goes unseen.
  std::optional<uint64_t> stamp() override {
    if (!stable()) (void)inode_->refresh(true);
    const FileAttr& a = inode_->cached_attr();
    return absl::HashOf(a.size, a.mtime.sec, a.mtime.nsec, a.ctime.sec, a.ctime.nsec);
  }
  uint64_t size() override { return inode_->cached_attr().size; }
  bool writable() const override { return false; }
  uint64_t dev() const override { return inode_->cached_attr().dev; }
  uint64_t ino() const override { return inode_->cached_attr().ino; }

 private:
  using Page = std::array<std::byte, kPageSize>;

  bool stable() const {
    const HostFsOptions& o = inode_->super().opts;
    return o.stable && !o.writable;
  }
  Result<> load_page(Park& park, uint64_t index) {
    auto fresh = std::make_unique<Page>();
    size_t n = TRY(read_host(park, index * kPageSize, *fresh));
    page_ = std::move(fresh);
    page_index_ = index;
    page_bytes_ = n;
    return {};
  }
  Result<size_t> read_host(Park& park, uint64_t offset, std::span<std::byte> out) {
    Ref<HostHandle> h = handle_;
    size_t done = 0;
    while (done < out.size() && offset + done < size()) {
      uint64_t left = std::min<uint64_t>(out.size() - done, size() - offset - done);
      size_t n = TRY(
          host_read(park, h->fd(), out.subspan(done, left), static_cast<int64_t>(offset + done)));
      if (n == 0) break;
      done += n;
    }
    return done;
  }

  Ref<HostInode> inode_;
  Ref<HostHandle> handle_;
  std::unique_ptr<Page> page_;  // the page read last
  uint64_t page_index_ = 0;
  size_t page_bytes_ = 0;
};

namespace {

// Borrows the superblock's copy buffer for one call.
class CopyBuffer {
 public:
  explicit CopyBuffer(HostSuper& sb) : sb_(&sb), bytes_(sb.take_buffer()) {}
  ~CopyBuffer() { sb_->give_buffer(std::move(bytes_)); }
  CopyBuffer(const CopyBuffer&) = delete;
  CopyBuffer& operator=(const CopyBuffer&) = delete;
  std::span<std::byte> first(size_t n) {
    return {bytes_.get(), std::min(n, HostSuper::kBufferBytes)};
  }

 private:
  Ref<HostSuper> sb_;
  std::unique_ptr<std::byte[]> bytes_;
};

}  // namespace

class HostFile final : public File {
 public:
  HostFile(const Path& path, int flags, Ref<HostInode> inode)
      : File(path, flags), inode_(std::move(inode)) {}

  bool seekable() const override { return true; }

  Result<size_t> read(Park& park, IoSink& to, uint64_t offset) override {
    if (to.remaining() == 0) return size_t{0};
    if (offset > INT64_MAX - to.remaining()) return Err(Errno::kINVAL);
    // In a tree that does not change the end needs no asking. (Files of size 0 may be the host's
    // procfs.)
    uint64_t end = INT64_MAX;
    const HostFsOptions& opts = inode_->super().opts;
    uint64_t size = inode_->cached_attr().size;
    if (opts.stable && !opts.writable && size != 0) end = size;
    if (offset >= end) return size_t{0};
    Ref<HostHandle> h = TRY(inode_->handle(HostInode::Kind::kRead));
    CopyBuffer buf(inode_->super());
    size_t done = 0;
    while (to.remaining() > 0 && offset + done < end) {
      std::span<std::byte> piece =
          buf.first(std::min<uint64_t>(to.remaining(), end - offset - done));
      auto n = host_read(park, h->fd(), piece, static_cast<int64_t>(offset + done));
      if (!n) return done != 0 ? Result<size_t>(done) : n;
      if (*n == 0) break;
      auto put = to.put(park, piece.first(*n));
      if (!put) return done != 0 ? Result<size_t>(done) : put;
      done += *put;
      if (*put < *n || *n < piece.size()) break;
    }
    return done;
  }

  Result<size_t> write(Park& park, IoSource& from, uint64_t& offset) override {
    Ref<HostHandle> h = TRY(inode_->handle(HostInode::Kind::kWrite));
    MutexLock lock(park, inode_->write_lock_);
    if ((flags & O_APPEND) != 0) {
      TRY(inode_->refresh(true));
      offset = inode_->cached_attr().size;
    }
    if (from.remaining() > INT64_MAX - std::min<uint64_t>(offset, INT64_MAX)) {
      return Err(Errno::kFBIG);
    }
    CopyBuffer buf(inode_->super());
    size_t done = 0;
    Errno error = Errno::kOk;
    while (from.remaining() > 0 && error == Errno::kOk) {
      auto got = from.get(park, buf.first(from.remaining()));
      if (!got || *got == 0) {
        if (!got) error = got.error();
        break;
      }
      std::span<const std::byte> piece = buf.first(*got);
      while (!piece.empty()) {
        auto n = host_write(park, h->fd(), piece, static_cast<int64_t>(offset));
        if (!n) {
          error = n.error();
          break;
        }
        piece = piece.subspan(*n);
        offset += *n;
        done += *n;
      }
    }
    inode_->wrote();
    if (done == 0 && error != Errno::kOk) return Err(error);
    return done;
  }

  Result<uint64_t> seek(Park& park, int64_t offset, int whence) override {
    if (whence != SEEK_DATA && whence != SEEK_HOLE) return File::seek(park, offset, whence);
    Ref<HostHandle> h = TRY(inode_->handle(HostInode::Kind::kRead));
    return pos = TRY(sys::lseek(h->fd(), offset, whence));
  }

  Result<> fsync(Park& park, bool data_only) override {
    if (!inode_->super().opts.writable) return {};
    Ref<HostHandle> h =
        TRY(inode_->handle(can_write() ? HostInode::Kind::kWrite : HostInode::Kind::kRead));
    return host_fsync(park, h->fd(), data_only);
  }

  Result<> fallocate(Park& park, int mode, uint64_t offset, uint64_t len) override {
    Ref<HostHandle> h = TRY(inode_->handle(HostInode::Kind::kWrite));
    Result<> r;
    park.reactor().offload(park, [&] { r = sys::fallocate(h->fd(), mode, offset, len); });
    inode_->wrote();
    return r;
  }

  Result<> truncate(Park& park, uint64_t size) override {
    AttrChange change;
    change.size = size;
    return inode_->setattr(park, change);
  }
  Ref<MemoryObject> memory_object() override { return inode_->memory_object(); }
  Result<FileAttr> getattr(Park& park) override {
    // Through an overlay the path's inode has the attributes to show.
    return inode() != nullptr ? inode()->getattr(park) : inode_->getattr(park);
  }

 private:
  Ref<HostInode> inode_;
};

class HostDirFile final : public SnapshotDirFile {
 public:
  HostDirFile(const Path& path, int flags, Ref<HostInode> inode)
      : SnapshotDirFile(path, flags), inode_(std::move(inode)) {}

  Result<> fsync(Park& park, bool data_only) override {
    if (!inode_->super().opts.writable) return {};
    Ref<HostHandle> h = TRY(inode_->handle(HostInode::Kind::kRead));
    return host_fsync(park, h->fd(), data_only);
  }

 protected:
  Result<std::vector<Entry>> load(Park&) override {
    Ref<HostHandle> dir = TRY(inode_->handle(HostInode::Kind::kPath));
    sys::Fd fd = TRY(sys::openat(dir->fd(), ".", O_RDONLY | O_DIRECTORY));
    std::vector<Entry> entries;
    CopyBuffer buf(inode_->super());
    std::span<std::byte> raw = buf.first(32 * 1024);
    for (;;) {
      size_t n = TRY(sys::getdents64(fd.get(), raw));
      if (n == 0) break;
      for (size_t at = 0; at + offsetof(dirent64, d_name) < n;) {
        const auto* d = reinterpret_cast<const struct dirent64*>(raw.data() + at);
        if (d->d_reclen == 0 || at + d->d_reclen > n) return Err(Errno::kIO);
        std::string_view name(d->d_name,
                              strnlen(d->d_name, d->d_reclen - offsetof(dirent64, d_name)));
        at += d->d_reclen;
        if (name == "." || name == ".." || name.empty() || name.size() > kNameMax) continue;
        if (entries.size() >= kMaxEntries) return Err(Errno::kNOMEM);
        entries.push_back({std::string(name), d->d_ino, d->d_type});
      }
    }
    return entries;
  }

 private:
  Ref<HostInode> inode_;
};

Result<Ref<File>> HostInode::open(Park&, const Path& path, int flags, const Cred&) {
  Ref<HostInode> self(this);
  if (type() == S_IFDIR) {
    // What the host refuses is refused at open(2), not at the first read.
    TRY(handle(Kind::kRead));
    return Ref<File>(make_ref<HostDirFile>(path, flags, std::move(self)));
  }
  if (type() != S_IFREG) return Err(Errno::kNOSYS);
  look_again();
  int mode = flags & O_ACCMODE;
  if (mode != O_RDONLY) TRY(handle(Kind::kWrite));
  if (mode != O_WRONLY) TRY(handle(Kind::kRead));
  return Ref<File>(make_ref<HostFile>(path, flags, std::move(self)));
}

void HostInode::drop_mappings(uint64_t old_size) {
  if (object_ == nullptr || attr_.size >= old_size) return;
  uint64_t first = page_ceil(attr_.size) / kPageSize, end = page_ceil(old_size) / kPageSize;
  if (end > first) object_->invalidate(first, end - first);
}

Ref<MemoryObject> HostInode::memory_object() {
  if (type() != S_IFREG) return nullptr;
  if (object_ != nullptr) return Ref<MemoryObject>(object_);
  auto h = handle(Kind::kRead);
  if (!h) return nullptr;
  auto object = make_ref<HostObject>(Ref<HostInode>(this), *std::move(h));
  object_ = object.get();
  return object;
}

}  // namespace uk
