#include "ukernel/fs/initramfs/initramfs.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <map>
#include <string>
#include <string_view>

#include "ukernel/mm/memory_object.h"

namespace uk {
namespace {

constexpr size_t kHeaderBytes = 110;
constexpr size_t kMaxName = 4096;
constexpr size_t kMaxEntries = 1 << 20;

struct Entry {
  uint32_t ino, mode, uid, gid, nlink, mtime, dev_major, dev_minor, rdev_major, rdev_minor;
  std::string_view name;
  std::span<const std::byte> contents;
};

// A file's bytes inside the archive.
class ArchiveBytes final : public MemoryObject {
 public:
  ArchiveBytes(PhysMemory& mem, std::span<const std::byte> bytes, std::optional<ArchiveFile> file)
      : mem_(mem), bytes_(bytes), file_(file) {}

  Result<PageRef> get_page(Park&, uint64_t index, bool for_write) override {
    if (for_write) return Err(Errno::kACCES);
    if (index >= page_ceil(bytes_.size()) / kPageSize) return Err(Errno::kFAULT);
    PageRef page = PageRef::adopt(mem_, TRY(mem_.alloc()));
    uint64_t from = index * kPageSize;
    std::memcpy(page.data(), bytes_.data() + from, std::min(kPageSize, bytes_.size() - from));
    return page;
  }
  std::optional<HostRange> host_range(uint64_t index) override {
    if (!file_) return std::nullopt;
    return HostRange{file_->fd->get(), file_->offset + index * kPageSize};
  }
  Result<size_t> read(Park&, uint64_t offset, std::span<std::byte> out) override {
    if (offset >= bytes_.size()) return size_t{0};
    size_t n = std::min<uint64_t>(out.size(), bytes_.size() - offset);
    std::memcpy(out.data(), bytes_.data() + offset, n);
    return n;
  }
  std::optional<uint64_t> stamp() override { return 0; }
  uint64_t size() override { return bytes_.size(); }
  bool writable() const override { return false; }

 private:
  PhysMemory& mem_;
  std::span<const std::byte> bytes_;
  std::optional<ArchiveFile> file_;
};

class Unpacker {
 public:
  Unpacker(Park& park, Vfs& vfs, Ref<Inode> root, std::span<const std::byte> archive,
           std::optional<ArchiveFile> file)
      : park_(park), vfs_(vfs), root_(std::move(root)), archive_(archive), file_(file) {}

  Result<> run() {
    for (size_t count = 0; count < kMaxEntries; ++count) {
      Entry e = TRY(next());
      if (e.name == "TRAILER!!!") return {};
      TRY(make(e));
    }
    return Err(Errno::kINVAL);
  }

 private:
  Result<uint32_t> field(size_t index) {
    const char* at = reinterpret_cast<const char*>(archive_.data()) + at_ + 6 + index * 8;
    uint32_t value = 0;
    auto [end, error] = std::from_chars(at, at + 8, value, 16);
    if (error != std::errc() || end != at + 8) return Err(Errno::kINVAL);
    return value;
  }

  Result<Entry> next() {
    at_ = (at_ + 3) & ~size_t{3};
    // Zeros between entries are padding (as Linux takes them).
    while (at_ < archive_.size() && archive_[at_] == std::byte{0}) at_ += 4;
    if (at_ + kHeaderBytes > archive_.size()) return Err(Errno::kINVAL);
    if (std::memcmp(archive_.data() + at_, "070701", 6) != 0) return Err(Errno::kINVAL);
    Entry e{};
    e.ino = TRY(field(0));
    e.mode = TRY(field(1));
    e.uid = TRY(field(2));
    e.gid = TRY(field(3));
    e.nlink = TRY(field(4));
    e.mtime = TRY(field(5));
    size_t size = TRY(field(6));
    e.dev_major = TRY(field(7));
    e.dev_minor = TRY(field(8));
    e.rdev_major = TRY(field(9));
    e.rdev_minor = TRY(field(10));
    size_t name_size = TRY(field(11));
    size_t name_at = at_ + kHeaderBytes;
    // Padding NULs after the name are counted by the name size (tools/mkroot aligns with them).
    if (name_size == 0 || name_size > kMaxName + kPageSize ||
        name_size > archive_.size() - name_at) {
      return Err(Errno::kINVAL);
    }
    const char* name = reinterpret_cast<const char*>(archive_.data()) + name_at;
    e.name = std::string_view(name, strnlen(name, name_size));
    if (e.name.size() == name_size || e.name.size() > kMaxName) return Err(Errno::kINVAL);
    size_t data_at = (name_at + name_size + 3) & ~size_t{3};
    if (data_at > archive_.size() || size > archive_.size() - data_at) return Err(Errno::kINVAL);
    e.contents = archive_.subspan(data_at, size);
    at_ = data_at + size;
    return e;
  }

