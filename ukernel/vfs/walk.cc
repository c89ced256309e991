// Path walks: path_resolution(7), symlink(7), openat2(2).
#include "ukernel/vfs/vfs_impl.h"

namespace uk {

Result<Ref<Dentry>> Vfs::Impl::lookup(Park& park, Dentry& dir, std::string_view name, bool locked) {
  Ref<Inode> parent = dir.inode_ref();
  if (parent == nullptr || parent->type() != S_IFDIR) return Err(Errno::kNOTDIR);
  // The filesystem says so on Linux; where the directory is gone it is not asked.
  if (name.size() > kNameMax && !dir.unlinked()) return Err(Errno::kNAMETOOLONG);
  const bool asks_always = parent->sb().volatile_names();
  const bool keeps = parent->sb().keeps_names();
  if (Ref<Dentry> d = dir.child(name); d != nullptr && (!asks_always || d->mount_count != 0)) {
    if (keeps) names.touch(*d);
    return d;
  }
  Ref<Dentry> keep(&dir);
  if (!locked) parent->dir_lock.lock(park);
  struct Unlock {
    Mutex* m;
    ~Unlock() {
      if (m != nullptr) m->unlock();
    }
  } unlock{locked ? nullptr : &parent->dir_lock};

  Ref<Dentry> d = dir.child(name);  // somebody may have looked it up while we waited
  if (d != nullptr && !asks_always) {
    if (keeps) names.touch(*d);
    return d;
  }
  if (dir.unlinked()) return make_ref<Dentry>(nullptr, std::string(name), nullptr);
  Result<Ref<Inode>> found = parent->lookup(park, name);
  if (!found && found.error() != Errno::kNOENT) return Err(found.error());
  Ref<Inode> inode = found ? *std::move(found) : Ref<Inode>();
  d = dir.child(name);
  if (d != nullptr) {
    bool same = d->inode() == inode.get() ||
                (d->inode() != nullptr && inode != nullptr && d->inode()->same_as(*inode));
    if (!same && d->inode() == nullptr) {
      d->set_inode(std::move(inode));
      same = true;
    }
    if (same) {
      if (keeps) names.touch(*d);
      return d;
    }
    drop(*d);
  }
  d = make_ref<Dentry>(keep, std::string(name), std::move(inode));
  if (keeps && (!asks_always || d->inode() != nullptr)) names.touch(*d);
  return d;
}

Path Vfs::follow_mounts(Path p) const {
  while (p.dentry != nullptr && p.dentry->mount_count != 0) {
    auto it = impl_->mounted.find({p.mount.get(), p.dentry.get()});
    if (it == impl_->mounted.end()) break;
    Ref<Mount> m(it->second);
    p.dentry = m->root;
    p.mount = std::move(m);
  }
  return p;
}

Result<> Walker::enter_mounts(Path& p) {
  if (p.dentry->mount_count == 0) return {};
  const Mount* before = p.mount.get();
  p = vfs_.follow_mounts(std::move(p));
  if (p.mount.get() != before && (flags_ & kWalkNoXdev) != 0) return Err(Errno::kXDEV);
  return {};
}

Result<> Walker::start(WalkFrom from, std::string_view path) {
  if (path.empty() && (flags_ & kWalkEmptyOk) == 0) return Err(Errno::kNOENT);
  if (path.size() >= kPathMax) return Err(Errno::kNAMETOOLONG);
  const Path& base = from.base != nullptr ? *from.base : ctx_.cwd;
  root_ = scoped() ? base : ctx_.root;
  rest_ = path;
  if (!path.empty() && path[0] == '/') {
    if ((flags_ & kWalkBeneath) != 0) return Err(Errno::kXDEV);
    cur_ = root_;
  } else {
    cur_ = base;
    if (!path.empty() && cur_.inode() != nullptr && cur_.inode()->type() != S_IFDIR) {
      return Err(Errno::kNOTDIR);
    }
  }
  if (!cur_) return Err(Errno::kNOENT);
  return {};
}

Result<> Walker::to_parent() {
  for (;;) {
    size_t first = rest_.find_first_not_of('/');
    if (first == std::string_view::npos) {  // "/", or "" of an empty path
      last_ = Last::kRoot;
      name_.clear();
      trailing_ = !rest_.empty();
      rest_ = {};
      return {};
    }
    size_t end = rest_.find('/', first);
    std::string_view comp = rest_.substr(first, end == std::string_view::npos ? end : end - first);
    rest_ = end == std::string_view::npos ? std::string_view() : rest_.substr(end);
    Ref<Inode> dir = cur_.dentry->inode_ref();
    if (dir == nullptr) return Err(Errno::kNOENT);
    if (dir->type() != S_IFDIR) return Err(Errno::kNOTDIR);
    TRY(vfs_.check_permission(park_, *dir, *ctx_.cred, kMayExec));
    if (rest_.find_first_not_of('/') == std::string_view::npos) {
      last_ = comp == "." ? Last::kDot : comp == ".." ? Last::kDotDot : Last::kName;
      name_ = comp;
      trailing_ = !rest_.empty();
      return {};
    }
    TRY(step(comp, true));
  }
}

Result<bool> Walker::take_last(bool follow) {
  switch (last_) {
    case Last::kRoot:
    case Last::kDot:
      return false;
    case Last::kDotDot:
      TRY(dot_dot());
      return false;
    case Last::kName:
      break;
  }
  return step(name_, follow);
}

Result<bool> Walker::step(std::string_view name, bool follow) {
  if (name == ".") return false;
  if (name == "..") {
    TRY(dot_dot());
    return false;
  }
  Ref<Dentry> dir = cur_.dentry;
  Ref<Dentry> child = TRY(impl_.lookup(park_, *dir, name, false));
  if (child->inode() == nullptr) return Err(Errno::kNOENT);
  Path next(cur_.mount, std::move(child));
  TRY(enter_mounts(next));
  if (follow && next.inode()->type() == S_IFLNK) {
    TRY(follow_link(next));
    return true;
  }
  cur_ = std::move(next);
  return false;
}

Result<> Walker::dot_dot() {
  if (cur_ == root_) {
    if ((flags_ & kWalkBeneath) != 0) return Err(Errno::kXDEV);
    return {};
  }
  while (cur_.dentry == cur_.mount->root) {
    if (cur_.mount->parent == nullptr) return {};
    if ((flags_ & kWalkNoXdev) != 0) return Err(Errno::kXDEV);
    cur_ = Path(cur_.mount->parent, cur_.mount->mountpoint);
    if (cur_ == root_) return {};
  }
  if (Dentry* up = cur_.dentry->parent()) cur_.dentry = Ref<Dentry>(up);
  return enter_mounts(cur_);
}

// protected_symlinks (proc_sys_fs(5)): a link at the end of a path, in a sticky directory that all
// may write, is followed only if it is ours or the directory owner's.
Result<> Walker::may_follow(const Path& link) {
  if (!vfs_.settings.protected_symlinks || !rest_.empty()) return {};
  const FileAttr attr = TRY(link.inode()->getattr(park_));
  if (attr.uid == ctx_.cred->fsuid) return {};
  const FileAttr dir = TRY(cur_.inode()->getattr(park_));
  if ((dir.mode & (S_ISVTX | S_IWOTH)) != (S_ISVTX | S_IWOTH) || dir.uid == attr.uid) return {};
  return Err(Errno::kACCES);
}

Result<> Walker::follow_link(const Path& link) {
  if (++links_ > kMaxSymlinks || (flags_ & kWalkNoSymlinks) != 0) return Err(Errno::kLOOP);
  if (link.mount != nullptr && (link.mount->flags & kMntNosymfollow) != 0) return Err(Errno::kLOOP);
  Ref<Inode> inode = link.dentry->inode_ref();
  TRY(may_follow(link));
  if (inode->is_magic_link()) {
    if ((flags_ & kWalkNoMagiclinks) != 0) return Err(Errno::kLOOP);
    if (scoped()) return Err(Errno::kXDEV);
    Path target = TRY(inode->magic_target(park_, *ctx_.cred));
    if ((flags_ & kWalkNoXdev) != 0 && target.mount != cur_.mount) return Err(Errno::kXDEV);
    cur_ = std::move(target);
    last_ = Last::kRoot;
    return {};
  }
  std::string target = TRY(vfs_.readlink(park_, link));
  if (target.empty()) return Err(Errno::kNOENT);
  if (target.size() >= kPathMax) return Err(Errno::kNAMETOOLONG);
  if (target[0] == '/') {
    if ((flags_ & kWalkBeneath) != 0) return Err(Errno::kXDEV);
    if ((flags_ & kWalkNoXdev) != 0 && root_.mount != cur_.mount) return Err(Errno::kXDEV);
    cur_ = root_;
  }
  target += rest_;
  buffer_ = std::move(target);
  rest_ = buffer_;
  return {};
}

Result<> Walker::check_end() {
  if ((trailing_ || (flags_ & kWalkDirectory) != 0) && cur_.inode() != nullptr &&
      cur_.inode()->type() != S_IFDIR) {
    return Err(Errno::kNOTDIR);
  }
  if (!scoped()) return {};
  // A rename may have moved what we stand on out of the base meanwhile.
  Path p = cur_;
  for (;;) {
    if (p == root_) return {};
    if (p.dentry != p.mount->root && p.dentry->parent() != nullptr) {
      p.dentry = Ref<Dentry>(p.dentry->parent());
    } else if (p.mount->parent != nullptr) {
      p = Path(p.mount->parent, p.mount->mountpoint);
    } else {
      return Err(Errno::kXDEV);
    }
  }
}

Result<Path> Walker::walk() {
  for (;;) {
    TRY(to_parent());
    bool follow = (flags_ & kWalkFollow) != 0 || trailing_;
    if (!TRY(take_last(follow))) break;
    if (rest_.empty()) break;  // a magic link, nothing behind it
  }
  TRY(check_end());
  return cur_;
}

Result<Path> Vfs::walk(Park& park, const FsContext& ctx, WalkFrom from, std::string_view path,
                       uint32_t flags) {
  Walker w(*this, *impl_, park, ctx, flags);
  TRY(w.start(from, path));
  return w.walk();
}

Result<Vfs::Parent> Vfs::walk_parent(Park& park, const FsContext& ctx, WalkFrom from,
                                     std::string_view path, uint32_t flags) {
  Walker w(*this, *impl_, park, ctx, flags);
  TRY(w.start(from, path));
  TRY(w.to_parent());
  return Parent{w.at(), std::string(w.name()), w.trailing_slash(), w.last()};
}

}  // namespace uk
