// overlay: open files and merged directories.
#include <unordered_set>
#include <vector>

#include "ukernel/fs/overlay/overlay_inode.h"
#include "ukernel/vfs/dir_file.h"

namespace uk {
namespace {

// An open regular file: the real one, and the upper one instead of the lower one once the file was
// copied up.
class OverlayFile final : public File {
 public:
  OverlayFile(const Path& path, int open_flags, Ref<File> real, bool is_lower)
      : File(path, open_flags), real_(std::move(real)), is_lower_(is_lower) {}

  bool seekable() const override { return true; }
  Result<size_t> read(Park& park, IoSink& to, uint64_t offset) override {
    Ref<File> f = TRY(current(park));
    return f->read(park, to, offset);
  }
  Result<size_t> write(Park& park, IoSource& from, uint64_t& offset) override {
    Ref<File> f = TRY(current(park));
    return f->write(park, from, offset);
  }
  Result<uint64_t> seek(Park& park, int64_t offset, int whence) override {
    Ref<File> f = TRY(current(park));
    f->pos = pos;
    return pos = TRY(f->seek(park, offset, whence));
  }
  Result<> fsync(Park& park, bool data_only) override {
    Ref<File> f = TRY(current(park));
    return f->fsync(park, data_only);
  }
  Result<> fallocate(Park& park, int mode, uint64_t offset, uint64_t len) override {
    Ref<File> f = TRY(current(park));
    return f->fallocate(park, mode, offset, len);
  }
  Ref<MemoryObject> memory_object() override { return inode()->memory_object(); }

 private:
  Result<Ref<File>> current(Park& park) {
    auto& node = static_cast<OverlayInode&>(*inode());
    if (is_lower_ && node.upper() != nullptr) {
      Ref<Inode> upper(node.upper());
      auto root = make_ref<Cred>();
      real_ = TRY(upper->open(park, real_path(path(), *upper), flags, *root));
      is_lower_ = false;
    }
    real_->flags = flags;  // fcntl(2) may have changed them
    real_->cred = cred;
    return real_;
  }

  Ref<File> real_;
  bool is_lower_;
};

// A directory of both trees, or of one.
class OverlayDirFile final : public SnapshotDirFile {
 public:
  using SnapshotDirFile::SnapshotDirFile;

 protected:
  Result<std::vector<Entry>> load(Park& park) override {
    auto& node = static_cast<OverlayInode&>(*inode());
    Ref<OverlayInode> keep(&node);
    std::vector<Entry> found;
    std::unordered_set<std::string> seen;
    if (node.upper() != nullptr) {
      TRY(each(park, *node.upper(), [&](const DirEntry& e) {
        found.push_back({std::string(e.name), 0, e.type});
        return found.size() < kMaxEntries;
      }));
      // Numbers as stat shows them; whiteouts hide and are not shown.
      std::vector<Entry> shown;
      for (Entry& e : found) {
        seen.insert(e.name);
        auto real = node.upper()->lookup(park, e.name);
        if (!real || is_whiteout(park, **real)) continue;
        auto over = node.lookup(park, e.name);
        if (!over) continue;
        e.ino = static_cast<OverlayInode&>(**over).ino();
        shown.push_back(std::move(e));
      }
      found = std::move(shown);
    }
    if (node.lower() != nullptr) {
      TRY(each(park, *node.lower(), [&](const DirEntry& e) {
        if (!seen.empty() && seen.contains(std::string(e.name))) return true;
        found.push_back({std::string(e.name), e.ino, e.type});
        return found.size() < kMaxEntries;
      }));
    }
    return found;
  }

 private:
  Result<> each(Park& park, Inode& dir, const DirVisitor& visit) {
    auto root = make_ref<Cred>();
    Ref<Inode> keep(&dir);
    Ref<File> f = TRY(dir.open(park, real_path(path(), dir), O_RDONLY | O_DIRECTORY, *root));
    return f->readdir(
        park, [&](const DirEntry& e) { return e.name == "." || e.name == ".." || visit(e); });
  }
};

}  // namespace

Ref<File> open_overlay_dir(const Path& path, int flags) {
  return make_ref<OverlayDirFile>(path, flags);
}

Result<Ref<File>> OverlayInode::open(Park& park, const Path& path, int flags, const Cred& cred) {
  if (type() == S_IFDIR) {
    // The lower directory may not be readable to the kernel: said here, not at the first read.
    if (lower_ != nullptr) {
      Ref<Inode> lower = lower_;
      TRY(lower->open(park, real_path(path, *lower), O_RDONLY | O_DIRECTORY, cred));
    }
    return open_overlay_dir(path, flags);
  }
  if (type() != S_IFREG) return Err(Errno::kNOSYS);
  if ((flags & O_ACCMODE) != O_RDONLY) {
    TRY(copy_up(park, (flags & O_TRUNC) != 0 ? 0 : UINT64_MAX));
  }
  bool is_lower = upper_ == nullptr;
  Ref<Inode> from(&real());
  Ref<File> file = TRY(from->open(park, real_path(path, *from), flags, cred));
  return Ref<File>(make_ref<OverlayFile>(path, flags, std::move(file), is_lower));
}

}  // namespace uk
