// Making names: mkdir(2), mknod(2), symlink(2), link(2).
#include <sys/inotify.h>

#include "ukernel/vfs/landlock.h"
#include "ukernel/vfs/vfs_impl.h"

namespace uk {
namespace {

// Runs `make` with the negative dentry of the new name, under the directory's lock, after the
// checks common to all these calls.
template <class Make>
Result<Path> with_new_name(Vfs& vfs, Vfs::Impl& impl, Park& park, const FsContext& ctx,
                           WalkFrom from, std::string_view path, bool is_dir, Make&& make) {
  Vfs::Parent parent = TRY(vfs.walk_parent(park, ctx, from, path));
  if (parent.last != Vfs::Parent::Last::kName) return Err(Errno::kEXIST);
  Ref<Inode> dir = parent.dir.dentry->inode_ref();
  MutexLock lock(park, dir->dir_lock);
  Ref<Dentry> d = TRY(impl.lookup(park, *parent.dir.dentry, parent.name, true));
  if (d->inode() != nullptr) return Err(Errno::kEXIST);
  if (parent.trailing_slash && !is_dir) return Err(Errno::kNOENT);
  TRY(make(parent, *dir, *d));
  vfs.notify_name(parent.dir, parent.name, IN_CREATE | (is_dir ? IN_ISDIR : 0u));
  return Path(parent.dir.mount, std::move(d));
}

constexpr bool is_device(uint32_t mode) { return is_type(mode, S_IFCHR) || is_type(mode, S_IFBLK); }

}  // namespace

Result<Path> Vfs::make_node(Park& park, const FsContext& ctx, WalkFrom from, std::string_view path,
                            MakeNode node) {
  const Cred& cred = *ctx.cred;
  bool is_dir = is_type(node.mode, S_IFDIR);
  return with_new_name(*this, *impl_, park, ctx, from, path, is_dir,
                       [&](const Parent& parent, Inode& dir, Dentry& d) -> Result<> {
                         TRY(landlock_check(cred, parent.dir, landlock::right_to_make(node.mode)));
                         TRY(may_create(park, *this, parent.dir, cred));
                         bool whiteout = is_type(node.mode, S_IFCHR) && node.rdev == 0;
                         if (is_device(node.mode) && !whiteout && !cred.has(Cap::kMknod))
                           return Err(Errno::kPERM);
                         FileAttr dir_attr = TRY(dir.getattr(park));
                         node.uid = cred.fsuid;
                         node.gid = cred.fsgid;
                         if ((dir_attr.mode & S_ISGID) != 0) {
                           node.gid = dir_attr.gid;
                           if (is_dir) {
                             node.mode |= S_ISGID;
                           } else if ((node.mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) &&
                                      !cred.in_group(node.gid) && !cred.has(Cap::kFsetid)) {
                             node.mode &= ~static_cast<uint32_t>(S_ISGID);
                           }
                         }
                         const NewAcls acls =
                             TRY(acls_for_new(park, dir, dir_attr, ctx.umask, &node.mode));
                         Ref<Inode> made = TRY(dir.create(park, parent.name, node));
                         TRY(set_new_acls(park, *made, acls));
                         impl_->fill(d, std::move(made));
                         return {};
                       });
}

Result<> Vfs::mkdir(Park& park, const FsContext& ctx, WalkFrom from, std::string_view path,
                    uint32_t mode) {
  MakeNode node;
  node.mode = S_IFDIR | (mode & 01777);
  TRY(make_node(park, ctx, from, path, std::move(node)));
  return {};
}

Result<> Vfs::mknod(Park& park, const FsContext& ctx, WalkFrom from, std::string_view path,
                    uint32_t mode, uint64_t rdev) {
  if ((mode & S_IFMT) == 0) mode |= S_IFREG;
  MakeNode node;
  node.mode = mode & (S_IFMT | 07777);
  if (is_device(mode)) node.rdev = rdev;
  TRY(make_node(park, ctx, from, path, std::move(node)));
  return {};
}

Result<> Vfs::symlink(Park& park, const FsContext& ctx, std::string_view target, WalkFrom from,
                      std::string_view path) {
  if (target.empty()) return Err(Errno::kNOENT);
  if (target.size() >= kPathMax) return Err(Errno::kNAMETOOLONG);
  MakeNode node;
  node.mode = S_IFLNK | 0777;
  node.symlink_target = std::string(target);
  TRY(make_node(park, ctx, from, path, std::move(node)));
  return {};
}

// protected_hardlinks (proc_sys_fs(5)): others' files only if they could be opened for
// reading and writing anyway and are not special or privileged.
static Result<> may_link_to(Park& park, Vfs& vfs, Inode& target, const Cred& cred) {
  if (!vfs.settings.protected_hardlinks) return {};
  FileAttr attr = TRY(target.getattr(park));
  if (owner_or_capable(attr, cred)) return {};
  bool safe = is_type(attr.mode, S_IFREG) && (attr.mode & S_ISUID) == 0 &&
              (attr.mode & (S_ISGID | S_IXGRP)) != (S_ISGID | S_IXGRP);
  if (!safe || !vfs.check_permission(park, target, cred, kMayRead | kMayWrite)) {
    return Err(Errno::kPERM);
  }
  return {};
}

static Result<> landlock_check_link(const Cred& cred, const Path& target, const Path& dir) {
  if (target.dentry->parent() == nullptr) return {};
  const Path from(target.mount, Ref<Dentry>(target.dentry->parent()));
  return landlock_check_move(cred, from, *target.dentry, dir, nullptr, false, false);
}

Result<> Vfs::link(Park& park, const FsContext& ctx, const Path& target, WalkFrom from,
                   std::string_view path) {
  constexpr uint32_t kMaxLinks = 65000;
  Path target_path = target;
  Ref<Inode> inode = target_path.dentry->inode_ref();
  if (inode == nullptr) return Err(Errno::kNOENT);
  TRY(with_new_name(*this, *impl_, park, ctx, from, path, false,
                    [&](const Parent& parent, Inode& dir, Dentry& d) -> Result<> {
                      TRY(want_write(parent.dir));
                      if (target_path.mount != parent.dir.mount) return Err(Errno::kXDEV);
                      TRY(may_link_to(park, *this, *inode, *ctx.cred));
                      TRY(landlock_check_link(*ctx.cred, target_path, parent.dir));
                      TRY(may_create(park, *this, parent.dir, *ctx.cred));
                      if (&inode->sb() != &dir.sb()) return Err(Errno::kXDEV);
                      if (inode->type() == S_IFDIR || is_unchangeable(*inode)) {
                        return Err(Errno::kPERM);
                      }
                      FileAttr attr = TRY(inode->getattr(park));
                      if (attr.nlink == 0 && (inode->no_link || inode->dead)) {
                        return Err(Errno::kNOENT);
                      }
                      if (attr.nlink >= kMaxLinks) return Err(Errno::kMLINK);
                      TRY(dir.link(park, parent.name, *inode));
                      impl_->fill(d, inode);
                      return {};
                    }));
  notify(target_path, IN_ATTRIB);
  return {};
}

}  // namespace uk
