// overlay: copying up, and what needs it: changes of attributes and contents.
#include <algorithm>
#include <vector>

#include "ukernel/fs/overlay/overlay_inode.h"
#include "ukernel/vfs/acl.h"

namespace uk {

Path real_path(const Path& shown, Inode& inode) {
  std::string name = shown.dentry != nullptr ? shown.dentry->name() : std::string();
  return Path(nullptr, make_ref<Dentry>(nullptr, std::move(name), Ref<Inode>(&inode)));
}

Result<> OverlayInode::copy_up(Park& park, uint64_t data_limit) {
  if (upper_ != nullptr) return {};
  // The nearest ancestor in the upper tree comes first; not by recursion.
  std::vector<Ref<OverlayInode>> chain;
  for (OverlayInode* at = parent_.get(); at != nullptr && at->upper_ == nullptr;
       at = at->parent_.get()) {
    chain.emplace_back(at);
  }
  Ref<OverlayInode> self(this);
  while (!chain.empty()) {
    TRY(chain.back()->copy_up_one(park, 0));
    chain.pop_back();
  }
  return copy_up_one(park, data_limit);
}

Result<> OverlayInode::copy_up_one(Park& park, uint64_t data_limit) {
  MutexLock lock(park, copy_lock_);
  if (upper_ != nullptr) return {};
  FileAttr attr = TRY(lower_->getattr(park));
  Ref<Inode> made;
  bool has_name = false;
  if (type() == S_IFREG) {
    made = TRY(copy_regular(park, attr, data_limit));
  } else {
    MakeNode node;
    node.mode = attr.mode;
    node.uid = attr.uid;
    node.gid = attr.gid;
    node.rdev = attr.rdev;
    if (type() == S_IFLNK) node.symlink_target = TRY(lower_->readlink(park));
    if (unlinked_) return Err(Errno::kNOENT);  // nothing but a regular file lives without a name
    made = TRY(parent_->upper_->create(park, name_, node));
    has_name = true;
  }
  Result<> done = copy_attributes(park, *made, attr);
  if (done && !has_name && !unlinked_) done = parent_->upper_->link(park, name_, *made);
  if (!done) {
    if (has_name) {
      (void)(type() == S_IFDIR ? parent_->upper_->rmdir(park, name_, *made)
                               : parent_->upper_->unlink(park, name_, *made));
    }
    return done;
  }
  auto it = super().by_lower.find(lower_.get());
  if (it != super().by_lower.end() && it->second == this) super().by_lower.erase(it);
  upper_ = std::move(made);
  super().by_upper.emplace(upper_.get(), this);
  // A directory goes on showing what is below; a file is the upper one from now on.
  if (type() != S_IFDIR) lower_.reset();
  return {};
}

Result<> OverlayInode::copy_attributes(Park& park, Inode& to, const FileAttr& attr) {
  if (auto names = lower_->listxattr(park)) {
    for (const std::string& name : *names) {
      if (std::string_view(name).substr(0, kOverlayXattrs.size()) == kOverlayXattrs) continue;
      // Lists count where the file says that it has some.
      const bool list = name == kAclAccess || name == kAclDefault;
      if (list && (attr.attributes & kAttrHasAcl) == 0) continue;
      auto value = lower_->getxattr(park, name);
      if (value) (void)to.setxattr(park, name, *value, 0);
    }
  }
  if (type() != S_IFDIR) TRY(to.setxattr(park, kOriginXattr, std::to_string(ino_), 0));
  AttrChange change;
  change.mode = attr.mode & 07777;
  change.uid = attr.uid;
  change.gid = attr.gid;
  change.atime = attr.atime;
  change.mtime = attr.mtime;
  return to.setattr(park, change);
}

// A new upper file without a name yet, holding the contents.
Result<Ref<Inode>> OverlayInode::copy_regular(Park& park, const FileAttr& attr,
                                              uint64_t data_limit) {
  constexpr size_t kChunk = 128 * 1024;
  MakeNode node;
  node.mode = S_IFREG | 0600;
  Ref<Inode> made = TRY(parent_->upper_->tmpfile(park, node));
  uint64_t total = std::min(attr.size, data_limit);
  if (total == 0) return made;
  auto root = make_ref<Cred>();
  Ref<File> from = TRY(lower_->open(park, real_path(Path(), *lower_), O_RDONLY, *root));
  Ref<File> to = TRY(made->open(park, real_path(Path(), *made), O_WRONLY, *root));
  std::vector<std::byte> buf(std::min<uint64_t>(kChunk, total));
  uint64_t at = 0;
  while (at < total) {
    std::span<std::byte> room(buf.data(), std::min<uint64_t>(buf.size(), total - at));
    BufferSink sink(room);
    size_t n = TRY(from->read(park, sink, at));
    if (n == 0) break;
    std::span<const std::byte> piece(buf.data(), n);
    bool zeros =
        std::all_of(piece.begin(), piece.end(), [](std::byte b) { return b == std::byte{}; });
    uint64_t offset = at;
    for (BufferSource source(piece); !zeros && source.remaining() > 0;) {
      if (TRY(to->write(park, source, offset)) == 0) return Err(Errno::kIO);
    }
    at += n;
  }
  TRY(to->truncate(park, total));
  return made;
}

Result<> OverlayInode::setattr(Park& park, const AttrChange& change) {
  TRY(copy_up(park, change.size.value_or(UINT64_MAX)));
  return upper_->setattr(park, change);
}

Result<std::string> OverlayInode::getxattr(Park& park, std::string_view name) {
  if (name.substr(0, kOverlayXattrs.size()) == kOverlayXattrs) return Err(Errno::kNODATA);
  return Ref<Inode>(&real())->getxattr(park, name);
}

Result<> OverlayInode::setxattr(Park& park, std::string_view name, std::string_view value,
                                int flags) {
  if (name.substr(0, kOverlayXattrs.size()) == kOverlayXattrs) return Err(Errno::kPERM);
  TRY(copy_up(park));
  return upper_->setxattr(park, name, value, flags);
}

Result<> OverlayInode::removexattr(Park& park, std::string_view name) {
  if (name.substr(0, kOverlayXattrs.size()) == kOverlayXattrs) return Err(Errno::kPERM);
  TRY(Ref<Inode>(&real())->getxattr(park, name));  // kNODATA needs no copy
  TRY(copy_up(park));
  return upper_->removexattr(park, name);
}

Result<std::vector<std::string>> OverlayInode::listxattr(Park& park) {
  std::vector<std::string> names = TRY(Ref<Inode>(&real())->listxattr(park));
  std::erase_if(names, [](const std::string& n) {
    return std::string_view(n).substr(0, kOverlayXattrs.size()) == kOverlayXattrs;
  });
  return names;
}

}  // namespace uk
