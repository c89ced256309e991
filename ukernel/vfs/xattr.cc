// Extended attributes: who may touch which name space (xattr(7)); files in memory without a name.
#include <sys/inotify.h>

#include <algorithm>

#include "ukernel/vfs/acl.h"
#include "ukernel/vfs/file_caps.h"
#include "ukernel/vfs/vfs_impl.h"

namespace uk {
namespace {

bool has_prefix(std::string_view name, std::string_view prefix) {
  return name.size() > prefix.size() && name.substr(0, prefix.size()) == prefix;
}

Result<> xattr_permission(Park& park, Vfs& vfs, Inode& inode, const Cred& cred,
                          std::string_view name, bool write) {
  if (name.empty() || name.size() > kNameMax) return Err(Errno::kRANGE);
  if (write && is_unchangeable(inode)) return Err(Errno::kPERM);
  if (has_prefix(name, "trusted.")) {
    if (!cred.has(Cap::kSysAdmin)) return Err(write ? Errno::kPERM : Errno::kNODATA);
    return {};
  }
  if (has_prefix(name, "security.")) {
    if (!write) return {};
    Cap needed = name == "security.capability" ? Cap::kSetfcap : Cap::kSysAdmin;
    if (!cred.has(needed)) return Err(Errno::kPERM);
    return {};
  }
  if (!write && inode.sb().fs_type() == "sockfs" && name.starts_with("system.")) return {};
  if (name.starts_with("system.")) return Err(Errno::kOPNOTSUPP);
  if (!name.starts_with(
          "user.")) {  // that there is nobody for such names is found after the rights
    TRY(vfs.check_permission(park, inode, cred, write ? kMayWrite : kMayRead));
    return Err(Errno::kOPNOTSUPP);
  }
  if (inode.type() != S_IFREG && inode.type() != S_IFDIR) {
    return Err(write ? Errno::kPERM : Errno::kNODATA);
  }
  if (write && inode.type() == S_IFDIR) {
    FileAttr attr = TRY(inode.getattr(park));
    if ((attr.mode & S_ISVTX) != 0 && !owner_or_capable(attr, cred)) return Err(Errno::kPERM);
  }
  TRY(vfs.check_permission(park, inode, cred, write ? kMayWrite : kMayRead));
  if (name == "user.") return Err(Errno::kINVAL);
  return {};
}

bool is_acl(std::string_view name) { return name == kAclAccess || name == kAclDefault; }

// Those of the host's files are neither shown nor heeded; whoever has no such attributes at all
// says so by itself.
Result<> acls_are_kept(const Inode& inode) {
  if (inode.sb().fs_type() == "hostfs" || inode.type() == S_IFLNK) return Err(Errno::kOPNOTSUPP);
  return {};
}

Result<> set_acl(Park& park, Inode& inode, const Cred& cred, std::string_view name,
                 std::optional<PosixAcl> acl, FileTime now) {
  TRY(acls_are_kept(inode));
  if (is_unchangeable(inode)) return Err(Errno::kPERM);
  FileAttr attr = TRY(inode.getattr(park));
  if (name == kAclDefault && inode.type() != S_IFDIR) {
    if (acl) return Err(Errno::kACCES);
    return {};
  }
  if (!owner_or_capable(attr, cred)) return Err(Errno::kPERM);
  AttrChange change;
  change.ctime = now;
  if (acl) TRY(acl->check());
  if (acl && name == kAclAccess) {
    bool exact = false;
    uint32_t mode = (attr.mode & 07000) | acl->mode(&exact);
    if (!cred.in_group(attr.gid) && !cred.has(Cap::kFsetid)) mode &= ~uint32_t{S_ISGID};
    change.mode = mode;
    if (exact) acl.reset();
  }
  if (acl) {
    TRY(inode.setxattr(park, name, acl->bytes(), 0));
  } else if (Result<> r = inode.removexattr(park, name); !r && r.error() != Errno::kNODATA) {
    return r;
  }
  return inode.setattr(park, change);
}

}  // namespace

Result<std::string> Vfs::getxattr(Park& park, const FsContext& ctx, const Path& path,
                                  std::string_view name) {
  Ref<Inode> inode = path.dentry->inode_ref();
  if (inode == nullptr) return Err(Errno::kNOENT);
  if (is_acl(name)) {
    TRY(acls_are_kept(*inode));
    const FileAttr attr = TRY(inode->getattr(park));
    if ((attr.attributes & kAttrHasAcl) == 0) return Err(Errno::kNODATA);
    return inode->getxattr(park, name);
  }
  TRY(xattr_permission(park, *this, *inode, *ctx.cred, name, false));
  return inode->getxattr(park, name);
}

Result<> Vfs::setxattr(Park& park, const FsContext& ctx, const Path& path, std::string_view name,
                       std::string_view value, int flags) {
  Ref<Inode> inode = path.dentry->inode_ref();
  if (inode == nullptr) return Err(Errno::kNOENT);
  TRY(want_write(path));
  if (inode->sb().read_only) return Err(Errno::kROFS);
  if (is_acl(name)) {
    std::optional<PosixAcl> acl;  // nothing at all takes it away, too
    if (!value.empty()) acl = TRY(PosixAcl::parse(value));
    TRY(set_acl(park, *inode, *ctx.cred, name, std::move(acl), now()));
    notify(path, IN_ATTRIB);
    return {};
  }
  TRY(xattr_permission(park, *this, *inode, *ctx.cred, name, true));
  if (name == kFileCaps) TRY(FileCaps::parse(value));
  TRY(inode->setxattr(park, name, value, flags));
  AttrChange change;
  change.ctime = now();
  TRY(inode->setattr(park, change));
  notify(path, IN_ATTRIB);
  return {};
}

Result<> Vfs::removexattr(Park& park, const FsContext& ctx, const Path& path,
                          std::string_view name) {
  Ref<Inode> inode = path.dentry->inode_ref();
  if (inode == nullptr) return Err(Errno::kNOENT);
  TRY(want_write(path));
  if (inode->sb().read_only) return Err(Errno::kROFS);
  if (is_acl(name)) {
    TRY(set_acl(park, *inode, *ctx.cred, name, std::nullopt, now()));
    notify(path, IN_ATTRIB);
    return {};
  }
  TRY(xattr_permission(park, *this, *inode, *ctx.cred, name, true));
  TRY(inode->removexattr(park, name));
  notify(path, IN_ATTRIB);
  return {};
}

Result<std::vector<std::string>> Vfs::listxattr(Park& park, const FsContext& ctx,
                                                const Path& path) {
  Ref<Inode> inode = path.dentry->inode_ref();
  if (inode == nullptr) return Err(Errno::kNOENT);
  std::vector<std::string> names = TRY(inode->listxattr(park));
  if (std::any_of(names.begin(), names.end(), [](const std::string& n) { return is_acl(n); })) {
    const FileAttr attr = TRY(inode->getattr(park));
    if ((attr.attributes & kAttrHasAcl) == 0)
      std::erase_if(names, [](const std::string& n) { return is_acl(n); });
  }
  if (!ctx.cred->has(Cap::kSysAdmin)) {
    std::erase_if(names, [](const std::string& n) { return has_prefix(n, "trusted."); });
  }
  return names;
}

Result<Ref<File>> Vfs::memory_file(Park& park, const Cred& cred, std::string name, uint32_t mode) {
  if (impl_->memory_root == nullptr) {
    auto type = std::find_if(impl_->types.begin(), impl_->types.end(),
                             [](const FsType& t) { return t.name == "tmpfs"; });
    if (type == impl_->types.end()) return Err(Errno::kNOSYS);
    Ref<Inode> root;
    Ref<SuperBlock> sb = TRY(type->mount(park, *this, "memfd", "size=0", &root));
    if (sb->dev == 0) sb->dev = new_anon_dev();
    impl_->memory_root = std::move(root);
  }
  MakeNode node;
  node.mode = S_IFREG | mode;
  node.uid = cred.fsuid;
  node.gid = cred.fsgid;
  Ref<Inode> inode = TRY(impl_->memory_root->tmpfile(park, node));
  auto d = make_ref<Dentry>(nullptr, std::move(name), std::move(inode));
  d->mark_unlinked();
  // Not opened by open(2), so it counts as no writer: it may be executed, and leased for reading.
  const Path path(nullptr, std::move(d));
  Ref<File> file = TRY(path.inode()->open(park, path, O_RDWR, cred));
  file->cred = Ref<const Cred>(&cred);
  file->opened_by_ = this;
  return file;
}

}  // namespace uk
