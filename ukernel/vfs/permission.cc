// Permission checks: mode bits, capabilities, read-only mounts, sticky directories
// (path_resolution(7), capabilities(7)).
#include "ukernel/vfs/acl.h"
#include "ukernel/vfs/vfs_impl.h"

namespace uk {

Result<> want_write(const Path& path) {
  if (path.mount != nullptr && path.mount->read_only()) return Err(Errno::kROFS);
  return {};
}

bool is_unchangeable(const Inode& inode) {
  return (inode.inode_flags() & (kInodeImmutable | kInodeAppend)) != 0;
}

std::optional<PosixAcl> acl_of(Park& park, Inode& inode, std::string_view name) {
  Result<std::string> bytes = inode.getxattr(park, name);
  if (!bytes) return std::nullopt;
  Result<std::optional<PosixAcl>> acl = PosixAcl::parse(*bytes);
  return acl ? *acl : std::nullopt;
}

// setattr_should_drop_suidgid() in Linux.
uint32_t mode_after_change(const FileAttr& attr, const Cred* cred) {
  const uint32_t mode = attr.mode & 07777;
  if ((mode & (S_ISUID | S_ISGID)) == 0 || (cred != nullptr && cred->has(Cap::kFsetid)))
    return mode;
  const bool member = cred != nullptr && (cred->in_group(attr.gid) ||
                                          cred->has_over(attr.uid, attr.gid, Cap::kFsetid));
  const bool locks = (mode & S_IXGRP) == 0 && member;
  return mode & ~static_cast<uint32_t>(locks ? S_ISUID : S_ISUID | S_ISGID);
}

bool owner_or_capable(const FileAttr& attr, const Cred& cred) {
  return attr.uid == cred.fsuid || cred.has_over(attr.uid, attr.gid, Cap::kFowner);
}

Result<> Vfs::check_permission(Park& park, Inode& inode, const Cred& cred, uint32_t may) {
  uint32_t type = inode.type();
  if ((may & kMayWrite) != 0 && inode.sb().read_only &&
      (type == S_IFREG || type == S_IFDIR || type == S_IFLNK)) {
    return Err(Errno::kROFS);
  }
  if ((may & kMayWrite) != 0 && (inode.inode_flags() & kInodeImmutable) != 0) {
    return Err(Errno::kPERM);
  }
  // The commonest question of a walk: may root search this directory.
  if (type == S_IFDIR && cred.has(Cap::kDacOverride)) return inode.check_access(cred, may);
  FileAttr attr = TRY(inode.getattr(park));
  const bool dac = cred.has_over(attr.uid, attr.gid, Cap::kDacOverride);
  if (type == S_IFDIR && dac) return inode.check_access(cred, may);
  const bool dac_read = cred.has_over(attr.uid, attr.gid, Cap::kDacReadSearch);
  uint32_t bits = attr.mode;
  const bool listed = (attr.attributes & kAttrHasAcl) != 0 && (attr.mode & 070) != 0;
  if (attr.uid == cred.fsuid) {
    bits >>= 6;
  } else if (std::optional<PosixAcl> acl =
                 listed ? acl_of(park, inode, kAclAccess) : std::nullopt) {
    bits = acl->allows(cred, attr, may) ? may : 0;
  } else if (cred.in_group(attr.gid)) {
    bits >>= 3;
  }
  if ((may & ~bits & 7) == 0) return inode.check_access(cred, may);
  bool allowed = false;
  if (type == S_IFDIR) {
    allowed = (may & kMayWrite) == 0 && dac_read;
  } else {
    bool exec_ok = (may & kMayExec) == 0 || (attr.mode & 0111) != 0;
    allowed = (dac && exec_ok) || (may == kMayRead && dac_read);
  }
  if (!allowed && !inode.allows_anyway()) return Err(Errno::kACCES);
  return inode.check_access(cred, may);
}

Result<> Vfs::access(Park& park, const Path& path, const Cred& cred, uint32_t may) {
  Inode* inode = path.inode();
  if (inode == nullptr) return Err(Errno::kNOENT);
  Ref<Inode> keep(inode);
  if ((may & kMayExec) != 0 && inode->type() == S_IFREG && path.mount != nullptr &&
      (path.mount->flags & kMntNoexec) != 0) {
    return Err(Errno::kACCES);
  }
  TRY(check_permission(park, *inode, cred, may));
  uint32_t type = inode->type();
  bool special = type == S_IFCHR || type == S_IFBLK || type == S_IFIFO || type == S_IFSOCK;
  if ((may & kMayWrite) != 0 && !special) TRY(want_write(path));
  return {};
}

Result<> may_create(Park& park, Vfs& vfs, const Path& dir, const Cred& cred) {
  if (!dir.inode()->takes_names()) return Err(Errno::kNOENT);
  TRY(want_write(dir));
  if (dir.dentry->unlinked()) return Err(Errno::kNOENT);
  return vfs.check_permission(park, *dir.inode(), cred, kMayWrite | kMayExec);
}

Result<> may_delete(Park& park, Vfs& vfs, const Path& dir, const Dentry& victim, const Cred& cred,
                    bool want_dir) {
  TRY(vfs.check_permission(park, *dir.inode(), cred, kMayWrite | kMayExec));
  FileAttr dir_attr = TRY(dir.inode()->getattr(park));
  if ((dir_attr.mode & S_ISVTX) != 0 && !cred.has(Cap::kFowner) && dir_attr.uid != cred.fsuid) {
    FileAttr attr = TRY(victim.inode()->getattr(park));
    if (!owner_or_capable(attr, cred)) return Err(Errno::kPERM);
  }
  if ((dir.inode()->inode_flags() & kInodeAppend) != 0 || is_unchangeable(*victim.inode())) {
    return Err(Errno::kPERM);
  }
  bool is_dir = victim.inode()->type() == S_IFDIR;
  if (want_dir && !is_dir) return Err(Errno::kNOTDIR);
  if (!want_dir && is_dir) return Err(Errno::kISDIR);
  if (dir.dentry->unlinked()) return Err(Errno::kNOENT);
  return {};
}

}  // namespace uk
