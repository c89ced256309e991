// Taking names away: unlink(2), rmdir(2).
#include <sys/inotify.h>

#include "ukernel/vfs/inotify.h"
#include "ukernel/vfs/landlock.h"
#include "ukernel/vfs/vfs_impl.h"

namespace uk {
namespace {

// After the last name of `inode` may have gone.
void tell_removed(Park& park, Vfs& vfs, Inode& inode, bool is_dir) {
  auto attr = inode.getattr(park);
  bool last = is_dir || !attr || attr->nlink == 0;
  if (inode.watches != nullptr && !is_dir) {
    Ref<Inode> keep(&inode);
    inode.watches->event(IN_ATTRIB, 0, {});
  }
  if (last) vfs.notify_removed(inode);
}

}  // namespace

Result<> Vfs::unlink(Park& park, const FsContext& ctx, WalkFrom from, std::string_view path) {
  Parent parent = TRY(walk_parent(park, ctx, from, path));
  if (parent.last != Parent::Last::kName) return Err(Errno::kISDIR);
  TRY(want_write(parent.dir));
  Ref<Inode> dir = parent.dir.dentry->inode_ref();
  Ref<Inode> inode;
  {
    MutexLock lock(park, dir->dir_lock);
    Ref<Dentry> d = TRY(impl_->lookup(park, *parent.dir.dentry, parent.name, true));
    inode = d->inode_ref();
    if (inode == nullptr) return Err(Errno::kNOENT);
    if (parent.trailing_slash) {
      return Err(inode->type() == S_IFDIR ? Errno::kISDIR : Errno::kNOTDIR);
    }
    TRY(landlock_check(*ctx.cred, parent.dir, landlock::kRemoveFile));
    TRY(may_delete(park, *this, parent.dir, *d, *ctx.cred, false));
    if (d->mount_count != 0) return Err(Errno::kBUSY);
    TRY(dir->unlink(park, parent.name, *inode));
    impl_->drop(*d);
  }
  tell_removed(park, *this, *inode, false);
  notify_name(parent.dir, parent.name, IN_DELETE);
  return {};
}

Result<> Vfs::rmdir(Park& park, const FsContext& ctx, WalkFrom from, std::string_view path) {
  Parent parent = TRY(walk_parent(park, ctx, from, path));
  switch (parent.last) {
    case Parent::Last::kDotDot:
      return Err(Errno::kNOTEMPTY);
    case Parent::Last::kDot:
      return Err(Errno::kINVAL);
    case Parent::Last::kRoot:
      return Err(Errno::kBUSY);
    case Parent::Last::kName:
      break;
  }
  TRY(want_write(parent.dir));
  Ref<Inode> dir = parent.dir.dentry->inode_ref();
  Ref<Inode> inode;
  {
    MutexLock lock(park, dir->dir_lock);
    Ref<Dentry> d = TRY(impl_->lookup(park, *parent.dir.dentry, parent.name, true));
    inode = d->inode_ref();
    if (inode == nullptr) return Err(Errno::kNOENT);
    TRY(landlock_check(*ctx.cred, parent.dir, landlock::kRemoveDir));
    TRY(may_delete(park, *this, parent.dir, *d, *ctx.cred, true));
    if (d->mount_count != 0) return Err(Errno::kBUSY);
    TRY(dir->rmdir(park, parent.name, *inode));
    impl_->drop(*d);
  }
  tell_removed(park, *this, *inode, true);
  notify_name(parent.dir, parent.name, IN_DELETE | IN_ISDIR);
  return {};
}

}  // namespace uk
