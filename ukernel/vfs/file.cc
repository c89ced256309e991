// What all open files share: counts on their inode, locks, seeking by size, attributes.
#include "ukernel/vfs/file.h"

#include <sys/inotify.h>
#include <unistd.h>

#include "ukernel/vfs/file_locks.h"
#include "ukernel/vfs/inotify.h"
#include "ukernel/vfs/vfs.h"

namespace uk {

File::File(Path path, int open_flags) : flags(open_flags), path_(std::move(path)) {
  CHECK(path_.dentry != nullptr);  // what has no name has an anonymous one (anon_inode.h)
  if (Inode* i = inode()) ++i->opens;
}

File::~File() {
  while (FileObserver* o = observers.pop_front()) o->file_gone(*this);
  Inode* i = inode();
  if (i == nullptr) return;
  if (opened_by_ != nullptr && !quiet) {
    opened_by_->notify(path_, can_write() ? IN_CLOSE_WRITE : IN_CLOSE_NOWRITE);
  }
  if (counted_writer_) --i->writers;
  if (i->locks != nullptr) {
    i->locks->drop_owner(LockKind::kOfd, this);
    i->locks->drop_owner(LockKind::kFlock, this);
    i->locks->leases.drop(*this);
  }
  if (--i->opens != 0 || !i->dead) return;
  Ref<Inode> keep(i);
  if (opened_by_ != nullptr) {
    opened_by_->notify_gone(*i);
  } else if (i->watches != nullptr) {
    i->watches->inode_gone();
  }
}

Inode* File::inode() const { return path_.inode(); }

Result<> File::begin_write() {
  Inode* i = inode();
  if (i == nullptr || counted_writer_) return {};
  if (i->deny_write > 0) return Err(Errno::kTXTBSY);
  ++i->writers;
  counted_writer_ = true;
  return {};
}

Result<uint64_t> File::seek(Park& park, int64_t offset, int whence) {
  if (!seekable()) {
    // Descriptors without a file behind them have a position that stays (noop_llseek()); a pidfd
    // has none.
    const bool anonymous = inode() != nullptr && inode()->type() == 0 && path().mount == nullptr;
    if (anonymous && !path().dentry->name().starts_with("anon_inode:[pidfd")) return 0;
    return Err(Errno::kSPIPE);
  }
  int64_t base = 0;
  switch (whence) {
    case SEEK_SET:
      break;
    case SEEK_CUR:
      base = static_cast<int64_t>(pos);
      break;
    case SEEK_END:
      base = static_cast<int64_t>(TRY(getattr(park)).size);
      break;
    case SEEK_DATA:
    case SEEK_HOLE: {  // all data, one hole at the end
      int64_t size = static_cast<int64_t>(TRY(getattr(park)).size);
      if (offset < 0 || offset >= size) return Err(Errno::kNXIO);
      pos = static_cast<uint64_t>(whence == SEEK_DATA ? offset : size);
      return pos;
    }
    default:
      return Err(Errno::kINVAL);
  }
  int64_t to;
  if (__builtin_add_overflow(base, offset, &to) || to < 0) return Err(Errno::kINVAL);
  pos = static_cast<uint64_t>(to);
  return pos;
}

Result<> File::truncate(Park& park, uint64_t size) {
  if (inode() == nullptr) return Err(Errno::kINVAL);
  AttrChange change;
  change.size = size;
  change.by_descriptor = true;
  return inode()->setattr(park, change);
}

Ref<MemoryObject> File::memory_object() {
  return inode() != nullptr ? inode()->memory_object() : Ref<MemoryObject>();
}

Result<FileAttr> File::getattr(Park& park) {
  if (inode() != nullptr) return inode()->getattr(park);
  FileAttr attr;
  attr.mode = 0600;
  return attr;
}

void File::on_close(Park& park, const void* owner) {
  (void)park;
  if (Inode* i = inode(); i != nullptr && i->locks != nullptr) {
    i->locks->drop_owner(LockKind::kPosix, owner);
  }
}

}  // namespace uk
