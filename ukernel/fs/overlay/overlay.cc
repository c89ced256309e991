// overlay: the superblock, attributes, lookups, names.
#include "ukernel/fs/overlay/overlay.h"

#include <charconv>

#include "ukernel/fs/overlay/overlay_inode.h"

namespace uk {

constexpr uint32_t kRenameExchange = 2, kRenameWhiteout = 4;

OverlaySuper::OverlaySuper(Vfs& v, Ref<SuperBlock> upper_sb, Ref<SuperBlock> lower_sb)
    : vfs(v), upper(std::move(upper_sb)), lower(std::move(lower_sb)) {
  dev = v.new_anon_dev();
}

uint64_t OverlaySuper::lower_ino(const FileAttr& attr) const {
  if (attr.dev == lower->dev) return attr.ino;
  return attr.ino ^ (static_cast<uint64_t>(dev_minor(attr.dev)) << 40);  // another host device
}

Result<Ref<SuperBlock>> make_overlay(Vfs& vfs, Ref<Inode> upper_root, Ref<Inode> lower_root,
                                     Ref<Inode>* root) {
  if (upper_root->type() != S_IFDIR || lower_root->type() != S_IFDIR) return Err(Errno::kNOTDIR);
  auto sb = make_ref<OverlaySuper>(vfs, Ref<SuperBlock>(&upper_root->sb()),
                                   Ref<SuperBlock>(&lower_root->sb()));
  constexpr uint64_t kRootIno = 2;
  *root = make_ref<OverlayInode>(sb, std::move(upper_root), std::move(lower_root), nullptr, "",
                                 kRootIno);
  return Ref<SuperBlock>(sb);
}

bool is_whiteout(Park& park, Inode& inode) {
  if (inode.type() != S_IFCHR) return false;
  auto attr = inode.getattr(park);
  return attr && attr->rdev == 0;
}

Result<Ref<OverlayInode>> OverlaySuper::join(Park& park, Ref<Inode> upper_inode,
                                             Ref<Inode> lower_inode, Ref<OverlayInode> parent,
                                             std::string_view name) {
  bool is_dir = (upper_inode != nullptr ? upper_inode : lower_inode)->type() == S_IFDIR;
  uint64_t ino = 0;
  if (upper_inode != nullptr) {
    if (auto it = by_upper.find(upper_inode.get()); it != by_upper.end()) {
      return Ref<OverlayInode>(it->second);
    }
    ino = upper_ino(TRY(upper_inode->getattr(park)).ino);
    if (auto origin = upper_inode->getxattr(park, kOriginXattr)) {
      uint64_t old = 0;
      auto [end, error] = std::from_chars(origin->data(), origin->data() + origin->size(), old);
      if (error == std::errc() && *end == '\0') ino = old;
    }
  }
  if (lower_inode != nullptr) {
    FileAttr attr = TRY(lower_inode->getattr(park));
    ino = lower_ino(attr);
    // Hard links are told apart, for copying one up leaves the others as they are.
    if (upper_inode == nullptr && (is_dir || attr.nlink <= 1)) {
      if (auto it = by_lower.find(lower_inode.get()); it != by_lower.end()) {
        return Ref<OverlayInode>(it->second);
      }
    }
  }
  return make_ref<OverlayInode>(Ref<OverlaySuper>(this), std::move(upper_inode),
                                std::move(lower_inode), std::move(parent), std::string(name), ino);
}

OverlayInode::OverlayInode(Ref<OverlaySuper> sb, Ref<Inode> upper, Ref<Inode> lower,
                           Ref<OverlayInode> parent, std::string name, uint64_t ino)
    : Inode(std::move(sb)),
      upper_(std::move(upper)),
      lower_(std::move(lower)),
      parent_(std::move(parent)),
      name_(std::move(name)),
      ino_(ino) {
  if (upper_ != nullptr) super().by_upper.emplace(upper_.get(), this);
  if (lower_ != nullptr && upper_ == nullptr) super().by_lower.emplace(lower_.get(), this);
}

OverlayInode::~OverlayInode() {
  auto forget = [this](auto& map, const Inode* key) {
    auto it = map.find(key);
    if (it != map.end() && it->second == this) map.erase(it);
  };
  forget(super().by_upper, upper_.get());
  forget(super().by_lower, lower_.get());
  Ref<OverlayInode> up = std::move(parent_);  // not by recursion
  while (up != nullptr && up->ref_count() == 1) {
    Ref<OverlayInode> next = std::move(up->parent_);
    up = std::move(next);
  }
}

Result<FileAttr> OverlayInode::getattr(Park& park) {
  Ref<Inode> from(&real());
  FileAttr attr = TRY(from->getattr(park));
  attr.ino = ino_;
  attr.dev = sb().dev;
  if (type() == S_IFDIR) {
    // A directory in memory takes no blocks; shown as one of a disk filesystem, which the lower
    // ones are.
    if (upper_ != nullptr) attr.size = kPageSize, attr.blocks = kPageSize / 512;
    if (unlinked_) {
      attr.nlink = 0;
    } else if (upper_ != nullptr && lower_ != nullptr) {
      attr.nlink = 1;  // as Linux's: the number of subdirectories is not known
    }
  } else if (upper_ == nullptr) {
    attr.nlink -= std::min(attr.nlink, lower_links_lost_);
  }
  return attr;
}

Result<Ref<Inode>> OverlayInode::lookup(Park& park, std::string_view name) {
  if (type() != S_IFDIR) return Err(Errno::kNOTDIR);
  Ref<OverlayInode> self(this);
  Ref<Inode> from_upper, from_lower;
  if (upper_ != nullptr) {
    auto found = upper_->lookup(park, name);
    if (!found && found.error() != Errno::kNOENT) return found;
    if (found) from_upper = *std::move(found);
    if (from_upper != nullptr && is_whiteout(park, *from_upper)) return Err(Errno::kNOENT);
  }
  bool hides = false;
  if (from_upper != nullptr) {
    hides = from_upper->type() != S_IFDIR;
    if (!hides && lower_ != nullptr) {
      auto opaque = from_upper->getxattr(park, kOpaqueXattr);
      hides = opaque && *opaque == "y";
    }
  }
  if (!hides && lower_ != nullptr) {
    auto found = lower_->lookup(park, name);
    if (!found && found.error() != Errno::kNOENT) return found;
    if (found) from_lower = *std::move(found);
    if (from_upper != nullptr && from_lower != nullptr && from_lower->type() != S_IFDIR) {
      from_lower.reset();
    }
  }
  if (from_upper == nullptr && from_lower == nullptr) return Err(Errno::kNOENT);
  return Ref<Inode>(
      TRY(super().join(park, std::move(from_upper), std::move(from_lower), self, name)));
}

bool OverlayInode::lower_has(Park& park, std::string_view name) {
  return lower_ != nullptr && lower_->lookup(park, name).has_value();
}

bool OverlayInode::lower_has_dir(Park& park, std::string_view name) {
  if (lower_ == nullptr) return false;
  auto found = lower_->lookup(park, name);
  return found && (*found)->type() == S_IFDIR;
}

Result<> OverlayInode::whiteout(Park& park, std::string_view name) {
  MakeNode node;
  node.mode = S_IFCHR;
  TRY(upper_->create(park, name, node));
  return {};
}

Result<bool> OverlayInode::unwhiteout(Park& park, std::string_view name) {
  auto found = upper_->lookup(park, name);
  if (!found || !is_whiteout(park, **found)) return false;
  TRY(upper_->unlink(park, name, **found));
  return true;
}

Result<Ref<Inode>> OverlayInode::create(Park& park, std::string_view name, const MakeNode& node) {
  if (is_type(node.mode, S_IFCHR) && node.rdev == 0) return Err(Errno::kPERM);  // would be hidden
  TRY(copy_up(park));
  bool was_hidden = TRY(unwhiteout(park, name));
  Result<Ref<Inode>> made = upper_->create(park, name, node);
  if (!made) {
    if (was_hidden) (void)whiteout(park, name);
    return made;
  }
  if (was_hidden && is_type(node.mode, S_IFDIR)) {
    TRY((*made)->setxattr(park, kOpaqueXattr, "y", 0));
  }
  return Ref<Inode>(TRY(super().join(park, *made, nullptr, Ref<OverlayInode>(this), name)));
}

Result<> OverlayInode::link(Park& park, std::string_view name, Inode& target) {
  auto& inode = static_cast<OverlayInode&>(target);
  TRY(inode.copy_up(park));
  TRY(copy_up(park));
  bool was_hidden = TRY(unwhiteout(park, name));
  Result<> linked = upper_->link(park, name, *inode.upper_);
  if (!linked && was_hidden) (void)whiteout(park, name);
  if (linked && inode.unlinked_) {
    inode.unlinked_ = false;
    inode.parent_ = Ref<OverlayInode>(this);
    inode.name_ = name;
  }
  return linked;
}

Result<> OverlayInode::unlink(Park& park, std::string_view name, Inode& victim) {
  auto& inode = static_cast<OverlayInode&>(victim);
  TRY(copy_up(park));
  auto in_upper = upper_->lookup(park, name);
  if (in_upper) TRY(upper_->unlink(park, name, **in_upper));
  if (lower_has(park, name)) TRY(whiteout(park, name));
  if (!in_upper) ++inode.lower_links_lost_;
  inode.unlinked_ = true;
  return {};
}

// Only whiteouts and what they hide.
Result<> OverlayInode::check_empty(Park& park) {
  Ref<OverlayInode> self(this);
  Path path(nullptr, make_ref<Dentry>(nullptr, name_, self));
  Ref<File> dir = open_overlay_dir(path, O_RDONLY | O_DIRECTORY);
  bool empty = true;
  TRY(dir->readdir(park, [&](const DirEntry& e) {
    if (e.name == "." || e.name == "..") return true;
    empty = false;
    return false;
  }));
  return empty ? Result<>() : Err(Errno::kNOTEMPTY);
}

Result<> OverlayInode::clear_whiteouts(Park& park) {
  if (upper_ == nullptr) return {};
  Path path(nullptr, make_ref<Dentry>(nullptr, name_, upper_));
  auto root = make_ref<Cred>();
  Ref<File> dir = TRY(upper_->open(park, path, O_RDONLY | O_DIRECTORY, *root));
  std::vector<std::string> names;
  TRY(dir->readdir(park, [&](const DirEntry& e) {
    if (e.name != "." && e.name != "..") names.emplace_back(e.name);
    return true;
  }));
  for (const std::string& n : names) TRY(unwhiteout(park, n));
  return {};
}

Result<> OverlayInode::rmdir(Park& park, std::string_view name, Inode& victim) {
  auto& inode = static_cast<OverlayInode&>(victim);
  TRY(inode.check_empty(park));
  TRY(copy_up(park));
  if (inode.upper_ != nullptr) {
    TRY(inode.clear_whiteouts(park));
    TRY(upper_->rmdir(park, name, *inode.upper_));
  }
  if (lower_has(park, name)) TRY(whiteout(park, name));
  inode.unlinked_ = true;
  return {};
}

Result<> OverlayInode::rename(Park& park, std::string_view old_name, Inode& moved, Inode& new_dir,
                              std::string_view new_name, Inode* replaced, uint32_t flags) {
  if ((flags & kRenameWhiteout) != 0) return Err(Errno::kINVAL);
  auto& inode = static_cast<OverlayInode&>(moved);
  auto& to = static_cast<OverlayInode&>(new_dir);
  auto* other = static_cast<OverlayInode*>(replaced);
  bool exchange = (flags & kRenameExchange) != 0;
  std::string old_key(old_name), new_key(new_name);
  // A directory of the lower tree cannot move: its contents are found by its name.
  if (inode.type() == S_IFDIR && !inode.pure_upper_dir()) return Err(Errno::kXDEV);
  if (exchange && other->type() == S_IFDIR && !other->pure_upper_dir()) return Err(Errno::kXDEV);
  if (!exchange && other != nullptr && other->type() == S_IFDIR) TRY(other->check_empty(park));
  TRY(inode.copy_up(park));
  TRY(copy_up(park));
  TRY(to.copy_up(park));
  if (exchange) TRY(other->copy_up(park));

  bool was_hidden = TRY(to.unwhiteout(park, new_key));
  Inode* upper_replaced = nullptr;
  if (other != nullptr && other->upper_ != nullptr) {
    if (!exchange && other->type() == S_IFDIR) TRY(other->clear_whiteouts(park));
    upper_replaced = other->upper_.get();
  }
  Result<> done =
      upper_->rename(park, old_key, *inode.upper_, *to.upper_, new_key, upper_replaced, flags);
  if (!done) {
    if (was_hidden) (void)to.whiteout(park, new_key);
    return done;
  }
  if (inode.type() == S_IFDIR && to.lower_has_dir(park, new_key)) {
    TRY(inode.upper_->setxattr(park, kOpaqueXattr, "y", 0));
  }
  if (exchange) {
    if (other->type() == S_IFDIR && lower_has_dir(park, old_key)) {
      TRY(other->upper_->setxattr(park, kOpaqueXattr, "y", 0));
    }
    other->parent_ = Ref<OverlayInode>(this);
    other->name_ = old_key;
  } else {
    if (lower_has(park, old_key)) TRY(whiteout(park, old_key));
    if (other != nullptr) {
      if (other->upper_ == nullptr) ++other->lower_links_lost_;
      other->unlinked_ = true;
    }
  }
  inode.parent_ = Ref<OverlayInode>(&to);
  inode.name_ = new_key;
  return {};
}

Result<Ref<Inode>> OverlayInode::tmpfile(Park& park, const MakeNode& node) {
  TRY(copy_up(park));
  Ref<Inode> made = TRY(upper_->tmpfile(park, node));
  Ref<OverlayInode> inode =
      TRY(super().join(park, std::move(made), nullptr, Ref<OverlayInode>(this), "#"));
  inode->unlinked_ = true;
  return Ref<Inode>(std::move(inode));
}

}  // namespace uk
