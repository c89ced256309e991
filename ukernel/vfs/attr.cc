// Attributes: stat(2), chmod(2), chown(2), truncate(2), utimensat(2), readlink(2).
#include <sys/inotify.h>

#include "ukernel/vfs/acl.h"
#include "ukernel/vfs/landlock.h"
#include "ukernel/vfs/vfs_impl.h"

namespace uk {

Result<FileAttr> Vfs::stat(Park& park, const Path& path) {
  Ref<Inode> inode = path.dentry != nullptr ? path.dentry->inode_ref() : Ref<Inode>();
  if (inode == nullptr) return Err(Errno::kNOENT);
  FileAttr attr = TRY(inode->getattr(park));
  if (path.mount != nullptr) {
    attr.mount_id = path.mount->id;
    if (path.dentry == path.mount->root) attr.attributes |= STATX_ATTR_MOUNT_ROOT;
  }
  return attr;
}

Result<std::string> Vfs::readlink(Park& park, const Path& path) {
  Ref<Inode> inode = path.dentry->inode_ref();
  if (inode == nullptr) return Err(Errno::kNOENT);
  std::string target = TRY(inode->readlink(park));
  // Following a link is reading it. Only where that costs nothing: others would have to store it.
  if (inode->sb().fs_type() == "tmpfs") {
    const FileAttr attr = TRY(inode->getattr(park));
    AttrChange change;
    change.atime = now();
    change.ctime = attr.ctime;
    if (wants_atime(path, 0, attr)) TRY(inode->setattr(park, change));
  }
  return target;
}

Result<> Vfs::chmod(Park& park, const FsContext& ctx, const Path& path, uint32_t mode) {
  TRY(want_write(path));
  Ref<Inode> inode = path.dentry->inode_ref();
  if (inode == nullptr) return Err(Errno::kNOENT);
  if (inode->sb().read_only) return Err(Errno::kROFS);
  if (is_unchangeable(*inode)) return Err(Errno::kPERM);
  if (inode->type() == S_IFLNK) return Err(Errno::kOPNOTSUPP);
  if (inode->type() == 0)
    return Err(Errno::kOPNOTSUPP);  // anonymous ones refuse before they ask who
  FileAttr attr = TRY(inode->getattr(park));
  if (!owner_or_capable(attr, *ctx.cred)) return Err(Errno::kPERM);
  mode &= 07777;
  if ((mode & S_ISGID) != 0 && !ctx.cred->in_group(attr.gid) &&
      !ctx.cred->has_over(attr.uid, attr.gid, Cap::kFsetid)) {
    mode &= ~static_cast<uint32_t>(S_ISGID);
  }
  AttrChange change;
  change.mode = mode;
  change.ctime = now();
  TRY(inode->setattr(park, change));
  if ((attr.attributes & kAttrHasAcl) != 0) {
    if (std::optional<PosixAcl> acl = acl_of(park, *inode, kAclAccess)) {
      TRY(acl->change_mode(mode));
      TRY(inode->setxattr(park, kAclAccess, acl->bytes(), 0));
    }
  }
  notify(path, IN_ATTRIB);
  return {};
}

Result<> Vfs::chown(Park& park, const FsContext& ctx, const Path& path, uint32_t uid,
                    uint32_t gid) {
  constexpr uint32_t kUnchanged = ~0u;
  TRY(want_write(path));
  Ref<Inode> inode = path.dentry->inode_ref();
  if (inode == nullptr) return Err(Errno::kNOENT);
  if (inode->sb().read_only) return Err(Errno::kROFS);
  if (is_unchangeable(*inode)) return Err(Errno::kPERM);
  if (inode->type() == 0) return Err(Errno::kOPNOTSUPP);
  const Cred& cred = *ctx.cred;
  FileAttr attr = TRY(inode->getattr(park));
  bool owner = attr.uid == cred.fsuid;
  AttrChange change;
  if (uid != kUnchanged) {
    if (!cred.has_over(attr.uid, attr.gid, Cap::kChown) && !(owner && uid == attr.uid))
      return Err(Errno::kPERM);
    change.uid = uid;
  }
  if (gid != kUnchanged) {
    bool own_group = owner && (cred.in_group(gid) || gid == attr.gid);
    if (!cred.has_over(attr.uid, attr.gid, Cap::kChown) && !own_group) return Err(Errno::kPERM);
    change.gid = gid;
  }
  if (inode->type() != S_IFDIR && inode->type() != S_IFLNK) {
    uint32_t drop = attr.mode & S_ISUID;
    if ((attr.mode & S_ISGID) != 0 &&
        ((attr.mode & S_IXGRP) != 0 ||
         (!cred.in_group(attr.gid) && !cred.has_over(attr.uid, attr.gid, Cap::kFsetid)))) {
      drop |= S_ISGID;
    }
    if (drop != 0) change.mode = attr.mode & 07777 & ~drop;
    (void)inode->removexattr(park, "security.capability");
  }
  change.ctime = now();
  TRY(inode->setattr(park, change));
  notify(path, IN_ATTRIB);
  return {};
}

Result<> Vfs::truncate(Park& park, const FsContext& ctx, const Path& path, uint64_t size) {
  Ref<Inode> inode = path.dentry->inode_ref();
  if (inode == nullptr) return Err(Errno::kNOENT);
  if (inode->type() == S_IFDIR) return Err(Errno::kISDIR);
  if (inode->type() != S_IFREG) return Err(Errno::kINVAL);
  TRY(want_write(path));
  TRY(check_permission(park, *inode, *ctx.cred, kMayWrite));
  if (is_unchangeable(*inode)) return Err(Errno::kPERM);
  if (inode->deny_write > 0) return Err(Errno::kTXTBSY);
  TRY(landlock_check(*ctx.cred, path, landlock::kTruncate));
  TRY(break_leases(park, *inode, true, false));
  FileAttr attr = TRY(inode->getattr(park));
  AttrChange change;
  change.size = size;  // whether a size that stays is a modification is the filesystem's to say
  if ((attr.mode & (S_ISUID | S_ISGID)) != 0) change.mode = mode_after_change(attr, &*ctx.cred);
  TRY(inode->setattr(park, change));
  notify(path, IN_MODIFY);
  return {};
}

Result<> Vfs::utimens(Park& park, const FsContext& ctx, const Path& path, const SetTimes& times) {
  bool a = times.atime_now || times.atime.has_value();
  bool m = times.mtime_now || times.mtime.has_value();
  if (!a && !m) return {};
  TRY(want_write(path));
  Ref<Inode> inode = path.dentry->inode_ref();
  if (inode == nullptr) return Err(Errno::kNOENT);
  if (inode->sb().read_only) return Err(Errno::kROFS);
  bool set = times.atime.has_value() || times.mtime.has_value();
  if (set ? is_unchangeable(*inode) : (inode->inode_flags() & kInodeImmutable) != 0) {
    return Err(Errno::kPERM);
  }
  if (set && inode->type() == 0) return Err(Errno::kOPNOTSUPP);
  FileAttr attr = TRY(inode->getattr(park));
  if (!owner_or_capable(attr, *ctx.cred)) {
    if (!times.atime_now || !times.mtime_now) return Err(Errno::kPERM);
    TRY(check_permission(park, *inode, *ctx.cred, kMayWrite));
  }
  AttrChange change;
  FileTime t = now();
  if (a) change.atime = times.atime_now ? t : *times.atime;
  if (m) change.mtime = times.mtime_now ? t : *times.mtime;
  change.ctime = t;
  TRY(inode->setattr(park, change));
  notify(path, a && m ? IN_ATTRIB : a ? IN_ACCESS : IN_MODIFY);  // fsnotify_change
  return {};
}

}  // namespace uk
