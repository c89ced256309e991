// Open directories.
#include "ukernel/vfs/dir_file.h"

#include <dirent.h>
#include <unistd.h>

#include "ukernel/vfs/vfs.h"

namespace uk {

Result<uint64_t> DirFile::seek(Park&, int64_t offset, int whence) {
  if (whence == SEEK_CUR) {
    if (__builtin_add_overflow(static_cast<int64_t>(pos), offset, &offset)) {
      return Err(Errno::kOVERFLOW);
    }
  } else if (whence == SEEK_END) {
    // Behind every entry, as Linux's in-memory directories.
    if (offset != 0) return Err(Errno::kINVAL);
    offset = INT64_MAX;
  } else if (whence != SEEK_SET) {
    return Err(Errno::kINVAL);
  }
  if (offset < 0) return Err(Errno::kINVAL);
  pos = static_cast<uint64_t>(offset);
  return pos;
}

Result<> DirFile::readdir(Park& park, const DirVisitor& visit) {
  if (path().dentry->unlinked()) return Err(Errno::kNOENT);
  if (pos == 0) {
    uint64_t ino = TRY(getattr(park)).ino;
    if (!visit({ino, 1, DT_DIR, "."})) return {};
    pos = 1;
  }
  if (pos == 1) {
    // At the root of a mount the parent is where it is mounted.
    Path up = path();
    while (up.mount != nullptr && up.dentry == up.mount->root && up.mount->parent != nullptr) {
      up = Path(up.mount->parent, up.mount->mountpoint);
    }
    Dentry* parent = up.dentry->parent();
    Ref<Inode> dir = parent != nullptr ? parent->inode_ref() : up.dentry->inode_ref();
    uint64_t ino = dir != nullptr ? TRY(dir->getattr(park)).ino : 1;
    if (!visit({ino, kFirstPos, DT_DIR, ".."})) return {};
    pos = kFirstPos;
  }
  return list(park, visit);
}

Result<uint64_t> SnapshotDirFile::seek(Park& park, int64_t offset, int whence) {
  const uint64_t at = TRY(DirFile::seek(park, offset, whence));
  if (at == 0) loaded_ = false;
  return at;
}

Result<> SnapshotDirFile::list(Park& park, const DirVisitor& visit) {
  if (!loaded_) entries_ = TRY(load(park));
  loaded_ = true;
  for (uint64_t i = pos - kFirstPos; i < entries_.size(); ++i) {
    const Entry& e = entries_[i];
    if (!visit({e.ino, i + kFirstPos + 1, e.type, e.name})) return {};
    pos = i + kFirstPos + 1;
  }
  return {};
}

}  // namespace uk
