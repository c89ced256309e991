// tmpfs: what all inodes share, and links and special files.
#include "ukernel/fs/tmpfs/tmpfs_inode.h"

#include <sys/xattr.h>

#include "ukernel/vfs/acl.h"

namespace uk {
namespace {

// What an extended attribute takes: its text, and what leads to it.
size_t xattr_space(std::string_view name, std::string_view value) {
  return name.size() + value.size() + 48;
}

}  // namespace

TmpfsInode::TmpfsInode(Ref<TmpfsSuper> sb, const MakeNode& node) : Inode(sb) {
  attr_.ino = sb->next_ino++;
  attr_.dev = sb->dev;
  attr_.mode = node.mode;
  attr_.uid = node.uid;
  attr_.gid = node.gid;
  attr_.rdev = node.rdev;
  attr_.atime = attr_.mtime = attr_.ctime = attr_.btime = sb->vfs.now();
  ++sb->inodes;
}

TmpfsInode::~TmpfsInode() {
  --super().inodes;
  super().xattr_bytes -= xattr_bytes_;
}

void TmpfsInode::modified() {
  attr_.mtime = attr_.ctime = super().vfs.now();
  if ((attr_.mode & (S_ISUID | S_ISGID)) == 0) return;
  const Cred* caller = super().vfs.caller ? super().vfs.caller() : nullptr;
  attr_.mode = (attr_.mode & S_IFMT) | mode_after_change(attr_, caller);
}

Result<FileAttr> TmpfsInode::getattr(Park&) {
  FileAttr attr = attr_;
  if (has_acl_) attr.attributes |= kAttrHasAcl;
  return attr;
}

void TmpfsInode::xattr_changed(std::string_view name) {
  if (name == kAclAccess || name == kAclDefault)
    has_acl_ = xattrs_.contains(kAclAccess) || xattrs_.contains(kAclDefault);
}

Result<> TmpfsInode::setattr(Park&, const AttrChange& change) {
  if (change.mode) attr_.mode = (attr_.mode & S_IFMT) | (*change.mode & 07777);
  if (change.uid) attr_.uid = *change.uid;
  if (change.gid) attr_.gid = *change.gid;
  if (change.atime) attr_.atime = *change.atime;
  if (change.mtime) attr_.mtime = *change.mtime;
  attr_.ctime = change.ctime ? *change.ctime : super().vfs.now();
  return {};
}

Result<std::string> TmpfsInode::getxattr(Park&, std::string_view name) {
  auto it = xattrs_.find(name);
  if (it == xattrs_.end()) return Err(Errno::kNODATA);
  return it->second;
}

Result<> TmpfsInode::setxattr(Park&, std::string_view name, std::string_view value, int flags) {
  auto it = xattrs_.find(name);
  if (it != xattrs_.end() && (flags & XATTR_CREATE) != 0) return Err(Errno::kEXIST);
  if (it == xattrs_.end() && (flags & XATTR_REPLACE) != 0) return Err(Errno::kNODATA);
  const size_t old = it != xattrs_.end() ? xattr_space(name, it->second) : 0;
  const size_t now = xattr_space(name, value);
  if (!super().take_xattr_space(now)) return Err(Errno::kNOSPC);
  super().xattr_bytes -= old;
  xattr_bytes_ = xattr_bytes_ - old + now;
  xattrs_[std::string(name)] = std::string(value);
  xattr_changed(name);
  return {};
}

Result<> TmpfsInode::removexattr(Park&, std::string_view name) {
  auto it = xattrs_.find(name);
  if (it == xattrs_.end()) return Err(Errno::kNODATA);
  const size_t space = xattr_space(it->first, it->second);
  super().xattr_bytes -= space;
  xattr_bytes_ -= space;
  const std::string gone = it->first;
  xattrs_.erase(it);
  xattr_changed(gone);
  touch_ctime();
  return {};
}

Result<std::vector<std::string>> TmpfsInode::listxattr(Park&) {
  std::vector<std::string> names;
  for (const auto& [name, value] : xattrs_) names.push_back(name);
  return names;
}

Result<> TmpfsInode::set_inode_flags(Park&, uint32_t flags) {
  if ((flags & ~(kInodeImmutable | kInodeAppend | kInodeNodump | kInodeNoatime)) != 0) {
    return Err(Errno::kOPNOTSUPP);
  }
  flags_ = flags;
  attr_.attributes = 0;
  if ((flags & kInodeImmutable) != 0) attr_.attributes |= STATX_ATTR_IMMUTABLE;
  if ((flags & kInodeAppend) != 0) attr_.attributes |= STATX_ATTR_APPEND;
  if ((flags & kInodeNodump) != 0) attr_.attributes |= STATX_ATTR_NODUMP;
  touch_ctime();
  return {};
}

TmpfsOther::TmpfsOther(Ref<TmpfsSuper> sb, const MakeNode& node)
    : TmpfsInode(std::move(sb), node), target_(node.symlink_target) {
  attr_.size = target_.size();
  constexpr size_t kInInode = 127;  // longer targets have a page
  if (target_.size() > kInInode) attr_.blocks = kPageSize / 512;
}

Result<std::string> TmpfsOther::readlink(Park&) {
  if (type() != S_IFLNK) return Err(Errno::kINVAL);
  return target_;
}

Result<Ref<TmpfsInode>> make_tmpfs_inode(Ref<TmpfsSuper> sb, const MakeNode& node) {
  if (sb->free_inodes() == 0) return Err(Errno::kNOSPC);
  switch (node.mode & S_IFMT) {
    case S_IFREG:
      return Ref<TmpfsInode>(make_ref<TmpfsRegular>(std::move(sb), node));
    case S_IFDIR:
      return Ref<TmpfsInode>(make_ref<TmpfsDir>(std::move(sb), node));
    default:
      return Ref<TmpfsInode>(make_ref<TmpfsOther>(std::move(sb), node));
  }
}

}  // namespace uk
