// Shared subtrees (mount_namespaces(7), Documentation/filesystems/sharedsubtree.rst): peer groups,
// copies of trees, and where a mount or unmount shows elsewhere.
#include <unordered_set>

#include "ukernel/vfs/vfs_impl.h"

namespace uk {

PeerGroup::~PeerGroup() { counters_->peer_ids.erase(id); }

bool dentry_below(const Dentry* d, const Dentry* top) {
  for (; d != nullptr; d = d->parent())
    if (d == top) return true;
  return false;
}

std::vector<Mount*> mount_tree(Mount& top) {
  std::vector<Mount*> tree{&top};
  for (size_t i = 0; i < tree.size(); ++i)
    for (Mount& child : tree[i]->children) tree.push_back(&child);
  return tree;
}

Ref<PeerGroup> Vfs::Impl::new_group() {
  int id = 1;
  for (int used : counters->peer_ids) {  // the lowest free one, as Linux gives
    if (used != id) break;
    ++id;
  }
  counters->peer_ids.insert(id);
  return make_ref<PeerGroup>(counters, id);
}

void Vfs::Impl::share(Mount& m) {
  m.unbindable = false;
  if (m.shared) return;
  m.shared = new_group();
  m.shared->members.push_back(m);
}

// Who stays behind in the group goes on; the last one's slaves get the master it had.
void Vfs::Impl::leave_groups(Mount& m) {
  if (m.shared) {
    Ref<PeerGroup> group = std::move(m.shared);
    m.ListNode<PeerTag>::unlink();
    while (group->members.empty() && !group->slaves.empty()) {
      Mount& slave = group->slaves.front();
      slave.ListNode<SlaveTag>::unlink();
      slave.master = m.master;
      if (m.master) m.master->slaves.push_back(slave);
    }
  }
  m.ListNode<SlaveTag>::unlink();
  m.master.reset();
}

void Vfs::Impl::make(Mount& m, Propagation kind) {
  if (kind == Propagation::kShared) return share(m);
  if (kind == Propagation::kSlave) {
    if (!m.shared) return;
    Ref<PeerGroup> group = m.shared;
    Ref<PeerGroup> old_master = m.master;
    leave_groups(m);
    m.master = group->members.empty() ? old_master : group;
    if (m.master) m.master->slaves.push_back(m);
    return;
  }
  leave_groups(m);
  m.unbindable = kind == Propagation::kUnbindable;
}

namespace {

void follow(Mount& m, const Ref<PeerGroup>& group) {
  m.master = group;
  if (group) group->slaves.push_back(m);
}

// The groups of a copy, from its original's.
void join_groups(Vfs::Impl& impl, Mount& copy, Mount& from, const Vfs::Impl::CloneTree& how) {
  using As = Vfs::Impl::CloneAs;
  const bool slave = how.as == As::kSlave || (how.as == As::kSharedToSlave && from.shared);
  if (slave) {
    follow(copy, from.shared ? from.shared : from.master);
  } else if (how.as != As::kPrivate) {
    if (from.shared) {
      copy.shared = from.shared;
      copy.shared->members.push_back(copy);
    }
    follow(copy, from.master);
  }
  if (how.make_shared) impl.share(copy);
}

void lock_flags(Mount& m) {
  m.locked_flags |= m.flags & (kMntRdonly | kMntNodev | kMntNosuid | kMntNoexec);
  m.locked_flags |= kMntAtime;
}

}  // namespace

Result<Ref<MountNamespace>> Vfs::Impl::copy_tree(Vfs& vfs, Mount& top, const Ref<Dentry>& root,
                                                 const CloneTree& how, const MountNamespace* like,
                                                 bool recursive) {
  if (top.unbindable && !how.copy_unbindable) return Err(Errno::kINVAL);
  Ref<MountNamespace> out = anonymous(vfs, like);
  std::unordered_map<const Mount*, Ref<Mount>> copies;
  // A snapshot: what is below may come to hold what is being made.
  const std::vector<Mount*> tree = recursive ? mount_tree(top) : std::vector<Mount*>{&top};
  for (Mount* m : tree) {
    Ref<Mount> parent;
    if (m != &top) {
      auto found = copies.find(m->parent.get());
      if (found == copies.end()) continue;
      if (m->parent.get() == &top && !dentry_below(m->mountpoint.get(), root.get())) continue;
      if ((m->unbindable && !how.copy_unbindable) || m->root->inode()->mount_namespace() != nullptr)
        continue;
      parent = found->second;
    }
    Ref<Mount> copy =
        TRY(new_mount(vfs, *out, m->sb, m == &top ? root : m->root, m->source, m->flags));
    copy->locked_flags = m->locked_flags;
    copy->unbindable = m->unbindable;
    copy->locked = m->locked && m != &top;
    join_groups(*this, *copy, *m, how);
    if (how.lock) {
      lock_flags(*copy);
      copy->locked = m != &top;
    }
    copies[m] = copy;
    if (parent) {
      hang(*copy, parent, m->mountpoint);
    } else {
      out->root = copy;
    }
  }
  return out;
}

namespace {

// What is new, or has no place yet, receives nothing.
bool receives(const Mount& m, const Dentry* at) {
  return m.ns != nullptr && !m.ns->anonymous && dentry_below(at, m.root.get());
}

template <class L>
std::vector<Ref<Mount>> snapshot(L& list) {
  std::vector<Ref<Mount>> out;
  for (Mount& m : list) out.emplace_back(&m);
  return out;
}

}  // namespace

Result<std::vector<Vfs::Impl::Placed>> Vfs::Impl::spread(Vfs& vfs, Mount& top, const Path& at) {
  struct Work {
    Ref<PeerGroup> group;
    Mount* source;  // whose copies are taken
    bool peers;     // the group of the place itself: the source is its representative
  };
  std::vector<Placed> out;
  std::unordered_map<const MountNamespace*, size_t> coming;
  const size_t size = mount_tree(top).size();
  auto copy_for = [&](const Ref<Mount>& m, Mount& source, const CloneTree& how) -> Result<Mount*> {
    size_t& pending = coming[m->ns];
    pending += size;
    const size_t here = m->ns == at.mount->ns ? size : 0;
    if (m->ns->mounts.size() + pending + here > vfs.settings.mount_max) return Err(Errno::kNOSPC);
    CloneTree h = how;
    h.lock = m->ns->owner != at.mount->ns->owner;
    out.push_back({TRY(copy_tree(vfs, source, source.root, h, nullptr, true)), m});
    return out.back().tree->root.get();
  };
  std::unordered_set<const PeerGroup*> seen{at.mount->shared.get()};
  std::vector<Work> work{{at.mount->shared, &top, true}};
  while (!work.empty()) {
    const Work w = std::move(work.back());
    work.pop_back();
    Mount* copy = w.peers ? w.source : nullptr;
    for (const Ref<Mount>& m : snapshot(w.group->members)) {
      if (m == at.mount || !receives(*m, at.dentry.get())) continue;
      const CloneTree how = {.as = copy != nullptr ? CloneAs::kPeer : CloneAs::kSlave,
                             .make_shared = true,
                             .copy_unbindable = true};
      Mount* made = TRY(copy_for(m, copy != nullptr ? *copy : *w.source, how));
      if (copy == nullptr) copy = made;
    }
    Mount& source = copy != nullptr ? *copy : *w.source;
    for (const Ref<Mount>& m : snapshot(w.group->slaves)) {
      if (m->shared) {
        if (seen.insert(m->shared.get()).second) work.push_back({m->shared, &source, false});
      } else if (receives(*m, at.dentry.get())) {
        TRY(copy_for(m, source, {.as = CloneAs::kSlave, .copy_unbindable = true}));
      }
    }
  }
  return out;
}

std::vector<Ref<Mount>> Vfs::Impl::receivers(Mount& m) {
  std::vector<Ref<Mount>> out;
  if (!m.shared) return out;
  std::unordered_set<const PeerGroup*> seen{m.shared.get()};
  std::vector<Ref<PeerGroup>> work{m.shared};
  while (!work.empty()) {
    Ref<PeerGroup> group = std::move(work.back());
    work.pop_back();
    for (Mount& peer : group->members)
      if (&peer != &m) out.emplace_back(&peer);
    for (Mount& slave : group->slaves) {
      if (!slave.shared) {
        out.emplace_back(&slave);
      } else if (seen.insert(slave.shared.get()).second) {
        work.push_back(slave.shared);
      }
    }
  }
  return out;
}

namespace {

// Nothing hangs on `m` but what may stay: mounts that go too, and one that covers it all.
bool may_go(Mount& m, const std::unordered_set<Mount*>& going) {
  for (Mount& child : m.children)
    if (!going.contains(&child) && child.mountpoint != m.root) return false;
  return true;
}

}  // namespace

std::vector<Mount*> Vfs::Impl::spread_umount(const std::vector<Mount*>& going) const {
  std::unordered_set<Mount*> set(going.begin(), going.end());
  std::vector<Mount*> more;
  for (Mount* m : going) {
    if (m->parent == nullptr) continue;
    for (const Ref<Mount>& r : receivers(*m->parent)) {
      Mount* there = mounted_at(*r, *m->mountpoint);
      if (there != nullptr && !there->locked && set.insert(there).second) more.push_back(there);
    }
  }
  for (size_t i = more.size(); i-- > 0;) {  // children come after their parents
    if (may_go(*more[i], set)) continue;
    set.erase(more[i]);
    more[i] = nullptr;
  }
  std::erase(more, nullptr);
  return more;
}

bool Vfs::Impl::spread_busy(const Mount& m) const {
  if (m.parent == nullptr) return false;
  for (const Ref<Mount>& r : receivers(*m.parent)) {
    Mount* there = mounted_at(*r, *m.mountpoint);
    if (there == nullptr || there == &m) continue;
    size_t children = 0;
    bool covered = false;
    for (Mount& child : there->children) {
      ++children;
      covered |= child.mountpoint == there->root;
    }
    if (children > (covered ? 1 : 0)) continue;  // it stays
    if (there->ref_count() > 1 + children) return true;
  }
  return false;
}

}  // namespace uk
