// Mounts: attaching, moving, taking away; names of paths.
#include <sys/inotify.h>
#include <sys/mount.h>

#include <algorithm>

#include "ukernel/vfs/move_mount.h"
#include "ukernel/vfs/vfs_impl.h"

#ifndef MNT_FORCE
#define MNT_FORCE 1
#define MNT_DETACH 2
#define MNT_EXPIRE 4
#endif

namespace uk {
namespace {

// Host memory of one mount, as far as guests can make more of them.
constexpr size_t kMountBytes = 512;

// A name on which nothing can be mounted any more, or never could: a link into a process's files.
bool no_place(const Dentry& d) {
  return d.unlinked() || (d.inode() != nullptr && d.inode()->is_magic_link());
}

bool is_dir(const Dentry& d) { return d.inode() != nullptr && d.inode()->type() == S_IFDIR; }

// Not a mount of ours, nor one without a place of its own.
bool foreign(const FsContext& ctx, const Mount* m) {
  return m == nullptr || m->ns == nullptr || (m->ns != ctx.ns && !m->ns->anonymous);
}

}  // namespace

Mount::Mount(std::shared_ptr<MountCounters> counters) : counters_(std::move(counters)) {
  ++counters_->mounts;
}
Mount::~Mount() { --counters_->mounts; }

bool mounted_below(const Mount* m, const Mount& top) {
  for (; m != nullptr; m = m->parent.get()) {
    if (m == &top) return true;
  }
  return false;
}

MountNamespace::~MountNamespace() {
  while (!mounts.empty()) {
    Ref<Mount> m = mounts.begin()->second;
    vfs->impl().dissolve(*m);
  }
}

void Vfs::Impl::hang(Mount& m, Ref<Mount> parent, Ref<Dentry> mountpoint) {
  m.parent = std::move(parent);
  m.mountpoint = std::move(mountpoint);
  mounted[{m.parent.get(), m.mountpoint.get()}] = &m;
  ++m.mountpoint->mount_count;
  m.parent->children.push_back(m);
}

void Vfs::Impl::unhang(Mount& m) {
  if (m.parent == nullptr) return;
  auto it = mounted.find({m.parent.get(), m.mountpoint.get()});
  if (it != mounted.end() && it->second == &m) {
    mounted.erase(it);
    --m.mountpoint->mount_count;
  }
  m.ListNode<ChildTag>::unlink();
  m.parent.reset();
  m.mountpoint.reset();
}

Ref<MountNamespace> Vfs::Impl::anonymous(Vfs& vfs, const MountNamespace* like) {
  auto ns = make_ref<MountNamespace>();
  ns->vfs = &vfs;
  ns->anonymous = true;
  if (like != nullptr) ns->owner = like->owner;
  return ns;
}

Result<Ref<Mount>> Vfs::Impl::new_mount(Vfs& vfs, MountNamespace& ns, Ref<SuperBlock> sb,
                                        Ref<Dentry> root, std::string source, uint32_t flags) {
  if (ns.mounts.size() >= vfs.settings.mount_max ||
      counters->mounts >= vfs.mem().total_pages() * kPageSize / 8 / kMountBytes) {
    return Err(Errno::kNOSPC);
  }
  if (sb->dev == 0) sb->dev = vfs.new_anon_dev();
  auto m = make_ref<Mount>(counters);
  m->sb = std::move(sb);
  m->root = std::move(root);
  m->flags = flags & kMntKept;
  m->id = next_mount_id++;
  m->source = std::move(source);
  m->ns = &ns;
  ++m->sb->mounts;
  ns.mounts.emplace(m->id, m);
  return m;
}

void Vfs::Impl::dissolve(Mount& m) {
  Ref<Mount> keep(&m);
  leave_groups(m);
  while (!m.children.empty()) unhang(m.children.front());
  unhang(m);
  if (m.ns == nullptr) return;
  if (m.ns->root.get() == &m) m.ns->root.reset();
  m.ns->mounts.erase(m.id);
  m.ns = nullptr;
  if (--m.sb->mounts > 0) return;
  names.forget_all(*m.sb);
  handles.forget_all(*m.sb);
}

Result<> Vfs::Impl::graft(Vfs& vfs, MountNamespace& from, const Path& at) {
  Ref<Mount> top = from.root;
  MountNamespace& target = *at.mount->ns;
  if (target.mounts.size() + from.mounts.size() > vfs.settings.mount_max) return Err(Errno::kNOSPC);
  std::vector<Placed> copies;
  if (at.mount->shared) {
    std::vector<Mount*> newly;
    for (Mount* m : mount_tree(*top)) {
      if (m->shared) continue;
      share(*m);
      newly.push_back(m);
    }
    auto made = spread(vfs, *top, at);
    if (!made) {
      for (Mount* m : newly) {  // alone again: the copies are gone
        Ref<PeerGroup> master = m->master;
        leave_groups(*m);
        m->master = master;
        if (master) master->slaves.push_back(*m);
      }
      return Err(made.error());
    }
    copies = std::move(*made);
  }
  Ref<MountNamespace> keep(&from);
  copies.insert(copies.begin(), {keep, at.mount});
  for (const Placed& p : copies) {
    MountNamespace& ns = *p.parent->ns;
    Ref<Mount> root = std::move(p.tree->root);
    for (auto& [id, m] : p.tree->mounts) {
      m->ns = &ns;
      ns.mounts.emplace(id, m);
    }
    p.tree->mounts.clear();
    // What was there already lies on top of what came by propagation.
    Ref<Mount> over(mounted_at(*p.parent, *at.dentry));
    if (over) unhang(*over);
    hang(*root, p.parent, at.dentry);
    if (over) hang(*over, root, root->root);
    ns.notify_changed();
  }
  return {};
}

Result<Ref<Mount>> Vfs::new_root(Park& park, MountNamespace& ns, Ref<SuperBlock> sb,
                                 Ref<Inode> root, std::string source, uint32_t flags) {
  (void)park;
  if (ns.root != nullptr) return Err(Errno::kBUSY);
  if (root == nullptr || root->type() != S_IFDIR) return Err(Errno::kNOTDIR);
  ns.vfs = this;
  ns.id = impl_->next_mount_ns++;
  ns.root =
      TRY(impl_->new_mount(*this, ns, std::move(sb), make_ref<Dentry>(nullptr, "", std::move(root)),
                           std::move(source), flags | kMntRelatime));
  return ns.root;
}

Result<Ref<Mount>> Vfs::attach(MountNamespace& ns, const Path& at, Ref<SuperBlock> sb,
                               Ref<Dentry> root, std::string source, uint32_t flags) {
  Path top = follow_mounts(at);
  if (top.dentry == nullptr || top.mount == nullptr || top.mount->ns != &ns) {
    return Err(Errno::kINVAL);
  }
  if (is_dir(*top.dentry) != is_dir(*root)) return Err(Errno::kNOTDIR);
  if (no_place(*top.dentry)) return Err(Errno::kNOENT);
  Ref<MountNamespace> tree = impl_->anonymous(*this, &ns);
  Ref<Mount> m =
      TRY(impl_->new_mount(*this, *tree, std::move(sb), std::move(root), std::move(source), flags));
  tree->root = m;
  TRY(impl_->graft(*this, *tree, top));
  return m;
}

Result<Ref<Mount>> Vfs::mount(Park& park, const FsContext& ctx, const Path& at,
                              std::string_view type, const std::string& source,
                              const std::string& options, uint32_t flags) {
  NewSuper made = TRY(make_super(park, ctx, type, source, options, (flags & kMntRdonly) != 0));
  if ((flags & kMntRdonly) != 0) made.sb->read_only = true;
  Path top = follow_mounts(at);
  if (top.mount != nullptr && top.mount->sb == made.sb && top.dentry == top.mount->root)
    return Err(Errno::kBUSY);
  return attach(*ctx.ns, at, std::move(made.sb), std::move(made.root), source, flags);
}

namespace {

// The root of a user namespace's filesystem is its maker's; ids in the options are the namespace's.
Result<> give_to(Park& park, Inode& root, const Cred& cred, const std::string& options) {
  const FileAttr attr = TRY(root.getattr(park));
  AttrChange change;
  change.uid = cred.fsuid;
  change.gid = cred.fsgid;
  if (options.find("uid=") != std::string::npos) {
    change.uid = kernel_uid(cred.user_ns.get(), attr.uid);
    if (!change.uid) return Err(Errno::kINVAL);
  }
  if (options.find("gid=") != std::string::npos) {
    change.gid = kernel_gid(cred.user_ns.get(), attr.gid);
    if (!change.gid) return Err(Errno::kINVAL);
  }
  return root.setattr(park, change);
}

// The block device of a special file (lookup_bdev() in Linux).
Result<uint64_t> device_of(Park& park, Vfs& vfs, const FsContext& ctx, const std::string& source) {
  const Path path = TRY(vfs.walk(park, ctx, {}, source, kWalkFollow));
  if (path.inode() == nullptr) return Err(Errno::kNOENT);
  if (path.inode()->type() != S_IFBLK) return Err(Errno::kNOTBLK);
  if (path.mount != nullptr && (path.mount->flags & kMntNodev) != 0) return Err(Errno::kACCES);
  return TRY(path.inode()->getattr(park)).rdev;
}

}  // namespace

Result<Vfs::NewSuper> Vfs::make_super(Park& park, const FsContext& ctx, std::string_view type,
                                      const std::string& source, const std::string& options,
                                      bool read_only) {
  auto found = std::find_if(impl_->types.begin(), impl_->types.end(),
                            [&](const FsType& t) { return t.name == type; });
  if (found == impl_->types.end()) return Err(Errno::kNODEV);
  const Ref<UserNamespace> owner = ctx.cred->user_ns;
  if (owner != nullptr && !found->user_mounts) return Err(Errno::kPERM);
  auto make = found->mount;
  auto make_of_device = found->mount_device;
  Ref<Inode> root;
  Ref<SuperBlock> sb;
  if (found->needs_device) {
    const uint64_t rdev = TRY(device_of(park, *this, ctx, source));
    sb = TRY(make_of_device(park, rdev, read_only, options, &root));
    if (sb->mounts == 0) sb->read_only = read_only;
  } else {
    sb = TRY(make(park, *this, source, options, &root));
  }
  // A superblock that is mounted already has its root's dentry.
  if (sb->mounts > 0) {
    for (const auto& [id, m] : ctx.ns->mounts) {
      if (m->sb == sb && m->root->inode() == root.get()) return NewSuper{sb, m->root};
    }
  } else if (owner != nullptr && sb->user_ns == nullptr) {  // nobody's else
    sb->user_ns = owner;
    TRY(give_to(park, *root, *ctx.cred, options));
  }
  return NewSuper{sb, make_ref<Dentry>(nullptr, "", root)};
}

Result<Ref<MountNamespace>> Vfs::detached_copy(const FsContext& ctx, const Path& from,
                                               bool recursive) {
  if (from.mount == nullptr) return Err(Errno::kINVAL);
  if (!from.mount->internal && foreign(ctx, from.mount.get())) return Err(Errno::kINVAL);
  // A namespace's file may not be mounted where it would keep itself alive.
  const MountNamespace* named = from.inode()->mount_namespace();
  if (named != nullptr && named->id >= ctx.ns->id) return Err(Errno::kINVAL);
  if (!recursive) {
    for (const Mount& child : from.mount->children) {
      if (child.locked && dentry_below(child.mountpoint.get(), from.dentry.get()))
        return Err(Errno::kINVAL);
    }
  }
  return impl_->copy_tree(*this, *from.mount, from.dentry, {}, ctx.ns, recursive);
}

Result<Ref<MountNamespace>> Vfs::detached_mount(const FsContext& ctx, Ref<SuperBlock> sb,
                                                Ref<Dentry> root, std::string source,
                                                uint32_t flags) {
  Ref<MountNamespace> tree = impl_->anonymous(*this, ctx.ns);
  tree->root =
      TRY(impl_->new_mount(*this, *tree, std::move(sb), std::move(root), std::move(source), flags));
  return tree;
}

Ref<Mount> Vfs::internal_mount(Ref<SuperBlock> sb) {
  if (sb->dev == 0) sb->dev = new_anon_dev();
  auto m = make_ref<Mount>(impl_->counters);
  m->sb = std::move(sb);
  m->id = impl_->next_mount_id++;
  m->internal = true;
  m->source = m->sb->fs_type();
  return m;
}

Result<Ref<Mount>> Vfs::bind(const FsContext& ctx, const Path& from, const Path& at,
                             bool recursive) {
  Path top = follow_mounts(at);
  if (top.mount == nullptr || top.mount->ns != ctx.ns) return Err(Errno::kINVAL);
  Ref<MountNamespace> tree = TRY(detached_copy(ctx, from, recursive));
  if (is_dir(*top.dentry) != is_dir(*from.dentry)) return Err(Errno::kNOTDIR);
  if (no_place(*top.dentry)) return Err(Errno::kNOENT);
  Ref<Mount> m = tree->root;
  TRY(impl_->graft(*this, *tree, top));
  return m;
}

Result<> Vfs::umount(Park& park, const FsContext& ctx, const Path& at, int flags) {
  if (at.mount == nullptr || at.dentry != at.mount->root) return Err(Errno::kINVAL);
  if (at.mount->ns != ctx.ns || at.mount->locked) return Err(Errno::kINVAL);
  const bool lazy = (flags & MNT_DETACH) != 0;
  if (at.mount->parent == nullptr) return Err(lazy ? Errno::kINVAL : Errno::kBUSY);
  if (at.mount == ctx.root.mount && !lazy) return Err(Errno::kBUSY);
  Ref<Mount> m = at.mount;
  if (!lazy) {
    // References of nobody's: the namespace's, the caller's path, and `m`.
    constexpr uint32_t kOurRefs = 3;
    if (!m->children.empty() || m->ref_count() > kOurRefs || impl_->spread_busy(*m))
      return Err(Errno::kBUSY);
    if ((flags & MNT_EXPIRE) != 0 && !m->expiring) {
      m->expiring = true;
      return Err(Errno::kAGAIN);
    }
    (void)m->sb->sync(park);  // what cannot be written is lost
    // Somebody else was faster, or put something there.
    if (m->ns != ctx.ns || m->parent == nullptr) return Err(Errno::kINVAL);
    if (!m->children.empty()) return Err(Errno::kBUSY);
  }
  std::vector<Mount*> going = mount_tree(*m);
  for (Mount* elsewhere : impl_->spread_umount(going)) {
    Ref<MountNamespace> ns(elsewhere->ns);
    // What covers it stays, in its place.
    Ref<Mount> parent = elsewhere->parent, over(impl_->mounted_at(*elsewhere, *elsewhere->root));
    Ref<Dentry> place = elsewhere->mountpoint;
    if (over) impl_->unhang(*over);
    impl_->dissolve(*elsewhere);
    if (over && parent) impl_->hang(*over, parent, place);
    if (ns) ns->notify_changed();
  }
  Ref<MountNamespace> ns(ctx.ns);
  for (size_t i = going.size(); i-- > 0;) impl_->dissolve(*going[i]);
  ns->notify_changed();
  return {};
}

namespace {

// Where what is to lie beneath the mount `top` goes. Not if propagation would also put a copy of it
// on top of that mount (move_mount(2)).
Result<Path> place_beneath(const FsContext& ctx, const Path& top, const Mount& m) {
  const Mount& over = *top.mount;
  if (top.dentry != over.root || over.parent == nullptr || over.locked ||
      top.mount == ctx.root.mount)
    return Err(Errno::kINVAL);
  if (mounted_below(&m, over)) return Err(Errno::kINVAL);
  const Ref<PeerGroup>& group = over.parent->shared;
  auto gets_a_copy = [&](const Mount& mount) {
    if (mount.root != over.mountpoint) return false;
    bool hears = mount.shared == group;
    for (PeerGroup* g = mount.master.get(); g != nullptr && !hears;) {
      hears = g == group.get();
      g = g->members.empty() ? nullptr : g->members.front().master.get();
    }
    return hears;
  };
  if (group && (gets_a_copy(over) || gets_a_copy(m))) return Err(Errno::kINVAL);
  return Path(over.parent, over.mountpoint);
}

}  // namespace

Result<> move_mount(Vfs& vfs, const FsContext& ctx, const Path& from, const Path& to,
                    MoveTo where) {
  Vfs::Impl& impl = vfs.impl();
  if (from.mount == nullptr || from.dentry != from.mount->root) return Err(Errno::kINVAL);
  Ref<Mount> m = from.mount;
  Path top = vfs.follow_mounts(to);
  if (top.mount == nullptr || foreign(ctx, top.mount.get()) || foreign(ctx, m.get()))
    return Err(Errno::kINVAL);
  if (where == MoveTo::kBeneath) {
    if (impl.mounted_at(*m, *m->root) != nullptr) return Err(Errno::kINVAL);
    top = TRY(place_beneath(ctx, top, *m));
  }
  const bool attached = m->ns == ctx.ns;
  // Of a tree without a place only the whole is moved.
  if (!attached && (m->ns->root != m || top.mount->ns == m->ns)) return Err(Errno::kINVAL);
  if (attached && (m->parent == nullptr || m->locked)) return Err(Errno::kINVAL);
  if (is_dir(*top.dentry) != is_dir(*from.dentry)) return Err(Errno::kINVAL);
  if (no_place(*top.dentry)) return Err(Errno::kNOENT);
  if (attached && m->parent->shared) return Err(Errno::kINVAL);
  std::vector<Mount*> tree = mount_tree(*m);
  if (top.mount->shared) {
    for (const Mount* t : tree)
      if (t->unbindable) return Err(Errno::kINVAL);
  }
  if (mounted_below(top.mount.get(), *m)) return Err(Errno::kLOOP);
  if (!attached) {
    Ref<MountNamespace> keep(m->ns);
    return impl.graft(vfs, *keep, top);
  }
  Ref<Mount> old_parent = m->parent;
  Ref<Dentry> old_place = m->mountpoint;
  impl.unhang(*m);
  Ref<MountNamespace> loose = impl.anonymous(vfs, ctx.ns);
  auto own = [&](MountNamespace& ns, MountNamespace& before) {
    for (Mount* t : tree) {
      Ref<Mount> keep(t);
      before.mounts.erase(t->id);
      t->ns = &ns;
      ns.mounts.emplace(t->id, keep);
    }
  };
  own(*loose, *ctx.ns);
  loose->root = m;
  Result<> moved = impl.graft(vfs, *loose, top);
  if (!moved) {
    loose->root.reset();
    own(*ctx.ns, *loose);
    impl.hang(*m, old_parent, old_place);
  }
  return moved;
}

Result<> Vfs::move_mount(const FsContext& ctx, const Path& from, const Path& to) {
  return uk::move_mount(*this, ctx, from, to, MoveTo::kOnTop);
}

Result<> Vfs::pivot_root(const FsContext& ctx, const Path& new_root, const Path& put_old) {
  Ref<Mount> nm = new_root.mount, old = ctx.root.mount;
  if (!is_dir(*new_root.dentry) || !is_dir(*put_old.dentry)) return Err(Errno::kNOTDIR);
  if (put_old.mount->shared || (nm->parent != nullptr && nm->parent->shared) ||
      (old->parent != nullptr && old->parent->shared) || nm->ns != ctx.ns || old->ns != ctx.ns ||
      nm->locked) {
    return Err(Errno::kINVAL);
  }
  if (new_root.dentry->unlinked()) return Err(Errno::kNOENT);
  if (nm == old || put_old.mount == old) return Err(Errno::kBUSY);
  if (new_root.dentry != nm->root || ctx.root.dentry != old->root || nm->parent == nullptr ||
      !mounted_below(put_old.mount.get(), *nm)) {
    return Err(Errno::kINVAL);
  }
  Ref<Mount> old_parent = old->parent;
  Ref<Dentry> old_place = old->mountpoint;
  impl_->unhang(*nm);
  impl_->unhang(*old);
  // The new root takes over the lock of the old one's place.
  std::swap(nm->locked, old->locked);
  if (old_parent != nullptr) {
    impl_->hang(*nm, old_parent, old_place);
  } else {
    ctx.ns->root = nm;
  }
  Path place = follow_mounts(put_old);
  impl_->hang(*old, place.mount, place.dentry);
  ctx.ns->notify_changed();
  return {};
}

Result<Ref<MountNamespace>> Vfs::copy_namespace(MountNamespace& ns, Ref<UserNamespace> owner,
                                                const std::function<void(Mount&, Mount&)>& moved) {
  const bool less = owner != ns.owner;
  Impl::CloneTree how = {.as = less ? Impl::CloneAs::kSharedToSlave : Impl::CloneAs::kPeer,
                         .copy_unbindable = true,
                         .lock = less};
  Ref<MountNamespace> copy =
      TRY(impl_->copy_tree(*this, *ns.root, ns.root->root, how, nullptr, true));
  copy->anonymous = false;
  copy->owner = std::move(owner);
  copy->id = impl_->next_mount_ns++;
  // Both trees have the same shape, but for what was left out.
  std::vector<std::pair<Mount*, Mount*>> pairs{{ns.root.get(), copy->root.get()}};
  for (size_t i = 0; i < pairs.size(); ++i) {
    auto [a, b] = pairs[i];
    moved(*a, *b);
    for (Mount& child : a->children) {
      Mount* twin = impl_->mounted_at(*b, *child.mountpoint);
      if (twin != nullptr) pairs.emplace_back(&child, twin);
    }
  }
  return copy;
}

std::string Vfs::path_name(const Path& path, const Path& root, bool mark_unreachable) const {
  if (path.dentry == nullptr) return {};
  if (path.mount == nullptr || path.mount->internal) {
    return path.dentry->name() + (path.dentry->unlinked() ? " (deleted)" : "");
  }
  std::vector<const std::string*> names;
  const Mount* mount = path.mount.get();
  const Dentry* d = path.dentry.get();
  bool reached = false;
  for (;;) {
    if (mount == root.mount.get() && d == root.dentry.get()) {
      reached = true;
      break;
    }
    if (d == mount->root.get() || d->parent() == nullptr) {
      if (mount->parent == nullptr) break;
      d = mount->mountpoint.get();
      mount = mount->parent.get();
      continue;
    }
    names.push_back(&d->name());
    d = d->parent();
  }
  std::string out = !reached && mark_unreachable ? "(unreachable)" : "";
  if (names.empty()) out += "/";
  for (auto it = names.rbegin(); it != names.rend(); ++it) {
    out += "/";
    out += **it;
  }
  if (path.dentry->unlinked()) out += " (deleted)";
  return out;
}

}  // namespace uk
