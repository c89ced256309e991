// Mounts: attaching, moving, taking away; names of paths.
#include <sys/inotify.h>
#include <sys/mount.h>

#include <algorithm>

#include "ukernel/vfs/vfs_impl.h"

#ifndef MNT_FORCE
#define MNT_FORCE 1
#define MNT_DETACH 2
#define MNT_EXPIRE 4
#endif

namespace uk {
namespace {

constexpr uint32_t kKeptFlags =
    kMntRdonly | kMntNosuid | kMntNodev | kMntNoexec | kMntNoatime | kMntRelatime;

bool is_dir(const Dentry& d) { return d.inode() != nullptr && d.inode()->type() == S_IFDIR; }

bool below(const Mount* m, const Mount& top) {
  for (; m != nullptr; m = m->parent.get()) {
    if (m == &top) return true;
  }
  return false;
}

}  // namespace

MountNamespace::~MountNamespace() {
  for (const Ref<Mount>& m : mounts) {
    vfs->impl().unhang(*m);
    m->ns = nullptr;
  }
}

void Vfs::Impl::hang(Mount& m) {
  mounted[{m.parent.get(), m.mountpoint.get()}] = &m;
  ++m.mountpoint->mount_count;
}

void Vfs::Impl::unhang(Mount& m) {
  if (m.parent == nullptr) return;
  auto it = mounted.find({m.parent.get(), m.mountpoint.get()});
  if (it != mounted.end() && it->second == &m) {
    mounted.erase(it);
    --m.mountpoint->mount_count;
  }
  m.parent.reset();
  m.mountpoint.reset();
}

Result<Ref<Mount>> Vfs::new_root(Park& park, MountNamespace& ns, Ref<SuperBlock> sb,
                                 Ref<Inode> root, std::string source, uint32_t flags) {
  (void)park;
  if (ns.root != nullptr) return Err(Errno::kBUSY);
  if (root == nullptr || root->type() != S_IFDIR) return Err(Errno::kNOTDIR);
  if (sb->dev == 0) sb->dev = new_anon_dev();
  auto m = make_ref<Mount>();
  m->sb = std::move(sb);
  m->root = make_ref<Dentry>(nullptr, "", std::move(root));
  m->flags = flags & kKeptFlags;
  m->id = impl_->next_mount_id++;
  m->source = std::move(source);
  m->ns = &ns;
  ns.vfs = this;
  ns.root = m;
  ns.mounts.push_back(m);
  return m;
}

Result<Ref<Mount>> Vfs::attach(MountNamespace& ns, const Path& at, Ref<SuperBlock> sb,
                               Ref<Dentry> root, std::string source, uint32_t flags) {
  Path top = follow_mounts(at);
  if (top.dentry == nullptr || top.mount == nullptr || top.mount->ns != &ns) {
    return Err(Errno::kINVAL);
  }
  if (is_dir(*top.dentry) != is_dir(*root)) return Err(Errno::kNOTDIR);
  if (top.dentry->unlinked()) return Err(Errno::kNOENT);
  if (sb->dev == 0) sb->dev = new_anon_dev();
  auto m = make_ref<Mount>();
  m->sb = std::move(sb);
  m->root = std::move(root);
  m->parent = top.mount;
  m->mountpoint = top.dentry;
  m->flags = flags & kKeptFlags;
  m->id = impl_->next_mount_id++;
  m->source = std::move(source);
  m->ns = &ns;
  impl_->hang(*m);
  ns.mounts.push_back(m);
  ns.notify_changed();
  return m;
}

Result<Ref<Mount>> Vfs::mount(Park& park, const FsContext& ctx, const Path& at,
                              std::string_view type, const std::string& source,
                              const std::string& options, uint32_t flags) {
  auto found = std::find_if(impl_->types.begin(), impl_->types.end(),
                            [&](const FsType& t) { return t.name == type; });
  if (found == impl_->types.end()) return Err(Errno::kNODEV);
  auto make = found->mount;
  Ref<Inode> root;
  Ref<SuperBlock> sb = TRY(make(park, *this, source, options, &root));
  if ((flags & kMntRdonly) != 0) sb->read_only = true;
  // A superblock that is mounted already has its root's dentry.
  Ref<Dentry> root_dentry;
  for (const Ref<Mount>& m : ctx.ns->mounts) {
    if (m->sb == sb && m->root->inode() == root.get()) root_dentry = m->root;
  }
  if (root_dentry == nullptr) root_dentry = make_ref<Dentry>(nullptr, "", root);
  return attach(*ctx.ns, at, std::move(sb), std::move(root_dentry), source, flags);
}

Result<Ref<Mount>> Vfs::bind(const FsContext& ctx, const Path& from, const Path& at,
                             bool recursive) {
  if (from.mount == nullptr || from.mount->ns != ctx.ns) return Err(Errno::kINVAL);
  Path source = from;
  // What is below is looked at before the new mount may become part of it.
  std::vector<Ref<Mount>> inner;
  if (recursive) {
    for (const Ref<Mount>& m : ctx.ns->mounts) {
      if (m != source.mount && below(m.get(), *source.mount)) inner.push_back(m);
    }
  }
  Ref<Mount> top = TRY(attach(*ctx.ns, at, source.mount->sb, source.dentry, source.mount->source,
                              source.mount->flags));
  std::unordered_map<const Mount*, Ref<Mount>> copies{{source.mount.get(), top}};
  for (const Ref<Mount>& m : inner) {
    auto parent = copies.find(m->parent.get());
    if (parent == copies.end()) continue;
    if (m->parent == source.mount) {  // only what lies below the bound directory
      const Dentry* d = m->mountpoint.get();
      while (d != nullptr && d != source.dentry.get()) d = d->parent();
      if (d == nullptr) continue;
    }
    copies[m.get()] = TRY(
        attach(*ctx.ns, Path(parent->second, m->mountpoint), m->sb, m->root, m->source, m->flags));
  }
  return top;
}

Result<> Vfs::umount(Park& park, const FsContext& ctx, const Path& at, int flags) {
  if (at.mount == nullptr || at.dentry != at.mount->root) return Err(Errno::kINVAL);
  if (at.mount->ns != ctx.ns) return Err(Errno::kINVAL);
  if (at.mount->parent == nullptr || at.mount == ctx.root.mount) {
    return Err((flags & MNT_DETACH) != 0 ? Errno::kINVAL : Errno::kBUSY);
  }
  Ref<Mount> m = at.mount;
  std::vector<Ref<Mount>> going;
  for (const Ref<Mount>& other : ctx.ns->mounts) {
    if (below(other.get(), *m)) going.push_back(other);
  }
  if ((flags & MNT_DETACH) == 0) {
    // References of nobody's: the namespace's, the caller's path, `m` and `going`.
    constexpr uint32_t kOurRefs = 4;
    if (going.size() > 1 || m->ref_count() > kOurRefs) return Err(Errno::kBUSY);
    if ((flags & MNT_EXPIRE) != 0 && !m->expiring) {
      m->expiring = true;
      return Err(Errno::kAGAIN);
    }
    TRY(m->sb->sync(park));
    if (m->ns == nullptr) return Err(Errno::kINVAL);  // somebody else was faster
  }
  for (const Ref<Mount>& gone : going) {
    impl_->unhang(*gone);
    gone->ns = nullptr;
    std::erase(ctx.ns->mounts, gone);
    bool elsewhere = std::any_of(ctx.ns->mounts.begin(), ctx.ns->mounts.end(),
                                 [&](const Ref<Mount>& o) { return o->sb == gone->sb; });
    if (!elsewhere) impl_->names.forget_all(*gone->sb);
  }
  ctx.ns->notify_changed();
  return {};
}

Result<> Vfs::remount(const Path& at, uint32_t flags, bool bind_only, const std::string& options) {
  if (at.mount == nullptr || at.dentry != at.mount->root) return Err(Errno::kINVAL);
  if (!bind_only) {
    if (!options.empty()) TRY(at.mount->sb->reconfigure(options));
    bool read_only = (flags & kMntRdonly) != 0;
    if (!read_only && at.mount->sb->never_writable()) return Err(Errno::kROFS);
    at.mount->sb->read_only = read_only;
  }
  at.mount->flags = flags & kKeptFlags;
  if (at.mount->ns != nullptr) at.mount->ns->notify_changed();
  return {};
}

Result<> Vfs::move_mount(const FsContext& ctx, const Path& from, const Path& to) {
  if (from.mount == nullptr || from.dentry != from.mount->root) return Err(Errno::kINVAL);
  if (from.mount->parent == nullptr || from.mount->ns != ctx.ns) return Err(Errno::kINVAL);
  Path top = follow_mounts(to);
  if (top.mount->ns != ctx.ns) return Err(Errno::kINVAL);
  if (is_dir(*top.dentry) != is_dir(*from.dentry)) return Err(Errno::kNOTDIR);
  if (below(top.mount.get(), *from.mount)) return Err(Errno::kLOOP);
  impl_->unhang(*from.mount);
  from.mount->parent = top.mount;
  from.mount->mountpoint = top.dentry;
  impl_->hang(*from.mount);
  ctx.ns->notify_changed();
  return {};
}

Result<> Vfs::pivot_root(const FsContext& ctx, const Path& new_root, const Path& put_old) {
  Ref<Mount> nm = new_root.mount, old = ctx.root.mount;
  if (!is_dir(*new_root.dentry) || !is_dir(*put_old.dentry)) return Err(Errno::kNOTDIR);
  if (nm == old || put_old.mount == old) return Err(Errno::kBUSY);
  if (nm->ns != ctx.ns || old->ns != ctx.ns || new_root.dentry != nm->root ||
      ctx.root.dentry != old->root || nm->parent == nullptr || !below(put_old.mount.get(), *nm)) {
    return Err(Errno::kINVAL);
  }
  Ref<Mount> old_parent = old->parent;
  Ref<Dentry> old_place = old->mountpoint;
  impl_->unhang(*nm);
  impl_->unhang(*old);
  nm->parent = old_parent;
  nm->mountpoint = old_place;
  if (nm->parent != nullptr) {
    impl_->hang(*nm);
  } else {
    ctx.ns->root = nm;
  }
  old->parent = put_old.mount;
  old->mountpoint = put_old.dentry;
  impl_->hang(*old);
  ctx.ns->notify_changed();
  return {};
}

Ref<MountNamespace> Vfs::copy_namespace(MountNamespace& ns,
                                        const std::function<void(Mount&, Mount&)>& moved) {
  auto copy = make_ref<MountNamespace>();
  copy->vfs = this;
  std::unordered_map<const Mount*, Ref<Mount>> copies;
  for (const Ref<Mount>& m : ns.mounts) {
    auto c = make_ref<Mount>();
    c->sb = m->sb;
    c->root = m->root;
    c->flags = m->flags;
    c->id = impl_->next_mount_id++;
    c->source = m->source;
    c->ns = copy.get();
    copies[m.get()] = c;
    copy->mounts.push_back(c);
  }
  for (const Ref<Mount>& m : ns.mounts) {
    const Ref<Mount>& c = copies[m.get()];
    if (m->parent == nullptr) continue;
    c->parent = copies[m->parent.get()];
    c->mountpoint = m->mountpoint;
    impl_->hang(*c);
  }
  copy->root = copies[ns.root.get()];
  for (const Ref<Mount>& m : ns.mounts) moved(*m, *copies[m.get()]);
  return copy;
}

std::string Vfs::path_name(const Path& path, const Path& root, bool mark_unreachable) const {
  if (path.dentry == nullptr) return {};
  if (path.mount == nullptr) {
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