  // The directory of `path`, and the last name.
  Result<Ref<Inode>> parent_of(std::string_view path, std::string_view& last) {
    Ref<Inode> dir = root_;
    for (;;) {
      size_t slash = path.find('/');
      std::string_view part = path.substr(0, slash);
      if (part == ".." || part.size() > kNameMax) return Err(Errno::kINVAL);
      if (slash == std::string_view::npos) {
        last = part;
        return dir;
      }
      path.remove_prefix(slash + 1);
      if (part.empty() || part == ".") continue;
      dir = TRY(dir->lookup(park_, part));
      if (dir->type() != S_IFDIR) return Err(Errno::kNOTDIR);
    }
  }

  Result<> make(const Entry& e) {
    std::string_view path = e.name, last;
    while (!path.empty() && path.back() == '/') path.remove_suffix(1);
    Ref<Inode> dir = TRY(parent_of(path, last));
    if (last.empty() || last == ".") return set_attributes(*root_, e);
    auto link_key = std::pair(uint64_t{e.dev_major} << 32 | e.dev_minor, e.ino);
    bool linked = e.nlink > 1 && !is_type(e.mode, S_IFDIR);
    if (linked) {
      if (auto it = links_.find(link_key); it != links_.end()) {
        TRY(dir->link(park_, last, *it->second));
        return e.contents.empty() ? Result<>() : fill(it->second, e);
      }
    }
    Result<Ref<Inode>> old = dir->lookup(park_, last);
    if (old && (*old)->type() == S_IFDIR && is_type(e.mode, S_IFDIR)) {
      return set_attributes(**old, e);
    }
    if (old) TRY(dir->unlink(park_, last, **old));
    MakeNode node;
    node.mode = e.mode;
    node.uid = e.uid;
    node.gid = e.gid;
    node.rdev = make_dev(e.rdev_major, e.rdev_minor);
    if (is_type(e.mode, S_IFLNK)) {
      if (e.contents.empty() || e.contents.size() >= kPathMax) return Err(Errno::kINVAL);
      node.symlink_target.assign(reinterpret_cast<const char*>(e.contents.data()),
                                 e.contents.size());
    }
    switch (e.mode & S_IFMT) {
      case S_IFREG:
      case S_IFDIR:
      case S_IFLNK:
      case S_IFCHR:
      case S_IFBLK:
      case S_IFIFO:
      case S_IFSOCK:
        break;
      default:
        return Err(Errno::kINVAL);
    }
    Ref<Inode> inode = TRY(dir->create(park_, last, node));
    if (linked) links_.emplace(link_key, inode);
    if (is_type(e.mode, S_IFREG)) TRY(fill(inode, e));
    AttrChange change;
    change.mtime = change.atime = FileTime{e.mtime, 0};
    return inode->setattr(park_, change);
  }

  Result<> set_attributes(Inode& inode, const Entry& e) {
    AttrChange change;
    change.mode = e.mode & 07777;
    change.uid = e.uid;
    change.gid = e.gid;
    change.mtime = FileTime{e.mtime, 0};
    return inode.setattr(park_, change);
  }

  // Starts at a page of the host file, and what is behind the end up to the next page is zeros, as
  // a mapping of the last page must show.
  bool mappable(std::span<const std::byte> contents, uint64_t offset) const {
    if (offset % kPageSize != 0) return false;
    const std::byte* end = contents.data() + contents.size();
    size_t tail = page_ceil(contents.size()) - contents.size();
    if (tail > static_cast<size_t>(archive_.data() + archive_.size() - end)) return false;
    return std::all_of(end, end + tail, [](std::byte b) { return b == std::byte{0}; });
  }

  Result<> fill(const Ref<Inode>& inode, const Entry& e) {
    if (e.contents.empty()) return {};
    std::optional<ArchiveFile> where = file_;
    if (where) where->offset += static_cast<uint64_t>(e.contents.data() - archive_.data());
    if (where && !mappable(e.contents, where->offset)) where.reset();
    return inode->set_contents(make_ref<ArchiveBytes>(vfs_.mem(), e.contents, where));
  }

  Park& park_;
  Vfs& vfs_;
  Ref<Inode> root_;
  std::span<const std::byte> archive_;
  std::optional<ArchiveFile> file_;
  size_t at_ = 0;
  std::map<std::pair<uint64_t, uint32_t>, Ref<Inode>> links_;
};

}  // namespace

Result<> unpack_initramfs(Park& park, Vfs& vfs, Ref<Inode> root, std::span<const std::byte> archive,
                          std::optional<ArchiveFile> file) {
  return Unpacker(park, vfs, std::move(root), archive, file).run();
}

}  // namespace uk
